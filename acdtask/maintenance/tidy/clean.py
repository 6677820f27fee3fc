"""Tidy: find what nothing in a cube names any more, and remove it.

What has been named is old when it is removed (`--keep-days`), so that a job that runs, a reader with an older head, and
a writer between its pixels and its head lose nothing. Ages are compared with the newest modification time in the store,
never with the clock of this machine: both come from the same clock, and an idle cube only keeps more. Documents go
before what they name; a tidy that was killed has removed some of it, and the next one removes the rest. Two at once
remove the same. Objects that acd did not make are counted and stay, and nothing outside the cube's own folders is read.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from acdtask import log
from acdtask.cube.local.cube import LocalCube
from acdtask.jobs.contract import Site
from acdtask.maintenance.tidy.deletion import Broom
from acdtask.maintenance.tidy.index import Heads, read_heads, sweep_index
from acdtask.maintenance.tidy.pixels import sweep_containers, sweep_images, sweep_staged
from acdtask.maintenance.tidy.products import read_products, sweep_products
from acdtask.maintenance.tidy.retention import Retention
from acdtask.maintenance.tidy.runs import read_runs, sweep_runs
from acdtask.maintenance.tidy.served import containers_of_jobs, managed_containers, sweep_jobs

__all__ = ["Tidied", "tidy"]

_events = log.events("tidy")


@dataclass(frozen=True)
class Tidied:
    """What a tidy removed, or would remove.

    Attributes:
        now: the newest modification time in the store; ages count from it.
        cutoff: what was modified later stays.
        broom: what went and what stays, by kind.
    """

    now: datetime
    cutoff: datetime
    broom: Broom

    def as_json(self) -> dict[str, Any]:
        """The document that `acdtask tidy --json` prints."""
        broom = self.broom
        return {
            "applied": broom.apply,
            "now": self.now.isoformat(),
            "cutoff": self.cutoff.isoformat(),
            "removed": [{"kind": kind, **tally.as_json()} for kind, tally in broom.removed.items()],
            "kept": [{"kind": kind, "why": why, **tally.as_json()} for (kind, why), tally in broom.kept.items()],
            "unknown": broom.unknown,
            "objects": sum(tally.objects for tally in broom.removed.values()),
            "bytes": sum(tally.bytes for tally in broom.removed.values()),
        }


def tidy(site: Site, retention: Retention, *, apply: bool = False, now: datetime | None = None) -> Tidied:
    """Remove what nothing names and is older than the retention; without `apply`, only count it.

    Args:
        site: of the cube.
        retention: what stays in any case.
        apply: whether to delete.
        now: what ages count from, for tests; default: the newest modification time in the store.

    Raises:
        AcdError: CUBE_UNKNOWN, CUBE_VERSION, TIDY_UNSURE, or what Store raises. What was deleted by then is gone.
    """
    store = LocalCube.open(site.address).store
    runs, listed = read_runs(site), read_heads(store)
    now = now or max((runs.newest or EPOCH, *(entry.modified for _, entry in listed)))
    cutoff = retention.cutoff(now)
    broom = Broom(store, apply)
    sweep_runs(site, runs, retention, cutoff, broom)
    sweep_jobs(store, cutoff, broom)
    heads = Heads(store, listed, retention, cutoff)
    used = heads.containers()
    used.add(runs.names(site, cutoff))
    sweep_index(store, heads, cutoff, broom)
    sweep_products(store, read_products(store, broom), runs, used, retention, cutoff, broom)
    used.add(containers_of_jobs(store))
    managed = managed_containers(store)
    sweep_images(store, used, managed, cutoff, broom)
    sweep_containers(store, used, managed, cutoff, broom)
    sweep_staged(store, cutoff, broom)
    return Tidied(now, cutoff, broom)


EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
