"""Notes of runs that began and have not reported their end, at `events/<aoi>/runs/<run id>.json` of the cube's store.

A stage of a workflow writes the note; whoever reports the end of the run removes it. If a workflow is terminated, Argo
runs no exit handler: the note stays, and the next run of the AOI reports it (docs/decisions/0043).
"""

from __future__ import annotations

import os
from datetime import UTC, datetime

from pydantic import BaseModel

from acdtask import log
from acdtask.engine.run_ids import current_run, run_folder
from acdtask.errors import AcdError, ErrorCode
from acdtask.jobs.contract import Site
from acdtask.jobs.news import EVENTS
from acdtask.storage.seal import is_sealed, parse_sealed, seal
from acdtask.storage.store import Store

__all__ = ["RunNote", "attempts_reported", "find_note", "is_reported", "note_begin", "note_reported", "notes_of"]

AOI, MONITOR, WORKFLOW, NAMESPACE = (f"ACD_RUN_{name}" for name in ("AOI", "MONITOR", "WORKFLOW", "NAMESPACE"))
"""Environment variables of the pods of a workflow that reports its end. Without ACD_RUN_AOI there are no notes."""

REPORTED = "reported"

_events = log.events("engine")


class RunNote(BaseModel, frozen=True):
    """A run that began. `attempt` is 2 after the first `argo retry`, which keeps the id of the run."""

    run: str
    aoi: str
    began: datetime
    workflow: str = ""
    namespace: str = ""
    monitor: str = ""
    attempt: int = 1


def note_begin(site: Site) -> None:
    """Note that this run began, unless that is noted already. A store that fails is only logged."""
    aoi = os.environ.get(AOI, "")
    run = current_run() if aoi else ""
    if not run:
        return
    try:
        folder = _folder(site, aoi)
        if folder.exists(f"{run}.json"):
            return
        note = RunNote(
            run=run,
            aoi=aoi,
            began=datetime.now(UTC),
            workflow=os.environ.get(WORKFLOW, ""),
            namespace=os.environ.get(NAMESPACE, ""),
            monitor=os.environ.get(MONITOR, ""),
            attempt=attempts_reported(run, site) + 1,
        )
        folder.create(f"{run}.json", seal(note.model_dump_json().encode()))
    except AcdError as error:
        _events.warning("note.not_kept", detail=error.detail)


def find_note(run: str, aoi: str, site: Site) -> RunNote | None:
    """The note of a run that has not reported its end; None if there is none."""
    return _read(_folder(site, aoi), f"{run}.json")


def notes_of(aoi: str, site: Site) -> list[RunNote]:
    """The runs of an AOI that have not reported their end, the oldest first."""
    folder = _folder(site, aoi)
    notes = (_read(folder, key) for key in folder.list() if "/" not in key)
    return sorted((note for note in notes if note is not None), key=lambda note: (note.began, note.run))


def is_reported(run: str, attempt: int, status: str, site: Site) -> bool:
    """Whether the end of a run is in the outbox."""
    return run_folder(run, site).exists(_marker(attempt, status))


def note_reported(run: str, aoi: str, attempt: int, status: str, site: Site) -> None:
    """Note that the end of a run is in the outbox."""
    run_folder(run, site).create(_marker(attempt, status), b"")
    _folder(site, aoi).delete(f"{run}.json")


def attempts_reported(run: str, site: Site) -> int:
    """Number of attempts of a run whose end is in the outbox."""
    keys = run_folder(run, site).list(REPORTED)
    return max((int(key.rpartition("/")[2].partition("-")[0]) for key in keys), default=0)


def _marker(attempt: int, status: str) -> str:
    return f"{REPORTED}/{attempt:04d}-{status.lower()}"


def _folder(site: Site, aoi: str) -> Store:
    return site.store.within(f"{EVENTS}/{aoi}/runs")


def _read(folder: Store, key: str) -> RunNote | None:
    """A note. A damaged one is removed, since it is only about an event."""
    data = folder.find(key)
    if data is None:
        return None
    if not is_sealed(data):
        _events.warning("document.damaged", file=folder.address_of(key))
        folder.delete(key)
        return None
    fix = "Delete the file: the end of its run is not reported."
    return parse_sealed(RunNote, data, folder.address_of(key), ErrorCode.EVENT_DAMAGED, fix)
