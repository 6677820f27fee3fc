"""What happens to a consolidation: events, and the job as they tell it."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from pydantic import BaseModel, ConfigDict

from acdtask.cube.consolidation_params import ConsolidationParams
from acdtask.cube.joblog import Severity, line
from acdtask.cube.model import Consolidation, JobState
from acdtask.serve.consolidation.states import State, waits

__all__ = ["Definition", "Draft", "Event", "Orders", "Progress"]


class _Kept(BaseModel):
    model_config = ConfigDict(frozen=True, ser_json_inf_nan="strings")


class Definition(_Kept):
    """What a job was started with."""

    id: str
    created: datetime
    wanted: Consolidation
    params: ConsolidationParams


class Orders(_Kept):
    """The work of a job: its cells, in order. `digest` says where the work of each is kept."""

    digest: str = ""
    cells: tuple[str, ...] = ()


class Event(_Kept):
    """Something that happened to a job, and its state since.

    Attributes:
        definition: in the first event.
        orders: in the event that prepared them.
        done, failed: cells, by their place in the orders; those that failed with the reason.
        cleared: failures of before are forgotten.
    """

    state: State
    waiting: bool = False
    at: datetime
    lines: tuple[str, ...] = ()
    definition: Definition | None = None
    orders: Orders | None = None
    done: tuple[int, ...] = ()
    failed: dict[int, str] = {}
    cleared: bool = False


@dataclass(frozen=True)
class Progress:
    """A job as its events tell.

    Attributes:
        number: of the newest event.
        may_be_read: the index may have its containers, or somebody may be about to put them there.
    """

    definition: Definition
    number: int
    state: State
    waiting: bool
    updated: datetime
    lines: tuple[str, ...]
    orders: Orders
    done: frozenset[int]
    failed: dict[int, str]
    may_be_read: bool = False

    @classmethod
    def begun(cls, definition: Definition, event: Event) -> Progress:
        """A job after its first event."""
        return cls(
            definition=definition,
            number=1,
            state=event.state,
            waiting=event.waiting,
            updated=event.at,
            lines=event.lines,
            orders=Orders(),
            done=frozenset(),
            failed={},
        )

    @property
    def name(self) -> str:
        """The job's."""
        return self.definition.wanted.name

    @property
    def pending(self) -> list[int]:
        """The cells that are neither done nor failed."""
        return [n for n in range(len(self.orders.cells)) if n not in self.done and n not in self.failed]

    def task_id(self, number: int) -> str:
        """What the log calls a cell."""
        return str(uuid.uuid5(uuid.UUID(self.definition.id), self.orders.cells[number]))

    def then(self, event: Event) -> Progress:
        """The job after the next event."""
        failed = {} if event.cleared else {n: why for n, why in self.failed.items() if n not in event.done}
        return replace(
            self,
            number=self.number + 1,
            state=event.state,
            waiting=event.waiting,
            updated=event.at,
            lines=self.lines + event.lines,
            orders=event.orders or self.orders,
            done=(self.done - event.failed.keys()) | frozenset(event.done),
            failed=failed | event.failed,
            may_be_read=self.may_be_read or (event.state is State.CONSOLIDATIONINDEXED and not event.waiting),
        )

    def job_state(self, *, log: bool = True) -> JobState:
        """The job in the words of every cube."""
        return JobState(
            id=self.definition.id,
            name=self.name,
            kind="consolidation",
            state=self.state.value,
            waiting=self.waiting,
            level=self.definition.wanted.level,
            created=self.definition.created,
            updated=self.updated,
            active_tasks=len(self.pending),
            failed_tasks=len(self.failed),
            log=self.lines if log else (),
        )


class Draft:
    """The next event of a job while it is made: lines of its log, and the state that it comes to."""

    def __init__(self, progress: Progress) -> None:
        self._level = progress.definition.wanted.level
        self.state, self.waiting = progress.state, progress.waiting
        self._lines: list[str] = []
        self.orders: Orders | None = None
        self.done: list[int] = []
        self.failed: dict[int, str] = {}
        self.cleared = False

    def say(self, message: str, severity: Severity = Severity.INFO) -> None:
        """Add a line to the log."""
        self._lines.append(line(datetime.now(UTC), severity, self.state.value, message))

    def enter(self, state: State) -> None:
        """Let the job come to a state, where it may pause."""
        self.state, self.waiting = state, waits(state, self._level)
        self.say(f"New state: {state.value}" + (": waiting for user action" if self.waiting else ""))

    def event(self) -> Event:
        """What is drafted."""
        return Event(
            state=self.state,
            waiting=self.waiting,
            at=datetime.now(UTC),
            lines=tuple(self._lines),
            orders=self.orders,
            done=tuple(self.done),
            failed=self.failed,
            cleared=self.cleared,
        )
