"""Land cover: a river, a town with villages, forest, and parcels of crops and grass."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from acdtask.jobs.simulate.fields import Floats, Stream, generator, smooth_field
from acdtask.jobs.simulate.settings import SceneSettings

__all__ = ["CLASSES", "Cover", "CoverModel", "Land", "by_class", "make_land"]

PARCEL_LENGTH, PARCEL_WIDTH = 26.0, 16.0
"""Mean size of a parcel in px."""
PARCEL_AZIMUTH = 0.35
"""Direction of the parcels' long side, in radians from the rows."""
SHARED_TEXTURE = 0.8
"""Share of the variance of the texture that two tracks have in common."""


class Cover(IntEnum):
    """Classes of land cover."""

    WATER = 0
    FOREST = 1
    CROP = 2
    GRASS = 3
    TOWN = 4


@dataclass(frozen=True)
class CoverModel:
    """Coherence of a land cover class.

    Attributes:
        coherence: mean true coherence of a dry pair of six days at the best time of the year.
        texture: its standard deviation over the ground.
        season_depth: share lost at the worst time of the year.
        season_day: day of the year of the worst time.
        wet_loss: share lost if one of the two acquisitions is as wet as a day of heavy rain (wetness 1).
        orbit_loss: share lost per 100 m of perpendicular baseline.
        moisture: standard deviation of the relative change by the state of the ground at an acquisition.
        drift: standard deviation of the slow relative change in space and time.
        decay_days: a pair that is longer by this loses all but 1/e of its coherence.
    """

    coherence: float
    texture: float
    season_depth: float
    season_day: float
    wet_loss: float
    orbit_loss: float
    moisture: float
    drift: float
    decay_days: float

    def decay(self, days: int) -> float:
        """The factor of a pair of so many days, relative to one of six."""
        return math.exp((6 - days) / self.decay_days)


CLASSES: dict[Cover, CoverModel] = {
    Cover.WATER: CoverModel(0.02, 0.00, 0.00, 0.0, 0.00, 0.00, 0.00, 0.00, 1000.0),
    Cover.FOREST: CoverModel(0.30, 0.04, 0.35, 200.0, 0.70, 0.06, 0.03, 0.05, 8.0),
    Cover.CROP: CoverModel(0.64, 0.07, 0.50, 160.0, 0.72, 0.03, 0.04, 0.05, 25.0),
    Cover.GRASS: CoverModel(0.62, 0.06, 0.25, 175.0, 0.70, 0.03, 0.04, 0.05, 25.0),
    Cover.TOWN: CoverModel(0.82, 0.07, 0.04, 200.0, 0.36, 0.03, 0.02, 0.02, 200.0),
}


@dataclass(frozen=True)
class Land:
    """The ground, which is the same on all dates.

    Attributes:
        cover: Cover of each pixel, uint8, shape (size, size).
        parcel: number of the parcel of each pixel, int32, 0 <= parcel < parcels; defined outside fields too.
        parcels: count of parcel numbers.
        coherence: true coherence of a dry pair of the scene's length at the best time of the year, float32.
    """

    cover: NDArray[np.uint8]
    parcel: NDArray[np.int32]
    parcels: int
    coherence: Floats


def _above_quantile(field: Floats, share: float) -> NDArray[np.bool_]:
    """A mask of the `share` of pixels with the highest values."""
    return np.asarray(field > np.quantile(field, 1 - share))


def _parcels(rng: np.random.Generator, size: int) -> tuple[NDArray[np.int32], int]:
    """Voronoi cells of a jittered, rotated and stretched lattice: each pixel's cell number, and their count."""
    cosine, sine = math.cos(PARCEL_AZIMUTH), math.sin(PARCEL_AZIMUTH)
    y, x = np.mgrid[0:size, 0:size].astype(np.float32)
    u = (x * cosine + y * sine) / PARCEL_LENGTH + 2
    v = (y * cosine + (size - x) * sine) / PARCEL_WIDTH + 2
    rows, columns = int(u.max()) + 3, int(v.max()) + 3
    jitter = rng.uniform(0.1, 0.9, (rows, columns, 2)).astype(np.float32)
    cell_u, cell_v = u.astype(np.int32), v.astype(np.int32)
    nearest = np.full((size, size), np.inf, np.float32)
    parcel = np.zeros((size, size), np.int32)
    for step_u in (-1, 0, 1):
        for step_v in (-1, 0, 1):
            near_u, near_v = cell_u + step_u, cell_v + step_v
            seed_u, seed_v = jitter[near_u, near_v, 0] + near_u, jitter[near_u, near_v, 1] + near_v
            # Distances in px, so that parcels keep their stretched shape with straight borders.
            distance = ((u - seed_u) * PARCEL_LENGTH) ** 2 + ((v - seed_v) * PARCEL_WIDTH) ** 2
            closer = distance < nearest
            nearest = np.where(closer, distance, nearest)
            parcel = np.where(closer, near_u * columns + near_v, parcel)
    return parcel, rows * columns


def _river(rng: np.random.Generator, size: int) -> tuple[Floats, Floats]:
    """Distance of each pixel from the river's centre line in px, and the centre line's column in each row."""
    bends = smooth_field(rng, (size, 1), size / 3)[:, 0]
    middle = np.asarray(size * (0.56 + 0.06 * bends), np.float32)
    slope = np.gradient(middle)
    columns = np.arange(size, dtype=np.float32)
    distance = np.abs(columns[None, :] - middle[:, None]) / np.sqrt(1 + slope**2)[:, None]
    return distance.astype(np.float32), middle


def _cover(rng: np.random.Generator, size: int, parcel: NDArray[np.int32], parcels: int) -> NDArray[np.uint8]:
    shape = (size, size)
    distance, middle = _river(rng, size)
    half_width = min(7.0, max(2.0, size / 60))
    lake = _above_quantile(smooth_field(rng, shape, 13.0), 0.006)
    y, x = np.ogrid[0:size, 0:size]
    centre_row, centre_column = 0.5 * size, float(middle[size // 2]) - 0.07 * size
    from_centre = ((y - centre_row) ** 2 + (x - centre_column) ** 2) / (0.2 * size) ** 2
    villages = 0.75 * smooth_field(rng, shape, 40.0) + 0.35 * smooth_field(rng, shape, 12.0)
    town = _above_quantile((2.4 * np.exp(-from_centre) + villages).astype(np.float32), 0.18)
    wood = smooth_field(rng, shape, min(75.0, size / 4)) + 0.35 * smooth_field(rng, shape, 10.0)
    forest = _above_quantile(wood, 0.24)
    pasture = rng.random(parcels)[parcel] < 0.22
    cover = np.full(shape, Cover.CROP, np.uint8)
    cover[pasture | (distance < 2.5 * half_width)] = Cover.GRASS
    cover[forest] = Cover.FOREST
    cover[town] = Cover.TOWN
    cover[lake | (distance < half_width)] = Cover.WATER
    return cover


def make_land(settings: SceneSettings) -> Land:
    """Make the ground of a scene.

    The variance of a class's texture is 60 % one value per parcel, 25 % a field that varies over 5 px, and 15 % white
    noise. Of a second track's texture, `SHARED_TEXTURE` of the variance is that of the first.
    """
    rng = generator(settings.seed, Stream.LAND)
    parcel, parcels = _parcels(rng, settings.size)
    cover = _cover(rng, settings.size, parcel, parcels)
    texture = _texture(rng, settings, parcel, parcels)
    if settings.track:
        other = _texture(generator(settings.seed, Stream.LAND, 0, settings.track), settings, parcel, parcels)
        texture = math.sqrt(SHARED_TEXTURE) * texture + math.sqrt(1 - SHARED_TEXTURE) * other
    mean, spread = by_class(cover, "coherence"), by_class(cover, "texture")
    decay = np.array([CLASSES[c].decay(settings.pair_days) for c in Cover], np.float32)[cover]
    coherence = np.clip(decay * (mean + spread * texture), 0.0, 0.95)
    return Land(cover=cover, parcel=parcel, parcels=parcels, coherence=coherence)


def _texture(rng: np.random.Generator, settings: SceneSettings, parcel: NDArray[np.int32], parcels: int) -> Floats:
    texture = math.sqrt(0.60) * rng.standard_normal(parcels, dtype=np.float32)[parcel]
    texture += math.sqrt(0.25) * smooth_field(rng, settings.shape, 5.0)
    texture += math.sqrt(0.15) * rng.standard_normal(settings.shape, dtype=np.float32)
    return np.asarray(texture, np.float32)


def by_class(cover: NDArray[np.uint8], attribute: str) -> Floats:
    """An attribute of the class of each pixel, float32, same shape as cover.

    >>> by_class(np.array([[Cover.TOWN, Cover.WATER]], np.uint8), "coherence")
    array([[0.82, 0.02]], dtype=float32)
    """
    return np.array([getattr(CLASSES[c], attribute) for c in Cover], np.float32)[cover]
