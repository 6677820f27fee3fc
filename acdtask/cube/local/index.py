"""The index of a local cube: a chain of heads, each made by create-if-absent (docs/decisions/0001)."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol, Self, TypeVar

import shapely
from pydantic import BaseModel, ConfigDict, ValidationError
from tenacity import RetryError, Retrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from acdtask.cube.grid import Layout
from acdtask.cube.local.segments import DatasetSegment, RecordSegment, dataset_key
from acdtask.cube.local.store import Store
from acdtask.cube.model import Dataset, Instance, Record, RecordQuery, Variable
from acdtask.errors import AcdError, ErrorCode

__all__ = ["Addition", "Head", "Index", "SegmentRef"]

SEGMENTS_AT_MOST = 8
ROWS_OF_A_FULL_SEGMENT = 50_000
COMMIT_ATTEMPTS = 60

HINT = "index/hint"


class SegmentRef(BaseModel):
    """A segment's key and how many rows it has."""

    model_config = ConfigDict(frozen=True)

    key: str
    rows: int


class Head(BaseModel):
    """A state of the cube: the segments that make up records and datasets, and the catalogue."""

    model_config = ConfigDict(frozen=True)

    number: int = 0
    records: tuple[SegmentRef, ...] = ()
    datasets: tuple[SegmentRef, ...] = ()
    variables: tuple[Variable, ...] = ()
    instances: tuple[Instance, ...] = ()
    layouts: tuple[Layout, ...] = ()

    @property
    def key(self) -> str:
        """Where the head is kept."""
        return _head_key(self.number)

    def encode(self) -> bytes:
        """The head as JSON, the same bytes for the same head."""
        return json.dumps(self.model_dump(mode="json"), sort_keys=True, ensure_ascii=False).encode()

    def variable(self, name: str) -> Variable:
        """The variable of that name. VARIABLE_UNKNOWN."""
        for variable in self.variables:
            if variable.name == name:
                return variable
        raise AcdError(ErrorCode.VARIABLE_UNKNOWN, f"there is no variable {name!r}")

    def check_instance(self, variable: str, name: str) -> None:
        """VARIABLE_UNKNOWN or INSTANCE_UNKNOWN if there is no such instance."""
        self.variable(variable)
        if not any(instance.variable == variable and instance.name == name for instance in self.instances):
            raise AcdError(ErrorCode.INSTANCE_UNKNOWN, f"the variable {variable!r} has no instance {name!r}")

    def layout(self, name: str) -> Layout:
        """The layout of that name. LAYOUT_UNKNOWN."""
        for layout in self.layouts:
            if layout.name == name:
                return layout
        raise AcdError(ErrorCode.LAYOUT_UNKNOWN, f"there is no layout {name!r}")

    def with_catalogue(self, addition: Addition) -> Head:
        """The head with the addition's variables, instances and layouts. VARIABLE_CONFLICT, LAYOUT_CONFLICT."""
        variables = {variable.name: variable for variable in self.variables}
        for variable in addition.variables:
            if variables.setdefault(variable.name, variable) != variable:
                there = variables[variable.name].model_dump_json()
                raise AcdError(ErrorCode.VARIABLE_CONFLICT, f"the variable {variable.name!r} is {there}")
        layouts = {layout.name: layout for layout in self.layouts}
        for layout in addition.layouts:
            if layouts.setdefault(layout.name, layout) != layout:
                there = layouts[layout.name].grid.model_dump_json()
                raise AcdError(ErrorCode.LAYOUT_CONFLICT, f"the layout {layout.name!r} is {there}")
        instances = {(instance.variable, instance.name): instance for instance in self.instances}
        for instance in addition.instances:
            if instance.variable not in variables:
                raise AcdError(ErrorCode.VARIABLE_UNKNOWN, f"there is no variable {instance.variable!r}")
            instances.setdefault((instance.variable, instance.name), instance)
        return self.model_copy(
            update={
                "variables": tuple(variables[name] for name in sorted(variables)),
                "instances": tuple(instances[name] for name in sorted(instances)),
                "layouts": tuple(layouts[name] for name in sorted(layouts)),
            }
        )


@dataclass(frozen=True)
class Addition:
    """What a commit adds."""

    records: Sequence[Record] = ()
    datasets: Sequence[Dataset] = ()
    variables: Sequence[Variable] = ()
    instances: Sequence[Instance] = ()
    layouts: Sequence[Layout] = ()


class _OvertakenError(Exception):
    """Another writer made the next head first."""


class _Segment(Protocol):
    def __len__(self) -> int: ...
    def encode(self) -> bytes: ...
    @classmethod
    def decode(cls, data: bytes) -> Self: ...
    @classmethod
    def merged(cls, segments: Sequence[Self]) -> Self: ...


SegmentT = TypeVar("SegmentT", bound=_Segment)


@dataclass
class Index:
    """The heads and segments of a store. Segments never change, so they are read once and kept in memory."""

    store: Store
    _head: Head = field(default_factory=Head)
    _segments: dict[str, _Segment] = field(default_factory=dict)

    def head(self) -> Head:
        """The newest head; number 0 if nothing was committed yet. CUBE_DAMAGED."""
        if not self._head.number:
            self._head = self._start()
        while (data := self.store.find(_head_key(self._head.number + 1))) is not None:
            self._head = self._decode_head(data, self._head.number + 1)
            self._forget_unused()
        return self._head

    def commit(self, addition: Addition) -> bool:
        """Publish the addition by one new head, unless all of it is there already.

        Raises:
            AcdError: VARIABLE_CONFLICT, LAYOUT_CONFLICT, DATASET_CONFLICT, VARIABLE_UNKNOWN, INSTANCE_UNKNOWN,
                STORE_CONTENDED.
        """
        attempts = Retrying(
            retry=retry_if_exception_type(_OvertakenError),
            wait=wait_random_exponential(multiplier=0.02, max=2),
            stop=stop_after_attempt(COMMIT_ATTEMPTS),
        )
        try:
            return attempts(self._commit_once, addition)
        except RetryError as error:
            raise AcdError(
                ErrorCode.STORE_CONTENDED, f"{self.store.url}: other writers were faster {COMMIT_ATTEMPTS} times"
            ) from error

    def records(self, query: RecordQuery) -> list[Record]:
        """The records that the query asks for, by datetime, then name, then id. AOI_UNREADABLE for a bad area."""
        area = _prepared(query)
        if area is not None and area.is_empty:
            return []
        segments = [self._segment(ref, RecordSegment) for ref in self.head().records]
        found = [
            (segment.sort_key(row), number, row)
            for number, segment in enumerate(segments)
            for row in segment.rows(query, area).tolist()
        ]
        found.sort()
        if query.limit:
            found = found[: query.limit]
        built = {
            number: iter(segment.records([row for _, owner, row in found if owner == number]))
            for number, segment in enumerate(segments)
        }
        return [next(built[number]) for _, number, _ in found]

    def records_by_id(self, ids: Sequence[str]) -> list[Record]:
        """The records of these ids, in their order; what the cube has not is left out."""
        wanted = frozenset(ids)
        found: dict[str, Record] = {}
        for segment in [self._segment(ref, RecordSegment) for ref in self.head().records]:
            if not wanted.isdisjoint(segment.id_set):
                rows = [row for row, one in enumerate(segment.ids.tolist()) if one in wanted]
                found.update(zip(segment.ids[rows].tolist(), segment.records(rows), strict=True))
        return [found[one] for one in ids if one in found]

    def datasets(self, variable: str, instance: str, record_ids: frozenset[str] | None) -> list[Dataset]:
        """The datasets of an instance, by record, layout, cell and uri. VARIABLE_UNKNOWN, INSTANCE_UNKNOWN."""
        head = self.head()
        head.check_instance(variable, instance)
        found = [
            segment.dataset(row)
            for segment in (self._segment(ref, DatasetSegment) for ref in head.datasets)
            for row in segment.rows(variable, instance, record_ids).tolist()
        ]
        return sorted(found, key=lambda dataset: (dataset.record_id, dataset.layout, dataset.cell, dataset.uri))

    def _start(self) -> Head:
        """A head that is there, from the hint if it holds, else from the list; number 0 if there is none."""
        hint = self.store.find(HINT)
        if hint is not None and hint.isdigit():
            data = self.store.find(_head_key(int(hint)))
            if data is not None:
                return self._decode_head(data, int(hint))
        keys = self.store.list("index/heads")
        return self._decode_head(self.store.get(keys[-1]), int(keys[-1][-13:-5])) if keys else Head()

    def _decode_head(self, data: bytes, number: int) -> Head:
        try:
            head = Head.model_validate_json(data)
        except ValidationError as error:
            raise AcdError(ErrorCode.CUBE_DAMAGED, f"{self.store.url}/{_head_key(number)} is damaged") from error
        if head.number != number:
            raise AcdError(ErrorCode.CUBE_DAMAGED, f"{self.store.url}/{_head_key(number)} is head {head.number}")
        return head

    def _segment(self, ref: SegmentRef, kind: type[SegmentT]) -> SegmentT:
        segment = self._segments.get(ref.key)
        if segment is None:
            data = self.store.get(ref.key)
            if hashlib.sha256(data).hexdigest()[:32] not in ref.key:
                raise AcdError(ErrorCode.CUBE_DAMAGED, f"{self.store.url}/{ref.key} is not what was written")
            segment = self._segments[ref.key] = kind.decode(data)
        if not isinstance(segment, kind):
            raise TypeError(f"{ref.key} is no {kind.__name__}")
        return segment

    def _forget_unused(self) -> None:
        used = {ref.key for ref in (*self._head.records, *self._head.datasets)}
        self._segments = {key: segment for key, segment in self._segments.items() if key in used}

    def _commit_once(self, addition: Addition) -> bool:
        head = self.head()
        next_head = head.with_catalogue(addition)
        records = self._new_records(next_head, addition.records)
        datasets = self._new_datasets(next_head, addition.datasets, {record.id for record in records})
        if next_head == head and not records and not datasets:
            return False
        next_head = next_head.model_copy(
            update={
                "number": head.number + 1,
                "records": self._extended(head.records, "records", records, RecordSegment),
                "datasets": self._extended(head.datasets, "datasets", datasets, DatasetSegment),
            }
        )
        data = next_head.encode()
        # A lost answer makes the store's own retry find our head: it counts as made, since it is what we wanted.
        if not self.store.create(next_head.key, data) and self.store.get(next_head.key) != data:
            raise _OvertakenError
        self._head = next_head
        self._forget_unused()
        with contextlib.suppress(AcdError):  # the commit is made; the hint only saves a listing
            self.store.put(HINT, str(next_head.number).encode())
        return True

    def _new_records(self, head: Head, records: Sequence[Record]) -> list[Record]:
        there = [self._segment(ref, RecordSegment).id_set for ref in head.records] if records else []
        fresh: dict[str, Record] = {}
        for record in records:
            fresh.setdefault(record.id, record)
        return [record for identity, record in fresh.items() if not any(identity in ids for ids in there)]

    def _new_datasets(self, head: Head, datasets: Sequence[Dataset], new_records: set[str]) -> list[Dataset]:
        segments = [self._segment(ref, DatasetSegment) for ref in head.datasets] if datasets else []
        record_ids = [self._segment(ref, RecordSegment).id_set for ref in head.records] if datasets else []
        for variable, instance in sorted({(dataset.variable, dataset.instance) for dataset in datasets}):
            head.check_instance(variable, instance)
        fresh: dict[tuple[str, ...], Dataset] = {}
        for dataset in datasets:
            key = dataset_key(dataset)
            there = fresh.get(key)
            for segment in segments:
                row = segment.row_of.get(key)
                there = there if row is None else segment.dataset(row)
            if there is None:
                fresh[key] = dataset
                if dataset.record_id not in new_records and not any(dataset.record_id in ids for ids in record_ids):
                    raise AcdError(ErrorCode.BUG, f"{dataset.uri} is of a record that the cube does not have")
            elif there != dataset:
                place = f"record {dataset.record_id}, {dataset.variable}:{dataset.instance} {dataset.cell}".rstrip()
                raise AcdError(ErrorCode.DATASET_CONFLICT, f"{place} is {there.uri} already, not {dataset.uri}")
        return list(fresh.values())

    def _extended(
        self, refs: tuple[SegmentRef, ...], folder: str, rows: Sequence[Record | Dataset], kind: type[SegmentT]
    ) -> tuple[SegmentRef, ...]:
        """The segments and one more for the new rows; the small ones merged into one if there are many."""
        if not rows:
            return refs
        make: Callable[[Sequence[Record | Dataset]], SegmentT] = kind.of  # type: ignore[attr-defined]  # both have it
        segment = make(rows)
        kept = refs
        if len(refs) >= SEGMENTS_AT_MOST:
            small = [ref for ref in refs if ref.rows < ROWS_OF_A_FULL_SEGMENT]
            kept = tuple(ref for ref in refs if ref.rows >= ROWS_OF_A_FULL_SEGMENT)
            segment = kind.merged([*(self._segment(ref, kind) for ref in small), segment])
        data = segment.encode()
        key = f"index/{folder}/{hashlib.sha256(data).hexdigest()[:32]}.parquet"
        self.store.create(key, data)
        self._segments[key] = segment
        return *kept, SegmentRef(key=key, rows=len(segment))


def _head_key(number: int) -> str:
    return f"index/heads/{number:08d}.json"


def _prepared(query: RecordQuery) -> shapely.geometry.base.BaseGeometry | None:
    if query.area is None:
        return None
    try:
        area = shapely.geometry.shape(query.area)
    except (AttributeError, KeyError, TypeError, ValueError, shapely.errors.ShapelyError) as error:
        raise AcdError(ErrorCode.AOI_UNREADABLE, "the area of the query is not a GeoJSON geometry") from error
    shapely.prepare(area)
    return area
