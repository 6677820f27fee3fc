"""Scoring of patches against known events: found, missed and false."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import pairwise
from typing import Any, TypeAlias

import numpy as np
import shapely
from pydantic import BaseModel, ConfigDict

from acdtask.errors import AcdError, ErrorCode

__all__ = [
    "FALSE_SHARE",
    "FOUND_SHARE",
    "DateScore",
    "DetectedPatch",
    "EventDate",
    "EventScore",
    "KindScore",
    "KnownEvent",
    "Score",
    "SizeScore",
    "score",
]

Geometry: TypeAlias = Any
"""A shapely geometry. shapely ships no types."""

FOUND_SHARE = 0.30
"""An event is found on a date if patches of that date cover at least this share of it."""
FALSE_SHARE = 0.10
"""A patch is false if less than this share of it is in events that show on its date."""
SIZE_CLASSES: tuple[tuple[str, int], ...] = (
    ("under 40", 0),
    ("40 to 100", 40),
    ("100 to 300", 100),
    ("300 to 1000", 300),
    ("1000 and more", 1000),
)
"""Label and smallest size in px of each class."""

_ROUNDING = 1e-9
"""Relative tolerance of the two thresholds, since an overlap of polygons is a sum of floats."""


@dataclass(frozen=True)
class KnownEvent:
    """A known change.

    Attributes:
        geometry: shapely polygon(s) in the planar coordinates of the patches.
        dates: the dates on whose images it shows.
    """

    id: str
    kind: str
    geometry: Geometry
    dates: tuple[date, ...]


@dataclass(frozen=True)
class DetectedPatch:
    """A detected patch: its date, and its polygon(s) in the planar coordinates of the events."""

    id: str
    date: date
    geometry: Geometry


class _Result(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class EventDate(_Result):
    """An event on a monitored date on which it shows.

    Attributes:
        covered: share of the event covered by patches of the date.
        seen: False where the image had no data; such a date counts neither as found nor as missed.
    """

    date: date
    covered: float
    found: bool
    seen: bool = True


class EventScore(_Result):
    """An event, and its monitored dates in order."""

    id: str
    kind: str
    pixels: float
    dates: tuple[EventDate, ...]

    @property
    def counted(self) -> bool:
        """Whether any monitored date could show it."""
        return any(day.seen for day in self.dates)

    @property
    def found(self) -> bool:
        """Whether it was found on at least one date."""
        return any(day.found for day in self.dates)


class SizeScore(_Result):
    """Events and patches of a size class, in px."""

    label: str
    events: int
    found: int
    patches: int
    false_patches: int


class KindScore(_Result):
    """Events of one kind."""

    kind: str
    events: int
    found: int


class DateScore(_Result):
    """A monitored date: the events that show on it, and its patches."""

    date: date
    events: int
    found: int
    patches: int
    false_patches: int


class Score(_Result):
    """The result of `score`.

    Attributes:
        events: all events, by id; those that no monitored date could show are not counted below.
        matches: (patch id, ids of the events of its date that it overlaps), for patches that are not false, by id.
        false_ids: ids of the false patches, sorted.
        area_recall: share of the events' area covered by patches, summed over the dates on which events show.
        area_precision: share of the patches' area covered by events of their date, summed over dates.
    """

    events: tuple[EventScore, ...]
    dates: tuple[DateScore, ...]
    sizes: tuple[SizeScore, ...]
    kinds: tuple[KindScore, ...]
    matches: tuple[tuple[str, tuple[str, ...]], ...]
    false_ids: tuple[str, ...]
    area_recall: float | None
    area_precision: float | None

    @property
    def counted(self) -> tuple[EventScore, ...]:
        """The events that a monitored date could show."""
        return tuple(event for event in self.events if event.counted)

    @property
    def found(self) -> tuple[EventScore, ...]:
        """The counted events found on at least one date."""
        return tuple(event for event in self.counted if event.found)

    @property
    def missed(self) -> tuple[EventScore, ...]:
        """The counted events found on no date."""
        return tuple(event for event in self.counted if not event.found)

    @property
    def recall(self) -> float | None:
        """Found events over counted events; None without events."""
        return len(self.found) / len(self.counted) if self.counted else None

    @property
    def date_recall(self) -> float | None:
        """Found over counted pairs of event and date; None without events."""
        total = sum(day.events for day in self.dates)
        return sum(day.found for day in self.dates) / total if total else None

    @property
    def patches(self) -> int:
        """The number of scored patches."""
        return sum(day.patches for day in self.dates)


@dataclass(frozen=True)
class _Day:
    """Overlaps on one date. Lists are aligned with `events` or `patches`."""

    date: date
    events: list[KnownEvent]
    patches: list[DetectedPatch]
    seen: list[bool]
    covered: list[float]
    true_shares: list[float]
    meets: list[tuple[str, ...]]
    seen_area: float
    seen_covered_area: float
    patch_area: float
    true_patch_area: float

    @property
    def found(self) -> list[bool]:
        return [seen and _reaches(share, FOUND_SHARE) for seen, share in zip(self.seen, self.covered, strict=True)]

    @property
    def false(self) -> list[bool]:
        return [not _reaches(share, FALSE_SHARE) for share in self.true_shares]


def score(
    events: Iterable[KnownEvent],
    patches: Iterable[DetectedPatch],
    dates: Iterable[date],
    pixel_area: float = 1.0,
    unseen: Collection[tuple[str, date]] = frozenset(),
) -> Score:
    """Compare the patches of the monitored dates with the events that show on them.

    Args:
        events: known events; all geometries share one planar, nearly equal-area coordinate system, such as pixels.
        patches: all patches of the monitored dates.
        dates: the monitored dates. Events on other dates are not scored.
        pixel_area: area of a pixel in the unit of the coordinates, for sizes in px.
        unseen: (event id, date) pairs without data on that date.

    Returns:
        The score; it does not depend on the order of events, patches and dates.

    Raises:
        AcdError: TRUTH_UNREADABLE if two events share an id or an event has no area.
        ValueError: if a patch has no area or a date that was not monitored.

    >>> day = date(2021, 8, 12)
    >>> event = KnownEvent("E1", "building", shapely.box(0, 0, 10, 10), (day,))
    >>> result = score([event], [DetectedPatch("P1", day, shapely.box(0, 0, 10, 4))], [day])
    >>> result.recall, result.area_recall, result.area_precision
    (1.0, 0.4, 1.0)
    """
    known = sorted((_repaired(event) for event in events), key=lambda event: event.id)
    detected = sorted((_repaired(patch) for patch in patches), key=lambda patch: patch.id)
    monitored = sorted(set(dates))
    _check(known, detected, monitored)
    days = [
        _compare(
            day,
            [event for event in known if day in event.dates],
            [patch for patch in detected if patch.date == day],
            unseen,
        )
        for day in monitored
    ]
    scored = tuple(_event_score(event, days, pixel_area) for event in known)
    seen_area, patch_area = sum(day.seen_area for day in days), sum(day.patch_area for day in days)
    judged = [entry for day in days for entry in zip(day.patches, day.false, day.meets, strict=True)]
    patch_pixels = [(shapely.area(patch.geometry) / pixel_area, false) for patch, false, _ in judged]
    return Score(
        events=scored,
        dates=tuple(_date_score(day) for day in days),
        sizes=_by_size(scored, patch_pixels),
        kinds=_by_kind(scored),
        matches=tuple(sorted((patch.id, meets) for patch, false, meets in judged if not false)),
        false_ids=tuple(sorted(patch.id for patch, false, _ in judged if false)),
        area_recall=_share(sum(day.seen_covered_area for day in days), seen_area),
        area_precision=_share(sum(day.true_patch_area for day in days), patch_area),
    )


def _repaired(item: Any) -> Any:
    """The item with a valid geometry. On a pixel grid, rings often touch themselves at a corner."""
    if shapely.is_valid(item.geometry):
        return item
    return type(item)(**{**vars(item), "geometry": shapely.make_valid(item.geometry)})


def _check(events: list[KnownEvent], patches: list[DetectedPatch], dates: list[date]) -> None:
    for before, event in pairwise(events):
        if before.id == event.id:
            raise AcdError(ErrorCode.TRUTH_UNREADABLE, f"two events have the id {event.id!r}")
    for event in events:
        if not shapely.area(event.geometry) > 0:
            raise AcdError(ErrorCode.TRUTH_UNREADABLE, f"event {event.id!r} has no area")
    for patch in patches:
        if not shapely.area(patch.geometry) > 0:
            raise ValueError(f"patch {patch.id!r} has no area")
        if patch.date not in dates:
            raise ValueError(f"patch {patch.id!r} is of {patch.date}, which was not monitored")


def _compare(
    day: date, events: list[KnownEvent], patches: list[DetectedPatch], unseen: Collection[tuple[str, date]]
) -> _Day:
    covered, _ = _overlaps([event.geometry for event in events], [patch.geometry for patch in patches])
    true, met = _overlaps([patch.geometry for patch in patches], [event.geometry for event in events])
    event_areas = [float(shapely.area(event.geometry)) for event in events]
    patch_areas = [float(shapely.area(patch.geometry)) for patch in patches]
    seen = [(event.id, day) not in unseen for event in events]
    return _Day(
        date=day,
        events=events,
        patches=patches,
        seen=seen,
        covered=[part / whole for part, whole in zip(covered, event_areas, strict=True)],
        true_shares=[part / whole for part, whole in zip(true, patch_areas, strict=True)],
        meets=[tuple(events[index].id for index in indices) for indices in met],
        seen_area=sum(area for area, visible in zip(event_areas, seen, strict=True) if visible),
        seen_covered_area=sum(area for area, visible in zip(covered, seen, strict=True) if visible),
        patch_area=sum(patch_areas),
        true_patch_area=sum(true),
    )


def _overlaps(items: Sequence[Geometry], others: Sequence[Geometry]) -> tuple[list[float], list[list[int]]]:
    """For each item, the area covered by the union of the others, and the indices of those that overlap it."""
    tree = shapely.STRtree(others)
    areas, partners = [], []
    for item in items:
        near = np.sort(tree.query(item))
        parts = [shapely.intersection(item, others[index]) for index in near]
        overlapping = [(index, part) for index, part in zip(near, parts, strict=True) if shapely.area(part) > 0]
        areas.append(float(shapely.area(shapely.union_all([part for _, part in overlapping]))))
        partners.append([int(index) for index, _ in overlapping])
    return areas, partners


def _share(part: float, whole: float) -> float | None:
    """A rounded share, since versions of GEOS differ in the last bits of an area."""
    return round(part / whole, 9) if whole else None


def _reaches(share: float, threshold: float) -> bool:
    return share >= threshold * (1 - _ROUNDING)


def _event_score(event: KnownEvent, days: list[_Day], pixel_area: float) -> EventScore:
    dates = [
        EventDate(date=day.date, covered=round(covered, 6), found=found, seen=seen)
        for day in days
        for other, covered, found, seen in zip(day.events, day.covered, day.found, day.seen, strict=True)
        if other.id == event.id
    ]
    pixels = round(float(shapely.area(event.geometry)) / pixel_area, 3)
    return EventScore(id=event.id, kind=event.kind, pixels=pixels, dates=tuple(dates))


def _date_score(day: _Day) -> DateScore:
    return DateScore(
        date=day.date,
        events=sum(day.seen),
        found=sum(day.found),
        patches=len(day.patches),
        false_patches=sum(day.false),
    )


def _by_size(events: Iterable[EventScore], patches: list[tuple[float, bool]]) -> tuple[SizeScore, ...]:
    """A row per size class; the first only if it has events or patches."""
    counted = [event for event in events if event.counted]
    rows = []
    for index, (label, smallest) in enumerate(SIZE_CLASSES):
        end = SIZE_CLASSES[index + 1][1] if index + 1 < len(SIZE_CLASSES) else float("inf")
        inside = [event for event in counted if smallest <= event.pixels < end]
        false_flags = [false for pixels, false in patches if smallest <= round(pixels, 3) < end]
        if inside or false_flags or index:
            rows.append(
                SizeScore(
                    label=label,
                    events=len(inside),
                    found=sum(event.found for event in inside),
                    patches=len(false_flags),
                    false_patches=sum(false_flags),
                )
            )
    return tuple(rows)


def _by_kind(events: Iterable[EventScore]) -> tuple[KindScore, ...]:
    counted = [event for event in events if event.counted]
    return tuple(
        KindScore(
            kind=kind,
            events=sum(event.kind == kind for event in counted),
            found=sum(event.kind == kind and event.found for event in counted),
        )
        for kind in sorted({event.kind for event in counted})
    )
