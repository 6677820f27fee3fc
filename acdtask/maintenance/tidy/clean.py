"""Tidy: removal of what nothing in a cube references any more.

Only objects older than `--keep-days` are removed, so that a running job, a reader with an older head, and a writer that
has written pixels but not yet a head lose nothing. Ages count from the newest modification time in the store, not from
this machine's clock, so that both times are from one clock; an idle cube only keeps more. Documents are removed before
the files that they reference, so an interrupted tidy is completed by the next one, and two at once do no harm. Objects
that acd did not make are counted and kept, and nothing outside the cube's own folders is read.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from acdtask import log
from acdtask.cube.local.cube import LocalCube
from acdtask.jobs.contract import Site
from acdtask.maintenance.tidy.deletion import Broom
from acdtask.maintenance.tidy.events import sweep_events
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
    """The result of a tidy.

    Attributes:
        now: the newest modification time in the store; ages count from it.
        broom: tallies of removed and kept objects, by kind.
    """

    now: datetime
    broom: Broom

    def as_json(self) -> dict[str, Any]:
        """The document that `acdtask tidy --json` prints."""
        broom = self.broom
        return {
            "applied": broom.apply,
            "now": self.now.isoformat(),
            "cutoff": broom.cutoff.isoformat(),
            "removed": [{"kind": kind, **tally.as_json()} for kind, tally in broom.removed.items()],
            "kept": [{"kind": kind, "why": why, **tally.as_json()} for (kind, why), tally in broom.kept.items()],
            "unknown": broom.unknown,
            "objects": sum(tally.objects for tally in broom.removed.values()),
            "bytes": sum(tally.bytes for tally in broom.removed.values()),
        }


def tidy(site: Site, retention: Retention, *, apply: bool = False, now: datetime | None = None) -> Tidied:
    """Remove objects that nothing references and that are older than the retention allows, or only count them.

    Ages count from `now`, for tests, or else from the newest modification time in the store. CUBE_UNKNOWN,
    CUBE_VERSION, TIDY_UNSURE, or the store's errors; earlier deletions remain.
    """
    store = LocalCube.open(site.address).store
    runs, listed = read_runs(site), read_heads(store)
    now = now or max((runs.newest or datetime.fromtimestamp(0, UTC), *(entry.modified for _, entry in listed)))
    broom = Broom(store, apply, retention.cutoff(now))
    sweep_runs(site, runs, retention, broom)
    sweep_jobs(store, broom)
    sweep_events(store, broom)
    heads = Heads(store, listed, retention, broom.cutoff)
    used = heads.containers()
    used.add(runs.names(site, broom.cutoff))
    sweep_index(store, heads, broom)
    sweep_products(store, read_products(store, broom), runs, used, retention, broom)
    used.add(containers_of_jobs(store))
    managed = managed_containers(store)
    sweep_images(store, used, managed, broom)
    sweep_containers(store, used, managed, broom)
    sweep_staged(store, broom)
    return Tidied(now, broom)
