"""Events of a consolidation job, and the job's progress, which follows from them."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import Enum

from pydantic import BaseModel, ConfigDict, Field

from acdtask.cube.jobs import CellTask, Consolidation, ConsolidationParams, JobState, TaskState
from acdtask.serve.consolidation.states import State, waits

__all__ = ["CellOrder", "Command", "Definition", "Event", "Orders", "Progress"]


class _Kept(BaseModel):
    model_config = ConfigDict(frozen=True, ser_json_inf_nan="strings")


class Definition(_Kept):
    """What a job was started with."""

    id: str
    created: datetime
    wanted: Consolidation
    params: ConsolidationParams


class CellOrder(_Kept):
    """A cell to fill: number of records and datasets, and its outline as (longitude, latitude) of the corners."""

    cell: str
    records: int
    datasets: int
    outline: tuple[tuple[float, float], ...]


class Orders(_Kept):
    """The cells of a job, in order. `digest` names the folder that holds the work of each."""

    digest: str = ""
    cells: tuple[CellOrder, ...] = ()


class Command(Enum):
    """What a person can ask of a job."""

    CONTINUE = "continue"
    RETRY = "retry"
    CANCEL = "cancel"


class Event(_Kept):
    """Something that happened to a job, and its state afterwards.

    Attributes:
        definition: in the first event only.
        orders: in the event that prepared them.
        done, failed: cells, by their index in the orders; failed ones with the reason.
        cleared: earlier failures are forgotten.
        command: if a person's command caused the event.
        error: why the step as a whole failed.
        indexed, superseded: number of new datasets indexed, and of those not indexed since others took their place.
    """

    state: State
    at: datetime = Field(default_factory=lambda: datetime.now(UTC))
    definition: Definition | None = None
    orders: Orders | None = None
    done: tuple[int, ...] = ()
    failed: dict[int, str] = {}
    cleared: bool = False
    command: Command | None = None
    error: str = ""
    indexed: int = 0
    superseded: int = 0


@dataclass(frozen=True)
class Progress:
    """A job after its events.

    Attributes:
        visited: the states that it has entered, in order.
        error: what failed last.
        may_be_read: the index may contain its containers, now or soon.
    """

    definition: Definition
    events: tuple[Event, ...]
    state: State
    visited: tuple[State, ...]
    waiting: bool = False
    orders: Orders = field(default_factory=Orders)
    done: frozenset[int] = frozenset()
    failed: dict[int, str] = field(default_factory=dict)
    error: str = ""
    may_be_read: bool = False

    @classmethod
    def begun(cls, definition: Definition, event: Event) -> Progress:
        """A job after its first event."""
        return cls(definition, (event,), event.state, (event.state,))

    @property
    def id(self) -> str:
        """The job's id."""
        return self.definition.id

    @property
    def name(self) -> str:
        """The job's name."""
        return self.definition.wanted.name

    @property
    def pending(self) -> list[int]:
        """The cells that are neither done nor failed."""
        return [n for n in range(len(self.orders.cells)) if n not in self.done and n not in self.failed]

    def task_id(self, number: int) -> str:
        """The id of a cell's task."""
        return str(uuid.uuid5(uuid.UUID(self.id), self.orders.cells[number].cell))

    def then(self, event: Event) -> Progress:
        """The job after the next event. It pauses where its level says, until a person continues it."""
        entered = event.state is not self.state
        waiting = waits(event.state, self.definition.wanted.level) if entered else self.waiting
        waiting = waiting and event.command is not Command.CONTINUE
        failed = {} if event.cleared else {n: why for n, why in self.failed.items() if n not in event.done}
        return replace(
            self,
            events=(*self.events, event),
            state=event.state,
            visited=(*self.visited, event.state) if entered else self.visited,
            waiting=waiting,
            orders=event.orders or self.orders,
            done=(self.done - event.failed.keys()) | frozenset(event.done),
            failed=failed | event.failed,
            error=event.error or next(iter(event.failed.values()), self.error),
            may_be_read=self.may_be_read or (event.state is State.CONSOLIDATIONINDEXED and not waiting),
        )

    def job_state(self, log: tuple[str, ...] = ()) -> JobState:
        """The job as every cube describes it."""
        return JobState(
            id=self.id,
            name=self.name,
            kind="consolidation",
            state=self.state.value,
            waiting=self.waiting,
            level=self.definition.wanted.level,
            created=self.definition.created,
            updated=self.events[-1].at,
            active_tasks=len(self.pending),
            failed_tasks=len(self.failed),
            entries=self.visited.count(self.state),
            cancelled=not {State.CONSOLIDATIONCANCELLING, State.ABORTED}.isdisjoint(self.visited),
            error=self.error,
            tasks=tuple(self._task(number, order) for number, order in enumerate(self.orders.cells)),
            log=log,
        )

    def _task(self, number: int, order: CellOrder) -> CellTask:
        state = TaskState.DONE if number in self.done else TaskState.PREPARED
        reason = self.failed.get(number, "")
        state = TaskState.FAILED if reason else state
        counts = {"containers": 1, "records": order.records, "datasets": order.datasets}
        return CellTask(cell=order.cell, state=state, reason=reason, **counts)
