"""The index of a local cube: a chain of heads, each written with create-if-absent (docs/decisions/0001)."""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

import numpy as np
import shapely
from numpy.typing import NDArray
from tenacity import RetryError, Retrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from acdtask.cube.local.dataset_segments import DatasetSegment
from acdtask.cube.local.head_editor import HeadEditor
from acdtask.cube.local.record_segments import RecordSegment
from acdtask.cube.local.segment_files import DAMAGE_FIX, SegmentFiles
from acdtask.cube.local.state import Head, SegmentRef, head_key
from acdtask.cube.model import Addition, Dataset, Record, RecordQuery
from acdtask.errors import AcdError, ErrorCode
from acdtask.raster.grid import Grid
from acdtask.storage.seal import parse_sealed
from acdtask.storage.store import Store

__all__ = ["Index"]

COMMIT_ATTEMPTS = 60

HINT = "index/hint"

TRUSTED_SECONDS = 3600
"""A head that was checked longer ago is not followed: `acdtask tidy` may have deleted the heads after it."""


class _OvertakenError(Exception):
    """Another writer published the next head first."""


ResultT = TypeVar("ResultT")


class Index:
    """The index of a `LocalCube`: the heads and segments of a store.

    Segments never change, so they are read once and kept in memory. Thread-safe.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self._head = Head()
        self._lock = threading.Lock()
        self._checked = -math.inf
        self._files = SegmentFiles(store)
        self._editor = HeadEditor(self._files)

    def head(self) -> Head:
        """The newest head; number 0 if nothing has been committed. CUBE_DAMAGED."""
        now = time.monotonic()
        is_recent = self._head.number and now - self._checked < TRUSTED_SECONDS
        number, newest = (self._head.number, None) if is_recent else self._start()
        self._checked = now
        # Heads are numbered without gaps, so the first missing number ends the chain. Usually this is one request.
        while (data := self.store.find(head_key(number + 1))) is not None:
            number, newest = number + 1, data
        return self._keep(self._head if newest is None else self._decode_head(newest, number))

    def commit(self, addition: Addition) -> bool:
        """Publish an addition with one new head, and return whether anything was new. Otherwise, write nothing.

        A known dataset with another checksum gets the new one: its file was written again. VARIABLE_CONFLICT,
        LAYOUT_CONFLICT, DATASET_CONFLICT, VARIABLE_UNKNOWN, INSTANCE_UNKNOWN, STORE_CONTENDED.
        """
        return self._publish_change(lambda head: self._editor.added(head, addition))

    def exchange(self, removed: Iterable[Dataset], added: Iterable[Dataset]) -> list[str]:
        """Replace datasets by others, all at once, as a consolidation on a server does. No pixel is deleted.

        New tiles of a layout are marked `exchanged`: they are read on all grids. Repeating an exchange has no effect.

        Returns:
            Addresses of removed containers to which nothing refers any more, sorted.

        Raises:
            AcdError: DATASET_CONFLICT if one to be removed is missing or a new one conflicts with another,
                INSTANCE_UNKNOWN, VARIABLE_UNKNOWN, STORE_CONTENDED.
        """
        before = tuple(removed)
        marked = [dataset.model_copy(update={"exchanged": bool(dataset.layout)}) for dataset in added]
        return self.publish(lambda head: self._editor.exchanged(head, before, marked))

    def supersede(self, addition: Addition) -> bool:
        """Like `commit`, but new datasets replace those that their records have of the same instance.

        Consolidated copies of the old pixels are removed from the index too. No pixel is deleted.
        """
        return self._publish_change(lambda head: self._editor.superseded(head, addition))

    def _publish_change(self, make: Callable[[Head], Head]) -> bool:
        """Publish a head unless it is unchanged, and return whether it is new."""

        def changed(head: Head) -> tuple[Head, bool]:
            made = make(head)
            return made, made != head

        return self.publish(changed)

    def replaced(self, variable: str, instance: str, record_ids: Iterable[str]) -> dict[str, str]:
        """Containers of the given records whose pixels were replaced (`supersede`), by record id.

        VARIABLE_UNKNOWN, INSTANCE_UNKNOWN.
        """
        ids = frozenset(record_ids)
        uris: dict[str, str] = {}
        for segment in self.dataset_segments(variable, instance):
            uris |= segment.replaced(variable, instance, ids)
        return dict(sorted(uris.items()))

    def replace(
        self, replaced: Iterable[Dataset], added: Iterable[Dataset], sources: Iterable[Dataset] = ()
    ) -> list[Dataset]:
        """Add copies to the index, all at once; some may replace older copies of the same record and cell.

        Unlike after `exchange`, the new datasets are copies too. Changes that others made in the meantime are kept: a
        copy is only added if the cube still has the copy that it replaces (or still none if it replaces none), and the
        `sources` of its record, from which it was made. Repeating a call has no effect. No pixel is deleted.
        INSTANCE_UNKNOWN, VARIABLE_UNKNOWN, STORE_CONTENDED.

        Returns:
            The new copies that were not added, because others had changed the cube.
        """
        old, new, origins = tuple(replaced), tuple(added), tuple(sources)
        return self.publish(lambda head: self._editor.replaced(head, old, new, origins))

    def numbered(self, number: int) -> Head | None:
        """The head with a number, or None if it does not exist (any more). CUBE_DAMAGED."""
        data = self.store.find(head_key(number))
        return None if data is None else self._decode_head(data, number)

    def uris(self, ref: SegmentRef) -> frozenset[str]:
        """Addresses of the containers of a dataset segment. CUBE_DAMAGED."""
        return self._files.segment(ref, DatasetSegment).uri_set

    def publish(self, make: Callable[[Head], tuple[Head, ResultT]]) -> ResultT:
        """Publish the next head, made from the newest one. Start over whenever another writer was faster.

        `make` returns the next head, whose number is ignored, and a result. If the head is unchanged, nothing is
        written. STORE_CONTENDED, or what `make` raises.
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
        """The records that match a query, ordered by datetime, name and id. AOI_UNREADABLE for an invalid area."""
        area = _prepared(query)
        if area is not None and area.is_empty:
            return []
        segments = [self._files.segment(ref, RecordSegment) for ref in self.head().records]
        rows = [segment.rows(query, area) for segment in segments]
        if query.limit:
            rows = _earliest(segments, rows, (query.page + 1) * query.limit)
        matches = [
            (key, number, row)
            for number, segment in enumerate(segments)
            for key, row in zip(segment.sort_keys(rows[number]), rows[number].tolist(), strict=True)
        ]
        matches.sort()
        if query.limit:
            matches = matches[query.page * query.limit :][: query.limit]
        # Each segment builds its records in one call. Then they are taken in the order of all matches.
        built = {
            number: iter(segment.records([row for _, owner, row in matches if owner == number]))
            for number, segment in enumerate(segments)
        }
        return [next(built[number]) for _, number, _ in matches]

    def count_records(self, query: RecordQuery) -> int:
        """Count the records that match a query, on all pages. AOI_UNREADABLE for an invalid area."""
        refs = self.head().records
        if query.model_copy(update={"limit": 0, "page": 0}) == RecordQuery():
            return sum(ref.rows for ref in refs)
        area = _prepared(query)
        if area is not None and area.is_empty:
            return 0
        return sum(len(self._files.segment(ref, RecordSegment).rows(query, area)) for ref in refs)

    def records_by_id(self, ids: Sequence[str]) -> list[Record]:
        """The records with some ids, in the order of the ids. Unknown ids are ignored."""
        wanted = frozenset(ids)
        records: dict[str, Record] = {}
        for segment in [self._files.segment(ref, RecordSegment) for ref in self.head().records]:
            rows = segment.rows_of(wanted)
            if rows:
                records.update(zip(segment.ids[rows].tolist(), segment.records(rows), strict=True))
        return [records[record_id] for record_id in ids if record_id in records]

    def datasets(
        self,
        variable: str,
        instance: str,
        record_ids: frozenset[str] | None = None,
        accepts: Callable[[Grid], bool] | None = None,
    ) -> list[Dataset]:
        """The datasets of an instance, of some records and grids, ordered by record, layout, cell and uri.

        VARIABLE_UNKNOWN, INSTANCE_UNKNOWN.
        """
        return _in_order(
            segment.dataset(row)
            for segment in self.dataset_segments(variable, instance)
            for row in segment.rows(variable, instance, record_ids, accepts).tolist()
        )

    def own_datasets(self, variable: str, instance: str, record_ids: Iterable[str]) -> list[Dataset]:
        """The datasets of some records, except tiles of a layout. VARIABLE_UNKNOWN, INSTANCE_UNKNOWN."""
        ids = frozenset(record_ids)
        return _in_order(
            segment.dataset(row)
            for segment in self.dataset_segments(variable, instance)
            for row in segment.rows(variable, instance, ids).tolist()
            if not segment.layouts[row]
        )

    def datasets_of_small_containers(
        self, variable: str, instance: str, accepts: Callable[[Grid], bool], fewer_than: int
    ) -> list[Dataset]:
        """The datasets of an instance on accepted grids, in containers that have fewer than a number of them."""
        segments = self.dataset_segments(variable, instance)
        rows_of = [(segment, segment.rows(variable, instance, None, accepts)) for segment in segments]
        sizes = Counter(uri for segment, rows in rows_of for uri in segment.uris[rows].tolist())
        return _in_order(
            segment.dataset(row)
            for segment, rows in rows_of
            for row, uri in zip(rows.tolist(), segment.uris[rows].tolist(), strict=True)
            if sizes[uri] < fewer_than
        )

    def records_by_cell(self, variable: str, instance: str, layout: str) -> dict[str, set[str]]:
        """Ids of the records that an instance has in each cell of a layout. VARIABLE_UNKNOWN, INSTANCE_UNKNOWN."""
        records: dict[str, set[str]] = {}
        for segment in self.dataset_segments(variable, instance):
            for cell, record_id in segment.records_by_cell(variable, instance, layout):
                records.setdefault(cell, set()).add(record_id)
        return records

    def having(self, variable: str, instance: str, record_ids: Iterable[str]) -> frozenset[str]:
        """Which of the records have a dataset of an instance. VARIABLE_UNKNOWN, INSTANCE_UNKNOWN."""
        ids = frozenset(record_ids)
        return frozenset(
            record_id
            for segment in self.dataset_segments(variable, instance)
            for record_id in segment.record_ids[segment.rows(variable, instance, ids)].tolist()
        )

    def dataset_segments(self, variable: str, instance: str) -> list[DatasetSegment]:
        """The segments that may contain datasets of an instance. VARIABLE_UNKNOWN, INSTANCE_UNKNOWN."""
        head = self.head()
        head.instance(variable, instance)
        return [self._files.segment(ref, DatasetSegment) for ref in head.datasets]

    def datasets_at(self, uris: Iterable[str]) -> list[Dataset]:
        """The datasets of some containers, of all instances, ordered by container, subdir and bands."""
        wanted = frozenset(uris)
        datasets = [
            segment.dataset(row)
            for segment in (self._files.segment(ref, DatasetSegment) for ref in self.head().datasets)
            if not segment.uri_set.isdisjoint(wanted)
            for row, uri in enumerate(segment.uris.tolist())
            if uri in wanted
        ]
        return sorted(datasets, key=lambda dataset: (dataset.uri, dataset.subdir, dataset.bands, dataset.record_id))

    def records_in_use(self, ids: Iterable[str]) -> frozenset[str]:
        """Which of the records have a dataset, of any instance."""
        wanted = frozenset(ids)
        segments = [self._files.segment(ref, DatasetSegment) for ref in self.head().datasets]
        return frozenset(owner for segment in segments for owner in segment.record_ids.tolist() if owner in wanted)

    def _start(self) -> tuple[int, bytes | None]:
        """Number and content of a stored head: the one in the hint if it exists, otherwise the newest one listed.

        The hint needs no checksum, since any stored head leads to the newest one. Without heads, 0 and None.
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
        head = parse_sealed(Head, data, address, ErrorCode.CUBE_DAMAGED, DAMAGE_FIX)
        if head.number != number:
            raise AcdError(ErrorCode.CUBE_DAMAGED, f"{address} is damaged: it holds head {head.number}", DAMAGE_FIX)
        return head

    def _keep(self, head: Head) -> Head:
        """Remember a head unless a newer one is known, and return the newer of the two."""
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
        # If the reply to a successful request is lost, the store's own retry finds our head and `create` returns False.
        # Then the stored bytes are ours, and the head is published.
        if not self.store.create(next_head.key, data) and self.store.get(next_head.key) != data:
            raise _OvertakenError
        self._files.restore_reused(next_head.segments)
        self._keep(next_head)
        with contextlib.suppress(AcdError):  # the head is published; the hint only saves a listing
            self.store.put(HINT, str(next_head.number).encode())
        return result


def _in_order(datasets: Iterable[Dataset]) -> list[Dataset]:
    return sorted(datasets, key=lambda d: (d.record_id, d.layout, d.cell, d.uri, d.subdir, d.bands))


def _earliest(segments: list[RecordSegment], rows: list[NDArray[np.int64]], count: int) -> list[NDArray[np.int64]]:
    """The rows of each segment that may be among the first `count` records by datetime.

    All rows with the datetime of the last record are kept, since they are ordered by name and id later.
    """
    moments = [segment.micros[matching] for segment, matching in zip(segments, rows, strict=True)]
    every = np.concatenate([*moments, np.empty(0, np.int64)])
    if len(every) <= count:
        return rows
    # The datetime of the last record needed. A partition finds it without sorting all rows.
    last = np.partition(every, count - 1)[count - 1]
    return [matching[micros <= last] for matching, micros in zip(rows, moments, strict=True)]


def _prepared(query: RecordQuery) -> shapely.geometry.base.BaseGeometry | None:
    if query.area is None:
        return None
    try:
        area = shapely.geometry.shape(query.area)
    except (AttributeError, KeyError, TypeError, ValueError, shapely.errors.ShapelyError) as error:
        raise AcdError(ErrorCode.AOI_UNREADABLE, "the area of the query is not a GeoJSON geometry") from error
    shapely.prepare(area)
    return area
