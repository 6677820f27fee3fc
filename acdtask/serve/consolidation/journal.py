"""The jobs of a local cube as they are kept: each a chain of events, each made by create-if-absent.

Below `jobs/`: `names/<digest>` says which job has a name; `<id>/events/00000003.json` is what happened third;
`<id>/orders/<digest>/<number>.json` is the work of a cell; `<id>/lease.json` says who works on the job now;
`locks/00000007.json` says which jobs hold datasets. Only events decide: of two processes that do the same step, one
adds the next event, and the other looks again.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from acdtask.cube.consolidation_params import ConsolidationParams
from acdtask.cube.joblog import Severity, line
from acdtask.cube.model import Consolidation
from acdtask.errors import AcdError, ErrorCode
from acdtask.serve.consolidation.events import Definition, Draft, Event, Orders, Progress
from acdtask.serve.consolidation.states import State, holds_datasets, is_final
from acdtask.storage.seal import parse_sealed, seal, unseal
from acdtask.storage.store import Store

if TYPE_CHECKING:
    from acdtask.cube.local.consolidation_cell import CellWork

__all__ = ["Book"]

LOCK_ATTEMPTS = 50
LEASE_SECONDS = 30.0

LOCKS_WAY_OUT = "Wait until no consolidation of this cube runs, then delete the file."
NAME_WAY_OUT = "Delete the file: its job is then found by its id alone, and another job may have the name."


class Book:
    """The jobs of a store. Events never change, so they are read once and kept in memory."""

    def __init__(self, store: Store) -> None:
        self._store = store.within("jobs")
        self._known: dict[str, Progress] = {}
        self._names: dict[tuple[str, str], str] = {}

    def open(self, wanted: Consolidation, params: ConsolidationParams) -> Progress:
        """Make a job, in the state NEW. JOB_CONFLICT if its name is taken."""
        now = datetime.now(UTC)
        definition = Definition(id=str(uuid.uuid4()), created=now, wanted=wanted, params=params)
        told = line(now, Severity.INFO, State.NEW.value, f"Create a consolidation of {len(wanted.records)} record(s)")
        event = Event(state=State.NEW, at=now, lines=(told,), definition=definition)
        self._write_event(definition.id, 1, event)
        key, claim = _name_key(wanted.name), _sealed(definition.id)
        if not self._store.create(key, claim) and self._store.get(key) != claim:
            self._remove_folder(definition.id)
            raise _taken(wanted.name)
        progress = self._known[definition.id] = Progress.begun(definition, event)
        return progress

    def require_free_name(self, name: str) -> None:
        """JOB_CONFLICT if a job has the name."""
        if self._store.exists(_name_key(name)):
            raise _taken(name)

    def remove(self, progress: Progress) -> None:
        """Let there be no such job any more."""
        self._store.delete(_name_key(progress.name))
        self._known.pop(progress.definition.id, None)
        self._remove_folder(progress.definition.id)

    def find(self, id_or_name: str) -> Progress:
        """The job as it is now. JOB_UNKNOWN."""
        progress = self._refreshed(id_or_name) if _is_id(id_or_name) else None
        if progress is None or not self._has_name(progress):
            owner = self._id_of(_name_key(id_or_name))
            progress = self._refreshed(owner) if owner else None
        if progress is None:
            raise AcdError(ErrorCode.JOB_UNKNOWN, f"there is no job {id_or_name!r}")
        return progress

    def all(self) -> list[Progress]:
        """Every job, oldest first."""
        claims = self._store.fingerprints("names")
        self._names = {claim: self._names.get(claim) or self._id_of(claim[0]) for claim in claims.items()}
        found = [progress for one in self._names.values() if one and (progress := self._refreshed(one)) is not None]
        return sorted(found, key=lambda one: (one.definition.created, one.name))

    def append(self, progress: Progress, draft: Draft) -> bool:
        """Add the drafted event after the newest that `progress` knows. False if another was faster."""
        event, job_id = draft.event(), progress.definition.id
        if not self._write_event(job_id, progress.number + 1, event):
            return False
        self._known[job_id] = progress.then(event)
        return True

    def is_overtaken(self, progress: Progress) -> bool:
        """Whether there is a newer event."""
        return self._store.exists(_event_key(progress.definition.id, progress.number + 1))

    def keep_orders(self, progress: Progress, work: list[CellWork]) -> Orders:
        """Keep the work of each cell; the same work is kept at the same place."""
        bodies = [seal(one.model_dump_json().encode()) for one in work]
        digest = hashlib.sha256(b"\n".join(bodies)).hexdigest()[:16]
        for number, body in enumerate(bodies):
            self._store.put(_order_key(progress.definition.id, digest, number), body)
        return Orders(digest=digest, cells=tuple(one.tile.cell for one in work))

    def order(self, progress: Progress, number: int) -> CellWork:
        """The work of a cell, by its place in the orders. CUBE_DAMAGED."""
        from acdtask.cube.local.consolidation_cell import CellWork  # brings zarr and rasterio, of no use to a catalogue

        key = _order_key(progress.definition.id, progress.orders.digest, number)
        fix = "Cancel the job and start it again under another name."
        address = self._store.address_of(key)
        return parse_sealed(CellWork, self._store.get(key), address, ErrorCode.CUBE_DAMAGED, fix)

    def require_unlocked(
        self, variable: str, instance: str, records: Collection[str], mine: str = ""
    ) -> tuple[int, list[str]]:
        """The number of the newest table of locks, and the jobs that hold datasets.

        DATASET_LOCKED, naming the job, if one of them holds a dataset of these records of the instance.
        """
        keys = self._store.list("locks")
        number = int(keys[-1][-13:-5]) if keys else 0
        held: list[str] = self._unsealed(keys[-1], self._store.get(keys[-1]), LOCKS_WAY_OUT) if keys else []
        active = []
        for job_id in held:
            other = self._refreshed(job_id)
            if other is None or not holds_datasets(other.state):
                continue
            active.append(job_id)
            theirs = other.definition.wanted
            is_same = (theirs.variable, theirs.instance) == (variable, instance)
            if job_id != mine and is_same and (common := set(theirs.records).intersection(records)):
                raise AcdError(
                    ErrorCode.DATASET_LOCKED,
                    f"job {other.name} ({other.state.value}) holds {len(common)} of the {len(set(records))} records",
                )
        return number, active

    def lock(self, progress: Progress) -> None:
        """Let the job hold its datasets until it ends. DATASET_LOCKED, STORE_CONTENDED."""
        mine, wanted = progress.definition.id, progress.definition.wanted
        for _ in range(LOCK_ATTEMPTS):
            number, active = self.require_unlocked(wanted.variable, wanted.instance, wanted.records, mine)
            if mine in active:
                return
            if self._store.create(f"locks/{number + 1:08d}.json", _sealed([*active, mine])):
                return
        raise AcdError(ErrorCode.STORE_CONTENDED, f"{self._store.url}/locks was repeatedly changed by others")

    def take_lease(self, job_id: str, owner: str) -> bool:
        """Whether the owner may work on the job now. It is to save work: two owners at once do no harm."""
        now = datetime.now(UTC)
        there = self._lease(job_id)
        if there is not None and there[0] != owner and now < there[1]:
            return False
        until = now + timedelta(seconds=LEASE_SECONDS)
        self._store.put(_lease_key(job_id), _sealed([owner, until.isoformat()]))
        there = self._lease(job_id)
        return there is not None and there[0] == owner

    def end_lease(self, job_id: str, owner: str = "") -> None:
        """Let others work on the job; without an owner, whoever has it now."""
        there = self._lease(job_id)
        if there is not None and owner in ("", there[0]):
            self._store.delete(_lease_key(job_id))

    def _lease(self, job_id: str) -> tuple[str, datetime] | None:
        """Who works on the job, and until when. A damaged lease is none: two owners at once do no harm."""
        data = self._store.find(_lease_key(job_id))
        if data is None:
            return None
        try:
            owner, until = self._unsealed(_lease_key(job_id), data)
        except AcdError:
            return None
        return owner, datetime.fromisoformat(until)

    def _refreshed(self, job_id: str) -> Progress | None:
        progress = self._known.get(job_id) or self._load(job_id)
        while progress is not None and not is_final(progress.state):
            event = self._read_event(job_id, progress.number + 1)
            if event is None:
                break
            progress = progress.then(event)
        if progress is not None:
            self._known[job_id] = progress
        return progress

    def _load(self, job_id: str) -> Progress | None:
        first = self._read_event(job_id, 1)
        return None if first is None or first.definition is None else Progress.begun(first.definition, first)

    def _has_name(self, progress: Progress) -> bool:
        return self._id_of(_name_key(progress.name)) == progress.definition.id

    def _id_of(self, key: str) -> str:
        """The id of the job that claims a name; empty if none does."""
        data = self._store.find(key)
        return "" if data is None else str(self._unsealed(key, data, NAME_WAY_OUT))

    def _unsealed(self, key: str, data: bytes, fix: str | None = None) -> Any:
        """What `_sealed` was given. CUBE_DAMAGED."""
        return json.loads(unseal(data, self._store.address_of(key), ErrorCode.CUBE_DAMAGED, fix))["is"]

    def _read_event(self, job_id: str, number: int) -> Event | None:
        key = _event_key(job_id, number)
        data = self._store.find(key)
        if data is None:
            return None
        fix = f"Delete the folder {self._store.address_of(job_id)} and start the job again under another name."
        return parse_sealed(Event, data, self._store.address_of(key), ErrorCode.CUBE_DAMAGED, fix)

    def _write_event(self, job_id: str, number: int, event: Event) -> bool:
        key, data = _event_key(job_id, number), seal(event.model_dump_json().encode())
        # A lost answer makes the store's own retry find our event: it counts as made.
        return self._store.create(key, data) or self._store.find(key) == data

    def _remove_folder(self, job_id: str) -> None:
        for key in self._store.list(job_id):
            self._store.delete(key)


def _sealed(value: object) -> bytes:
    return seal(json.dumps({"is": value}).encode())


def _taken(name: str) -> AcdError:
    return AcdError(ErrorCode.JOB_CONFLICT, f"there is a job {name!r} already")


def _is_id(text: str) -> bool:
    try:
        return str(uuid.UUID(text)) == text
    except ValueError:
        return False


def _name_key(name: str) -> str:
    return f"names/{hashlib.sha256(name.encode()).hexdigest()[:32]}"


def _event_key(job_id: str, number: int) -> str:
    return f"{job_id}/events/{number:08d}.json"


def _order_key(job_id: str, digest: str, number: int) -> str:
    return f"{job_id}/orders/{digest}/{number:06d}.json"


def _lease_key(job_id: str) -> str:
    return f"{job_id}/lease.json"
