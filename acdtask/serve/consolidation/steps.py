"""The steps of a consolidation: what is done in each state, and which state it leads to.

A step may be done twice, by two processes at once, or half: containers are whole or not there, the index takes the same
datasets twice, and only the event at the end of a step moves the job.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

import numpy as np

from acdtask.cube.consolidation_params import stored_as
from acdtask.cube.joblog import Severity
from acdtask.cube.local.appending import plan_containers
from acdtask.cube.local.consolidation_cell import (
    CellWork,
    container_key,
    datasets_of,
    is_written,
    require_one_band,
    write_cell,
)
from acdtask.cube.local.stack import CHUNK_TIMES, container_checksum
from acdtask.cube.model import Dataset, Record, Slice
from acdtask.errors import AcdError, ErrorCode
from acdtask.raster.grid import Grid, Layout, RegularGrid, Tile
from acdtask.raster.points import move_points
from acdtask.raster.tiling import footprint, tiles_of
from acdtask.serve.consolidation.events import Definition, Draft, Progress
from acdtask.serve.consolidation.journal import Book
from acdtask.serve.consolidation.states import State

if TYPE_CHECKING:
    from acdtask.cube.local.cube import LocalCube

__all__ = ["StoppedError", "do_step", "failed_state"]

EVENTS_OF_CELLS = 200
"""A job of many cells reports several by one event, so that it has about so many."""


class StoppedError(Exception):
    """The step was asked to stop; what it has not done is done by the next."""


def do_step(cube: LocalCube, book: Book, progress: Progress, between: Callable[[], None]) -> Draft:
    """Do the work of the job's state.

    Args:
        cube: whose job it is.
        book: where it is kept.
        progress: the job, which does not wait.
        between: called often; it may raise StoppedError.

    Returns:
        The event that it comes to.
    """
    draft = Draft(progress)
    _STEPS[progress.state](_Step(cube, book, progress, draft, between))
    return draft


def failed_state(state: State) -> State:
    """Where a job goes whose step cannot be done."""
    if state in (State.NEW, State.CREATED):
        return State.INITIALISATIONFAILED
    if state in (State.CONSOLIDATIONCANCELLING, State.ABORTED):
        return State.ROLLBACKFAILED
    return State.CONSOLIDATIONFAILED


class _Step:
    def __init__(
        self, cube: LocalCube, book: Book, progress: Progress, draft: Draft, between: Callable[[], None]
    ) -> None:
        self.cube, self.book, self.progress, self.draft, self.between = cube, book, progress, draft, between
        self.definition = progress.definition
        self.wanted = progress.definition.wanted

    def orders(self) -> Iterator[CellWork]:
        """The work of every cell."""
        for number in range(len(self.progress.orders.cells)):
            yield self.book.order(self.progress, number)


def _begin(step: _Step) -> None:
    step.draft.enter(State.CREATED)


def _prepare(step: _Step) -> None:
    """Decide which cells are filled, and with what."""
    draft, progress = step.draft, step.progress
    draft.say("Prepare consolidation orders...")
    step.book.lock(progress)  # it has the lock, unless whoever made the job ended before
    work = list(_work_of(step.cube, step.definition, step.between))
    draft.orders = step.book.keep_orders(progress, work)
    prepared = progress.then(draft.event())
    for number, cell in enumerate(work):
        datasets = sum(len(one.datasets) for one in cell.slices)
        draft.say(
            f"Prepare 1 container(s) with {len(cell.records)} record(s) and {datasets} dataset(s) "
            f"(Cell:{cell.tile.cell}, geographic: {_ring(cell.tile.grid)}) (id:{prepared.task_id(number)})",
            Severity.DEBUG,
        )
    draft.say(f"Consolidation orders prepared ({len(work)} task(s))")
    draft.enter(State.CONSOLIDATIONINPROGRESS)


def _write(step: _Step) -> None:
    """Write some cells; after the last, the job goes on."""
    draft, progress = step.draft, step.progress
    pending = progress.pending
    if not pending:
        if progress.failed:
            draft.say(f"Job failed: {len(progress.failed)} task(s) failed", Severity.ERROR)
            _fail(draft, State.CONSOLIDATIONFAILED)
        else:
            draft.enter(State.CONSOLIDATIONDONE)
        return
    if not progress.done and not progress.failed:
        draft.say(f"Consolidate {len(pending)} cell(s)...")
    at_once = math.ceil(len(progress.orders.cells) / EVENTS_OF_CELLS)
    for number in pending[:at_once]:
        try:
            _write_one(step, number)
        except StoppedError:
            if not draft.done and not draft.failed:
                raise
            return


def _write_one(step: _Step, number: int) -> None:
    cube, draft, task = step.cube, step.draft, step.progress.task_id(number)
    try:
        cell = step.book.order(step.progress, number)
        if not is_written(cube.store, cell):
            variable, params = cube.variable(step.wanted.variable), step.definition.params
            stored = stored_as(variable, params)
            instance = step.wanted.instance
            write_cell(cube, cube.store, cell, variable, instance, params.resampling, stored, step.between)
    except AcdError as error:
        if passes_by_itself(error):
            raise
        draft.failed[number] = str(error)
        draft.say(f"Task {task} failed: {error}", Severity.ERROR)
        draft.say(f"TaskEvt received with status TaskFailed (id:{task}, err:{error})", Severity.DEBUG)
    else:
        draft.done.append(number)
        draft.say(f"TaskEvt received with status TaskSuccessful (id:{task}, err:)", Severity.DEBUG)


def _check(step: _Step) -> None:
    """See that every container is there before any is announced."""
    draft = step.draft
    draft.say("Indexing new datasets...")
    for number, cell in enumerate(step.orders()):
        step.between()
        if not is_written(step.cube.store, cell):
            draft.failed[number] = f"{step.cube.store.address_of(cell.key)} is missing"
    if draft.failed:
        draft.say(next(iter(draft.failed.values())), Severity.ERROR)
        _fail(draft, State.CONSOLIDATIONFAILED)
        return
    draft.enter(State.CONSOLIDATIONINDEXED)


def _index(step: _Step) -> None:
    """Let the cube read the containers, all at once. What others changed meanwhile stays as they left it."""
    draft, cells = step.draft, list(step.orders())
    variable = step.cube.variable(step.wanted.variable)
    stored = stored_as(variable, step.definition.params)
    mine = [
        dataset
        for cell in cells
        for dataset in datasets_of(
            cell, variable, step.wanted.instance, container_checksum(step.cube.store, cell.key), stored
        )
    ]
    theirs = step.cube.replace([one for cell in cells for one in cell.replaced], mine)
    if theirs:
        draft.say(
            f"{len(theirs)} dataset(s) were consolidated by others or removed meanwhile, and stay so", Severity.WARN
        )
    draft.say(f"{len(mine) - len(theirs)} dataset(s) are read from the new containers from now on")
    draft.enter(State.CONSOLIDATIONEFFECTIVE)


def _tidy(step: _Step) -> None:
    step.draft.say("The datasets that were consolidated stay in the index, for other layouts")
    step.draft.enter(State.DONE)


def _retry(step: _Step) -> None:
    step.draft.say("Retry consolidation...")
    step.draft.cleared = True
    step.draft.enter(State.CONSOLIDATIONINPROGRESS)


def _cancel(step: _Step) -> None:
    step.draft.say("Job has been cancelled")
    step.draft.enter(State.ABORTED)


def _roll_back(step: _Step) -> None:
    """Remove the containers, unless somebody may read them. They are this job's alone: its name is in their keys."""
    draft, store = step.draft, step.cube.store
    draft.say("Rollback...")
    if step.progress.may_be_read:
        draft.say("The containers stay: the index may have them already", Severity.WARN)
    else:
        for cell in step.orders():
            step.between()
            for key in store.list(cell.key):
                store.delete(key)
    draft.say("Job failed", Severity.ERROR)
    draft.enter(State.FAILED)


_STEPS: dict[State, Callable[[_Step], None]] = {
    State.NEW: _begin,
    State.CREATED: _prepare,
    State.CONSOLIDATIONINPROGRESS: _write,
    State.CONSOLIDATIONDONE: _check,
    State.CONSOLIDATIONINDEXED: _index,
    State.CONSOLIDATIONEFFECTIVE: _tidy,
    State.CONSOLIDATIONRETRYING: _retry,
    State.CONSOLIDATIONCANCELLING: _cancel,
    State.ABORTED: _roll_back,
}


def passes_by_itself(error: AcdError) -> bool:
    """Whether a step may succeed later with nothing done; a full disk waits for a person."""
    return error.code.value.retryable and error.code is not ErrorCode.DISK_FULL


def _fail(draft: Draft, state: State) -> None:
    draft.enter(state)
    draft.say("Wait for user command...")


def _work_of(cube: LocalCube, definition: Definition, between: Callable[[], None]) -> Iterator[CellWork]:
    """The cells that lack a record of the job, each with those that it lacks and those that they are appended to."""
    wanted = definition.wanted
    layout, variable = cube.layout(wanted.layout), cube.variable(wanted.variable)
    require_one_band(variable)
    stored = stored_as(variable, definition.params)
    made_by = (wanted.name, stored.model_dump_json())
    records = _records(cube, wanted.records)
    tiles = _tiles(layout, cube.datasets(wanted.variable, wanted.instance, frozenset(records)))
    # Numbers kept in another format are rounded when written; containers of such are not written again.
    appendable = tiles if stored == variable.dformat else []
    copies = cube.copies_with_room(wanted.variable, wanted.instance, appendable, CHUNK_TIMES)
    known = _records(cube, [one.record_id for cell in copies.values() for one in cell]) | records
    grids = [tile.grid for tile in tiles]
    found = cube.where(wanted.variable, wanted.instance, records, grids, wanted.layout)
    for tile, datasets in zip(tiles, found, strict=True):
        between()
        slices = _slices(datasets)
        if slices:

            def key_of(part: list[Slice], tile: Tile = tile) -> str:
                resampling = definition.params.resampling
                return container_key(wanted.variable, wanted.instance, tile, part, resampling, made_by)

            yield from plan_containers(tile, slices, copies.get(tile.cell, []), known, stored, key_of, cut=False)


def _records(cube: LocalCube, ids: Iterable[str]) -> dict[str, Record]:
    """The records of some ids, by datetime, name and id."""
    found = cube.records_by_id(sorted(set(ids)))
    return {one.id: one for one in sorted(found, key=lambda one: (one.datetime, one.name, one.id))}


def _slices(datasets: Iterable[Dataset]) -> list[Slice]:
    """A slice for each record that the tile lacks."""
    grouped: dict[str, list[Dataset]] = {}
    for one in datasets:
        if not one.layout:
            grouped.setdefault(one.record_id, []).append(one)
    return [Slice(label=record_id, datasets=tuple(members)) for record_id, members in grouped.items()]


def _tiles(layout: Layout, datasets: Iterable[Dataset]) -> list[Tile]:
    """The cells that the datasets meet, by row, then column."""
    grids = dict.fromkeys(one.grid for one in datasets if not one.layout)
    found: dict[tuple[int, int], Tile] = {}
    for grid in grids:
        if isinstance(layout.grid, RegularGrid) and grid.crs == layout.crs:
            met = layout.cells_within(grid.bounds)
        else:
            from shapely.geometry import shape

            met = tiles_of(shape(footprint(grid)), layout)
        found.update({(tile.j, tile.i): tile for tile in met})
    return [found[place] for place in sorted(found)]


def _ring(grid: Grid) -> str:
    """The corners of a cell in longitude and latitude, as Geocube writes them."""
    min_x, min_y, max_x, max_y = grid.bounds
    corners = np.array([(min_x, min_y), (max_x, min_y), (max_x, max_y), (min_x, max_y), (min_x, min_y)], np.float64)
    points = move_points(corners, grid.crs, "EPSG:4326")
    return "[" + " ".join(f"[{lon:.7f} {lat:.7f}]" for lon, lat in points) + "]"
