"""Segments of records: immutable GeoParquet tables, and queries on their columns."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
import shapely
from arro3.core import Array, DataType, Field, Table, struct_array, struct_field
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from acdtask.cube.local.columns import EPOCH, Strings, column_of, microseconds, strings, text_column
from acdtask.cube.model import Record, RecordQuery
from acdtask.cube.patterns import matcher
from acdtask.storage.geoparquet import GEOMETRY, encode_table, geo_metadata, read_table, time_column, wkb_column

__all__ = ["RecordSegment"]

Mask: TypeAlias = NDArray[np.bool_]

FIELDS_OF_A_RECORD = set(Record.model_fields)
BBOX = ("xmin", "ymin", "xmax", "ymax")


@dataclass(frozen=True)
class RecordSegment:
    """Records as columns, ordered by datetime, name and id.

    Attributes:
        micros: datetimes in microseconds since 1970.
        tags: JSON objects.
        footprints: geometries in WKB; None for an empty footprint.
        bounds: of the footprints, shape (records, 4), in degrees; NaN for an empty footprint.
    """

    ids: Strings
    names: Strings
    micros: NDArray[np.int64]
    tags: Strings
    footprints: Strings
    bounds: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.ids)

    @classmethod
    def of(cls, records: Sequence[Record]) -> RecordSegment:
        """Make a segment of records, in any order."""
        keyed = sorted((microseconds(record.datetime), record.name, record.id, k) for k, record in enumerate(records))
        ordered = [records[k] for *_, k in keyed]
        shapes = _shapes([record.footprint for record in ordered])
        return cls(
            ids=strings([identity for _, _, identity, _ in keyed]),
            names=strings([name for _, name, _, _ in keyed]),
            micros=np.array([micros for micros, *_ in keyed], dtype=np.int64),
            tags=strings([json.dumps(record.tags, sort_keys=True, ensure_ascii=False) for record in ordered]),
            footprints=np.asarray(shapely.to_wkb(shapes), dtype=object).reshape(len(ordered)),
            bounds=shapely.bounds(shapes).reshape(len(ordered), 4),
        )

    @classmethod
    def merged(cls, segments: Sequence[RecordSegment]) -> RecordSegment:
        """Merge segments into one."""
        columns = [np.concatenate([getattr(segment, name) for segment in segments]) for name in cls.__annotations__]
        joined = cls(*columns)
        order = sorted(range(len(joined)), key=joined.sort_key)
        return cls(*[column[order] for column in columns])

    def encode(self) -> bytes:
        """Encode as GeoParquet 1.1. The same records give the same bytes."""
        covering = {"bbox": {name: ["bbox", name] for name in BBOX}}
        metadata = geo_metadata(shapely.from_wkb(self.footprints), with_bbox=False, covering=covering)
        box = [Array.from_numpy(np.ascontiguousarray(self.bounds[:, k])) for k in range(4)]
        bbox = struct_array(box, fields=[Field(name, DataType.float64()) for name in BBOX])
        columns = {
            "id": text_column(self.ids),
            "name": text_column(self.names),
            "datetime": time_column(self.micros),
            "tags": text_column(self.tags),
            GEOMETRY: wkb_column(self.footprints.tolist()),
            "bbox": bbox,
        }
        return encode_table(columns, metadata)

    @classmethod
    def decode(cls, data: bytes) -> RecordSegment:
        """Decode a segment. ValueError for damaged data."""
        return _StoredRecords(read_table(data))

    def without(self, rows: Sequence[int]) -> RecordSegment:
        """The segment without some rows."""
        return RecordSegment(*[np.delete(getattr(self, name), rows, axis=0) for name in RecordSegment.__annotations__])

    def values(self, name: str, rows: Sequence[int]) -> Strings:
        """The values of some rows in a column of texts or footprints."""
        column: Strings = getattr(self, name)[rows]
        return column

    def rows_of(self, ids: frozenset[str]) -> list[int]:
        """The rows of some records."""
        if self.id_set.isdisjoint(ids):
            return []
        return [row for row, identity in enumerate(self.ids.tolist()) if identity in ids]

    def sort_key(self, row: int) -> tuple[int, str, str]:
        """Datetime in microseconds, name and id of a row."""
        return int(self.micros[row]), self.names[row], self.ids[row]

    def sort_keys(self, rows: NDArray[np.int64]) -> list[tuple[int, str, str]]:
        """Datetime in microseconds, name and id of each of some rows."""
        numbers = rows.tolist()
        names, ids = self.values("names", numbers), self.values("ids", numbers)
        return list(zip(self.micros[rows].tolist(), names.tolist(), ids.tolist(), strict=True))

    def records_of(self, ids: frozenset[str]) -> list[Record]:
        """The records with some ids, ordered by datetime, name and id."""
        rows = self.rows_of(ids)
        return self.records(rows) if rows else []

    @cached_property
    def id_set(self) -> frozenset[str]:
        """Ids of the records."""
        return frozenset(self.ids.tolist())

    @cached_property
    def parsed_tags(self) -> list[dict[str, str]]:
        """Tags of every record."""
        return json.loads(f"[{','.join(self.tags.tolist())}]")  # type: ignore[no-any-return]  # one parse for all

    def rows(self, query: RecordQuery, area: BaseGeometry | None) -> NDArray[np.int64]:
        """The rows that match a query with this prepared area, in order; its limit and page are not used."""
        mask = np.ones(len(self), dtype=bool)
        if query.start is not None:
            mask &= self.micros >= microseconds(query.start)
        if query.end is not None:
            mask &= self.micros <= microseconds(query.end)
        if area is not None:
            min_x, min_y, max_x, max_y = area.bounds
            bounds = self.bounds
            mask &= (
                (bounds[:, 0] <= max_x) & (bounds[:, 2] >= min_x) & (bounds[:, 1] <= max_y) & (bounds[:, 3] >= min_y)
            )
        rows = np.flatnonzero(mask)
        if query.name:
            rows = rows[_matching(self.names[rows].tolist(), query.name)]
        for tag, pattern in sorted(query.tags.items()):
            tags = self.parsed_tags
            values = [tags[row].get(tag) for row in rows.tolist()]
            rows = rows[_matching(values, pattern or "*")]
        # Geometries are compared last: few records are left, and decoding WKB is the slowest test.
        if area is not None and len(rows):
            rows = rows[shapely.intersects(area, shapely.from_wkb(self.footprints[rows]))]
        return rows

    def records(self, rows: Sequence[int]) -> list[Record]:
        """The records of some rows."""
        shapes = shapely.to_geojson(shapely.from_wkb(self.values("footprints", rows)))
        footprints = json.loads(f"[{','.join('{}' if shape is None else shape for shape in shapes)}]")
        tags = json.loads(f"[{','.join(self.values('tags', rows))}]")
        moments = [EPOCH + timedelta(microseconds=micros) for micros in self.micros[rows].tolist()]
        # The values were validated before they were stored, so they are not validated again.
        return [
            Record.model_construct(FIELDS_OF_A_RECORD, name=name, datetime=moment, tags=tag, footprint=footprint)
            for name, moment, tag, footprint in zip(self.values("names", rows), moments, tags, footprints, strict=True)
        ]


COLUMN_NAMES = {"ids": "id", "names": "name", "tags": "tags", "footprints": "geometry"}
MOST_SINGLE_ROWS = 1000
"""For more rows than this, a whole column is decoded and kept; otherwise only the rows."""


class _StoredRecords(RecordSegment):
    """A stored segment. Columns become Python objects when they are first needed, or only the rows needed."""

    def __init__(self, table: Table) -> None:
        self.__dict__.update(_table=table)  # the dataclass is frozen

    def __len__(self) -> int:
        return int(self._table.num_rows)

    def __getattr__(self, name: str) -> Any:
        """A column, decoded once. Python only calls this for attributes that are not in `__dict__`."""
        if name in COLUMN_NAMES:
            column: Any = column_of(self._table, COLUMN_NAMES[name])
        elif name == "micros":
            column = np.asarray(self._table.column("datetime").cast(DataType.int64()).to_numpy(), dtype=np.int64)
        elif name == "bounds":
            bbox = self._table.column("bbox").combine_chunks()
            parts = [np.asarray(struct_field(bbox, [k]).to_numpy(), dtype=np.float64) for k in range(4)]
            column = np.column_stack(parts)
        else:
            raise AttributeError(name)
        return self.__dict__.setdefault(name, column)

    def values(self, name: str, rows: Sequence[int]) -> Strings:
        """The values of some rows in a column of texts or footprints."""
        if name in self.__dict__ or len(rows) > MOST_SINGLE_ROWS:
            return super().values(name, rows)
        column = self._table.column(COLUMN_NAMES[name])
        return strings([column.slice(row, 1).to_pylist()[0] for row in rows])


def _shapes(footprints: Sequence[dict[str, Any]]) -> NDArray[np.object_]:
    """Geometries of footprints; None for an empty footprint."""
    texts = strings([json.dumps(footprint) if footprint else None for footprint in footprints])
    return np.asarray(shapely.from_geojson(texts), dtype=object).reshape(len(footprints))


def _matching(values: Sequence[str | None], pattern: str) -> Mask:
    """Which values match a pattern. None matches nothing."""
    matches = matcher(pattern)
    return np.array([value is not None and matches(value) for value in values], dtype=bool)
