"""What a tile's stack is made of: the slices of its dates or records, and where their pixels are."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from typing import Any

from shapely import to_geojson

from acdtask.cube.aoi import Aoi
from acdtask.cube.local.cube import LocalCube
from acdtask.cube.model import Cube, Dataset, Record, RecordQuery, Slice
from acdtask.cube.patterns import matcher
from acdtask.errors import AcdError, ErrorCode
from acdtask.jobs.no_records import no_record
from acdtask.jobs.tracks import TRACK, normal_track, polarisation_of, track_of
from acdtask.raster.grid import Layout, Tile
from acdtask.raster.tiling import tiles_of

__all__ = [
    "MIXED",
    "ONE_TRACK",
    "PAIR_DAYS",
    "TAGS",
    "RecordChoice",
    "Selection",
    "Stacks",
    "area_of",
    "image_label",
    "pair_days_of",
    "start_of",
    "tiles_of_aoi",
]

TAGS = "only records with this tag; the value may be a pattern (* and ?), an empty one matches any value"
ONE_TRACK = "only records of this track, such as A015: their tag track, or what their names say"
PAIR_DAYS = "only pairs of this many days between their dates"
MIXED = "stack records of several tracks or polarisations, and same-day images over one another, instead of an error"
"""Descriptions of the settings that choose records."""


def image_label(record: Record, *, mixed: bool = False) -> str:
    """Which image a record is part of (`group_by date`), UTC.

    The records of a day make one image, but pairs that end on the same day and begin on different ones are different
    images. Where tracks and polarisations are mixed on purpose, each has images of its own.

    >>> from datetime import UTC, datetime
    >>> tags = {"start_datetime": "2018-05-06T00:00:00+00:00"}
    >>> image_label(Record(name="pair", datetime=datetime(2018, 6, 11), tags=tags, footprint={}))
    '2018-05-06_2018-06-11'
    >>> image_label(Record(name="A015_VV", datetime=datetime(2018, 6, 11), footprint={}), mixed=True)
    '2018-06-11_A015_VV'
    """
    start = start_of(record)
    parts = [*([start.date().isoformat()] if start else []), record.datetime.date().isoformat()]
    if mixed:
        parts += [part for part in (track_of(record), polarisation_of(record)) if part]
    return "_".join(parts)


def pair_days_of(record: Record) -> int | None:
    """The days between the two dates of a pair; None for a record of one date."""
    start = start_of(record)
    return (record.datetime.date() - start.date()).days if start else None


def start_of(record: Record) -> datetime | None:
    """The first date of a pair: the record's tag `start_datetime`."""
    text = record.tags.get("start_datetime")
    return datetime.fromisoformat(text).astimezone(UTC) if text else None


def area_of(aoi: Aoi) -> dict[str, Any]:
    """The AOI's polygons as a GeoJSON geometry."""
    geometry: dict[str, Any] = json.loads(to_geojson(aoi.geometry))
    return geometry


def tiles_of_aoi(aoi: Aoi, layout: Layout) -> list[Tile]:
    """The tiles that the AOI meets. AOI_OUTSIDE if it meets none, since it lies outside the layout's CRS."""
    tiles = tiles_of(aoi.geometry, layout)
    if not tiles:
        raise AcdError(ErrorCode.AOI_OUTSIDE, f"the AOI {aoi.name} meets no cell of the layout {layout.name}")
    return tiles


@dataclass(frozen=True)
class RecordChoice:
    """Which records of an AOI to take.

    Attributes:
        records: pattern of names.
        leave_out: patterns of names not to take.
        tags: patterns of values that tags must have; an empty one asks that the tag is there. `track` and
            `polarisation` may also be what a name says.
        track: the only track; empty for any.
        pair_days: the only lengths of pairs, in days; empty for any.
        mixed: records that do not compare may make one stack.
    """

    records: str = ""
    leave_out: tuple[str, ...] = ()
    tags: Mapping[str, str] = field(default_factory=dict)
    track: str = ""
    pair_days: tuple[int, ...] = ()
    mixed: bool = False

    def leaves_out(self, record: Record) -> bool:
        """Whether the record is not to be taken, whatever `records` says."""
        return any(fnmatchcase(record.name, pattern) for pattern in self.leave_out)

    def takes(self, record: Record) -> bool:
        """Whether the record has the name, the tags, the track and the pair length that are asked for."""
        if self.leaves_out(record) or not matcher(self.records or "*")(record.name):
            return False
        return self.takes_any_length(record) and (not self.pair_days or pair_days_of(record) in self.pair_days)

    def takes_any_length(self, record: Record) -> bool:
        """Whether the record has the tags and the track that are asked for."""
        if self.track and track_of(record) != normal_track(self.track):
            return False
        return all(_has_tag(record, tag, pattern) for tag, pattern in self.tags.items())

    def tags_alone(self) -> dict[str, str]:
        """The tags that only tags can have, as a query asks for them."""
        return {tag: pattern for tag, pattern in self.tags.items() if tag not in RECOGNISED}

    def text(self) -> str:
        """The settings that `takes` looks at, as options."""
        options = [f"--tags {tag}={pattern}" for tag, pattern in self.tags.items()]
        options += [f"--track {self.track}"] if self.track else []
        return " ".join([*options, *(f"--pair-days {days}" for days in self.pair_days)])


@dataclass(frozen=True)
class Selection:
    """The records that a job works on: those of an area and a period that have an instance, and that it chooses.

    Attributes:
        aoi: the area.
        variable, instance: what to read.
        start, end: the period; None where it is open.
        choice: which records to take of them.
    """

    aoi: Aoi
    variable: str
    instance: str
    start: datetime | None = None
    end: datetime | None = None
    choice: RecordChoice = field(default_factory=RecordChoice)


RECOGNISED: dict[str, Callable[[Record], str]] = {TRACK: track_of, "polarisation": polarisation_of}
"""Tags that a record may also have by its name."""


def _has_tag(record: Record, tag: str, pattern: str) -> bool:
    value = RECOGNISED[tag](record) or None if tag in RECOGNISED else record.tags.get(tag)
    return value is not None and matcher(pattern or "*")(value)


class Stacks:
    """The records of an AOI that have an instance, and the slices that they make in tiles of a layout.

    `records` are by datetime, name and id; `of_any_length` are those and the pairs that only their length excludes.
    `mixed` says whether tracks and polarisations make images of their own.
    """

    def __init__(self, cube: Cube, selection: Selection) -> None:
        self._cube, self.selection, self._choice = cube, selection, selection.choice
        self._of = selection.variable, selection.instance
        self.mixed = self._choice.mixed
        query = RecordQuery(
            area=area_of(selection.aoi), start=selection.start, end=selection.end, name=self._choice.records
        )
        named = [record for record in cube.records(query) if not self._choice.leaves_out(record)]
        having = cube.having(*self._of, [record.id for record in named])
        stored = [record for record in named if record.id in having]
        self.records: list[Record] = [record for record in stored if self._choice.takes(record)]
        self.of_any_length = [record for record in stored if self._choice.takes_any_length(record)]
        self._passed_over = [record for record in stored if not self._choice.takes(record)]

    def until(self, end: datetime) -> Stacks:
        """The same without the records after a moment."""
        shorter = copy(self)
        shorter.records = [record for record in self.records if record.datetime <= end]
        shorter.of_any_length = [record for record in self.of_any_length if record.datetime <= end]
        return shorter

    def require_records(self) -> None:
        """AOI_OUTSIDE if there is no record, NOTHING_CHOSEN if there are only such as the settings do not choose."""
        self.require_choice()
        if not self.records:
            of = self.selection
            raise no_record(self._cube, *self._of, of.aoi, of.start, of.end)

    def require_choice(self) -> None:
        """NOTHING_CHOSEN if there are records, and none that the settings choose."""
        if self.records or not self._passed_over:
            return
        tracks = Counter(track_of(record) or "none" for record in self._passed_over)
        days = Counter(pair_days_of(record) or 0 for record in self._passed_over)
        raise AcdError(
            ErrorCode.NOTHING_CHOSEN,
            f"none of {len(self._passed_over)} records of {':'.join(self._of)} fits {self._choice.text()}; their tracks"
            f" are {', '.join(sorted(tracks))}, the days between their dates {', '.join(map(str, sorted(days)))}",
        )

    def label_of(self, record: Record) -> str:
        """The image that the record is part of."""
        return image_label(record, mixed=self.mixed)

    def replaced(self, records: Iterable[Record] | None = None) -> dict[str, str]:
        """The address of the pixels of every record that got others after it was ingested, by record id."""
        if not isinstance(self._cube, LocalCube):
            return {}
        ids = [record.id for record in (self.records if records is None else records)]
        return self._cube.replaced(*self._of, ids)

    def by_record(self, tiles: Sequence[Tile], records: Iterable[Record] | None = None) -> Iterator[list[Slice]]:
        """For each tile a slice for each record that meets it, in the records' order, labelled with the record's id.

        With `records`, only these are asked for.
        """
        for datasets in self._where(tiles, 0, records):
            yield _slices((one.record_id, one) for one in datasets)

    def by_image(
        self, tiles: Sequence[Tile], records: Iterable[Record] | None = None, halo: int = 0
    ) -> Iterator[list[Slice]]:
        """For each tile a slice for each image that meets it, by datetime; in an image, later records lie on top.

        Args:
            tiles: of one layout.
            records: only these are asked for; default: all.
            halo: return slices for reading tiles grown by this many pixels. The images are those of the tile itself.
        """
        label_of = {record.id: self.label_of(record) for record in self.records}

        def images(datasets: Iterable[Dataset]) -> list[Slice]:
            return _slices((label_of[dataset.record_id], dataset) for dataset in datasets)

        if not halo:
            yield from map(images, self._where(tiles, 0, records))
            return
        for datasets, around in zip(self._where(tiles, 0, records), self._where(tiles, halo, records), strict=True):
            labels = {label_of[dataset.record_id] for dataset in datasets}
            yield [image for image in images(around) if image.label in labels]

    def _where(self, tiles: Sequence[Tile], halo: int, records: Iterable[Record] | None) -> Iterator[list[Dataset]]:
        """The datasets to read on each tile grown by a halo."""
        wanted = None if records is None else {record.id for record in records}
        order = [record.id for record in self.records if wanted is None or record.id in wanted]
        layout = tiles[0].layout if tiles else ""
        return self._cube.where(*self._of, order, [tile.grid.grown(halo) for tile in tiles], layout)


def _slices(labelled: Iterable[tuple[str, Dataset]]) -> list[Slice]:
    """A slice for each label, in the order in which they come first."""
    grouped: dict[str, list[Dataset]] = {}
    for label, dataset in labelled:
        grouped.setdefault(label, []).append(dataset)
    return [Slice(label=label, datasets=tuple(datasets)) for label, datasets in grouped.items()]
