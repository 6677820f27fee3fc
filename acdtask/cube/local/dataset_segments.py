"""Segments of datasets: immutable Parquet tables, and queries on their columns."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from acdtask.cube.local.columns import Strings, column_of, strings, text_column
from acdtask.cube.local.state import Removal
from acdtask.cube.model import OUTSIDE, Dataset
from acdtask.raster.data_format import DataFormat
from acdtask.raster.grid import Grid
from acdtask.storage.geoparquet import encode_table, read_table

__all__ = ["DatasetKey", "DatasetSegment", "dataset_keys"]

DatasetKey: TypeAlias = tuple[str, ...]

RARE = {name: Dataset.model_fields[name].default for name in ("real", "exponent", "exchanged", "version")}
"""Defaults of fields that few datasets set. They are stored with the data format, and only if they are set."""

RARE_NAMES = set(RARE)

CHECKSUMS = "checksums"
"""Checksums have a column of their own: nearly all differ, while there are few different formats."""

MOST_DATASETS_KEPT = 8192
NO_ROWS = np.empty(0, dtype=np.int64)
FIELDS_OF_A_DATASET = set(Dataset.model_fields)


def dataset_keys(dataset: Dataset) -> list[DatasetKey]:
    """The keys under which a cube has at most one dataset.

    In the cube's own containers, that is a record and instance, and the tile if it is one; outside, as in Geocube, a
    band of a container.
    """
    if not dataset.is_outside:
        return [(dataset.record_id, dataset.variable, dataset.instance, dataset.layout, dataset.cell)]
    return [(dataset.uri, dataset.subdir, str(band)) for band in dataset.bands]


@dataclass(frozen=True)
class DatasetSegment:
    """Datasets as columns, ordered by variable, instance, record, layout, cell, uri, subdir and bands.

    Bands, data formats (with rare fields) and grids are JSON.
    """

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
        """Make a segment of datasets, in any order."""
        ordered = sorted(datasets, key=_dataset_order)
        return cls(
            record_ids=strings([d.record_id for d in ordered]),
            variables=strings([d.variable for d in ordered]),
            instances=strings([d.instance for d in ordered]),
            uris=strings([d.uri for d in ordered]),
            subdirs=strings([d.subdir for d in ordered]),
            bands=strings([json.dumps(d.bands) for d in ordered]),
            dformats=strings([_format_text(d) for d in ordered]),
            grids=strings([d.grid.model_dump_json() for d in ordered]),
            layouts=strings([d.layout for d in ordered]),
            cells=strings([d.cell for d in ordered]),
            checksums=strings([d.checksum for d in ordered]),
        )

    @classmethod
    def merged(cls, segments: Sequence[DatasetSegment]) -> DatasetSegment:
        """Merge segments into one."""
        columns = [np.concatenate([getattr(segment, name) for segment in segments]) for name in cls.__annotations__]
        # Sorted by columns: variables, instances, record_ids, layouts, cells, uris, subdirs, bands.
        keys = list(zip(*[columns[k].tolist() for k in (1, 2, 0, 8, 9, 3, 4, 5)], strict=True))
        order = sorted(range(len(keys)), key=keys.__getitem__)
        return cls(*[column[order] for column in columns])

    def encode(self) -> bytes:
        """Encode as Parquet. The same datasets give the same bytes. Without checksums, their column is omitted."""
        columns = {name: text_column(getattr(self, name)) for name in type(self).__annotations__}
        if not any(self.checksums):
            del columns[CHECKSUMS]
        return encode_table(columns, {})

    @classmethod
    def decode(cls, data: bytes) -> DatasetSegment:
        """Decode a segment. ValueError for damaged data."""
        table = read_table(data)
        columns = {name: column_of(table, name) for name in cls.__annotations__ if name in table.column_names}
        columns.setdefault(CHECKSUMS, strings([""] * table.num_rows))
        return cls(**columns)

    def without(self, rows: Sequence[int]) -> DatasetSegment:
        """The segment without some rows."""
        return DatasetSegment(*[np.delete(getattr(self, name), rows) for name in type(self).__annotations__])

    def rows_of(self, keys: Iterable[DatasetKey]) -> list[int]:
        """The rows that have some keys, in order."""
        return sorted({self.row_of[key] for key in keys if key in self.row_of})

    @cached_property
    def uri_set(self) -> frozenset[str]:
        """Addresses of the containers."""
        return frozenset(self.uris.tolist())

    def find_use(self, removal: Removal, except_rows: frozenset[int]) -> int | None:
        """The first row, except some, that refers to a record, variable, instance or layout to be removed."""
        columns = (self.record_ids, self.variables, self.instances, self.layouts)
        for row, (record, variable, instance, layout) in enumerate(zip(*columns, strict=True)):
            if row not in except_rows and (
                record in removal.records
                or variable in removal.variables
                or (variable, instance) in removal.instances
                or layout in removal.layouts
            ):
                return row
        return None

    @cached_property
    def row_of(self) -> dict[DatasetKey, int]:
        """The row of each key (see `dataset_keys`)."""
        # Keys in the cube are columns. Those outside need bands, so their datasets are built.
        columns = (self.record_ids, self.variables, self.instances, self.layouts, self.cells)
        keys = zip(*[column.tolist() for column in columns], strict=True)
        uris = self.uris.tolist()
        rows: dict[DatasetKey, int] = {
            key: row for row, (key, uri) in enumerate(zip(keys, uris, strict=True)) if not uri.startswith(OUTSIDE)
        }
        for row, uri in enumerate(uris):
            if uri.startswith(OUTSIDE):
                rows.update(dict.fromkeys(dataset_keys(self.dataset(row)), row))
        return rows

    def rows(
        self,
        variable: str,
        instance: str,
        record_ids: frozenset[str] | None,
        accepts: Callable[[Grid], bool] | None = None,
    ) -> NDArray[np.int64]:
        """The rows of an instance, of some records (None for all), whose grids are accepted."""
        rows = self._rows_of_instances.get((variable, instance), NO_ROWS)
        if accepts is not None and len(rows):
            # Many datasets share a grid, so each grid is parsed and tested once.
            texts, numbers = self._grid_numbers
            used = np.unique(numbers[rows])
            is_accepted = np.zeros(len(texts), dtype=bool)
            is_accepted[used] = [accepts(_grid(texts[number])) for number in used.tolist()]
            rows = rows[is_accepted[numbers[rows]]]
        if record_ids is None or not len(rows):
            return rows
        return rows[[identity in record_ids for identity in self.record_ids[rows].tolist()]]

    def records_by_cell(self, variable: str, instance: str, layout: str) -> Iterator[tuple[str, str]]:
        """Cell and record id of each dataset of an instance in a layout."""
        rows = self.rows(variable, instance, None)
        columns = (self.layouts[rows], self.cells[rows], self.record_ids[rows])
        return ((cell, record_id) for name, cell, record_id in zip(*columns, strict=True) if name == layout)

    def replaced(self, variable: str, instance: str, record_ids: frozenset[str]) -> dict[str, str]:
        """Containers of records whose pixels were replaced (`LocalCube.supersede`), by record id."""
        rows = self.rows(variable, instance, record_ids) if self._later_versions else NO_ROWS
        return {self.record_ids[row]: self.uris[row] for row in rows.tolist() if row in self._later_versions}

    @cached_property
    def _later_versions(self) -> frozenset[int]:
        """The rows of datasets with a version above 1."""
        return frozenset(row for row, text in enumerate(self.dformats.tolist()) if "version" in _format_of(text)[1])

    @cached_property
    def _rows_of_instances(self) -> dict[tuple[str, str], NDArray[np.int64]]:
        rows_of: dict[tuple[str, str], list[int]] = {}
        for row, instance in enumerate(zip(self.variables.tolist(), self.instances.tolist(), strict=True)):
            rows_of.setdefault(instance, []).append(row)
        return {instance: np.array(rows, dtype=np.int64) for instance, rows in rows_of.items()}

    @cached_property
    def _grid_numbers(self) -> tuple[list[str], NDArray[np.int64]]:
        """The distinct grids as JSON, and for each row the number of its grid."""
        number_of: dict[str, int] = {}
        numbers = [number_of.setdefault(text, len(number_of)) for text in self.grids.tolist()]
        return list(number_of), np.array(numbers, dtype=np.int64)

    def dataset(self, row: int) -> Dataset:
        """The dataset of a row."""
        dataset = self._made.get(row)
        if dataset is None:
            if len(self._made) >= MOST_DATASETS_KEPT:
                self._made.clear()
            dataset = self._made[row] = self._make(row)
        return dataset

    @cached_property
    def _made(self) -> dict[int, Dataset]:
        """Datasets by row: a server is asked for the same ones again and again."""
        return {}

    def _make(self, row: int) -> Dataset:
        dformat, rare = _format_of(self.dformats[row])
        # The values were validated before they were stored, so they are not validated again.
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
            **RARE | rare,
        )


@lru_cache(maxsize=1024)
def _bands(text: str) -> tuple[int, ...]:
    return tuple(json.loads(text))


def _dataset_order(dataset: Dataset) -> tuple[str, ...]:
    tile = (dataset.variable, dataset.instance, dataset.record_id, dataset.layout, dataset.cell)
    return *tile, dataset.uri, dataset.subdir, json.dumps(dataset.bands)


def _format_text(dataset: Dataset) -> str:
    """The data format with the rare fields that are set. A version of acd without such a field rejects the text."""
    text = dataset.dformat.model_dump_json()
    rare = dataset.model_dump_json(include=RARE_NAMES)  # fields with their default are left out
    return text if rare == "{}" else f"{text[:-1]},{rare[1:]}"


@lru_cache(maxsize=1024)
def _format_of(text: str) -> tuple[DataFormat, dict[str, Any]]:
    """The data format and the rare fields of a text that `_format_text` made."""
    fields = json.loads(text)
    rare = {name: fields.pop(name) for name in RARE_NAMES if name in fields}
    if "real" in rare:
        rare["real"] = tuple(rare["real"])
    return DataFormat.model_validate(fields), rare


@lru_cache(maxsize=65536)
def _grid(text: str) -> Grid:
    return Grid.model_validate_json(text)
