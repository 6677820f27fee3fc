"""Farm work: every field is worked one to four times a year, at about the same times each year."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

import numpy as np
from numpy.typing import NDArray

from acdtask.jobs.simulate.fields import Floats, Stream, generator
from acdtask.jobs.simulate.land import Cover

__all__ = ["FarmCalendar"]

WORKS = {
    Cover.CROP: ((95.0, 14.0), (150.0, 14.0), (212.0, 12.0), (268.0, 16.0)),
    Cover.GRASS: ((140.0, 12.0), (182.0, 12.0), (222.0, 12.0), (268.0, 14.0)),
}
"""Mean and standard deviation of the day of the year of the works of a class: ploughing and harvest, or mowing."""
TIMES = (0.3, 0.35, 0.2, 0.15)
"""Share of the fields that are worked once, twice, three and four times a year."""
ROTATED = {Cover.CROP: 0.2, Cover.GRASS: 0.0}
"""Share of the fields that have another crop in a year than usual, and so another calendar."""
UNUSUAL_SHARE = 0.06
"""Share of the fields that are worked once more, on any day of the year."""
FACTORS = {Cover.CROP: (0.30, 0.65), Cover.GRASS: (0.50, 0.80)}
"""Least and greatest factor of a work on the coherence of the pair that spans it."""


@dataclass(frozen=True)
class _Year:
    """The works of a year, shape (works, parcels): the day as a fraction since 1 January of year 1, and a strength."""

    days: NDArray[np.float64]
    strength: Floats


class FarmCalendar:
    """When each parcel is worked; the same for every track.

    >>> FarmCalendar(7, 100).factors(date(2021, 4, 1), date(2021, 4, 13)).shape
    (5, 100)
    """

    def __init__(self, seed: int, parcels: int) -> None:
        self.seed = seed
        self.parcels = parcels
        self._years: dict[tuple[int, Cover], _Year] = {}

    def factors(self, start: date, end: date) -> Floats:
        """The factor of the work after `start` and until `end`, by class (rows) and parcel (columns); 1 if idle."""
        table = np.ones((len(Cover), self.parcels), np.float32)
        first, last = start.toordinal(), end.toordinal()
        for cover in WORKS:
            low, high = FACTORS[cover]
            for year in range(start.year - 1, end.year + 2):  # a work's day may lie in the next year or the last one
                works = self._year(year, cover)
                worked = (works.days > first) & (works.days <= last)
                factor = np.where(worked, low + (high - low) * works.strength, np.float32(1))
                table[cover] *= factor.prod(axis=0)
        return table

    def times(self, year: int, cover: Cover) -> NDArray[np.int64]:
        """How often each parcel would be worked in a year if it had this cover."""
        return np.isfinite(self._year(year, cover).days).sum(axis=0)

    def _year(self, year: int, cover: Cover) -> _Year:
        if (year, cover) not in self._years:
            self._years[year, cover] = self._draw(year, cover)
        return self._years[year, cover]

    def _draw(self, year: int, cover: Cover) -> _Year:
        rng = generator(self.seed, Stream.FARM, year * len(Cover) + cover)
        works, shape = WORKS[cover], (len(WORKS[cover]), self.parcels)
        rotated = rng.random(self.parcels) < ROTATED[cover]
        planned = np.where(rotated, self._planned(rng, cover), self._planned(self._usual(cover), cover))
        middle, spread = (np.array([work[k] for work in works])[:, np.newaxis] for k in (0, 1))
        days = np.where(planned, middle + spread * rng.standard_normal(shape), np.inf)
        unusual = np.where(rng.random(self.parcels) < UNUSUAL_SHARE, rng.uniform(0, 365, self.parcels), np.inf)
        strength = rng.random((len(works) + 1, self.parcels), dtype=np.float32)
        return _Year(date(year, 1, 1).toordinal() + np.vstack([days, unusual]), strength)

    def _usual(self, cover: Cover) -> np.random.Generator:
        return generator(self.seed, Stream.FARM, cover)

    def _planned(self, rng: np.random.Generator, cover: Cover) -> NDArray[np.bool_]:
        """Which works each parcel gets, shape (works, parcels)."""
        times = 1 + np.searchsorted(np.cumsum(TIMES)[:-1], rng.random(self.parcels), side="right")
        rank = rng.random((len(WORKS[cover]), self.parcels)).argsort(axis=0).argsort(axis=0)
        return np.asarray(rank < times)
