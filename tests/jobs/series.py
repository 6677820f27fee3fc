"""A small area whose images are judged night after night, as workflows do it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from numpy.typing import NDArray

from acdtask.cube.model import Record, RecordQuery
from acdtask.engine.local import LocalOutcome
from acdtask.engine.run_summary import record_gathered, record_plan, recording_failure
from acdtask.engine.stages import gather_round, gathered_rounds, make_plan, open_site, run_shard
from acdtask.errors import AcdError, ErrorCode
from acdtask.jobs.contract import Job, Plan, Settings
from acdtask.jobs.ingest.job import IngestJob
from acdtask.jobs.ingest.settings import IngestSettings
from acdtask.jobs.manifests import find_manifest
from acdtask.jobs.monitor.job import MonitorJob
from acdtask.jobs.monitor.months import read_images
from acdtask.jobs.monitor.settings import MonitorSettings
from acdtask.jobs.products import (
    BaselineManifest,
    ImageProduct,
    MonitorManifest,
)
from acdtask.notify.deliver import report_end, send_waiting
from acdtask.notify.event import FinishedRun, Status
from acdtask.notify.outbox import Event, Outbox
from acdtask.storage.store import Store
from tests.jobs.small_site import LAYOUT, baseline, ends, make_cube, monitor, run, steady, write_images

REFERENCE, MONITORED = 22, 3
COUNT = REFERENCE + MONITORED
LAST = ends(REFERENCE - 1)
EARLIER = ends(REFERENCE - 2)
"""The end of another baseline version."""
PIXELS = steady(REFERENCE)


def make_judged(folder: Path) -> Path:
    """A cube whose images are judged."""
    cube = make_cube(folder, COUNT, PIXELS)
    baseline(cube, end=LAST)
    monitor(cube)
    return folder


def version_of(outcome: LocalOutcome) -> str:
    return outcome.plan.content_id


def manifest_of(cube: Path, kind: str, name: str) -> bytes:
    place = f"CoherenceVV/{LAYOUT}/{name}"
    return find_manifest(Store.at(str(cube)), "site", kind, place, "latest", ErrorCode.MONITOR_UNKNOWN)[1]


def result(cube: Path) -> MonitorManifest:
    return MonitorManifest.model_validate_json(manifest_of(cube, "monitor", "monitor"))


def images(cube: Path) -> list[ImageProduct]:
    return read_images(result(cube), Store.at(str(cube)))


def current_version(cube: Path) -> str:
    return BaselineManifest.model_validate_json(manifest_of(cube, "baseline", "annual")).content_id


def z_of(cube: Path, product: ImageProduct) -> NDArray[np.int16]:
    """z of an image on all tiles, as it is stored."""
    tiles = []
    for tile in product.tiles:
        with rasterio.open(cube / tile.z.uri) as raster:
            tiles.append(raster.read(1))
    return np.stack(tiles)


def planned(cube: Path, **settings: Any) -> Plan[Any, Any]:
    return make_plan(
        MonitorJob(),
        MonitorSettings(**{"aoi": str(cube.parent / "aoi.json"), "layout": LAYOUT, **settings}),
        open_site(str(cube)),
    )


def bring(cube: Path, count: int) -> None:
    """Further images arrive."""
    write_images(cube.parent / "images", count, PIXELS, first=COUNT)
    run(IngestJob(), IngestSettings(source=str(cube.parent / "images")), cube)


def records(cube: Path) -> list[Record]:
    """The records of judged images."""
    return open_site(str(cube)).cube.records(RecordQuery(tags={"acd:job": "monitor"}))


class KilledError(BaseException):
    """What ends a process at once, in place of a signal."""


def killed(*_: Any) -> None:
    raise KilledError


Seen = tuple[str, list[str]]
"""The kind of an event, and the images that it names."""


class Nightly:
    """Monitors as a workflow does, with an event at the end of each run.

    `received` is what the receiver got, with every repetition.
    """

    aoi = "site"

    def __init__(self, cube: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.cube, self._patch, self._runs = cube, monkeypatch, 0
        self.received: list[Event] = []

    @property
    def outbox(self) -> Outbox:
        return Outbox(open_site(str(self.cube)), self.aoi)

    @property
    def seen(self) -> list[Seen]:
        """What the receiver got."""
        return [short(event) for event in self.received]

    def job(self, settings: dict[str, Any]) -> tuple[Job[Any, Any], Settings]:
        """The job and its settings."""
        given = {"aoi": str(self.cube.parent / "aoi.json"), "layout": LAYOUT, **settings}
        return MonitorJob(), MonitorSettings.model_validate(given)

    def work(self, **settings: Any) -> str:
        """The stages of a run, without its end. Returns the id of the run."""
        self._runs += 1
        name, site = f"run-{self._runs}", open_site(str(self.cube))
        job, given = self.job(settings)
        self._patch.setenv("ACD_RUN_ID", name)
        with recording_failure(site.address, job.name, "plan"):
            plan = make_plan(job, given, site)
            record_plan(plan, given, site)
        if not plan.nothing_to_do:
            for round_name in plan.rounds:
                for shard in range(plan.shards):
                    run_shard(job, plan, round_name, shard, site)
                gather_round(job, plan, round_name, site)
            record_gathered(job, plan, gathered_rounds(plan, site), site)
        self._patch.delenv("ACD_RUN_ID")
        return name

    def report(self, run: str, *, status: Status = "Succeeded", delivered: bool = True) -> None:
        """The exit handler of a run."""
        finished = FinishedRun(run, status, self.aoi)
        report_end(finished, open_site(str(self.cube)))
        self.send(delivered=delivered)

    def send(self, *, delivered: bool = True) -> None:
        """Send what waits, to a receiver that may be away."""

        def post(event: Event) -> None:
            if not delivered:
                raise AcdError(ErrorCode.WEBHOOK_UNREACHABLE, "the receiver is away")
            self.received.append(event)

        send_waiting(self.outbox, post)

    def run(self, *, delivered: bool = True, status: Status = "Succeeded", **settings: Any) -> Seen:
        """The kind of the last event of the run, and the images that it names."""
        before = len(self.received)
        self.report(self.work(**settings), status=status, delivered=delivered)
        events = self.received[before:] if delivered else [event for _, event in self.outbox.waiting()]
        return short(events[-1])


def short(event: Event) -> Seen:
    """The kind of an event, and the images that it names."""
    return event.attributes["type"].rpartition(".")[2], [image["label"] for image in event.data["images"]]
