"""Segments of the index: immutable tables of records (GeoParquet) and of datasets (Parquet), and how they are asked."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property, lru_cache
from typing import Any, TypeAlias

import numpy as np
import shapely
from arro3.core import Array, DataType, Field, Table, struct_array, struct_field
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from acdtask.cube.local.state import Removal
from acdtask.cube.model import OUTSIDE, Dataset, Record, RecordQuery
from acdtask.cube.patterns import matcher
from acdtask.raster.data_format import DataFormat
from acdtask.raster.grid import Grid
from acdtask.storage.geoparquet import GEOMETRY, encode_table, geo_metadata, read_table, time_column, wkb_column

__all__ = ["DatasetKey", "DatasetSegment", "RecordSegment", "dataset_keys"]

Mask: TypeAlias = NDArray[np.bool_]
Strings: TypeAlias = NDArray[np.object_]
DatasetKey: TypeAlias = tuple[str, ...]

USUAL = {name: Dataset.model_fields[name].default for name in ("real", "exponent", "exchanged", "version")}
"""Fields of a dataset that most have at their default: they are kept with its format, and only if they are not."""

UNUSUAL = set(USUAL)

CHECKSUMS = "checksums"
"""A column of its own: nearly every checksum is another one, while few formats differ."""

DATASETS_KEPT = 8192
NOTHING = np.empty(0, dtype=np.int64)
FIELDS_OF_A_DATASET = set(Dataset.model_fields)
FIELDS_OF_A_RECORD = set(Record.model_fields)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
BBOX = ("xmin", "ymin", "xmax", "ymax")


def dataset_keys(dataset: Dataset) -> list[DatasetKey]:
    """What a cube has at most one dataset of.

    In the cube's own containers that is a tile, or the whole, of a record of an instance; outside, as in Geocube, a
    band of a container.
    """
    if not dataset.is_outside:
        return [(dataset.record_id, dataset.variable, dataset.instance, dataset.layout, dataset.cell)]
    return [(dataset.uri, dataset.subdir, str(band)) for band in dataset.bands]


@dataclass(frozen=True)
class RecordSegment:
    """Records as columns. `bounds` has shape (records, 4), NaN where a record has no footprint."""

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
        """The records by datetime, name and id."""
        keyed = sorted((_micros(record.datetime), record.name, record.id, k) for k, record in enumerate(records))
        ordered = [records[k] for *_, k in keyed]
        shapes = _shapes([record.footprint for record in ordered])
        return cls(
            ids=_strings([identity for _, _, identity, _ in keyed]),
            names=_strings([name for _, name, _, _ in keyed]),
            micros=np.array([micros for micros, *_ in keyed], dtype=np.int64),
            tags=_strings([json.dumps(record.tags, sort_keys=True, ensure_ascii=False) for record in ordered]),
            footprints=np.asarray(shapely.to_wkb(shapes), dtype=object).reshape(len(ordered)),
            bounds=shapely.bounds(shapes).reshape(len(ordered), 4),
        )

    @classmethod
    def merged(cls, segments: Sequence[RecordSegment]) -> RecordSegment:
        """The records of all segments as one, by datetime, name and id."""
        columns = [np.concatenate([getattr(segment, name) for segment in segments]) for name in cls.__annotations__]
        joined = cls(*columns)
        order = sorted(range(len(joined)), key=joined.sort_key)
        return cls(*[column[order] for column in columns])

    def encode(self) -> bytes:
        """The segment as GeoParquet 1.1, the same bytes for the same records."""
        covering = {"bbox": {name: ["bbox", name] for name in BBOX}}
        metadata = geo_metadata(shapely.from_wkb(self.footprints), with_bbox=False, covering=covering)
        box = [Array.from_numpy(np.ascontiguousarray(self.bounds[:, k])) for k in range(4)]
        bbox = struct_array(box, fields=[Field(name, DataType.float64()) for name in BBOX])
        columns = {
            "id": _text(self.ids),
            "name": _text(self.names),
            "datetime": time_column(self.micros),
            "tags": _text(self.tags),
            GEOMETRY: wkb_column(self.footprints.tolist()),
            "bbox": bbox,
        }
        return encode_table(columns, metadata)

    @classmethod
    def decode(cls, data: bytes) -> RecordSegment:
        """The segment that `encode` wrote. ValueError for damaged data."""
        return _StoredRecords(read_table(data))

    def without(self, rows: Sequence[int]) -> RecordSegment:
        """The segment without some rows."""
        return RecordSegment(*[np.delete(getattr(self, name), rows, axis=0) for name in RecordSegment.__annotations__])

    def values(self, name: str, rows: Sequence[int]) -> Strings:
        """The values of a column of texts or footprints in some rows."""
        column: Strings = getattr(self, name)[rows]
        return column

    def rows_of(self, ids: frozenset[str]) -> list[int]:
        """The rows of records."""
        if self.id_set.isdisjoint(ids):
            return []
        return [row for row, identity in enumerate(self.ids.tolist()) if identity in ids]

    def sort_key(self, row: int) -> tuple[int, str, str]:
        """Datetime, name, id."""
        return int(self.micros[row]), self.names[row], self.ids[row]

    def sort_keys(self, rows: NDArray[np.int64]) -> list[tuple[int, str, str]]:
        """Datetime, name and id of some rows."""
        some = rows.tolist()
        columns = self.micros[rows].tolist(), self.values("names", some).tolist(), self.values("ids", some).tolist()
        return list(zip(*columns, strict=True))

    @cached_property
    def id_set(self) -> frozenset[str]:
        """The ids."""
        return frozenset(self.ids.tolist())

    @cached_property
    def parsed_tags(self) -> list[dict[str, str]]:
        """The tags of every record."""
        return json.loads(f"[{','.join(self.tags.tolist())}]")  # type: ignore[no-any-return]  # one parse for all

    def rows(self, query: RecordQuery, area: BaseGeometry | None) -> NDArray[np.int64]:
        """The rows that the query asks for; `area` is its area, prepared."""
        mask = np.ones(len(self), dtype=bool)
        if query.start is not None:
            mask &= self.micros >= _micros(query.start)
        if query.end is not None:
            mask &= self.micros <= _micros(query.end)
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
        if area is not None and len(rows):
            rows = rows[shapely.intersects(area, shapely.from_wkb(self.footprints[rows]))]
        return rows

    def records(self, rows: Sequence[int]) -> list[Record]:
        """The records of some rows."""
        shapes = shapely.to_geojson(shapely.from_wkb(self.values("footprints", rows)))
        footprints = json.loads(f"[{','.join('{}' if shape is None else shape for shape in shapes)}]")
        tags = json.loads(f"[{','.join(self.values('tags', rows))}]")
        moments = [EPOCH + timedelta(microseconds=micros) for micros in self.micros[rows].tolist()]
        return [
            Record.model_construct(FIELDS_OF_A_RECORD, name=name, datetime=moment, tags=tag, footprint=footprint)
            for name, moment, tag, footprint in zip(self.values("names", rows), moments, tags, footprints, strict=True)
        ]


COLUMN_NAMES = {"ids": "id", "names": "name", "tags": "tags", "footprints": "geometry"}
ROWS_TAKEN = 1000
"""Up to so many rows are taken out of a column by themselves; for more the whole column is decoded and kept."""


class _StoredRecords(RecordSegment):
    """A segment as it was read: a column becomes Python objects when it is first needed, or only the rows needed."""

    def __init__(self, table: Table) -> None:
        self.__dict__.update(_table=table)

    def __len__(self) -> int:
        return int(self._table.num_rows)

    def __getattr__(self, name: str) -> Any:
        """A column, decoded once."""
        if name in COLUMN_NAMES:
            column: Any = _objects(self._table, COLUMN_NAMES[name])
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
        """The values of a column of texts or footprints in some rows."""
        if name in self.__dict__ or len(rows) > ROWS_TAKEN:
            return super().values(name, rows)
        column = self._table.column(COLUMN_NAMES[name])
        return _strings([column.slice(row, 1).to_pylist()[0] for row in rows])


@dataclass(frozen=True)
class DatasetSegment:
    """Datasets as columns; bands, formats (with how they map) and grids are JSON."""

    record_ids: Strings
    variables: Strings
    instances: Strings
    uris: Strings
    subdirs: Strings
    bands: Strings
    dformats: Strings
    grids: Strings
    layouts: Strings
    cells: Strings
    checksums: Strings

    def __len__(self) -> int:
        return len(self.record_ids)

    @classmethod
    def of(cls, datasets: Iterable[Dataset]) -> DatasetSegment:
        """The datasets by variable, instance, record, layout, cell, uri, subdir and bands."""
        ordered = sorted(datasets, key=_dataset_order)
        return cls(
            record_ids=_strings([d.record_id for d in ordered]),
            variables=_strings([d.variable for d in ordered]),
            instances=_strings([d.instance for d in ordered]),
            uris=_strings([d.uri for d in ordered]),
            subdirs=_strings([d.subdir for d in ordered]),
            bands=_strings([json.dumps(d.bands) for d in ordered]),
            dformats=_strings([_format_text(d) for d in ordered]),
            grids=_strings([d.grid.model_dump_json() for d in ordered]),
            layouts=_strings([d.layout for d in ordered]),
            cells=_strings([d.cell for d in ordered]),
            checksums=_strings([d.checksum for d in ordered]),
        )

    @classmethod
    def merged(cls, segments: Sequence[DatasetSegment]) -> DatasetSegment:
        """The datasets of all segments as one, by variable, instance, record, layout, cell, uri, subdir and bands."""
        columns = [np.concatenate([getattr(segment, name) for segment in segments]) for name in cls.__annotations__]
        keys = list(zip(*[columns[k].tolist() for k in (1, 2, 0, 8, 9, 3, 4, 5)], strict=True))
        order = sorted(range(len(keys)), key=keys.__getitem__)
        return cls(*[column[order] for column in columns])

    def encode(self) -> bytes:
        """The segment as Parquet, the same bytes for the same datasets. Checksums are a column if there are some."""
        columns = {name: _text(getattr(self, name)) for name in type(self).__annotations__}
        if not any(self.checksums):
            del columns[CHECKSUMS]
        return encode_table(columns, {})

    @classmethod
    def decode(cls, data: bytes) -> DatasetSegment:
        """The segment that `encode` wrote. ValueError for damaged data."""
        table = read_table(data)
        columns = {name: _objects(table, name) for name in cls.__annotations__ if name in table.column_names}
        columns.setdefault(CHECKSUMS, _strings([""] * table.num_rows))
        return cls(**columns)

    def without(self, rows: Sequence[int]) -> DatasetSegment:
        """The segment without some rows."""
        return DatasetSegment(*[np.delete(getattr(self, name), rows) for name in type(self).__annotations__])

    def rows_of(self, keys: Iterable[DatasetKey]) -> list[int]:
        """The rows of what `dataset_keys` names."""
        return sorted({self.row_of[key] for key in keys if key in self.row_of})

    @cached_property
    def uri_set(self) -> frozenset[str]:
        """The containers."""
        return frozenset(self.uris.tolist())

    def find_use(self, removal: Removal, besides: frozenset[int]) -> int | None:
        """The first row, besides some, of something that is to be removed."""
        columns = (self.record_ids, self.variables, self.instances, self.layouts)
        for row, (record, variable, instance, layout) in enumerate(zip(*columns, strict=True)):
            if row not in besides and (
                record in removal.records
                or variable in removal.variables
                or (variable, instance) in removal.instances
                or layout in removal.layouts
            ):
                return row
        return None

    @cached_property
    def row_of(self) -> dict[DatasetKey, int]:
        """The row of everything that `dataset_keys` names."""
        columns = (self.record_ids, self.variables, self.instances, self.layouts, self.cells)
        keys = zip(*[column.tolist() for column in columns], strict=True)
        uris = self.uris.tolist()
        found: dict[DatasetKey, int] = {
            key: row for row, (key, uri) in enumerate(zip(keys, uris, strict=True)) if not uri.startswith(OUTSIDE)
        }
        for row, uri in enumerate(uris):
            if uri.startswith(OUTSIDE):
                found.update(dict.fromkeys(dataset_keys(self.dataset(row)), row))
        return found

    def rows(
        self,
        variable: str,
        instance: str,
        record_ids: frozenset[str] | None,
        lies_near: Callable[[Grid], bool] | None = None,
    ) -> NDArray[np.int64]:
        """The rows of an instance, of some records, on grids that lie near."""
        rows = self._rows_of_instances.get((variable, instance), NOTHING)
        if lies_near is not None and len(rows):
            texts, numbers = self._grid_numbers
            used = np.unique(numbers[rows])
            near = np.zeros(len(texts), dtype=bool)
            near[used] = [lies_near(_grid(texts[number])) for number in used.tolist()]
            rows = rows[near[numbers[rows]]]
        if record_ids is None or not len(rows):
            return rows
        return rows[[identity in record_ids for identity in self.record_ids[rows].tolist()]]

    def records_by_cell(self, variable: str, instance: str, layout: str) -> Iterator[tuple[str, str]]:
        """The cell and the record of each dataset that an instance has in a layout."""
        rows = self.rows(variable, instance, None)
        columns = (self.layouts[rows], self.cells[rows], self.record_ids[rows])
        return ((cell, record_id) for name, cell, record_id in zip(*columns, strict=True) if name == layout)

    def replaced(self, variable: str, instance: str, record_ids: frozenset[str]) -> dict[str, str]:
        """The containers of those records whose pixels took the place of others, by record."""
        rows = self.rows(variable, instance, record_ids) if self._later_versions else NOTHING
        return {self.record_ids[row]: self.uris[row] for row in rows.tolist() if row in self._later_versions}

    @cached_property
    def _later_versions(self) -> frozenset[int]:
        """The rows of datasets with another version than the first."""
        return frozenset(row for row, text in enumerate(self.dformats.tolist()) if "version" in _format_of(text)[1])

    @cached_property
    def _rows_of_instances(self) -> dict[tuple[str, str], NDArray[np.int64]]:
        found: dict[tuple[str, str], list[int]] = {}
        for row, instance in enumerate(zip(self.variables.tolist(), self.instances.tolist(), strict=True)):
            found.setdefault(instance, []).append(row)
        return {instance: np.array(rows, dtype=np.int64) for instance, rows in found.items()}

    @cached_property
    def _grid_numbers(self) -> tuple[list[str], NDArray[np.int64]]:
        """The grids, each once, and for every row the number of its own."""
        places: dict[str, int] = {}
        numbers = [places.setdefault(text, len(places)) for text in self.grids.tolist()]
        return list(places), np.array(numbers, dtype=np.int64)

    def dataset(self, row: int) -> Dataset:
        """The dataset of a row."""
        found = self._made.get(row)
        if found is None:
            if len(self._made) >= DATASETS_KEPT:
                self._made.clear()
            found = self._made[row] = self._make(row)
        return found

    @cached_property
    def _made(self) -> dict[int, Dataset]:
        """Datasets that were asked for: a server is asked for the same ones again and again."""
        return {}

    def _make(self, row: int) -> Dataset:
        dformat, mapping = _format_of(self.dformats[row])
        return Dataset.model_construct(
            FIELDS_OF_A_DATASET,
            record_id=self.record_ids[row],
            variable=self.variables[row],
            instance=self.instances[row],
            uri=self.uris[row],
            subdir=self.subdirs[row],
            bands=_bands(self.bands[row]),
            dformat=dformat,
            grid=_grid(self.grids[row]),
            layout=self.layouts[row],
            cell=self.cells[row],
            checksum=self.checksums[row],
            **USUAL | mapping,
        )


@lru_cache(maxsize=1024)
def _bands(text: str) -> tuple[int, ...]:
    return tuple(json.loads(text))


def _dataset_order(dataset: Dataset) -> tuple[str, ...]:
    of_a_tile = (dataset.variable, dataset.instance, dataset.record_id, dataset.layout, dataset.cell)
    return *of_a_tile, dataset.uri, dataset.subdir, json.dumps(dataset.bands)


def _format_text(dataset: Dataset) -> str:
    """The format and what is not as usual about the dataset; an acd that knows no such thing refuses to read it."""
    text = dataset.dformat.model_dump_json()
    unusual = dataset.model_dump_json(include=UNUSUAL)
    return text if unusual == "{}" else f"{text[:-1]},{unusual[1:]}"


@lru_cache(maxsize=1024)
def _format_of(text: str) -> tuple[DataFormat, dict[str, Any]]:
    """The dataset's fields that `_format_text` made the text of."""
    fields = json.loads(text)
    unusual = {name: fields.pop(name) for name in UNUSUAL if name in fields}
    if "real" in unusual:
        unusual["real"] = tuple(unusual["real"])
    return DataFormat.model_validate(fields), unusual


@lru_cache(maxsize=65536)
def _grid(text: str) -> Grid:
    return Grid.model_validate_json(text)


def _shapes(footprints: Sequence[dict[str, Any]]) -> NDArray[np.object_]:
    """The geometries; None for an empty footprint."""
    texts = _strings([json.dumps(footprint) if footprint else None for footprint in footprints])
    return np.asarray(shapely.from_geojson(texts), dtype=object).reshape(len(footprints))


def _micros(moment: datetime) -> int:
    return (moment - EPOCH) // timedelta(microseconds=1)


def _strings(values: Sequence[Any] | NDArray[Any]) -> Strings:
    column = np.empty(len(values), dtype=object)
    column[:] = values
    return column


def _text(column: Strings) -> Array:
    return Array(column.tolist(), type=DataType.string())


def _objects(table: Table, name: str) -> Strings:
    return _strings(table.column(name).to_pylist())


def _matching(values: Sequence[str | None], pattern: str) -> Mask:
    """Where a value is there and matches a pattern."""
    matches = matcher(pattern)
    return np.array([value is not None and matches(value) for value in values], dtype=bool)
