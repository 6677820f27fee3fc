"""A simulated scene: a year and more of coherence images of ground that is known, with changes that are known."""

from __future__ import annotations

import math
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray

from acdtask.jobs.simulate.events import Event, Mask, lowered, place_events
from acdtask.jobs.simulate.fields import (
    Floats,
    Stream,
    field_from_knots,
    generator,
    knot_shape,
    smooth_field,
    spline_weights,
)
from acdtask.jobs.simulate.land import CLASSES, Cover, Land, make_land
from acdtask.jobs.simulate.settings import SceneSettings
from acdtask.jobs.simulate.speckle import sample_coherence, to_stored

__all__ = ["Scene", "SceneSettings", "scene_of"]

YEAR = 365.25
RAIN_LENGTH = 250.0
DRIFT_LENGTH = 60.0
DRIFT_DAYS = 30.0
DATE_SPREAD = 0.02
SWATH_SLOPE = math.tan(math.radians(12.0))
"""Columns that the edge of the swath moves in a row: the tracks of Sentinel-1 lie about 12 degrees off north."""

FARM_SEASONS = {
    Cover.CROP: ((105.0, 15.0, 0.016), (212.0, 15.0, 0.016), (268.0, 18.0, 0.016)),
    Cover.GRASS: ((150.0, 12.0, 0.012), (200.0, 12.0, 0.012), (250.0, 12.0, 0.008)),
}
"""Day of the year, standard deviation in days and share of the parcels worked in a pair of six days at that day."""
FARM_ALWAYS = 0.001
FARM_FACTORS = {Cover.CROP: (0.30, 0.65), Cover.GRASS: (0.50, 0.80)}


class Scene:
    """A scene, made from its settings alone. Image k is the same whatever is made before it.

    The true coherence of a pixel in pair k is a product, which is held between 0 and 0.97:

        ground x season x (1 - rain) x (1 + date) x (1 + drift) x farm work x event

    and its image is an estimate of it from speckle (see `sample_coherence`).

    >>> scene = Scene(SceneSettings(size=128, events=2, reference_pairs=3, monitored_pairs=2))
    >>> scene.image(0).shape, scene.image(0).dtype, len(scene.truth())
    ((128, 128), dtype('int16'), 2)
    """

    def __init__(self, settings: SceneSettings) -> None:
        self.settings = settings

    @cached_property
    def land(self) -> Land:
        """The ground."""
        return make_land(self.settings)

    @cached_property
    def _events(self) -> list[Event]:
        return place_events(self.settings, self.land.cover, self.valid)

    def truth(self) -> list[Event]:
        """The events, by id. SETTING_INVALID if the scene has no room for them."""
        return list(self._events)

    def day_of_year(self, pair: int) -> float:
        """The day of the year in the middle of a pair."""
        start, end = self.settings.pair_dates(pair)
        return start.timetuple().tm_yday + (end - start).days / 2

    def season(self, pair: int) -> Floats:
        """The seasonal factor of each class (rows) and parcel (columns), float32.

        1 - depth (1 + cos(2 pi (day - worst day) / 365.25)) / 2. Each parcel of crops has a worst day of its own, with
        a standard deviation of 12 days.
        """
        parcels = self.land.parcels
        shift = generator(self.settings.seed, Stream.PARCEL).normal(0.0, 12.0, parcels)
        day = self.day_of_year(pair)
        table = np.empty((len(Cover), parcels), np.float32)
        for cover, model in CLASSES.items():
            phase = day - model.season_day - (shift if cover is Cover.CROP else 0.0)
            table[cover] = 1 - model.season_depth * (1 + np.cos(2 * np.pi * phase / YEAR)) / 2
        return table

    def rain(self, pair: int) -> Floats:
        """How heavy the rain was, 0..1, smooth over the scene; 0 everywhere in about half of the pairs."""
        rng = generator(self.settings.seed, Stream.RAIN, pair)
        if rng.random() > 0.45:
            return np.zeros(self.settings.shape, np.float32)
        amount = np.float32(rng.uniform(0.15, 1.0))
        pattern = smooth_field(rng, self.settings.shape, RAIN_LENGTH)
        return np.asarray(amount * (0.7 + 0.3 * np.tanh(pattern)), np.float32)

    def _farm_factors(self, pair: int) -> Floats:
        """The factor of farm work on each class (rows) and parcel (columns): 1 where there is none."""
        rng = generator(self.settings.seed, Stream.FARM, pair)
        chance, strength = rng.random(self.land.parcels), rng.random(self.land.parcels)
        day = self.day_of_year(pair)
        table = np.ones((len(Cover), self.land.parcels), np.float32)
        for cover, seasons in FARM_SEASONS.items():
            share = FARM_ALWAYS
            for middle, spread, most in seasons:
                share += most * math.exp(-0.5 * ((day - middle) / spread) ** 2)
            low, high = FARM_FACTORS[cover]
            worked = chance < share * self.settings.pair_days / 6
            table[cover, worked] = low + (high - low) * strength[worked]
        return table

    def farm_work(self, pair: int) -> Mask:
        """True on the parcels that were worked between the two dates: a true drop of another cause."""
        return np.asarray(self._by_pixel(self._farm_factors(pair)) < 1)

    def drift(self, pair: int) -> Floats:
        """A field of mean 0 and variance 1 that varies over about 60 px and 30 days."""
        position = pair * self.settings.pair_days / DRIFT_DAYS
        first = math.floor(position)
        weights = spline_weights(np.array([position - first]))[:, 0]
        shape = knot_shape(self.settings.shape, DRIFT_LENGTH)
        knots = np.zeros(shape, np.float32)
        for tap in range(4):
            rng = generator(self.settings.seed, Stream.DRIFT, first + tap)
            knots += np.float32(weights[tap]) * rng.standard_normal(shape, dtype=np.float32)
        return field_from_knots(knots, self.settings.shape, DRIFT_LENGTH)

    def valid(self, pair: int) -> Mask:
        """False where the image has no data: beyond the edge of the swath, and where a slice is missing."""
        rng = generator(self.settings.seed, Stream.SWATH, pair)
        size = self.settings.size
        rows, columns = np.ogrid[0:size, 0:size]
        edge = 0.90 * size + rng.normal(0.0, 3.0)
        valid = columns < edge + SWATH_SLOPE * rows
        missing, top, height = rng.random(), rng.uniform(0.0, 1.0), rng.uniform(0.06, 0.2)
        if missing < 0.15:
            along_track = rows + SWATH_SLOPE * columns
            valid &= (along_track < top * size) | (along_track >= (top + height) * size)
        return np.asarray(valid)

    def _by_pixel(self, table: Floats) -> Floats:
        """A table of classes and parcels, as an image."""
        flat = self.land.cover.astype(np.int32) * np.int32(self.land.parcels) + self.land.parcel
        return np.asarray(table.ravel()[flat], np.float32)

    def coherence(self, pair: int) -> Floats:
        """The true coherence of a pair, 0..0.97, float32, shape (size, size); also where the image has no data."""
        date_term = generator(self.settings.seed, Stream.DATE, pair).normal(0.0, DATE_SPREAD)
        table = self.season(pair) * self._farm_factors(pair)
        table[Cover.FOREST :] *= np.float32(1 + date_term)
        rain_loss = np.array([CLASSES[c].rain_loss for c in Cover], np.float32)[self.land.cover]
        drift = np.array([CLASSES[c].drift for c in Cover], np.float32)[self.land.cover]
        true = self.land.coherence * self._by_pixel(table)
        true *= 1 - rain_loss * self.rain(pair)
        true *= 1 + drift * self.drift(pair)
        return np.clip(lowered(true, self._events, pair), 0.0, 0.97)

    def image(self, pair: int) -> NDArray[np.int16]:
        """The image of a pair: 0..1000, nodata -1, shape (size, size)."""
        rng = generator(self.settings.seed, Stream.SPECKLE, pair)
        estimate = sample_coherence(self.coherence(pair), rng, self.settings.samples, self.settings.window)
        return to_stored(estimate, self.valid(pair))


@lru_cache(maxsize=1)
def scene_of(settings: SceneSettings) -> Scene:
    """The scene of these settings; the last one is kept, since its ground takes longer than an image."""
    return Scene(settings)
