"""Simulated events: changes of the ground with known place, time and strength."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.measure import label

from acdtask.errors import AcdError, ErrorCode
from acdtask.jobs.simulate.fields import Floats, Stream, generator, smooth_field
from acdtask.jobs.simulate.land import Cover
from acdtask.jobs.simulate.settings import SceneSettings

__all__ = ["KINDS", "LATTICE", "EventKind", "SimulatedEvent", "lowered", "place_events", "place_reference_events"]

Mask: TypeAlias = NDArray[np.bool_]
Coordinates: TypeAlias = NDArray[np.int32]
Kind: TypeAlias = Literal["abrupt", "flood", "growing", "gentle", "reference"]


@dataclass(frozen=True)
class EventKind:
    """The ranges from which an event of a kind is drawn.

    Attributes:
        areas: in px, log-uniform.
        factors: factor of the true coherence, uniform.
        pairs: number of pairs in succession that it lowers.
    """

    areas: tuple[int, int]
    factors: tuple[float, float]
    pairs: tuple[int, int]


KINDS: dict[Kind, EventKind] = {
    "abrupt": EventKind((40, 2500), (0.05, 0.45), (1, 1)),
    "flood": EventKind((40, 2500), (0.05, 0.45), (2, 4)),
    "growing": EventKind((200, 2500), (0.05, 0.45), (3, 5)),
    "gentle": EventKind((600, 6000), (0.50, 0.80), (1, 1)),
    "reference": EventKind((200, 5000), (0.15, 0.45), (2, 8)),
}
"""Kinds of events; "reference" are the changes of a contaminated baseline."""

LARGEST_SHARE = 1 / 16
"""Share of the scene that no event exceeds."""
LATTICE = 256
"""Every third event crosses a line of the grid of cells of this size in px from (0, 0) of the CRS, if possible."""
GAP = 8
"""Minimum distance of events of the same pair in px, so that they are not joined."""
EDGE = 2
"""Minimum distance between an event and the edge of the scene in px."""
ATTEMPTS = 500


@dataclass(frozen=True)
class SimulatedEvent:
    """A change of the ground, and the images on which it shows.

    Attributes:
        id: E001, E002, ...
        kind: "abrupt" (a demolition, a landslide) lowers the pair that spans it; "flood" lowers 2 to 4 in succession;
            "growing" (a quarry, a building site) lowers 3 to 5, in more pixels each time; "gentle" (a thinned stand,
            damaged roofs) lowers a wide area of a pair a little.
        first_pair, last_pair: the pairs that it lowers, inclusive, counted from 0.
        start_date, end_date: the dates of the images of these pairs (the second date of a pair).
        factor: factor of the true coherence.
        cover: the class that covers most of it.
        rows, columns: its pixels in the scene, in raster order.
        since: the first pair that each of these pixels belongs to; `first_pair` unless the event grows.
    """

    id: str
    kind: Kind
    first_pair: int
    last_pair: int
    start_date: date
    end_date: date
    factor: float
    cover: Cover
    rows: Coordinates
    columns: Coordinates
    since: Coordinates

    @property
    def area_px(self) -> int:
        """The number of pixels of the event."""
        return len(self.rows)

    @cached_property
    def window(self) -> tuple[slice, slice]:
        """The bounding rectangle of the event in the scene."""
        return (
            slice(int(self.rows.min()), int(self.rows.max()) + 1),
            slice(int(self.columns.min()), int(self.columns.max()) + 1),
        )

    def mask(self, shape: tuple[int, int]) -> Mask:
        """A mask of the event at its greatest extent, in a scene of the given shape."""
        mask = np.zeros(shape, np.bool_)
        mask[self.rows, self.columns] = True
        return mask

    def pixels_in(self, pair: int) -> tuple[Coordinates, Coordinates]:
        """Rows and columns of the pixels that the event lowers in a pair; empty if it does not show there."""
        shows = (self.since <= pair) if self.first_pair <= pair <= self.last_pair else np.zeros(self.area_px, np.bool_)
        return self.rows[shows], self.columns[shows]

    def crosses(self, lines: tuple[range, range]) -> bool:
        """Whether the event has pixels on both sides of a line (see SceneSettings.lattice_lines)."""
        return any(
            positions.min() < line <= positions.max()
            for positions, along in zip((self.rows, self.columns), lines, strict=True)
            for line in along
        )


def _blob(rng: np.random.Generator, area: int) -> Mask:
    """A connected irregular shape without holes, of about `area` px, centred in its array.

    It is the highest part of a smooth random field added to a paraboloid with an elliptic base.
    """
    radius = math.sqrt(area / math.pi)
    half = math.ceil(2.2 * radius) + 2
    stretch = math.sqrt(rng.uniform(1.0, 2.2))
    azimuth = rng.uniform(0.0, math.pi)
    y, x = np.mgrid[-half : half + 1, -half : half + 1].astype(np.float32) / np.float32(radius)
    along = (x * math.cos(azimuth) + y * math.sin(azimuth)) / stretch
    across = (y * math.cos(azimuth) - x * math.sin(azimuth)) * stretch
    height = 0.5 * smooth_field(rng, y.shape, max(2.5, 0.6 * radius)) - along**2 - across**2
    parts = label(height >= np.partition(height, -area, axis=None)[-area], connectivity=1)
    largest = parts == 1 + int(np.argmax(np.bincount(parts.ravel())[1:]))
    return np.asarray(ndimage.binary_fill_holes(largest), np.bool_)


class _Ground:
    """The pixels still free for events, by pair."""

    def __init__(self, settings: SceneSettings, cover: NDArray[np.uint8], valid: Callable[[int], Mask]) -> None:
        self.settings = settings
        self.cover = cover
        monitored = range(settings.reference_pairs, settings.pairs)
        self.free: dict[int, Mask] = {pair: valid(pair) & (cover != Cover.WATER) for pair in monitored}

    def admits(self, rows: Coordinates, columns: Coordinates, pairs: range) -> bool:
        """Whether an event fits: in the scene, on valid land, apart from others of its pairs, not mostly forest."""
        last = self.settings.size - EDGE
        if min(rows.min(), columns.min()) < EDGE or max(rows.max(), columns.max()) >= last:
            return False
        # Forest has so little coherence that changes hardly show.
        if 2 * np.count_nonzero(self.cover[rows, columns] == Cover.FOREST) > len(rows):
            return False
        return all(self.free[pair][rows, columns].all() for pair in pairs)

    def take(self, event: SimulatedEvent) -> None:
        """Reserve the event's pixels and a gap around them."""
        blocked = ndimage.distance_transform_cdt(~event.mask(self.settings.shape), "chessboard") <= GAP
        for pair in range(event.first_pair, event.last_pair + 1):
            self.free[pair] &= ~blocked


def _centre(rng: np.random.Generator, size: int, lines: tuple[range, range] | None) -> tuple[int, int]:
    """A random row and column, on a lattice line (sometimes on two) if lines are given."""
    centre = [int(rng.integers(size)), int(rng.integers(size))]
    if lines is not None:
        axes = [axis for axis in (0, 1) if len(lines[axis])]
        chosen = axes if rng.random() < 0.2 else [axes[int(rng.integers(len(axes)))]]
        for axis in chosen:
            centre[axis] = int(rng.choice(np.asarray(lines[axis])))
    return centre[0], centre[1]


def _kind(number: int, settings: SceneSettings) -> Kind:
    """Of twelve events, four are floods, one grows, two are gentle and five are abrupt."""
    if number % 3 == 2 and settings.monitored_pairs > 1:
        return "flood"
    if number % 12 == 4 and settings.monitored_pairs > 2:
        return "growing"
    return "gentle" if number % 12 in (7, 10) else "abrupt"


def _area(rng: np.random.Generator, kind: EventKind, size: int) -> int:
    least, most = (min(area, int(LARGEST_SHARE * size**2)) for area in kind.areas)
    return round(math.exp(rng.uniform(math.log(least), math.log(most))))


def _since(rng: np.random.Generator, rows: Coordinates, columns: Coordinates, pairs: range) -> Coordinates:
    """The pair from which each pixel belongs to a growing event: equal shares, by distance from one of its pixels."""
    start = int(rng.integers(len(rows)))
    distance = (rows - rows[start]).astype(np.int64) ** 2 + (columns - columns[start]).astype(np.int64) ** 2
    rank = np.empty(len(rows), np.int64)
    rank[np.argsort(distance, kind="stable")] = np.arange(len(rows))
    return (pairs.start + rank * len(pairs) // len(rows)).astype(np.int32)


def _try_event(
    rng: np.random.Generator, number: int, ground: _Ground, lines: tuple[range, range] | None
) -> SimulatedEvent | None:
    """Draw an event's time, shape and place; None if it does not fit."""
    settings = ground.settings
    name = _kind(number, settings)
    kind = KINDS[name]
    least, most = (min(pairs, settings.monitored_pairs) for pairs in kind.pairs)
    duration = int(rng.integers(least, most + 1))
    first = settings.reference_pairs + int(rng.integers(settings.monitored_pairs - duration + 1))
    pairs = range(first, first + duration)
    factor = round(float(rng.uniform(*kind.factors)), 3)
    blob = _blob(rng, _area(rng, kind, settings.size))
    row, column = _centre(rng, settings.size, lines)
    rows, columns = np.nonzero(blob)
    if not min(kind.areas[0], LARGEST_SHARE * settings.size**2) <= len(rows) <= kind.areas[1]:
        return None
    rows = (rows + row - blob.shape[0] // 2).astype(np.int32)
    columns = (columns + column - blob.shape[1] // 2).astype(np.int32)
    if not ground.admits(rows, columns, pairs):
        return None
    grows = name == "growing"
    return SimulatedEvent(
        id=f"E{number + 1:03d}",
        kind=name,
        first_pair=first,
        last_pair=pairs[-1],
        start_date=settings.pair_dates(first)[1],
        end_date=settings.pair_dates(pairs[-1])[1],
        factor=factor,
        cover=Cover(int(np.bincount(ground.cover[rows, columns], minlength=len(Cover)).argmax())),
        rows=rows,
        columns=columns,
        since=_since(rng, rows, columns, pairs) if grows else np.full(len(rows), first, np.int32),
    )


def place_events(
    settings: SceneSettings, cover: NDArray[np.uint8], valid: Callable[[int], Mask]
) -> list[SimulatedEvent]:
    """Place the events of a scene, by id.

    `cover` is the Cover of each pixel; `valid` returns the mask of valid pixels of a pair's image. SETTING_INVALID if
    the scene has no room for them.
    """
    ground = _Ground(settings, cover, valid)
    lattice = settings.lattice_lines(LATTICE)
    events: list[SimulatedEvent] = []
    for number in range(settings.events):
        rng = generator(settings.seed, Stream.EVENT, number)
        lines = lattice if number % 3 == 0 and any(lattice) else None
        attempts = (_try_event(rng, number, ground, lines) for _ in range(ATTEMPTS))
        event = next((found for found in attempts if found and (lines is None or found.crosses(lines))), None)
        if event is None:
            raise AcdError(
                ErrorCode.SETTING_INVALID,
                f"events: {settings.events} do not fit into a scene of {settings.size} px and"
                f" {settings.monitored_pairs} monitored pairs, only {len(events)} do",
                fix="Ask for fewer events, a larger scene or more monitored pairs.",
            )
        ground.take(event)
        events.append(event)
    return events


def place_reference_events(settings: SceneSettings, cover: NDArray[np.uint8]) -> list[SimulatedEvent]:
    """Place the changes of the reference pairs, which no truth lists: anywhere, cut at the edge of the scene.

    Args:
        settings: their number, and the reference pairs.
        cover: Cover of each pixel.
    """
    kind = KINDS["reference"]
    events = []
    for number in range(settings.reference_events if settings.reference_pairs else 0):
        rng = generator(settings.seed, Stream.REFERENCE_EVENT, number)
        duration = min(int(rng.integers(kind.pairs[0], kind.pairs[1] + 1)), settings.reference_pairs)
        first = int(rng.integers(settings.reference_pairs - duration + 1))
        factor = round(float(rng.uniform(*kind.factors)), 3)
        blob = _blob(rng, _area(rng, kind, settings.size))
        row, column = _centre(rng, settings.size, None)
        rows, columns = (positions.astype(np.int32) for positions in np.nonzero(blob))
        rows, columns = rows + np.int32(row - blob.shape[0] // 2), columns + np.int32(column - blob.shape[1] // 2)
        inside = (rows >= 0) & (rows < settings.size) & (columns >= 0) & (columns < settings.size)
        rows, columns = rows[inside], columns[inside]
        events.append(
            SimulatedEvent(
                id=f"R{number + 1:03d}",
                kind="reference",
                first_pair=first,
                last_pair=first + duration - 1,
                start_date=settings.pair_dates(first)[1],
                end_date=settings.pair_dates(first + duration - 1)[1],
                factor=factor,
                cover=Cover(int(np.bincount(cover[rows, columns], minlength=len(Cover)).argmax())),
                rows=rows,
                columns=columns,
                since=np.full(len(rows), first, np.int32),
            )
        )
    return events


def lowered(true: Floats, events: Iterable[SimulatedEvent], pair: int) -> Floats:
    """Lower the true coherence by the events of the pair, in place."""
    for event in events:
        true[event.pixels_in(pair)] *= np.float32(event.factor)
    return true
