"""Stacks of tiles: the slices of dates or records, and the datasets with their pixels."""

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

TAGS = "only records with this tag; the value may be a pattern (* and ?), and an empty one matches any value"
ONE_TRACK = "only records of this track, such as A015, according to their tag track or their name"
PAIR_DAYS = "only pairs of this many days between their dates"
MIXED = "allow records of several tracks or polarisations, and overlapping records of a day, in one stack"
"""Descriptions of the settings that choose records."""


def image_label(record: Record, *, mixed: bool = False) -> str:
    """The label of the image that a record belongs to (`group_by date`), in UTC.

    The records of a day form one image, but pairs that end on the same day and start on different ones are different
    images. If tracks and polarisations are mixed on purpose, each has its own images.

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
    """Days between the two dates of a pair; None for a record with one date."""
    start = start_of(record)
    return (record.datetime.date() - start.date()).days if start else None


def start_of(record: Record) -> datetime | None:
    """First date of a pair, from the record's tag `start_datetime`."""
    text = record.tags.get("start_datetime")
    return datetime.fromisoformat(text).astimezone(UTC) if text else None


def area_of(aoi: Aoi) -> dict[str, Any]:
    """The AOI's polygons as a GeoJSON geometry."""
    geometry: dict[str, Any] = json.loads(to_geojson(aoi.geometry))
    return geometry


def tiles_of_aoi(aoi: Aoi, layout: Layout) -> list[Tile]:
    """The tiles that intersect the AOI. AOI_OUTSIDE if there are none, since it is outside the layout's CRS."""
    tiles = tiles_of(aoi.geometry, layout)
    if not tiles:
        raise AcdError(ErrorCode.AOI_OUTSIDE, f"the AOI {aoi.name} intersects no cell of the layout {layout.name}")
    return tiles


@dataclass(frozen=True)
class RecordChoice:
    """Filters that select records of an AOI.

    Attributes:
        records: pattern of names; empty for any.
        exclude: patterns of names to exclude.
        tags: patterns of tag values; an empty one requires that the tag exists. `track` and `polarisation` may also be
            derived from names.
        track: required track; empty for any.
        pair_days: allowed lengths of pairs, in days; empty for any.
        mixed: whether records that are not comparable may form one stack.
    """

    records: str = ""
    exclude: tuple[str, ...] = ()
    tags: Mapping[str, str] = field(default_factory=dict)
    track: str = ""
    pair_days: tuple[int, ...] = ()
    mixed: bool = False

    def excludes(self, record: Record) -> bool:
        """Whether the record's name matches a pattern in `exclude`."""
        return any(fnmatchcase(record.name, pattern) for pattern in self.exclude)

    def matches(self, record: Record) -> bool:
        """Whether the record has the required name, tags, track and pair length."""
        if self.excludes(record) or not matcher(self.records or "*")(record.name):
            return False
        return self.matches_any_length(record) and (not self.pair_days or pair_days_of(record) in self.pair_days)

    def matches_any_length(self, record: Record) -> bool:
        """Whether the record has the required tags and track."""
        if self.track and track_of(record) != normal_track(self.track):
            return False
        return all(_has_tag(record, tag, pattern) for tag, pattern in self.tags.items())

    def tags_alone(self) -> dict[str, str]:
        """The tag filters that need no names of records, for use in a query."""
        return {tag: pattern for tag, pattern in self.tags.items() if tag not in RECOGNISED}

    def text(self) -> str:
        """The filters on tags, track and pair length as options."""
        options = [f"--tags {tag}={pattern}" for tag, pattern in self.tags.items()]
        options += [f"--track {self.track}"] if self.track else []
        return " ".join([*options, *(f"--pair-days {days}" for days in self.pair_days)])


@dataclass(frozen=True)
class Selection:
    """Selection of the records that a job works on: area, period, variable, instance and filters.

    `start` and `end` are the period; None leaves it open.
    """

    aoi: Aoi
    variable: str
    instance: str
    start: datetime | None = None
    end: datetime | None = None
    choice: RecordChoice = field(default_factory=RecordChoice)


RECOGNISED: dict[str, Callable[[Record], str]] = {TRACK: track_of, "polarisation": polarisation_of}
"""Tags that can also be derived from a record's name."""


def _has_tag(record: Record, tag: str, pattern: str) -> bool:
    value = RECOGNISED[tag](record) or None if tag in RECOGNISED else record.tags.get(tag)
    return value is not None and matcher(pattern or "*")(value)


class Stacks:
    """The selected records of an AOI, and their slices in the tiles of a layout.

    `records` are sorted by datetime, name and id. `of_any_length` also has the pairs that only their length excludes.
    `mixed` tells whether tracks and polarisations have separate images.
    """

    def __init__(self, cube: Cube, selection: Selection) -> None:
        self._cube, self.selection, self._choice = cube, selection, selection.choice
        self._of = selection.variable, selection.instance
        self.mixed = self._choice.mixed
        query = RecordQuery(
            area=area_of(selection.aoi), start=selection.start, end=selection.end, name=self._choice.records
        )
        named = [record for record in cube.records(query) if not self._choice.excludes(record)]
        having = cube.having(*self._of, [record.id for record in named])
        stored = [record for record in named if record.id in having]
        self.records: list[Record] = [record for record in stored if self._choice.matches(record)]
        self.of_any_length = [record for record in stored if self._choice.matches_any_length(record)]
        self._not_chosen = [record for record in stored if not self._choice.matches(record)]

    def until(self, end: datetime) -> Stacks:
        """A copy without the records after `end`."""
        shorter = copy(self)
        shorter.records = [record for record in self.records if record.datetime <= end]
        shorter.of_any_length = [record for record in self.of_any_length if record.datetime <= end]
        return shorter

    def require_records(self) -> None:
        """Require a selected record. NOTHING_CHOSEN if filters exclude all, AOI_OUTSIDE if there are none."""
        self.require_choice()
        if not self.records:
            selection = self.selection
            raise no_record(self._cube, *self._of, selection.aoi, selection.start, selection.end)

    def require_choice(self) -> None:
        """Require that filters do not exclude all records. NOTHING_CHOSEN."""
        if self.records or not self._not_chosen:
            return
        tracks = Counter(track_of(record) or "none" for record in self._not_chosen)
        days = Counter(pair_days_of(record) or 0 for record in self._not_chosen)
        raise AcdError(
            ErrorCode.NOTHING_CHOSEN,
            f"none of the {len(self._not_chosen)} records of {':'.join(self._of)} matches {self._choice.text()}; their"
            f" tracks are {', '.join(sorted(tracks))}, their pair lengths {', '.join(map(str, sorted(days)))} days",
        )

    def label_of(self, record: Record) -> str:
        """The label of the image that the record belongs to."""
        return image_label(record, mixed=self.mixed)

    def replaced(self, records: Iterable[Record] | None = None) -> dict[str, str]:
        """Addresses of pixels that were replaced after ingestion, by record id."""
        if not isinstance(self._cube, LocalCube):
            return {}
        ids = [record.id for record in (self.records if records is None else records)]
        return self._cube.replaced(*self._of, ids)

    def by_record(self, tiles: Sequence[Tile], records: Iterable[Record] | None = None) -> Iterator[list[Slice]]:
        """For each tile, one slice per record that intersects it, in record order, labelled with the record's id.

        `records` restricts the records.
        """
        for datasets in self._datasets(tiles, 0, records):
            yield _slices((dataset.record_id, dataset) for dataset in datasets)

    def by_image(
        self, tiles: Sequence[Tile], records: Iterable[Record] | None = None, halo: int = 0
    ) -> Iterator[list[Slice]]:
        """For each tile, one slice per image that intersects it, by datetime; later records of an image are on top.

        The tiles are of one layout. `records` restricts the records. With a halo, the slices are for reading tiles
        grown by this many pixels, but the images are those of the tile itself.
        """
        label_of = {record.id: self.label_of(record) for record in self.records}

        def images(datasets: Iterable[Dataset]) -> list[Slice]:
            return _slices((label_of[dataset.record_id], dataset) for dataset in datasets)

        if not halo:
            yield from map(images, self._datasets(tiles, 0, records))
            return
        for datasets, around in zip(
            self._datasets(tiles, 0, records), self._datasets(tiles, halo, records), strict=True
        ):
            labels = {label_of[dataset.record_id] for dataset in datasets}
            yield [image for image in images(around) if image.label in labels]

    def _datasets(self, tiles: Sequence[Tile], halo: int, records: Iterable[Record] | None) -> Iterator[list[Dataset]]:
        """The datasets to read for each tile grown by a halo."""
        wanted = None if records is None else {record.id for record in records}
        order = [record.id for record in self.records if wanted is None or record.id in wanted]
        layout = tiles[0].layout if tiles else ""
        return self._cube.where(*self._of, order, [tile.grid.grown(halo) for tile in tiles], layout)


def _slices(labelled: Iterable[tuple[str, Dataset]]) -> list[Slice]:
    """One slice per label, in order of first appearance."""
    grouped: dict[str, list[Dataset]] = {}
    for label, dataset in labelled:
        grouped.setdefault(label, []).append(dataset)
    return [Slice(label=label, datasets=tuple(datasets)) for label, datasets in grouped.items()]
