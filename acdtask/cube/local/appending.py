"""Distribution of a cell's records over consolidated containers.

Containers are never changed. To append records, those of small containers are rewritten together with the new ones to a
new container, which replaces the small ones in the index (docs/decisions/0015).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from acdtask.cube.local.consolidation_cell import CellWork
from acdtask.cube.local.containers import is_stack
from acdtask.cube.local.stack import CHUNK_TIMES
from acdtask.cube.model import Dataset, Record, Slice
from acdtask.raster.data_format import DataFormat
from acdtask.raster.grid import Tile

__all__ = ["containers_with_room", "merge_count", "plan_containers"]


def plan_containers(
    tile: Tile,
    slices: Sequence[Slice],
    copies: Iterable[Dataset],
    records: Mapping[str, Record],
    dformat: DataFormat,
    key_of: Callable[[list[Slice]], str],
    *,
    cut: bool = True,
) -> list[CellWork]:
    """Plan the containers that add new records to a cell: ordered by datetime, name and id, full ones first.

    Each slice is a new record, labelled with its id. `copies` are the datasets of the cell's current containers; those
    with another data format than `dformat` stay unchanged. `key_of` returns the key of a container with some slices.
    With `cut`, a container has at most as many records as a chunk has times, so that reads in time order share no
    chunk; otherwise all records go to one container.
    """
    candidates = containers_with_room(copies, dformat)
    merged = candidates[: merge_count(len(slices), [len(container) for container in candidates])]
    copy_of = {copy.record_id: copy for container in merged for copy in container}
    joined = [*slices, *(Slice(label=record_id, datasets=(copy,)) for record_id, copy in copy_of.items())]
    joined.sort(key=lambda part: _order(records[part.label]))
    length = CHUNK_TIMES if cut else len(joined)
    parts = [joined[first : first + length] for first in range(0, len(joined), length)]
    return [
        CellWork(
            tile=tile,
            key=key_of(part),
            records=[records[member.label] for member in part],
            slices=part,
            replaced=[copy_of[member.label] for member in part if member.label in copy_of],
        )
        for part in parts
    ]


def containers_with_room(copies: Iterable[Dataset], dformat: DataFormat) -> list[list[Dataset]]:
    """The copies of a cell in containers with fewer records than a chunk has times, by container, smallest first.

    Only records in the index count, so a container has room again if most of its records were removed.
    """
    containers: dict[str, list[Dataset]] = {}
    for copy in copies:
        if is_stack(copy.uri) and copy.dformat == dformat and copy.real is None and copy.exponent == 1:
            containers.setdefault(copy.uri, []).append(copy)
    small = [container for container in containers.values() if len(container) < CHUNK_TIMES]
    return sorted(small, key=lambda container: (len(container), container[0].uri))


def merge_count(new: int, sizes: Sequence[int]) -> int:
    """Number of the smallest containers to rewrite together with new records.

    Each remaining container is then larger than all smaller ones together. So at most six are not full, and a record is
    written at most seven times. Rewriting the same container every day would write a record up to 64 times. `sizes` are
    the numbers of records of the containers with room, in ascending order.

    >>> [merge_count(1, sizes) for sizes in ([], [1], [2], [1, 2], [1, 4], [1] * 80)]
    [0, 1, 0, 2, 1, 80]
    """
    count, total = 0, new
    for number, size in enumerate(sizes, start=1):
        if size <= total:
            count = number
        total += size
    return count


def _order(record: Record) -> tuple[object, ...]:
    return record.datetime, record.name, record.id
