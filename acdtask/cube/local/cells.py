"""Queries by the cells of a layout. They work on the index's columns and build only the datasets that they return."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from acdtask.cube.local.dataset_segments import DatasetSegment
from acdtask.cube.model import Dataset
from acdtask.raster.grid import Grid

__all__ = ["datasets_of_small_containers", "in_order", "own_datasets", "records_by_cell"]


def in_order(datasets: Iterable[Dataset]) -> list[Dataset]:
    """Sort datasets by record, layout, cell, uri, subdir and bands."""
    return sorted(datasets, key=lambda d: (d.record_id, d.layout, d.cell, d.uri, d.subdir, d.bands))


def records_by_cell(
    segments: Sequence[DatasetSegment], variable: str, instance: str, layout: str
) -> dict[str, set[str]]:
    """Ids of the records that an instance has in each cell of a layout."""
    records: dict[str, set[str]] = {}
    for segment in segments:
        for cell, record_id in segment.records_by_cell(variable, instance, layout):
            records.setdefault(cell, set()).add(record_id)
    return records


def own_datasets(
    segments: Sequence[DatasetSegment], variable: str, instance: str, record_ids: frozenset[str]
) -> list[Dataset]:
    """The datasets of some records, except tiles of a layout; sorted as by `in_order`."""
    return in_order(
        segment.dataset(row)
        for segment in segments
        for row in segment.rows(variable, instance, record_ids).tolist()
        if not segment.layouts[row]
    )


def datasets_of_small_containers(
    segments: Sequence[DatasetSegment],
    variable: str,
    instance: str,
    accepts: Callable[[Grid], bool],
    fewer_than: int,
) -> list[Dataset]:
    """The datasets of an instance in containers that have fewer than a number of them; sorted as by `in_order`.

    Args:
        segments: all segments of the index.
        variable: name of the variable.
        instance: name of the instance.
        accepts: only datasets with grids for which this is true.
        fewer_than: number of datasets in a full container.
    """
    rows_of = [(segment, segment.rows(variable, instance, None, accepts)) for segment in segments]
    sizes = Counter(uri for segment, rows in rows_of for uri in segment.uris[rows].tolist())
    return in_order(
        segment.dataset(row)
        for segment, rows in rows_of
        for row, uri in zip(rows.tolist(), segment.uris[rows].tolist(), strict=True)
        if sizes[uri] < fewer_than
    )
