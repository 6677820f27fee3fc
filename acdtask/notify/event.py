"""Make the event that reports a finished run, from the run's records in the store."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import groupby
from typing import Any, Literal, TypeAlias
from urllib.parse import quote

from acdtask.engine.run_summary import JobRecord, StageFailure, failures_of, records_of
from acdtask.engine.stages import load_plan_head, missing_shards
from acdtask.errors import AcdError, ErrorCode
from acdtask.jobs.cautions import merged
from acdtask.jobs.contract import ImageFindings, Series, Site
from acdtask.jobs.news import Announcement, News
from acdtask.notify.outbox import Event

__all__ = ["FinishedRun", "Status", "StoredRun", "alert_of", "attributes_of", "end_of", "read_run", "unreadable"]

Status = Literal["Succeeded", "Failed", "Error", "Stopped"]
Kind: TypeAlias = tuple[str, str, str, int]
"""Job, stage, round and error number of a failure."""

ALERT, HEARTBEAT, FAILED = (f"io.github.acd.run.{name}" for name in ("alert", "heartbeat", "failed"))

ALERT_SUFFIX = "alert"
"""In the id of an event that announces the patches of a run that did not succeed."""

MAX_IMAGES = 200
MAX_CAUSES = 20
MAX_DETAIL = 300
"""These limits keep an event below 64 KiB, the size that intermediaries must forward (CloudEvents 1.0, size limits)."""


@dataclass(frozen=True)
class FinishedRun:
    """A run that has ended; `workflow`, `namespace` and `monitor` may be empty.

    Attributes:
        status: of the workflow; Stopped if it ended without reporting it.
        attempt: from 2 if the workflow was retried as a whole.
    """

    run: str
    status: Status
    aoi: str
    workflow: str = ""
    namespace: str = ""
    monitor: str = ""
    attempt: int = 1


def attributes_of(finished: FinishedRun, data: dict[str, Any], suffix: str = "") -> dict[str, str]:
    """The attributes of the CloudEvent, without time. The same run, status and attempt give the same source and id.

    `suffix` replaces the status in the id.

    >>> finished = FinishedRun("7c1e", "Succeeded", "koln", "acd-all-x", "acd")
    >>> attributes = attributes_of(finished, {"patches": 2})
    >>> attributes["type"], attributes["source"], attributes["id"]
    ('io.github.acd.run.alert', '/namespaces/acd/workflows/acd-all-x', '7c1e-succeeded')
    """
    judged_nothing = data.get("area_px", 0) and not data.get("judged_px", 0)
    failed = (finished.status != "Succeeded" and suffix != ALERT_SUFFIX) or judged_nothing
    kind = FAILED if failed else ALERT if data["patches"] else HEARTBEAT
    attempt = f"-{finished.attempt}" if finished.attempt > 1 else ""
    attributes = {
        "specversion": "1.0",
        "type": kind,
        "source": _source(finished),
        "id": f"{finished.run}-{suffix or finished.status.lower()}{attempt}",
        "subject": finished.aoi,
        "datacontenttype": "application/json",
    }
    return {name: value for name, value in attributes.items() if value}


@dataclass(frozen=True)
class StoredRun:
    """What a run left in the store.

    Attributes:
        records: its jobs.
        causes: of its failure.
        images: images that are not of a series; without news of other runs.
        news: images and fused windows of its series to announce, by series.
    """

    records: Sequence[JobRecord] = ()
    jobs: Sequence[dict[str, Any]] = ()
    causes: Sequence[dict[str, Any]] = ()
    images: Sequence[ImageFindings] = ()
    news: Sequence[tuple[Series, Sequence[Announcement]]] = ()

    @property
    def news_images(self) -> list[ImageFindings]:
        """The images to announce."""
        return [image.findings for _, images in self.news for image in images]


def alert_of(finished: FinishedRun, stored: StoredRun) -> Event | None:
    """The event that announces the patches of a run that did not succeed; None if there are none to announce."""
    if finished.status == "Succeeded" or not any(image.patches for image in stored.news_images):
        return None
    data = _data(finished, replace(stored, causes=()), stored.news_images)
    return _event(attributes_of(finished, data, ALERT_SUFFIX), data, stored)


def end_of(finished: FinishedRun, stored: StoredRun) -> Event:
    """The event that reports the end of a run, with its news if it succeeded."""
    if finished.status != "Succeeded":
        data = _data(finished, stored, stored.images)
        return _event(attributes_of(finished, data), data, replace(stored, news=()))
    data = _data(finished, stored, [*stored.news_images, *stored.images])
    return _event(attributes_of(finished, data), data, stored)


def _event(attributes: dict[str, str], data: dict[str, Any], stored: StoredRun) -> Event:
    announces = tuple(
        (series, tuple(announced for image in images for announced in image.announced))
        for series, images in stored.news
    )
    time = datetime.now(UTC).isoformat()
    return Event(attributes={**attributes, "time": time}, data=data, announces=announces)


def unreadable(error: AcdError) -> StoredRun:
    """A run whose records cannot be read."""
    return StoredRun(causes=[_cause(("", "notify", "", error.code.value.number), error.code.name, error.detail, 1)])


def read_run(finished: FinishedRun, site: Site) -> StoredRun:
    """Read what a run left: its jobs, the causes of a failure, and the images of its series to announce.

    A new watch gets its watermark. RUN_UNKNOWN if a run that succeeded left no records; errors of Store.
    """
    from acdtask.jobs.fuse.news import news_of_windows
    from acdtask.jobs.monitor.news import news_of_images

    records = records_of(finished.run, site)
    if finished.status == "Succeeded" and not records:
        raise AcdError(ErrorCode.RUN_UNKNOWN, f"there is no record of run {finished.run} at {site.address}")
    causes = [] if finished.status == "Succeeded" else _causes(records, failures_of(finished.run, site), site)
    if finished.status == "Stopped":
        stopped = ErrorCode.RUN_STOPPED
        causes = [_cause(("", "", "", stopped.value.number), stopped.name, stopped.value.meaning, 1), *causes]
    jobs = [_job(record, site) for record in records]
    images: list[ImageFindings] = []
    news: list[tuple[Series, Sequence[Announcement]]] = []
    for record in records:
        if record.series is not None:
            News(site.store, record.series).open()
            news_of = news_of_windows if record.job == "fuse" else news_of_images
            news.append((record.series, news_of(record.series, finished.run, site)))
        elif record.gathered and not record.gathered_before:
            images += record.findings.images
    return StoredRun(records, jobs, causes, images, news)


def _data(finished: FinishedRun, stored: StoredRun, images: Sequence[ImageFindings]) -> dict[str, Any]:
    announced = {(image.label, image.datetime) for image in images}
    gathered = [image for record in stored.records if record.gathered for image in record.findings.images]
    return {
        "run": finished.run,
        "workflow": finished.workflow,
        "namespace": finished.namespace,
        "status": finished.status,
        "aoi": finished.aoi,
        "monitor": finished.monitor,
        "patches": sum(image.patches or 0 for image in images),
        "changed_area_m2": round(sum(image.changed_area_m2 or 0.0 for image in images), 1),
        "images": [image.model_dump(mode="json", exclude={"warnings"}) for image in images[-MAX_IMAGES:]],
        "images_left_out": max(len(images) - MAX_IMAGES, 0),
        "images_not_announced": sum((image.label, image.datetime) not in announced for image in gathered),
        "area_px": sum(image.area_px or 0 for image in images),
        "judged_px": sum(image.judged_px or 0 for image in images),
        "warnings": _warnings(stored, images),
        "files": {name: address for record in stored.records for name, address in record.findings.files.items()},
        "jobs": list(stored.jobs),
        "causes": list(stored.causes),
    }


def _warnings(stored: StoredRun, announced: Sequence[ImageFindings]) -> list[dict[str, Any]]:
    """The warnings about the announced images and about this run's results, one of each kind and job."""
    records = [record for record in stored.records if record.gathered and not record.gathered_before]
    images = [*announced, *(image for record in records for image in record.findings.images)]
    of_images = [caution for image in images for caution in image.warnings]
    # Those about images are in `images` one by one; those of a run without images, and about unjudged ones, are not.
    of_runs = [
        caution
        for record in records
        for caution in record.findings.warnings
        if record.series is None or caution.kind == "no tiles"
    ]
    return [
        {
            "kind": caution.kind,
            "text": caution.text[:MAX_DETAIL],
            "image": caution.images[0] if caution.images else "",
            "images": len(caution.images),
            "months": list(caution.months),
            "area_px": caution.area_px,
            "judged_px": caution.judged_px,
        }
        for caution in [*merged(of_images), *merged(of_runs)]
    ]


def _source(finished: FinishedRun) -> str:
    if not finished.workflow:
        return f"/runs/{quote(finished.run, safe='')}"
    space = f"/namespaces/{quote(finished.namespace, safe='')}" if finished.namespace else ""
    return f"{space}/workflows/{quote(finished.workflow, safe='')}"


def _job(record: JobRecord, site: Site) -> dict[str, Any]:
    outcome = "nothing to do" if record.nothing_to_do else "done" if record.gathered else "not done"
    return {
        "job": record.job,
        "outcome": "done before" if record.gathered_before else outcome,
        "why": record.nothing_to_do,
        "plan": record.plan_id,
        "shards": record.shards,
        "units": record.units,
        "figures": record.findings.figures,
        "work": record.work.model_dump() if record.gathered else {},
        "missing": _missing(record, site),
        "left_out": [failure[:MAX_DETAIL] for failure in record.left_out[:MAX_CAUSES]],
        "left_out_count": len(record.left_out),
        "unusable": [failure[:MAX_DETAIL] for failure in record.unusable[:MAX_CAUSES]],
        "unusable_count": len(record.unusable),
    }


def _missing(record: JobRecord, site: Site) -> list[dict[str, Any]]:
    """List the rounds with shards that are not done."""
    if record.gathered or record.nothing_to_do:
        return []
    plan = load_plan_head(record.job, record.plan_id, site)
    missing = ((name, len(missing_shards(plan, name, site))) for name in record.rounds)
    return [{"round": name, "shards": count, "of": record.shards} for name, count in missing if count]


def _causes(records: Sequence[JobRecord], failures: Sequence[StageFailure], site: Site) -> list[dict[str, Any]]:
    """Group the unresolved failures by kind."""
    unresolved = sorted(_unresolved(records, failures, site), key=_kind)
    grouped = [(kind, list(group)) for kind, group in groupby(unresolved, _kind)]
    return [_cause(kind, same[0].name, same[0].detail, len(same)) for kind, same in grouped[:MAX_CAUSES]]


def _cause(kind: Kind, name: str, detail: str, pods: int) -> dict[str, Any]:
    job, stage, round_name, number = kind
    return {
        "job": job,
        "stage": stage,
        "round": round_name,
        "error": f"ACD-{number}",
        "name": name,
        "detail": detail[:MAX_DETAIL],
        "pods": pods,
    }


def _kind(failure: StageFailure) -> Kind:
    return failure.job, failure.stage, failure.round, failure.error


def _unresolved(records: Sequence[JobRecord], failures: Sequence[StageFailure], site: Site) -> Iterator[StageFailure]:
    """Iterate over failures whose stage did not succeed later."""
    by_job = {record.job: record for record in records}
    missing: dict[tuple[str, str], set[int]] = {}
    for failure in failures:
        record = by_job.get(failure.job)
        if record is None:
            yield failure
        elif not record.gathered and failure.stage != "plan":
            if not failure.round:  # of work that the pod of the plan does itself, all rounds together
                yield failure
                continue
            key = (failure.job, failure.round)
            if key not in missing:
                missing[key] = set(
                    missing_shards(load_plan_head(record.job, record.plan_id, site), failure.round, site)
                )
            if failure.shard is None or failure.shard in missing[key]:
                yield failure
