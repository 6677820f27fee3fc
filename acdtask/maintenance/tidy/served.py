"""What `acdtask serve` keeps of its jobs: consolidations and deletions."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from datetime import datetime

from acdtask.errors import AcdError, ErrorCode
from acdtask.maintenance.references import Names, key_of
from acdtask.maintenance.tidy.deletion import CURRENT, YOUNG, Broom
from acdtask.maintenance.tidy.retention import superseded
from acdtask.serve.consolidation.journal import Journal
from acdtask.serve.consolidation.states import is_final
from acdtask.storage.listing import Entry
from acdtask.storage.seal import unseal
from acdtask.storage.store import Store

__all__ = ["containers_of_jobs", "managed_containers", "sweep_jobs"]

JOB = re.compile(r"jobs/(?P<job>[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})/.+")
LOCKS = re.compile(r"jobs/locks/(\d{8})\.json")
CLAIM = re.compile(r"jobs/names/[0-9a-f]{32}")
DELETION = re.compile(r"deletions/[0-9a-f-]{36}\.json")
ENDED = ("DONE", "FAILED")

CONSOLIDATIONS, DELETIONS = "consolidation jobs", "deletion jobs"


def sweep_jobs(store: Store, cutoff: datetime, broom: Broom) -> None:
    """Remove jobs of a server that ended before the cutoff, as its clients can do themselves."""
    jobs: dict[str, list[Entry]] = defaultdict(list)
    locks: list[tuple[int, Entry]] = []
    claims: dict[str, Entry] = {}
    for entry in store.entries("jobs"):
        if match := JOB.fullmatch(entry.key):
            jobs[match["job"]].append(entry)
        elif match := LOCKS.fullmatch(entry.key):
            locks.append((int(match[1]), entry))
        elif CLAIM.fullmatch(entry.key):
            claims[entry.key] = entry
        else:
            broom.keep_unknown(entry)
    _sweep_consolidations(store, jobs, claims, cutoff, broom)
    going = superseded(locks, 1, cutoff)
    broom.remove("tables of locks", going, page=1)
    gone = {entry.key for entry in going}
    broom.keep("tables of locks", CURRENT, *(one for _, one in locks if one.key not in gone))
    _sweep_deletions(store, cutoff, broom)


def _sweep_consolidations(
    store: Store, jobs: dict[str, list[Entry]], claims: dict[str, Entry], cutoff: datetime, broom: Broom
) -> None:
    """A job goes with the claim of its name, which goes first: without it there is no such job."""
    owners = {_owner_of(store, key): entry for key, entry in claims.items()}
    ended = _ended(store)
    for job_id, entries in sorted(jobs.items()):
        claim = owners.pop(job_id, None)
        mine = [*([claim] if claim else []), *sorted(entries, key=lambda entry: entry.key)]
        if any(entry.modified > cutoff for entry in mine):
            broom.keep(CONSOLIDATIONS, YOUNG, *mine)
        elif claim is not None and job_id not in ended:
            broom.keep(CONSOLIDATIONS, "not ended", *mine)
        else:
            broom.remove(CONSOLIDATIONS, mine[:1])
            broom.remove(CONSOLIDATIONS, mine[1:])
    for claim in owners.values():
        broom.keep(CONSOLIDATIONS, "claims of names", claim)


def _owner_of(store: Store, key: str) -> str:
    """The job that has claimed a name; empty if another process has removed the claim. TIDY_UNSURE."""
    body = store.find(key)
    if body is None:
        return ""
    return str(json.loads(unseal(body, store.address_of(key), ErrorCode.TIDY_UNSURE))["is"])


def _ended(store: Store) -> set[str]:
    """The consolidations that have ended. TIDY_UNSURE."""
    try:
        return {job.id for job in Journal(store).all() if is_final(job.state)}
    except AcdError as error:
        raise _unsure(error) from error


def containers_of_jobs(store: Store) -> set[str]:
    """The containers that unfinished consolidations have written or will write. TIDY_UNSURE."""
    journal = Journal(store)
    try:
        unfinished = [job for job in journal.all() if not is_final(job.state)]
        return {journal.order(job, number).key for job in unfinished for number in range(len(job.orders.cells))}
    except AcdError as error:
        raise _unsure(error) from error


def managed_containers(store: Store) -> Names:
    """Containers that clients handed over, as far as they lie below the cube."""
    uris = ((store.find(entry.key) or b"").decode(errors="replace") for entry in store.entries("managed"))
    return Names(key_of(uri, store) for uri in uris)


def _sweep_deletions(store: Store, cutoff: datetime, broom: Broom) -> None:
    for entry in list(store.entries("deletions")):
        if not DELETION.fullmatch(entry.key):
            broom.keep_unknown(entry)
        elif entry.modified > cutoff:
            broom.keep(DELETIONS, YOUNG, entry)
        elif _state_of(store.find(entry.key)) in ENDED:
            broom.remove(DELETIONS, [entry])
        else:
            broom.keep(DELETIONS, "not ended", entry)


def _state_of(body: bytes | None) -> str:
    """The state of a deletion; empty for a document that is damaged or gone, which tidy leaves alone."""
    try:
        return str(json.loads(unseal(body or b"", ""))["job"]["state"])
    except (AcdError, KeyError, TypeError):
        return ""


def _unsure(error: AcdError) -> AcdError:
    return AcdError(ErrorCode.TIDY_UNSURE, error.detail) if error.code is ErrorCode.CUBE_DAMAGED else error
