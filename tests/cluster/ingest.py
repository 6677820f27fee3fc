"""A small workflow to break: acd-ingest in two shards."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tests.cluster.faults import Fault
from tests.cluster.scenes import ALL_PODS, monitor_of
from tests.cluster.tools import Json, Place

__all__ = ["NODE", "SHARD", "ingest", "prepared"]

SHARD = ("run", "check", "1")
"""Words on the command line of the pod with a fault; its node is NODE."""
NODE = "ingest.run-check(1:1)"


def prepared(place: Place, scene: Path, folder: Path, faults: Sequence[Fault], endpoint: str = "") -> None:
    place.put_images(sorted((scene / "images").iterdir()))
    changes: Json = {"monitors": [monitor_of(scene)]}
    if endpoint:
        changes["objectStore"] = {**place.values()["objectStore"], "endpoint": endpoint}
    place.install(changes, folder)
    if faults:
        place.put_faults("acd-ingest", faults)


def ingest(place: Place, **more: str) -> str:
    given = {"aoi": "koln", "source": place.inbox, "make-layout": "utm32", "cell-size": "128", "shard-files": "12"}
    given |= ALL_PODS
    return place.submit(
        "workflowtemplate/acd-ingest", given | {name.replace("_", "-"): one for name, one in more.items()}
    )
