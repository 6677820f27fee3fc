"""What a tile's stack is made of: the slices of its dates or records, and where their pixels are."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from copy import copy
from dataclasses import dataclass
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from typing import Any

from shapely import to_geojson

from acdtask.cube.aoi import Aoi
from acdtask.cube.grid import Layout, Tile
from acdtask.cube.model import Cube, Dataset, Record, RecordQuery, Slice
from acdtask.cube.tiling import tiles_of
from acdtask.errors import AcdError, ErrorCode
from acdtask.jobs.nowhere import no_record

__all__ = ["RecordChoice", "Stacks", "area_of", "image_label", "start_of", "tiles_of_aoi"]


def image_label(record: Record) -> str:
    """Which image a record is part of (`group_by date`), UTC.

    The records of a day make one image, but pairs that end on the same day and begin on different ones are different
    images.

    >>> from datetime import UTC, datetime
    >>> tags = {"start_datetime": "2018-05-06T00:00:00+00:00"}
    >>> image_label(Record(name="pair", datetime=datetime(2018, 6, 11), tags=tags, footprint={}))
    '2018-05-06_2018-06-11'
    """
    end = record.datetime.date().isoformat()
    start = start_of(record)
    return f"{start.date().isoformat()}_{end}" if start else end


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
    """Which records of an AOI to take: those whose names match a pattern, and none of the patterns to leave out."""

    records: str = ""
    leave_out: tuple[str, ...] = ()

    def takes(self, record: Record) -> bool:
        """Whether the record is taken."""
        return fnmatchcase(record.name, self.records or "*") and not self.leaves_out(record)

    def leaves_out(self, record: Record) -> bool:
        """Whether the record is not to be taken, whatever `records` says."""
        return any(fnmatchcase(record.name, pattern) for pattern in self.leave_out)


class Stacks:
    """The records of an AOI that have an instance, and the slices that they make in tiles of a layout.

    `records` are by datetime, name and id.
    """

    def __init__(
        self,
        cube: Cube,
        variable: str,
        instance: str,
        aoi: Aoi,
        start: datetime | None,
        end: datetime | None,
        choice: RecordChoice | None = None,
    ) -> None:
        self._cube, self._of = cube, (variable, instance)
        self._period = start, end
        choice = choice or RecordChoice()
        query = RecordQuery(area=area_of(aoi), start=start, end=end, name=choice.records)
        there = [record for record in cube.records(query) if not choice.leaves_out(record)]
        having = cube.having(variable, instance, [record.id for record in there])
        self.records: list[Record] = [record for record in there if record.id in having]

    def until(self, end: datetime) -> Stacks:
        """The same without the records after a moment."""
        shorter = copy(self)
        shorter.records = [record for record in self.records if record.datetime <= end]
        return shorter

    def require_records(self, aoi: Aoi) -> None:
        """AOI_OUTSIDE if there is no record."""
        if not self.records:
            what = ":".join(self._of)
            raise no_record(self._cube, what, aoi, *self._period)

    def by_record(self, tiles: Sequence[Tile], records: Iterable[Record] | None = None) -> Iterator[list[Slice]]:
        """For each tile a slice for each record that meets it, in the records' order, labelled with the record's id.

        With `records`, only these are asked for.
        """
        wanted = None if records is None else {record.id for record in records}
        order = [record.id for record in self.records if wanted is None or record.id in wanted]
        for datasets in self._cube.where(*self._of, order, tiles):
            yield _slices((one.record_id, one) for one in datasets)

    def by_image(self, tiles: Sequence[Tile], records: Iterable[Record] | None = None) -> Iterator[list[Slice]]:
        """For each tile a slice for each image that meets it, by datetime; in an image, later records lie on top."""
        label_of = {record.id: image_label(record) for record in self.records}
        for slices in self.by_record(tiles, records):
            yield _slices((label_of[one.label], dataset) for one in slices for dataset in one.datasets)


def _slices(labelled: Iterable[tuple[str, Dataset]]) -> list[Slice]:
    """A slice for each label, in the order in which they come first."""
    grouped: dict[str, list[Dataset]] = {}
    for label, dataset in labelled:
        grouped.setdefault(label, []).append(dataset)
    return [Slice(label=label, datasets=tuple(datasets)) for label, datasets in grouped.items()]
