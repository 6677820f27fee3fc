"""The stored jobs of a cube: each is a chain of events, each written by create-if-absent.

Below `jobs/`: `names/<digest>` maps a name to its job; `<id>/events/00000003.json` is the third event;
`<id>/orders/<digest>/<number>.json` is the work of a cell; `<id>/lease.json` names the process that works on the job;
`locks/00000007.json` lists the jobs that hold datasets. Only events count: if two processes do the same step, one of
them appends the next event, and the other one starts over from it.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from acdtask.cube.jobs import Consolidation, ConsolidationParams
from acdtask.errors import AcdError, ErrorCode
from acdtask.serve.consolidation.events import CellOrder, Definition, Event, Orders, Progress
from acdtask.serve.consolidation.states import State, is_final
from acdtask.storage.seal import parse_sealed, seal, unseal
from acdtask.storage.store import Store

if TYPE_CHECKING:
    from acdtask.cube.local.consolidation_cell import CellWork

__all__ = ["Journal"]

LOCK_ATTEMPTS = 50
LEASE_SECONDS = 30.0

LOCKS_FIX = "Wait until no consolidation of this cube runs, then delete the file."
NAME_FIX = "Delete the file: its job is then found by its id only, and another job may use the name."


class Journal:
    """The jobs of a store. Events never change, so each is read once and cached."""

    def __init__(self, store: Store) -> None:
        self._store = store.within("jobs")
        self._known: dict[str, Progress] = {}
        self._names: dict[tuple[str, str], str] = {}

    def open(self, wanted: Consolidation, params: ConsolidationParams) -> Progress:
        """Create a job in the state NEW. JOB_CONFLICT if its name is taken."""
        definition = Definition(id=str(uuid.uuid4()), created=datetime.now(UTC), wanted=wanted, params=params)
        event = Event(state=State.NEW, at=definition.created, definition=definition)
        self._write_event(definition.id, 1, event)
        key, claim = _name_key(wanted.name), _sealed(definition.id)
        if not self._store.create(key, claim) and self._store.get(key) != claim:
            self._remove_folder(definition.id)
            raise _taken(wanted.name)
        job = self._known[definition.id] = Progress.begun(definition, event)
        return job

    def require_free_name(self, name: str) -> None:
        """JOB_CONFLICT if a job has the name."""
        if self._store.exists(_name_key(name)):
            raise _taken(name)

    def remove(self, job: Progress) -> None:
        """Remove a job."""
        self._store.delete(_name_key(job.name))
        self._known.pop(job.id, None)
        self._remove_folder(job.id)

    def find(self, id_or_name: str) -> Progress:
        """The job as it is now. JOB_UNKNOWN."""
        job = self._refreshed(id_or_name) if _is_id(id_or_name) else None
        if job is None or not self._has_name(job):
            job_id = self._id_of(_name_key(id_or_name))
            job = self._refreshed(job_id) if job_id else None
        if job is None:
            raise AcdError(ErrorCode.JOB_UNKNOWN, f"there is no job {id_or_name!r}")
        return job

    def all(self) -> list[Progress]:
        """Every job, oldest first."""
        claims = self._store.fingerprints("names")
        self._names = {claim: self._names.get(claim) or self._id_of(claim[0]) for claim in claims.items()}
        jobs = [job for job_id in self._names.values() if job_id and (job := self._refreshed(job_id)) is not None]
        return sorted(jobs, key=lambda job: (job.definition.created, job.name))

    def append(self, job: Progress, event: Event) -> bool:
        """Append an event to those of `job`. False if another process has appended one."""
        if not self._write_event(job.id, len(job.events) + 1, event):
            return False
        self._known[job.id] = job.then(event)
        return True

    def is_overtaken(self, job: Progress) -> bool:
        """Whether there is a newer event."""
        return self._store.exists(_event_key(job.id, len(job.events) + 1))

    def keep_orders(self, job: Progress, work: list[CellWork], cells: list[CellOrder]) -> Orders:
        """Store the work of each cell; equal work has equal keys."""
        bodies = [seal(cell.model_dump_json().encode()) for cell in work]
        digest = hashlib.sha256(b"\n".join(bodies)).hexdigest()[:16]
        for number, body in enumerate(bodies):
            self._store.put(_order_key(job.id, digest, number), body)
        return Orders(digest=digest, cells=tuple(cells))

    def order(self, job: Progress, number: int) -> CellWork:
        """The work of a cell, by its index in the orders. CUBE_DAMAGED."""
        from acdtask.cube.local.consolidation_cell import CellWork  # it loads zarr and rasterio, of no use to tidy

        key = _order_key(job.id, job.orders.digest, number)
        fix = "Cancel the job and start it again under another name."
        address = self._store.address_of(key)
        return parse_sealed(CellWork, self._store.get(key), address, ErrorCode.CUBE_DAMAGED, fix)

    def require_unlocked(
        self, variable: str, instance: str, records: Collection[str], mine: str = ""
    ) -> tuple[int, list[str]]:
        """The number of the newest table of locks, and the jobs that hold datasets.

        DATASET_LOCKED, naming the job, if a job other than `mine` holds a dataset of these records of the instance.
        """
        keys = self._store.list("locks")
        number = int(keys[-1][-13:-5]) if keys else 0
        held: list[str] = self._unsealed(keys[-1], self._store.get(keys[-1]), LOCKS_FIX) if keys else []
        active = []
        for job_id in held:
            other = self._refreshed(job_id)
            if other is None or is_final(other.state):
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

    def lock(self, job: Progress) -> None:
        """Lock the job's datasets until it ends. DATASET_LOCKED, STORE_CONTENDED."""
        mine, wanted = job.id, job.definition.wanted
        for _ in range(LOCK_ATTEMPTS):
            number, active = self.require_unlocked(wanted.variable, wanted.instance, wanted.records, mine)
            if mine in active:
                return
            if self._store.create(f"locks/{number + 1:08d}.json", _sealed([*active, mine])):
                return
        raise AcdError(ErrorCode.STORE_CONTENDED, f"{self._store.url}/locks was repeatedly changed by others")

    def take_lease(self, job_id: str, owner: str) -> bool:
        """Whether the owner may work on the job now. Leases only save work: two owners at once are harmless."""
        now = datetime.now(UTC)
        lease = self._lease(job_id)
        if lease is not None and lease[0] != owner and now < lease[1]:
            return False
        until = now + timedelta(seconds=LEASE_SECONDS)
        self._store.put(_lease_key(job_id), _sealed([owner, until.isoformat()]))
        lease = self._lease(job_id)
        return lease is not None and lease[0] == owner

    def end_lease(self, job_id: str, owner: str = "") -> None:
        """End the owner's lease on the job; without an owner, anyone's."""
        lease = self._lease(job_id)
        if lease is not None and owner in ("", lease[0]):
            self._store.delete(_lease_key(job_id))

    def _lease(self, job_id: str) -> tuple[str, datetime] | None:
        """Owner and end of the job's lease. A damaged lease is ignored, as two owners at once are harmless."""
        data = self._store.find(_lease_key(job_id))
        if data is None:
            return None
        try:
            owner, until = self._unsealed(_lease_key(job_id), data)
        except AcdError:
            return None
        return owner, datetime.fromisoformat(until)

    def _refreshed(self, job_id: str) -> Progress | None:
        job = self._known.get(job_id) or self._load(job_id)
        while job is not None and not is_final(job.state):
            event = self._read_event(job_id, len(job.events) + 1)
            if event is None:
                break
            job = job.then(event)
        if job is not None:
            self._known[job_id] = job
        return job

    def _load(self, job_id: str) -> Progress | None:
        first = self._read_event(job_id, 1)
        return None if first is None or first.definition is None else Progress.begun(first.definition, first)

    def _has_name(self, job: Progress) -> bool:
        return self._id_of(_name_key(job.name)) == job.id

    def _id_of(self, key: str) -> str:
        """The id of the job of a name; empty if there is none."""
        data = self._store.find(key)
        return "" if data is None else str(self._unsealed(key, data, NAME_FIX))

    def _unsealed(self, key: str, data: bytes, fix: str | None = None) -> Any:
        """The value that `_sealed` was given. CUBE_DAMAGED."""
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
        # If a reply is lost, the store's retry finds our own event, which counts as written.
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
