"""What the cells of a layout have, asked of the index's columns: no dataset is built that the answer does not hold."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from acdtask.cube.local.segments import DatasetSegment
from acdtask.cube.model import Dataset
from acdtask.raster.grid import Grid

__all__ = ["datasets_of_small_containers", "in_order", "own_datasets", "records_by_cell"]


def in_order(datasets: Iterable[Dataset]) -> list[Dataset]:
    """The datasets by record, layout, cell, uri, subdir and bands."""
    return sorted(datasets, key=lambda one: (one.record_id, one.layout, one.cell, one.uri, one.subdir, one.bands))


def records_by_cell(
    segments: Sequence[DatasetSegment], variable: str, instance: str, layout: str
) -> dict[str, set[str]]:
    """For each cell of a layout, the ids of the records that an instance has there."""
    records: dict[str, set[str]] = {}
    for segment in segments:
        for cell, record_id in segment.records_by_cell(variable, instance, layout):
            records.setdefault(cell, set()).add(record_id)
    return records


def own_datasets(
    segments: Sequence[DatasetSegment], variable: str, instance: str, record_ids: frozenset[str]
) -> list[Dataset]:
    """The datasets of some records that are no tiles of a layout; `in_order`."""
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
    lies_near: Callable[[Grid], bool],
    fewer_than: int,
) -> list[Dataset]:
    """The datasets of an instance, on some grids, whose containers have fewer of them than a number; `in_order`."""
    rows_of = [(segment, segment.rows(variable, instance, None, lies_near)) for segment in segments]
    sizes = Counter(uri for segment, rows in rows_of for uri in segment.uris[rows].tolist())
    return in_order(
        segment.dataset(row)
        for segment, rows in rows_of
        for row, uri in zip(rows.tolist(), segment.uris[rows].tolist(), strict=True)
        if sizes[uri] < fewer_than
    )
