"""What an acquisition does to the coherence of the pairs that share it: rain, snow, moisture and the orbit."""

from __future__ import annotations

import math

import numpy as np

from acdtask.jobs.simulate.fields import Floats, Stream, generator, smooth_field
from acdtask.jobs.simulate.land import Land, by_class
from acdtask.jobs.simulate.settings import SceneSettings

__all__ = ["Weather"]

WET_SHARE = 0.5
"""Share of acquisitions with rain."""
WETNESS = (0.1, 1.0)
"""Least and greatest wetness of a day with rain."""
STORM_EVERY = 60
"""One of so many acquisitions in succession has snow or a storm."""
STORM_WETNESS = (1.1, 1.35)
REGION_LENGTH, CELL_LENGTH, GROUND_LENGTH = 250.0, 40.0, 20.0
"""Distances over which rain, its cells and the moisture of the ground vary, in px."""
ORBIT_SPREAD = 60.0
"""Standard deviation of an acquisition's distance from the middle of the orbital tube, in metres."""
KEPT = 2
"""Surfaces kept: the two acquisitions of a pair, so that its successor makes only one anew."""


class Weather:
    """The state of the ground and of the orbit at each acquisition, numbered from 0; pair k has k and k + 1.

    >>> from acdtask.jobs.simulate.land import make_land
    >>> settings = SceneSettings(size=64)
    >>> Weather(settings, make_land(settings)).factor(3).shape
    (64, 64)
    """

    def __init__(self, settings: SceneSettings, land: Land) -> None:
        self.settings = settings
        self._land = land
        self._wet_loss, self._moisture = (by_class(land.cover, name) for name in ("wet_loss", "moisture"))
        self._orbit_loss = by_class(land.cover, "orbit_loss")
        self._surfaces: dict[int, Floats] = {}

    def factor(self, pair: int) -> Floats:
        """The factor on the coherence of a pair, float32, shape (size, size); it may exceed 1 slightly."""
        geometry = 1 - self._orbit_loss * np.float32(self.baseline(pair) / 100)
        return np.asarray(self._surface(pair) * self._surface(pair + 1) * geometry, np.float32)

    def baseline(self, pair: int) -> float:
        """The perpendicular baseline of a pair in metres."""
        first, second = (float(self._rng(Stream.ORBIT, pair + k).normal(0.0, ORBIT_SPREAD)) for k in (0, 1))
        return abs(second - first)

    def amount(self, acquisition: int) -> float:
        """How wet an acquisition is: 0 is dry, 1 a day of heavy rain; snow and storms are up to 1.35."""
        block = acquisition // STORM_EVERY
        storm = self._rng(Stream.STORM, block)
        if acquisition == block * STORM_EVERY + int(storm.integers(STORM_EVERY)):
            return float(storm.uniform(*STORM_WETNESS))
        rng = self._rng(Stream.RAIN, acquisition)
        return float(rng.uniform(*WETNESS)) if rng.random() < WET_SHARE else 0.0

    def wetness(self, acquisition: int) -> Floats:
        """How wet an acquisition is at each pixel, smooth over the scene; 0 everywhere if it is dry."""
        amount = np.float32(self.amount(acquisition))
        if not amount:
            return np.zeros(self.settings.shape, np.float32)
        rng = self._rng(Stream.RAIN, acquisition)
        rng.random(2)  # the draws of `amount`
        region = smooth_field(rng, self.settings.shape, REGION_LENGTH)
        cells = smooth_field(rng, self.settings.shape, CELL_LENGTH)
        return np.asarray(amount * (0.7 + 0.2 * np.tanh(region) + 0.1 * np.tanh(cells)), np.float32)

    def moisture(self, acquisition: int) -> Floats:
        """A field of mean 0 and variance 1: half of the variance is one value per parcel, half varies over 20 px."""
        rng = self._rng(Stream.MOISTURE, acquisition)
        parcels = rng.standard_normal(self._land.parcels, dtype=np.float32)
        field = smooth_field(rng, self.settings.shape, GROUND_LENGTH)
        return np.asarray(math.sqrt(0.5) * (parcels[self._land.parcel] + field), np.float32)

    def _rng(self, stream: Stream, k: int) -> np.random.Generator:
        return generator(self.settings.seed, stream, k, self.settings.track)

    def _surface(self, acquisition: int) -> Floats:
        """The factor of an acquisition on the pairs that share it."""
        if acquisition not in self._surfaces:
            wet = 1 - self._wet_loss * self.wetness(acquisition)
            surface = np.asarray(wet * (1 + self._moisture * self.moisture(acquisition)), np.float32)
            while len(self._surfaces) >= KEPT:
                del self._surfaces[next(iter(self._surfaces))]
            self._surfaces[acquisition] = surface
        return self._surfaces[acquisition]
