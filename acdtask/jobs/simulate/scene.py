"""Simulated scene: more than a year of coherence images of known ground with known changes."""

from __future__ import annotations

import math
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray

from acdtask.jobs.simulate.events import Mask, SimulatedEvent, lowered, place_events, place_reference_events
from acdtask.jobs.simulate.farm import FarmCalendar
from acdtask.jobs.simulate.fields import Floats, Stream, field_from_knots, generator, knot_shape, spline_weights
from acdtask.jobs.simulate.land import CLASSES, Cover, Land, by_class, make_land
from acdtask.jobs.simulate.settings import SceneSettings
from acdtask.jobs.simulate.speckle import ACQUISITIONS, sample_coherence, to_stored
from acdtask.jobs.simulate.weather import Weather

__all__ = ["Scene", "SceneSettings", "scene_of"]

YEAR = 365.25
DRIFT_LENGTH = 60.0
DRIFT_DAYS = 30.0
SWATH_SLOPE = math.tan(math.radians(12.0))
"""Shift of the swath's edge in columns per row: tracks of Sentinel-1 are about 12 degrees off north."""
MISSING_SHARE = 0.08
"""Share of acquisitions of which a slice is missing; both pairs of such an acquisition lack it."""


class Scene:
    """A scene, which depends only on its settings. Images can be made in any order.

    The true coherence of a pixel in pair k is a product, clipped to 0..0.97:

        ground x season x weather of both acquisitions x baseline x (1 + drift) x farm work x event

    and its image is an estimate from speckle (see `sample_coherence`). Pair k is made of acquisitions k and k + 1, so
    consecutive pairs share one: its weather, its speckle, and the slice that it lacks.

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
    def weather(self) -> Weather:
        """The acquisitions."""
        return Weather(self.settings, self.land)

    @cached_property
    def _farm(self) -> FarmCalendar:
        return FarmCalendar(self.settings.seed, self.land.parcels)

    @cached_property
    def _events(self) -> list[SimulatedEvent]:
        first_track = Scene(self.settings.model_copy(update={"track": 0}))
        return place_events(self.settings, self.land.cover, first_track.valid)

    @cached_property
    def _reference_events(self) -> list[SimulatedEvent]:
        return place_reference_events(self.settings, self.land.cover)

    def truth(self) -> list[SimulatedEvent]:
        """The events, by id. SETTING_INVALID if the scene has no room for them."""
        return list(self._events)

    def changed(self, pair: int) -> Mask:
        """A mask of the pixels that events lower in a pair, shape (size, size)."""
        mask = np.zeros(self.settings.shape, np.bool_)
        for event in self._events:
            mask[event.pixels_in(pair)] = True
        return mask

    def day_of_year(self, pair: int) -> float:
        """The day of the year at the middle of a pair."""
        start, end = self.settings.pair_dates(pair)
        return start.timetuple().tm_yday + (end - start).days / 2

    def season(self, pair: int) -> Floats:
        """The seasonal factor of each class (rows) and parcel (columns), float32.

        1 - depth (1 + cos(2 pi (day - worst day) / 365.25)) / 2. Each crop parcel has its own worst day, with a
        standard deviation of 12 days.
        """
        parcels = self.land.parcels
        shift = generator(self.settings.seed, Stream.PARCEL).normal(0.0, 12.0, parcels)
        day = self.day_of_year(pair)
        table = np.empty((len(Cover), parcels), np.float32)
        for cover, model in CLASSES.items():
            phase = day - model.season_day - (shift if cover is Cover.CROP else 0.0)
            table[cover] = 1 - model.season_depth * (1 + np.cos(2 * np.pi * phase / YEAR)) / 2
        return table

    def _farm_factors(self, pair: int) -> Floats:
        """The factor of farm work on each class (rows) and parcel (columns); 1 without work."""
        return self._farm.factors(*self.settings.pair_dates(pair))

    def farm_work(self, pair: int) -> Mask:
        """A mask of parcels worked between the two dates: real drops that are not events."""
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
        """A mask of valid pixels: False beyond the edge of the swath and in a missing slice of an acquisition."""
        return self._acquired(pair) & self._acquired(pair + 1)

    def _acquired(self, acquisition: int) -> Mask:
        rng = generator(self.settings.seed, Stream.SWATH, acquisition, self.settings.track)
        size = self.settings.size
        rows, columns = np.ogrid[0:size, 0:size]
        edge = 0.90 * size + rng.normal(0.0, 3.0)
        valid = columns < edge + SWATH_SLOPE * rows
        missing, top, height = rng.random(), rng.uniform(0.0, 1.0), rng.uniform(0.06, 0.2)
        if missing < MISSING_SHARE:
            along_track = rows + SWATH_SLOPE * columns
            valid &= (along_track < top * size) | (along_track >= (top + height) * size)
        return np.asarray(valid)

    def _by_pixel(self, table: Floats) -> Floats:
        """Expand a table of classes and parcels to an image."""
        flat = self.land.cover.astype(np.int32) * np.int32(self.land.parcels) + self.land.parcel
        return np.asarray(table.ravel()[flat], np.float32)

    def coherence(self, pair: int) -> Floats:
        """The true coherence of a pair, 0..0.97, float32, shape (size, size); not masked by `valid`."""
        true = self.land.coherence * self._by_pixel(self.season(pair) * self._farm_factors(pair))
        true *= self.weather.factor(pair)
        true *= 1 + by_class(self.land.cover, "drift") * self.drift(pair)
        lowered(true, self._reference_events, pair)
        return np.clip(lowered(true, self._events, pair), 0.0, 0.97)

    def image(self, pair: int) -> NDArray[np.int16]:
        """The image of a pair: 0..1000, nodata -1, shape (size, size)."""
        settings = self.settings
        speckle = [generator(settings.seed, Stream.SPECKLE, pair + k, settings.track) for k in range(ACQUISITIONS)]
        estimate = sample_coherence(
            self.coherence(pair), self.land.coherence, speckle, settings.samples, settings.window
        )
        return to_stored(estimate, self.valid(pair))


@lru_cache(maxsize=1)
def scene_of(settings: SceneSettings) -> Scene:
    """The scene of these settings. The last one is cached, since making its ground takes longer than an image."""
    return Scene(settings)
