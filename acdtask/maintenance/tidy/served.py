"""Tidying of the jobs of `acdtask serve`: consolidations and deletions."""

from __future__ import annotations

import json
import re
from collections import defaultdict

from acdtask.errors import AcdError, ErrorCode
from acdtask.maintenance.references import Names, key_of, unsure_if_damaged
from acdtask.maintenance.tidy.deletion import YOUNG, Broom
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


def sweep_jobs(store: Store, broom: Broom) -> None:
    """Remove a server's jobs that ended before the cutoff, as its clients also can."""
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
    _sweep_consolidations(store, jobs, claims, broom)
    broom.remove_superseded("tables of locks", locks, 1, page=1)
    _sweep_deletions(store, broom)


def _sweep_consolidations(store: Store, jobs: dict[str, list[Entry]], claims: dict[str, Entry], broom: Broom) -> None:
    """Remove ended jobs. The claim of a job's name goes first, since without it the job does not exist."""
    owners = {_owner_of(store, key): entry for key, entry in claims.items()}
    ended = _ended(store)
    for job_id, entries in sorted(jobs.items()):
        claim = owners.pop(job_id, None)
        job_entries = [*([claim] if claim else []), *sorted(entries, key=lambda entry: entry.key)]
        if any(entry.modified > broom.cutoff for entry in job_entries):
            broom.keep(CONSOLIDATIONS, YOUNG, *job_entries)
        elif claim is not None and job_id not in ended:
            broom.keep(CONSOLIDATIONS, "not ended", *job_entries)
        else:
            broom.remove(CONSOLIDATIONS, job_entries[:1])
            broom.remove(CONSOLIDATIONS, job_entries[1:])
    for claim in owners.values():
        broom.keep(CONSOLIDATIONS, "claims of names", claim)


def _owner_of(store: Store, key: str) -> str:
    """The job that claimed a name; empty if another process removed the claim. TIDY_UNSURE."""
    body = store.find(key)
    if body is None:
        return ""
    return str(json.loads(unseal(body, store.address_of(key), ErrorCode.TIDY_UNSURE))["is"])


def _ended(store: Store) -> set[str]:
    """The consolidations that have ended. TIDY_UNSURE."""
    with unsure_if_damaged():
        return {job.id for job in Journal(store).all() if is_final(job.state)}


def containers_of_jobs(store: Store) -> set[str]:
    """The containers that unfinished consolidations write. TIDY_UNSURE."""
    journal = Journal(store)
    with unsure_if_damaged():
        unfinished = [job for job in journal.all() if not is_final(job.state)]
        return {journal.order(job, number).key for job in unfinished for number in range(len(job.orders.cells))}


def managed_containers(store: Store) -> Names:
    """Containers below the cube that clients handed over."""
    uris = ((store.find(entry.key) or b"").decode(errors="replace") for entry in store.entries("managed"))
    return Names(key_of(uri, store) for uri in uris)


def _sweep_deletions(store: Store, broom: Broom) -> None:
    for entry in list(store.entries("deletions")):
        if not DELETION.fullmatch(entry.key):
            broom.keep_unknown(entry)
        elif entry.modified > broom.cutoff:
            broom.keep(DELETIONS, YOUNG, entry)
        elif _state_of(store.find(entry.key)) in ENDED:
            broom.remove(DELETIONS, [entry])
        else:
            broom.keep(DELETIONS, "not ended", entry)


def _state_of(body: bytes | None) -> str:
    """The state of a deletion; empty if its document is damaged or missing, which tidy then leaves alone."""
    try:
        return str(json.loads(unseal(body or b"", ""))["job"]["state"])
    except (AcdError, KeyError, TypeError):
        return ""
