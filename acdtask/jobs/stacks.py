"""What a tile's stack is made of: the slices of its dates or records, and where their pixels are."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.warp import transform_bounds
from shapely import to_geojson

from acdtask.cube.aoi import Aoi
from acdtask.cube.grid import Layout, Tile
from acdtask.cube.local.cube import LocalCube
from acdtask.cube.local.read import pick_datasets
from acdtask.cube.model import Dataset, Record, RecordQuery, Slice
from acdtask.cube.tiling import tiles_of
from acdtask.errors import AcdError, ErrorCode

__all__ = ["RecordChoice", "Stacks", "area_of", "image_label", "start_of", "tiles_of_aoi"]

DENSIFY = 21


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

    def leaves_out(self, record: Record) -> bool:
        """Whether the record is not to be taken, whatever `records` says."""
        return any(fnmatchcase(record.name, pattern) for pattern in self.leave_out)


class Stacks:
    """The records of an AOI that have an instance, and the slices that they make in each tile of a layout.

    AOI_OUTSIDE if no record of the instance meets the AOI in the time range.
    """

    def __init__(
        self,
        cube: LocalCube,
        variable: str,
        instance: str,
        layout: Layout,
        aoi: Aoi,
        start: datetime | None,
        end: datetime | None,
        choice: RecordChoice | None = None,
    ) -> None:
        self._layout = layout
        choice = choice or RecordChoice()
        query = RecordQuery(area=area_of(aoi), start=start, end=end, name=choice.records)
        there = {record.id: record for record in cube.records(query) if not choice.leaves_out(record)}
        datasets = cube.datasets(variable, instance, frozenset(there))
        having = {one.record_id for one in datasets}
        self.records: list[Record] = [record for record in there.values() if record.id in having]
        self._datasets: dict[str, list[Dataset]] = defaultdict(list)
        for one in datasets:
            if one.layout in ("", layout.name):
                self._datasets[one.cell].append(one)
        self._native = self._datasets.pop("", [])
        self._native_bounds = _bounds_in(layout.crs, self._native)
        self._order = {record.id: place for place, record in enumerate(self.records)}

    def require_records(self, aoi: Aoi, what: str) -> None:
        """AOI_OUTSIDE if there is no record."""
        if not self.records:
            raise AcdError(ErrorCode.AOI_OUTSIDE, f"no record of {what} touches the AOI {aoi.name} in its time range")

    def by_record(self, tile: Tile, records: Iterable[Record] | None = None) -> list[Slice]:
        """A slice for each record that meets the tile, in the records' order, labelled with the record's id."""
        wanted = self._order if records is None else {record.id for record in records}
        found: dict[str, list[Dataset]] = defaultdict(list)
        for one in self._of_tile(tile):
            if one.record_id in wanted:
                found[one.record_id].append(one)
        return [Slice(label=key, datasets=tuple(found[key])) for key in sorted(found, key=self._order.__getitem__)]

    def by_image(self, tile: Tile, records: Iterable[Record] | None = None) -> list[Slice]:
        """A slice for each image that meets the tile, by datetime; within an image, later records lie on top."""
        grouped: dict[str, list[Dataset]] = {}
        for one in self.by_record(tile, records):
            label = image_label(self.records[self._order[one.label]])
            grouped.setdefault(label, []).extend(one.datasets)
        return [Slice(label=label, datasets=tuple(datasets)) for label, datasets in grouped.items()]

    def _of_tile(self, tile: Tile) -> list[Dataset]:
        min_x, min_y, max_x, max_y = tile.grid.bounds
        near = (
            (self._native_bounds[:, 0] < max_x)
            & (self._native_bounds[:, 2] > min_x)
            & (self._native_bounds[:, 1] < max_y)
            & (self._native_bounds[:, 3] > min_y)
        )
        native = [self._native[place] for place in np.flatnonzero(near)]
        return pick_datasets(native + self._datasets.get(tile.cell, []), tile.layout, tile.cell)


def _bounds_in(crs: str, datasets: list[Dataset]) -> NDArray[Any]:
    bounds = [
        one.grid.bounds if one.grid.crs == crs else transform_bounds(one.grid.crs, crs, *one.grid.bounds, DENSIFY)
        for one in datasets
    ]
    return np.array(bounds, np.float64).reshape(-1, 4)
