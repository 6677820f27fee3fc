"""The index of a local cube: a chain of heads, each made by create-if-absent (docs/decisions/0001)."""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
import shapely
from numpy.typing import NDArray
from tenacity import RetryError, Retrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from acdtask.cube.local.cells import in_order
from acdtask.cube.local.segment_files import WAY_OUT, SegmentFiles
from acdtask.cube.local.segments import DatasetKey, DatasetSegment, RecordSegment, dataset_keys
from acdtask.cube.local.state import Head, Removal, SegmentRef, head_key
from acdtask.cube.local.superseding import is_same, moved_records, outdated_datasets
from acdtask.cube.model import Addition, Dataset, Record, RecordQuery, Variable
from acdtask.errors import AcdError, ErrorCode
from acdtask.raster.grid import Grid
from acdtask.storage.seal import parse_sealed
from acdtask.storage.store import Store

__all__ = ["Index"]

COMMIT_ATTEMPTS = 60

HINT = "index/hint"

TRUSTED_SECONDS = 3600
"""A process that has not looked for so long looks where the chain is now: `acdtask tidy` may have cut its old end."""


class _OvertakenError(Exception):
    """Another writer made the next head first."""


ResultT = TypeVar("ResultT")


@dataclass
class Index:
    """The heads and segments of a store. Segments never change, so they are read once and kept in memory.

    Threads may share it.
    """

    store: Store
    _head: Head = field(default_factory=Head)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)
    _looked: float = field(default=-math.inf, repr=False, compare=False)
    _files: SegmentFiles = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        self._files = SegmentFiles(self.store)

    def head(self) -> Head:
        """The newest head; number 0 if nothing was committed yet. CUBE_DAMAGED."""
        now = time.monotonic()
        is_recent = self._head.number and now - self._looked < TRUSTED_SECONDS
        number, newest = (self._head.number, None) if is_recent else self._start()
        self._looked = now
        while (data := self.store.find(head_key(number + 1))) is not None:
            number, newest = number + 1, data
        return self._keep(self._head if newest is None else self._decode_head(newest, number))

    def commit(self, addition: Addition) -> bool:
        """Publish the addition by one new head, unless all of it is there already.

        A dataset that is there with another checksum gets the new one: its file was written again.

        Raises:
            AcdError: VARIABLE_CONFLICT, LAYOUT_CONFLICT, DATASET_CONFLICT, VARIABLE_UNKNOWN, INSTANCE_UNKNOWN,
                STORE_CONTENDED.
        """

        def make(head: Head) -> tuple[Head, bool]:
            added = self._added(head, addition)
            return added, added != head

        return self.publish(make)

    def exchange(self, removed: Sequence[Dataset], added: Sequence[Dataset]) -> list[str]:
        """Take datasets out and put others in their place by one new head, unless that was done already.

        Returns:
            The uris that nothing refers to any more, sorted.

        Raises:
            AcdError: DATASET_CONFLICT if one to be removed is not there, or as `commit` raises.
        """
        added = [one.model_copy(update={"exchanged": bool(one.layout)}) for one in added]

        def make(head: Head) -> tuple[Head, list[str]]:
            there = [one for one in removed if self._is_there(head, one)]
            if len(there) < len(removed) and not (added and not there and all(self._is_there(head, a) for a in added)):
                gone = next(one for one in removed if one not in there)
                raise AcdError(
                    ErrorCode.DATASET_CONFLICT,
                    f"{gone.uri} is no longer a dataset of record {gone.record_id}",
                    "Look which job removed or exchanged it, and begin again with what is there now.",
                )
            lacking, _ = self._removed(head, Removal(datasets=there))
            full = self._added(lacking, Addition(datasets=added))
            return full, self._unused(full, removed)

        return self.publish(make)

    def supersede(self, addition: Addition) -> bool:
        """Publish the addition by one new head, in the place of what its records had, as `LocalCube.supersede` says."""

        def make(head: Head) -> tuple[Head, bool]:
            datasets = [_plain(one, _variable_of(one, head, addition)) for one in addition.datasets]
            outdated = outdated_datasets(datasets, [self._files.segment(ref, DatasetSegment) for ref in head.datasets])
            lacking, _ = self._removed(head, Removal(datasets=outdated))
            there = [self._files.segment(ref, RecordSegment) for ref in head.records]
            moved = moved_records(addition.records, {one.record_id for one in outdated}, there)
            kept = self._files.reduced(lacking.records, "records", RecordSegment, lambda s: s.rows_of(moved))
            added = self._added(lacking.model_copy(update={"records": kept}), addition)
            return added, added != head

        return self.publish(make)

    def replaced(self, variable: str, instance: str, ids: frozenset[str]) -> dict[str, str]:
        """The containers of records whose pixels took the place of others. VARIABLE_UNKNOWN, INSTANCE_UNKNOWN."""
        head = self.head()
        head.instance(variable, instance)
        found: dict[str, str] = {}
        for ref in head.datasets:
            found |= self._files.segment(ref, DatasetSegment).replaced(variable, instance, ids)
        return dict(sorted(found.items()))

    def replace(
        self, replaced: Sequence[Dataset], added: Sequence[Dataset], sources: Sequence[Dataset] = ()
    ) -> list[Dataset]:
        """Put copies in the place of others, or in empty places, by one new head, as `LocalCube.replace` says.

        Returns:
            The added datasets that are not in the index.
        """
        old = {key: dataset for dataset in replaced for key in dataset_keys(dataset)}

        def make(head: Head) -> tuple[Head, list[Dataset]]:
            stale = {one.record_id for one in sources if not self._is_there(head, one)}
            fitting = [
                one
                for one in added
                if one.record_id not in stale and self._has_place(head, one, [old.get(k) for k in dataset_keys(one)])
            ]
            outdated = [old[key] for one in fitting for key in dataset_keys(one) if key in old]
            lacking, _ = self._removed(head, Removal(datasets=outdated))
            full = self._added(lacking, Addition(datasets=fitting))
            return full, [one for one in added if not self._is_there(full, one)]

        return self.publish(make)

    def remove(self, removal: Removal) -> list[str]:
        """Take things out of the index by one new head; what is not there is left alone.

        Returns:
            The uris that nothing refers to any more, sorted.

        Raises:
            AcdError: IN_USE if something has datasets that stay, STORE_CONTENDED.
        """
        return self.publish(lambda head: self._removed(head, removal))

    def numbered(self, number: int) -> Head | None:
        """The head of a number, or None if there is none (any more). CUBE_DAMAGED."""
        data = self.store.find(head_key(number))
        return None if data is None else self._decode_head(data, number)

    def uris(self, ref: SegmentRef) -> frozenset[str]:
        """The containers of a segment of datasets. CUBE_DAMAGED."""
        return self._files.segment(ref, DatasetSegment).uri_set

    def publish(self, make: Callable[[Head], tuple[Head, ResultT]]) -> ResultT:
        """Make the next head out of the newest one, once more whenever another writer was faster.

        Args:
            make: gives the next head (its number is not looked at) and a result; nothing is written if the head is the
                same.

        Raises:
            AcdError: STORE_CONTENDED, or what `make` raises.
        """
        attempts = Retrying(
            retry=retry_if_exception_type(_OvertakenError),
            wait=wait_random_exponential(multiplier=0.02, max=2),
            stop=stop_after_attempt(COMMIT_ATTEMPTS),
        )
        try:
            result: ResultT = attempts(self._publish_once, make)
        except RetryError as error:
            raise AcdError(
                ErrorCode.STORE_CONTENDED, f"{self.store.url}: other writers were faster {COMMIT_ATTEMPTS} times"
            ) from error
        return result

    def records(self, query: RecordQuery) -> list[Record]:
        """The records that the query asks for, by datetime, then name, then id. AOI_UNREADABLE for a bad area."""
        area = _prepared(query)
        if area is not None and area.is_empty:
            return []
        segments = [self._files.segment(ref, RecordSegment) for ref in self.head().records]
        rows = [segment.rows(query, area) for segment in segments]
        if query.limit:
            rows = _earliest(segments, rows, (query.page + 1) * query.limit)
        found = [
            (key, number, row)
            for number, segment in enumerate(segments)
            for key, row in zip(segment.sort_keys(rows[number]), rows[number].tolist(), strict=True)
        ]
        found.sort()
        if query.limit:
            found = found[query.page * query.limit :][: query.limit]
        built = {
            number: iter(segment.records([row for _, owner, row in found if owner == number]))
            for number, segment in enumerate(segments)
        }
        return [next(built[number]) for _, number, _ in found]

    def count_records(self, query: RecordQuery) -> int:
        """How many records the query asks for, on all pages. AOI_UNREADABLE for a bad area."""
        refs = self.head().records
        if query.model_copy(update={"limit": 0, "page": 0}) == RecordQuery():
            return sum(ref.rows for ref in refs)
        area = _prepared(query)
        if area is not None and area.is_empty:
            return 0
        return sum(len(self._files.segment(ref, RecordSegment).rows(query, area)) for ref in refs)

    def records_by_id(self, ids: Sequence[str]) -> list[Record]:
        """The records of these ids, in their order; what the cube has not is left out."""
        wanted = frozenset(ids)
        found: dict[str, Record] = {}
        for segment in [self._files.segment(ref, RecordSegment) for ref in self.head().records]:
            if not wanted.isdisjoint(segment.id_set):
                rows = [row for row, one in enumerate(segment.ids.tolist()) if one in wanted]
                found.update(zip(segment.ids[rows].tolist(), segment.records(rows), strict=True))
        return [found[one] for one in ids if one in found]

    def datasets(
        self,
        variable: str,
        instance: str,
        record_ids: frozenset[str] | None,
        lies_near: Callable[[Grid], bool] | None = None,
    ) -> list[Dataset]:
        """The datasets of an instance (of some records, on some grids), by record, layout, cell and uri.

        VARIABLE_UNKNOWN, INSTANCE_UNKNOWN.
        """
        return in_order(
            segment.dataset(row)
            for segment in self.dataset_segments(variable, instance)
            for row in segment.rows(variable, instance, record_ids, lies_near).tolist()
        )

    def having(self, variable: str, instance: str, ids: frozenset[str]) -> frozenset[str]:
        """Which of the records have a dataset of an instance. VARIABLE_UNKNOWN, INSTANCE_UNKNOWN."""
        return frozenset(
            record_id
            for segment in self.dataset_segments(variable, instance)
            for record_id in segment.record_ids[segment.rows(variable, instance, ids)].tolist()
        )

    def dataset_segments(self, variable: str, instance: str) -> list[DatasetSegment]:
        """The segments that may have datasets of an instance. VARIABLE_UNKNOWN, INSTANCE_UNKNOWN."""
        head = self.head()
        head.instance(variable, instance)
        return [self._files.segment(ref, DatasetSegment) for ref in head.datasets]

    def datasets_at(self, uris: frozenset[str]) -> list[Dataset]:
        """The datasets of some containers, by container, subdir and bands."""
        found = [
            segment.dataset(row)
            for segment in (self._files.segment(ref, DatasetSegment) for ref in self.head().datasets)
            if not segment.uri_set.isdisjoint(uris)
            for row, uri in enumerate(segment.uris.tolist())
            if uri in uris
        ]
        return sorted(found, key=lambda one: (one.uri, one.subdir, one.bands, one.record_id))

    def records_in_use(self, ids: frozenset[str]) -> frozenset[str]:
        """Which of the records have a dataset."""
        segments = [self._files.segment(ref, DatasetSegment) for ref in self.head().datasets]
        return frozenset(one for segment in segments for one in segment.record_ids.tolist() if one in ids)

    def _start(self) -> tuple[int, bytes | None]:
        """A stored head and its number, from the hint if it is right, else from the list; 0 and None before the first.

        The hint needs no checksum: from any stored head, the way leads to the newest one.
        """
        hint = self.store.find(HINT)
        if hint is not None and hint.isdigit():
            data = self.store.find(head_key(int(hint)))
            if data is not None:
                return int(hint), data
        keys = self.store.list("index/heads")
        return (int(keys[-1][-13:-5]), self.store.get(keys[-1])) if keys else (0, None)

    def _decode_head(self, data: bytes, number: int) -> Head:
        address = self.store.address_of(head_key(number))
        head = parse_sealed(Head, data, address, ErrorCode.CUBE_DAMAGED, WAY_OUT)
        if head.number != number:
            raise AcdError(ErrorCode.CUBE_DAMAGED, f"{address} is damaged: it holds head {head.number}", WAY_OUT)
        return head

    def _keep(self, head: Head) -> Head:
        """Remember the head, unless another thread knows a newer one; of both the newer one."""
        with self._lock:
            if head.number > self._head.number:
                self._head = head
                self._files.keep(head.segments)
            return self._head

    def _publish_once(self, make: Callable[[Head], tuple[Head, ResultT]]) -> ResultT:
        head = self.head()
        next_head, result = make(head)
        if next_head == head:
            return result
        next_head = next_head.model_copy(update={"number": head.number + 1})
        data = next_head.encode()
        # A lost answer makes the store's own retry find our head: it counts as made, since it is what we wanted.
        if not self.store.create(next_head.key, data) and self.store.get(next_head.key) != data:
            raise _OvertakenError
        self._files.restore_reused(next_head.segments)
        self._keep(next_head)
        with contextlib.suppress(AcdError):  # the commit is made; the hint only saves a listing
            self.store.put(HINT, str(next_head.number).encode())
        return result

    def _added(self, head: Head, addition: Addition) -> Head:
        head = head.with_catalogue(addition)
        records = self._new_records(head, addition.records)
        datasets, renewed = self._new_datasets(head, addition.datasets, {record.id for record in records})
        kept = self._files.reduced(head.datasets, "datasets", DatasetSegment, lambda s: s.rows_of(renewed))
        return head.model_copy(
            update={
                "records": self._files.extended(head.records, "records", records, RecordSegment),
                "datasets": self._files.extended(kept, "datasets", datasets, DatasetSegment),
            }
        )

    def _new_records(self, head: Head, records: Sequence[Record]) -> list[Record]:
        there = [self._files.segment(ref, RecordSegment).id_set for ref in head.records] if records else []
        fresh: dict[str, Record] = {}
        for record in records:
            fresh.setdefault(record.id, record)
        return [record for identity, record in fresh.items() if not any(identity in ids for ids in there)]

    def _new_datasets(
        self, head: Head, datasets: Sequence[Dataset], new_records: set[str]
    ) -> tuple[list[Dataset], set[DatasetKey]]:
        """The datasets to add, and the keys of those to take out, since the new ones differ in their checksum alone."""
        segments = [self._files.segment(ref, DatasetSegment) for ref in head.datasets] if datasets else []
        record_ids = [self._files.segment(ref, RecordSegment).id_set for ref in head.records] if datasets else []
        for variable, instance in sorted({(dataset.variable, dataset.instance) for dataset in datasets}):
            head.instance(variable, instance)
        fresh: list[Dataset] = []
        taken: dict[DatasetKey, Dataset] = {}
        renewed: set[DatasetKey] = set()
        for dataset in (_plain(one, head.variable(one.variable)) for one in datasets):
            keys = dataset_keys(dataset)
            there = [one for key in keys if (one := taken.get(key) or _find(segments, key)) is not None]
            for one in there:
                if not is_same(one, dataset):
                    raise _conflict(one, dataset)
            if there and (there[0].checksum == dataset.checksum or not dataset.checksum or keys[0] in taken):
                continue
            renewed.update(keys if there else ())
            if dataset.record_id not in new_records and not any(dataset.record_id in ids for ids in record_ids):
                raise AcdError(ErrorCode.BUG, f"{dataset.uri} is of a record that the cube does not have")
            taken.update(dict.fromkeys(keys, dataset))
            fresh.append(dataset)
        return fresh, renewed

    def _is_there(self, head: Head, dataset: Dataset) -> bool:
        segments = [self._files.segment(ref, DatasetSegment) for ref in head.datasets]
        there = _find(segments, dataset_keys(dataset)[0])
        return there is not None and is_same(there, _plain(dataset, head.variable(there.variable)))

    def _has_place(self, head: Head, dataset: Dataset, expected: Sequence[Dataset | None]) -> bool:
        """Whether the places of a new dataset hold what is expected, and its record is known."""
        segments = [self._files.segment(ref, DatasetSegment) for ref in head.datasets]
        for key, old in zip(dataset_keys(dataset), expected, strict=True):
            current = _find(segments, key)
            if current != (old and _plain(old, head.variable(old.variable))):
                return False
        return any(dataset.record_id in self._files.segment(ref, RecordSegment).id_set for ref in head.records)

    def _removed(self, head: Head, removal: Removal) -> tuple[Head, list[str]]:
        keys = {dataset_keys(one)[0] for one in removal.datasets if self._is_there(head, one)}
        self._check_unused(head, removal, keys)
        lacking = head.without_catalogue(removal).model_copy(
            update={
                "datasets": self._files.reduced(head.datasets, "datasets", DatasetSegment, lambda s: s.rows_of(keys)),
                "records": self._files.reduced(
                    head.records, "records", RecordSegment, lambda s: s.rows_of(removal.records)
                ),
            }
        )
        return lacking, self._unused(lacking, removal.datasets)

    def _check_unused(self, head: Head, removal: Removal, keys: set[DatasetKey]) -> None:
        """IN_USE if something that is to be removed has other datasets than these."""
        owners = removal.records or removal.variables or removal.instances or removal.layouts
        for ref in head.datasets if owners else ():
            segment = self._files.segment(ref, DatasetSegment)
            row = segment.find_use(removal, frozenset(segment.rows_of(keys)))
            if row is not None:
                raise AcdError(ErrorCode.IN_USE, self._use(segment.dataset(row), removal))

    def _use(self, dataset: Dataset, removal: Removal) -> str:
        instance = f"{dataset.variable}:{dataset.instance}"
        if dataset.record_id in removal.records:
            names = [record.name for record in self.records_by_id([dataset.record_id])]
            return f"the record {' '.join([*names, dataset.record_id])} has a dataset of {instance}: {dataset.uri}"
        if (dataset.variable, dataset.instance) in removal.instances:
            return f"the instance {instance} has datasets, such as {dataset.uri}"
        if dataset.variable in removal.variables:
            return f"the variable {dataset.variable} has datasets, such as {dataset.uri}"
        return f"the layout {dataset.layout} has datasets, such as {dataset.uri}"

    def _unused(self, head: Head, datasets: Sequence[Dataset]) -> list[str]:
        """The uris of datasets that a head does not refer to."""
        uris = {one.uri for one in datasets}
        for ref in head.datasets if uris else ():
            uris -= self._files.segment(ref, DatasetSegment).uri_set
        return sorted(uris)


def _earliest(segments: list[RecordSegment], rows: list[NDArray[np.int64]], count: int) -> list[NDArray[np.int64]]:
    """Of some rows of each segment those that can be among the first so many, all of the last one's time included."""
    moments = [segment.micros[some] for segment, some in zip(segments, rows, strict=True)]
    every = np.concatenate([*moments, np.empty(0, np.int64)])
    if len(every) <= count:
        return rows
    last = np.partition(every, count - 1)[count - 1]
    return [some[micros <= last] for some, micros in zip(rows, moments, strict=True)]


def _prepared(query: RecordQuery) -> shapely.geometry.base.BaseGeometry | None:
    if query.area is None:
        return None
    try:
        area = shapely.geometry.shape(query.area)
    except (AttributeError, KeyError, TypeError, ValueError, shapely.errors.ShapelyError) as error:
        raise AcdError(ErrorCode.AOI_UNREADABLE, "the area of the query is not a GeoJSON geometry") from error
    shapely.prepare(area)
    return area


def _find(segments: Sequence[DatasetSegment], key: DatasetKey) -> Dataset | None:
    for segment in segments:
        row = segment.row_of.get(key)
        if row is not None:
            return segment.dataset(row)
    return None


def _plain(dataset: Dataset, variable: Variable) -> Dataset:
    """The dataset as it is kept: the variable's own range is not said again."""
    if dataset.real != (variable.dformat.min, variable.dformat.max):
        return dataset
    return dataset.model_copy(update={"real": None})


def _variable_of(dataset: Dataset, head: Head, addition: Addition) -> Variable:
    """The variable of a new dataset, which may be added with it. VARIABLE_UNKNOWN."""
    made = {one.name: one for one in addition.variables}
    return made[dataset.variable] if dataset.variable in made else head.variable(dataset.variable)


def _conflict(there: Dataset, dataset: Dataset) -> AcdError:
    if not dataset.is_outside:
        place = f"record {dataset.record_id}, {dataset.variable}:{dataset.instance} {dataset.cell}".rstrip()
        return AcdError(ErrorCode.DATASET_CONFLICT, f"{place} is {there.uri} already, not {dataset.uri}")
    bands = ", ".join(str(band) for band in there.bands)
    place = f"band {bands} of {' '.join((there.uri, there.subdir)).rstrip()}"
    owner = f"record {there.record_id}, {there.variable}:{there.instance}"
    if (there.record_id, there.variable, there.instance) != (dataset.record_id, dataset.variable, dataset.instance):
        return AcdError(ErrorCode.DATASET_CONFLICT, f"{place} is a dataset of another record or instance: {owner}")
    return AcdError(ErrorCode.DATASET_CONFLICT, f"{place} is a dataset of {owner} already, mapped in another way")
