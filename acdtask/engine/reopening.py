"""Reopens a completed plan whose results were deleted."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from acdtask import log
from acdtask.engine.rounds import RoundState, folder_of
from acdtask.jobs.codec import decode
from acdtask.jobs.contract import Job, Plan, Site

__all__ = ["reopen"]

CHECKERS = 16
"""Number of shards whose files are checked concurrently."""
SHARD = re.compile(r"(\d{4})[.-]")
"""Beginning of the file names of a shard in a round."""

_events = log.events("engine")


def reopen(job: Job[Any, Any], plan: Plan[Any, Any], site: Site) -> None:
    """Reopen the last round of a plan, so that it is gathered and published again.

    Shards whose files are still in the cube stay done. The others are reopened in every round.
    """
    folder = folder_of(plan.job, plan.plan_id, site)
    lost = _shards_without_files(job, plan, site)
    for name in plan.rounds if lost else plan.rounds[-1:]:
        for key in folder.list(f"{name}/gathered"):
            folder.delete(key)
    if not lost:
        return
    _events.warning("files.missing", job=job.name, plan=plan.plan_id, shards=len(lost))
    for name in plan.rounds:
        for key in folder.list(name):
            shard = SHARD.match(key.removeprefix(f"{name}/"))
            if shard and int(shard[1]) in lost:
                folder.delete(key)


def _shards_without_files(job: Job[Any, Any], plan: Plan[Any, Any], site: Site) -> set[int]:
    """The completed shards that have lost some of their files from the cube."""
    state = RoundState.find(plan, plan.rounds[-1], site)
    if state is None:
        return set()
    missing, last = state.missing(), job.round(plan.rounds[-1])
    tables = [*state.tables(state.digests(state.markers(missing), {}), missing)]

    def has_all_files(table: bytes) -> bool:
        return all(map(site.store.exists, last.files_of(decode(table, last.result_type), plan)))

    with ThreadPoolExecutor(CHECKERS) as pool:
        complete = list(pool.map(has_all_files, [table for _, table in tables]))
    return {index for (index, _), is_complete in zip(tables, complete, strict=True) if not is_complete}
