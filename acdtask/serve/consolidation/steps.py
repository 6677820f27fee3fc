"""The steps of a consolidation: the work of each state, and the state that follows.

A step may be done twice, by two processes at once, or only in part: a container is either complete or absent, indexing
the same datasets again changes nothing, and only the event at the end of a step moves the job.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from acdtask.cube.jobs import stored_as
from acdtask.cube.local.consolidation_cell import CellWork, datasets_of, is_written, write_cell
from acdtask.cube.local.stack import container_checksum
from acdtask.errors import AcdError, ErrorCode
from acdtask.serve.consolidation.events import Event, Progress
from acdtask.serve.consolidation.journal import Journal
from acdtask.serve.consolidation.planning import order_of, work_of
from acdtask.serve.consolidation.states import State

if TYPE_CHECKING:
    from acdtask.cube.local.cube import LocalCube

__all__ = ["JobStep", "StoppedError", "passes_by_itself"]

EVENTS_OF_CELLS = 200
"""Events of a job's cells, at most: in a job of more cells, one event reports several."""


class StoppedError(Exception):
    """The step was asked to stop; the next call continues it."""


@dataclass(frozen=True)
class JobStep:
    """The next step of a job.

    Attributes:
        job: it does not wait.
        between: called often; it may raise StoppedError.
    """

    cube: LocalCube
    journal: Journal
    job: Progress
    between: Callable[[], None]

    def work(self) -> Event:
        """Do the work of the job's state; the event to append."""
        return _STEPS[self.job.state](self)

    def _prepare(self) -> Event:
        """Decide which cells to fill, and with what."""
        self.journal.lock(self.job)  # a job holds its lock already, unless the process that started it was killed
        work = list(work_of(self.cube, self.job.definition, self.between))
        orders = self.journal.keep_orders(self.job, work, [order_of(cell) for cell in work])
        return Event(state=State.CONSOLIDATIONINPROGRESS, orders=orders)

    def _write(self) -> Event:
        """Write some cells; after the last, the job goes on."""
        pending = self.job.pending
        if not pending:
            return Event(state=State.CONSOLIDATIONFAILED if self.job.failed else State.CONSOLIDATIONDONE)
        done: list[int] = []
        failed: dict[int, str] = {}
        for number in pending[: math.ceil(len(self.job.orders.cells) / EVENTS_OF_CELLS)]:
            try:
                self._write_cell(number)
                done.append(number)
            except StoppedError:
                if not done and not failed:
                    raise
                break
            except AcdError as error:
                if passes_by_itself(error):
                    raise
                failed[number] = str(error)
        return Event(state=self.job.state, done=tuple(done), failed=failed)

    def _write_cell(self, number: int) -> None:
        cell = self.journal.order(self.job, number)
        if is_written(self.cube.store, cell):
            return
        wanted, params = self.job.definition.wanted, self.job.definition.params
        variable = self.cube.variable(wanted.variable)
        stored = stored_as(variable, params)
        write_cell(self.cube, self.cube.store, cell, variable, wanted.instance, params.resampling, stored, self.between)

    def _check(self) -> Event:
        """Verify that every container is there before any is indexed."""
        missing: dict[int, str] = {}
        for number, cell in enumerate(self._cells()):
            self.between()
            if not is_written(self.cube.store, cell):
                missing[number] = f"{self.cube.store.address_of(cell.key)} is missing"
        return Event(state=State.CONSOLIDATIONFAILED if missing else State.CONSOLIDATIONINDEXED, failed=missing)

    def _index(self) -> Event:
        """Index all containers at once. What others changed in the meantime stays as it is."""
        wanted = self.job.definition.wanted
        variable = self.cube.variable(wanted.variable)
        stored = stored_as(variable, self.job.definition.params)
        new, replaced = [], []
        for cell in self._cells():
            checksum = container_checksum(self.cube.store, cell.key)
            new += datasets_of(cell, variable, wanted.instance, checksum, stored)
            replaced += cell.replaced
        superseded = self.cube.replace(replaced, new)
        return Event(state=State.CONSOLIDATIONEFFECTIVE, indexed=len(new) - len(superseded), superseded=len(superseded))

    def _roll_back(self) -> Event:
        """Delete the containers unless the index may contain them. Their keys are unique to this job."""
        if not self.job.may_be_read:
            for cell in self._cells():
                self.between()
                for key in self.cube.store.list(cell.key):
                    self.cube.store.delete(key)
        return Event(state=State.FAILED)

    def _cells(self) -> Iterator[CellWork]:
        """The work of every cell."""
        for number in range(len(self.job.orders.cells)):
            yield self.journal.order(self.job, number)


_STEPS: dict[State, Callable[[JobStep], Event]] = {
    State.NEW: lambda _: Event(state=State.CREATED),
    State.CREATED: JobStep._prepare,
    State.CONSOLIDATIONINPROGRESS: JobStep._write,
    State.CONSOLIDATIONDONE: JobStep._check,
    State.CONSOLIDATIONINDEXED: JobStep._index,
    State.CONSOLIDATIONEFFECTIVE: lambda _: Event(state=State.DONE),
    State.CONSOLIDATIONRETRYING: lambda _: Event(state=State.CONSOLIDATIONINPROGRESS, cleared=True),
    State.CONSOLIDATIONCANCELLING: lambda _: Event(state=State.ABORTED),
    State.ABORTED: JobStep._roll_back,
}


def passes_by_itself(error: AcdError) -> bool:
    """Whether retrying later may succeed without any change; a full disk needs a person."""
    return error.code.value.retryable and error.code is not ErrorCode.DISK_FULL
