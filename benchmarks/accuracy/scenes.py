"""The scenes on which methods are judged, and the seeds that are kept for fitting."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from acdtask.change.moments import Moments
from acdtask.jobs.simulate.scene import Scene
from acdtask.jobs.simulate.settings import SceneSettings
from acdtask.jobs.simulate.speckle import NODATA

__all__ = ["CHOOSING_SEEDS", "FIT_SEEDS", "JUDGE_SEEDS", "KINDS", "Kind", "Series", "series_of"]

FIT_SEEDS = tuple(range(101, 125))
"""Scenes on which thresholds and models may be fitted. No other module states seeds of such scenes."""
CHOOSING_SEEDS = tuple(range(201, 213))
"""Scenes for figures while a model is made: its numbers may be chosen with them, but nothing is fitted on them."""
JUDGE_SEEDS = tuple(range(901, 925))
"""Scenes on which methods are compared; nothing may be fitted on them."""

SIZE, MONITORED, EVENTS = 384, 20, 12
"""Per area and image there are as many events as in the demo: what a probability means depends on it."""


@dataclass(frozen=True)
class Kind:
    """A kind of scene.

    Attributes:
        name: short name.
        text: what is special about it.
        settings: what differs from a year of clean pairs of six days.
        tracks: 2 if the ground is also seen from a second track.
    """

    name: str
    text: str
    settings: dict[str, Any] = field(default_factory=dict)
    tracks: int = 1


KINDS = (
    Kind("clean", "a year of pairs of six days without events"),
    Kind("contaminated", "the same, with 60 changes in the year", {"reference_events": 60}),
    Kind("12 days", "a year of pairs of twelve days", {"pair_days": 12, "reference_pairs": 30}),
    Kind(
        "half a year",
        "November to April; May to August is monitored",
        {"reference_pairs": 30, "first_date": date(2020, 11, 1)},
    ),
    Kind("two years", "two years of pairs of six days", {"reference_pairs": 121}),
    Kind("two tracks", "a year of two tracks; patches of both are united", tracks=2),
)


@dataclass(frozen=True, eq=False)
class Series:
    """The images of a scene from one track.

    Attributes:
        reference: shape (images, height, width), coherence in thousandths.
        monitored: shape (monitored images, height, width).
        events: shape (monitored images, height, width), int32, the number of the event of each pixel; 0 is none.
        areas: area of each event in px, by number - 1.
        pixel_km2: area of a pixel.
    """

    reference: NDArray[np.int16]
    monitored: NDArray[np.int16]
    events: NDArray[np.int32]
    areas: tuple[int, ...]
    pixel_km2: float

    nodata: int = NODATA

    @cached_property
    def moments(self) -> Moments:
        """Moments of the reference."""
        return Moments.of_images(self.reference, self.nodata)

    @cached_property
    def count(self) -> NDArray[np.int64]:
        """Number of valid reference images of each pixel."""
        return np.asarray((self.reference != self.nodata).sum(axis=0))

    @cached_property
    def in_order(self) -> NDArray[np.int16]:
        """The reference sorted by value, shape (images, height, width); nodata is last."""
        last = np.iinfo(np.int16).max
        return np.sort(np.where(self.reference == self.nodata, last, self.reference), axis=0)

    @property
    def judged_km2(self) -> float:
        """The area of all monitored images where there is data."""
        return float(np.count_nonzero(self.monitored != self.nodata)) * self.pixel_km2


def series_of(kind: Kind, seed: int, size: int = SIZE, **others: int) -> list[Series]:
    """Simulate a scene: one series per track.

    Args:
        kind: the kind of the scene.
        seed: its seed.
        size: its width and height in pixels.
        others: other settings of the scene, such as events.
    """
    settings = {"size": size, "monitored_pairs": MONITORED, "events": EVENTS, **kind.settings, **others}
    return [
        _simulated(Scene(SceneSettings.model_validate({**settings, "seed": seed, "track": track})))
        for track in range(kind.tracks)
    ]


def _simulated(scene: Scene) -> Series:
    settings = scene.settings
    monitored = range(settings.reference_pairs, settings.pairs)
    events = np.zeros((len(monitored), *settings.shape), np.int32)
    for number, event in enumerate(scene.truth(), start=1):
        for index, pair in enumerate(monitored):
            events[(index, *event.pixels_in(pair))] = number
    return Series(
        reference=np.stack([scene.image(pair) for pair in range(settings.reference_pairs)]),
        monitored=np.stack([scene.image(pair) for pair in monitored]),
        events=events,
        areas=tuple(event.area_px for event in scene.truth()),
        pixel_km2=settings.pixel**2 / 1e6,
    )
