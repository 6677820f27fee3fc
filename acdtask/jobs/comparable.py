"""Checks that the images of a stack are comparable: one track, one polarisation, one series (docs/decisions/0021)."""

from __future__ import annotations

import datetime as dt
import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from shapely.geometry import shape
from shapely.geometry.base import BaseGeometry

from acdtask.cube.model import Cube, CubeRequest, Record
from acdtask.errors import AcdError, ErrorCode
from acdtask.jobs.contract import Site
from acdtask.jobs.stacks import image_label, pair_days_of, start_of
from acdtask.jobs.tracks import polarisation_of, track_of
from acdtask.raster.grid import Grid, Layout
from acdtask.raster.tiling import LON_LAT, project

__all__ = [
    "Composition",
    "Overlaps",
    "Pair",
    "composition_of",
    "grids_note",
    "pairs_of",
    "pairs_of_labels",
    "require_comparable",
    "require_one_series",
    "short_crs",
]

SEAM = 0.25
"""Adjacent slices of a pass overlap by less than this fraction of the smaller one."""

SAMPLES, SAMPLE_PIXELS = 5, 16
"""An overlap is sampled in SAMPLES x SAMPLES windows of SAMPLE_PIXELS x SAMPLE_PIXELS pixels."""

DAY = 24 * 3600
REVISIT_DAYS, PASS_SECONDS = 6, 240
"""Two Sentinel-1 satellites pass on a track every 6 days, at the same time of day.

Neighbouring tracks are 360 / 175 degrees of longitude apart, so they pass a place about 8 minutes earlier or later;
tracks of the opposite direction pass about 12 hours apart. Passes that differ by less than half of the 8 minutes belong
to the same track.
"""

NO_TRACK = "unknown"
PAIR_LABEL = re.compile(r"(\d{4}-\d\d-\d\d)_(\d{4}-\d\d-\d\d)")
LONGEST_CRS = 40


@dataclass(frozen=True)
class Composition:
    """Composition of a stack: number of images per track, polarisation and pair length in days."""

    images: int
    tracks: Mapping[str, int]
    polarisations: Mapping[str, int]
    pair_days: Mapping[int, int]

    @property
    def track(self) -> str:
        """The track, if it is the only one, otherwise empty."""
        return _only(self.tracks)

    @property
    def polarisation(self) -> str:
        """The polarisation, if it is the only one, otherwise empty."""
        return _only(self.polarisations)

    def notes(self) -> dict[str, str]:
        """Notes for the plan; unknown properties are omitted."""
        return {
            **({"tracks": counts_text(self.tracks)} if set(self.tracks) != {NO_TRACK} else {}),
            **({"polarisations": counts_text(self.polarisations)} if set(self.polarisations) != {NO_TRACK} else {}),
            **({"pair lengths": self._lengths()} if self.pair_days else {}),
        }

    def lines(self) -> list[str]:
        """Sentences for the person who runs a job."""
        notes = [f"{name}: {text}" for name, text in self.notes().items()]
        lines = [f"stacked {self.images} images; {'; '.join(notes)}"] if notes else []
        if len(self.pair_days) > 1:
            lines.append("coherence decreases with the length of a pair: choose one length with --pair-days")
        return lines

    def _lengths(self) -> str:
        return ", ".join(f"{days} days: {count}" for days, count in sorted(self.pair_days.items()))


def counts_text(counts: Mapping[str, int]) -> str:
    """Counts as text.

    >>> counts_text({"D066": 31, "A015": 30})
    'A015: 30, D066: 31'
    """
    return ", ".join(f"{name}: {count}" for name, count in sorted(counts.items()))


def composition_of(records: Sequence[Record], *, mixed: bool = False) -> Composition:
    """Count the images of records. An image whose records differ in a property counts once per value."""
    labels: dict[str, set[tuple[str, object]]] = {
        "images": {("", image_label(record, mixed=mixed)) for record in records},
        "tracks": {(track_of(record) or NO_TRACK, image_label(record)) for record in records},
        "polarisations": {(polarisation_of(record) or NO_TRACK, image_label(record)) for record in records},
    }
    days = {image_label(record): days for record in records if (days := pair_days_of(record)) is not None}
    return Composition(
        images=len(labels["images"]),
        tracks=Counter(name for name, _ in labels["tracks"]),
        polarisations=Counter(name for name, _ in labels["polarisations"]),
        pair_days=Counter(days.values()),
    )


@dataclass(frozen=True)
class Pair:
    """The two dates of a pair, its name, and the seconds of the day at which it was acquired, if known."""

    start: dt.date
    end: dt.date
    name: str
    seconds: tuple[int, ...] = ()


def pairs_of(records: Iterable[Record]) -> list[Pair]:
    """The records that are pairs."""
    starts = [(start_of(record), record) for record in records]
    return [
        Pair(start.date(), record.datetime.date(), record.name, _seconds(start, record.datetime))
        for start, record in starts
        if start
    ]


def _seconds(*moments: dt.datetime) -> tuple[int, ...]:
    """Seconds of the day of each moment; empty if one is midnight, which means a date without a time."""
    seconds = [moment.hour * 3600 + moment.minute * 60 + moment.second for moment in moments]
    return tuple(seconds) if all(seconds) else ()


def pairs_of_labels(labels: Iterable[str]) -> list[Pair]:
    """The labels of images that are pairs.

    >>> [(pair.end - pair.start).days for pair in pairs_of_labels(["2020-01-04_2020-01-16_A015", "2020-01-16_VV"])]
    [12]
    """
    matches = [(PAIR_LABEL.match(label), label) for label in labels]
    return [Pair(dt.date.fromisoformat(m[1]), dt.date.fromisoformat(m[2]), label) for m, label in matches if m]


def require_comparable(composition: Composition, what: str) -> None:
    """Require a single track and polarisation. TRACKS_MIXED, POLARISATIONS_MIXED."""
    if len(composition.tracks) > 1:
        known = max(sorted(set(composition.tracks) - {NO_TRACK}), key=lambda name: composition.tracks[name])
        raise AcdError(
            ErrorCode.TRACKS_MIXED,
            f"{what} has images of several tracks ({counts_text(composition.tracks)})",
            f"Choose one, such as --track {known}, or stack them on purpose with --mixed.",
        )
    polarisations = {name: count for name, count in composition.polarisations.items() if name != NO_TRACK}
    if len(polarisations) > 1:
        first = max(sorted(polarisations), key=lambda name: polarisations[name])
        raise AcdError(
            ErrorCode.POLARISATIONS_MIXED,
            f"{what} has images of several polarisations ({counts_text(polarisations)})",
            f"Choose one, such as --tags polarisation={first}, or stack them on purpose with --mixed.",
        )


def require_one_series(pairs: Iterable[Pair], what: str, known: Sequence[Pair] = ()) -> None:
    """Require that pairs do not form several series that overlap in time but share no date. PAIRS_INTERLEAVED.

    The pairs of a track are linked by their dates, in a chain or a network. If a missing date breaks a chain, its parts
    do not overlap. Two satellites that alternate on a track give two chains; they pass at the same time of day, and
    their dates are multiples of REVISIT_DAYS apart.

    `known` are pairs known to be one series, whatever their dates.
    """
    series = sorted(_linked(pairs, known), key=lambda group: (min(pair.start for pair in group), group[0].name))
    if not series:
        return
    longest = series[0]
    for later in series[1:]:
        is_later = min(pair.start for pair in later) >= max(pair.end for pair in longest)
        if not is_later and not _alternate(longest, later):
            raise _interleaved(what, longest, later)
        longest = later if is_later else [*longest, *later]


def _alternate(first_series: Sequence[Pair], second_series: Sequence[Pair]) -> bool:
    """Whether two series come from two satellites on one track, judging by dates and times of day."""
    pairs = [*first_series, *second_series]
    if not _have_steady_dates(pairs) or not all(pair.seconds for pair in pairs):
        return False
    first = pairs[0].seconds[0]
    apart = [(second - first + DAY // 2) % DAY - DAY // 2 for pair in pairs for second in pair.seconds]
    return max(apart) - min(apart) <= PASS_SECONDS


def _have_steady_dates(pairs: Sequence[Pair]) -> bool:
    """Whether all dates are multiples of REVISIT_DAYS apart."""
    return len({day.toordinal() % REVISIT_DAYS for pair in pairs for day in (pair.start, pair.end)}) == 1


def _interleaved(what: str, first: Sequence[Pair], second: Sequence[Pair]) -> AcdError:
    series = f"{what} has two interleaved series: {len(first)} pairs such as {first[0].name} and {len(second)} such as"
    series += f" {second[0].name};"
    if not _have_steady_dates([*first, *second]):
        detail = f"{series} they overlap in time and share no date, which is typical of two tracks"
        return AcdError(ErrorCode.PAIRS_INTERLEAVED, detail)
    return AcdError(
        ErrorCode.PAIRS_INTERLEAVED,
        f"{series} they belong to two tracks, or to two satellites {REVISIT_DAYS} days apart on one track; neither the"
        " track nor the time of day is known",
        "If they belong to one track, ingest them with --track and its name, such as --track A015, and choose it with"
        " the same option here, or add --mixed. If they belong to two, choose one with --records.",
    )


def _linked(pairs: Iterable[Pair], known: Sequence[Pair]) -> list[list[Pair]]:
    """Group the pairs that are connected by dates; each group is sorted by date and name."""
    whole = list(known)
    group_of: dict[dt.date, list[Pair]] = {day: whole for pair in known for day in (pair.start, pair.end)}
    for pair in pairs:
        group = group_of.setdefault(pair.start, [])
        other = group_of.get(pair.end, group)
        if other is not group:
            group += other
            group_of.update({day: group for member in other for day in (member.start, member.end)})
        group_of[pair.end] = group
        group.append(pair)
    groups = {id(group): group for group in group_of.values()}
    return [sorted(group, key=lambda pair: (pair.end, pair.start, pair.name)) for group in groups.values()]


def grids_note(site: Site, variable: str, instance: str, records: Sequence[Record]) -> dict[str, str]:
    """Notes for the plan about the grids of the records' images; empty if the records are in a Geocube."""
    if site.shared is not None:
        return {}
    datasets = site.cube.datasets(variable, instance, frozenset(record.id for record in records))
    return {"grids": grids_text(dataset.grid for dataset in datasets if not dataset.is_copy)}


def grids_text(grids: Iterable[Grid]) -> str:
    """Coordinate systems and pixel sizes, with the number of images that have them.

    >>> grid = Grid(crs="EPSG:32632", transform=(20, 0, 0, 0, -20, 0), width=9, height=9)
    >>> grids_text([grid, grid])
    'EPSG:32632, pixels of 20: 2'
    """
    kinds = Counter((short_crs(grid.crs), f"{grid.resolution[0]:g}") for grid in grids)
    return "; ".join(f"{crs}, pixels of {size}: {count}" for (crs, size), count in sorted(kinds.items()))


def short_crs(crs: str) -> str:
    """A coordinate system's text, truncated."""
    return crs if len(crs) < LONGEST_CRS else f"{crs[: LONGEST_CRS - 3]}..."


@dataclass(frozen=True)
class Overlaps:
    """Detects records of one day that cover the same ground and whose track is unknown."""

    cube: Cube
    variable: str
    instance: str
    layout: Layout

    def require_none(self, records: Sequence[Record]) -> None:
        """Require that records of an image overlap by no more than adjacent slices do. RECORDS_OVERLAP."""
        images: dict[str, list[Record]] = defaultdict(list)
        for record in records:
            if not track_of(record):
                images[image_label(record)].append(record)
        for label, members in images.items():
            for first, second in combinations(members, 2):
                share = self._overlap(first, second)
                if share > SEAM:
                    raise AcdError(
                        ErrorCode.RECORDS_OVERLAP,
                        f"{first.name} and {second.name}, both of {label.replace('_', ' to ')}, overlap by {share:.0%}"
                        " and have no track",
                    )

    def _overlap(self, first: Record, second: Record) -> float:
        """The fraction of the smaller footprint where both records have valid pixels."""
        if not first.footprint or not second.footprint:
            return 0.0
        footprints = shape(first.footprint), shape(second.footprint)
        common = footprints[0].intersection(footprints[1])
        smaller = min(footprint.area for footprint in footprints)
        share = common.area / smaller if smaller else 0.0
        return share * self._valid_in_both(first, second, common) if share > SEAM else share

    def _valid_in_both(self, first: Record, second: Record, common: BaseGeometry) -> float:
        """The fraction of an area's pixels that are valid in both records, estimated from windows."""
        variable = self.cube.variable(self.variable)
        both = total = 0
        for grid in _windows(common, self.layout):
            groups = ((first.id,), (second.id,))
            request = CubeRequest(variable=self.variable, instance=self.instance, grid=grid, groups=groups)
            images = [image.pixels for image in self.cube.images(request)]
            total += grid.height * grid.width
            if all(pixels is not None for pixels in images):
                valid = [variable.dformat.valid(pixels) for pixels in images if pixels is not None]
                both += int((valid[0] & valid[1]).sum())
        return both / total if total else 0.0


def _windows(area: BaseGeometry, layout: Layout) -> list[Grid]:
    """Small grids of the layout's pixels, evenly spread over an area given in longitude and latitude."""
    min_x, min_y, max_x, max_y = project(area, LON_LAT, layout.crs).bounds
    transform = layout.pixel_grid(0, 0, 1, 1).transform
    columns = sorted(((min_x - transform[2]) / transform[0], (max_x - transform[2]) / transform[0]))
    rows = sorted(((min_y - transform[5]) / transform[4], (max_y - transform[5]) / transform[4]))
    return [
        layout.pixel_grid(row, column, height, width)
        for row, height in _spread(*rows)
        for column, width in _spread(*columns)
    ]


def _spread(first: float, last: float) -> list[tuple[int, int]]:
    """First pixel and size of windows evenly spread between two pixels.

    >>> _spread(0, 160), _spread(0, 10)
    ([(8, 16), (40, 16), (72, 16), (104, 16), (136, 16)], [(0, 2), (2, 2), (4, 2), (6, 2), (8, 2)])
    """
    size = max(min(SAMPLE_PIXELS, int((last - first) / SAMPLES)), 1)
    middles = [first + (last - first) * (2 * number + 1) / (2 * SAMPLES) for number in range(SAMPLES)]
    return [(math.floor(middle - size / 2 + 0.5), size) for middle in middles]


def _only(counts: Mapping[str, int]) -> str:
    names = set(counts) - {NO_TRACK}
    return names.pop() if len(counts) == 1 and names else ""
