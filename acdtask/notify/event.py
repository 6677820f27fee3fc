"""Make the event that reports a finished run, from the run's records in the store."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Literal, TypeAlias
from urllib.parse import quote

from acdtask.engine.run_summary import JobRecord, StageFailure, failures_of, records_of
from acdtask.engine.stages import load_plan_head, missing_shards
from acdtask.errors import AcdError, ErrorCode
from acdtask.jobs.cautions import merged
from acdtask.jobs.contract import ImageFindings, Series, Site
from acdtask.jobs.news import News

__all__ = ["FinishedRun", "Message", "Status", "attributes_of", "message_of"]

Status = Literal["Succeeded", "Failed", "Error"]
Kind: TypeAlias = tuple[str, str, str, int]
"""Job, stage, round and error number of a failure."""

ALERT, HEARTBEAT, FAILED = (f"io.github.acd.run.{name}" for name in ("alert", "heartbeat", "failed"))

MAX_IMAGES = 200
MAX_CAUSES = 20
MAX_DETAIL = 300
"""These limits keep an event below 64 KiB, the size that intermediaries must forward (CloudEvents 1.0, size limits)."""


@dataclass(frozen=True)
class FinishedRun:
    """A run that has ended; `workflow` and `namespace` may be empty."""

    run: str
    status: Status
    aoi: str
    workflow: str = ""
    namespace: str = ""


def attributes_of(finished: FinishedRun, data: dict[str, Any]) -> dict[str, str]:
    """The attributes of the CloudEvent, without time. The same run and status give the same source and id.

    >>> finished = FinishedRun("7c1e", "Succeeded", "koln", "acd-all-x", "acd")
    >>> attributes = attributes_of(finished, {"patches": 2})
    >>> attributes["type"], attributes["source"], attributes["id"]
    ('io.github.acd.run.alert', '/namespaces/acd/workflows/acd-all-x', '7c1e-succeeded')
    """
    judged_nothing = data.get("area_px", 0) and not data.get("judged_px", 0)
    failed = finished.status != "Succeeded" or judged_nothing
    kind = FAILED if failed else ALERT if data["patches"] else HEARTBEAT
    attributes = {
        "specversion": "1.0",
        "type": kind,
        "source": _source(finished),
        "id": f"{finished.run}-{finished.status.lower()}",
        "subject": finished.aoi,
        "datacontenttype": "application/json",
    }
    return {name: value for name, value in attributes.items() if value}


@dataclass(frozen=True)
class Message:
    """The content of an event.

    Attributes:
        data: the run's figures, its news, and the result of each job.
        announces: series with the keys of the images that the event announces.
    """

    data: dict[str, Any]
    announces: tuple[tuple[Series, list[str]], ...] = ()

    def acknowledge(self, finished: FinishedRun, site: Site) -> None:
        """Record what a delivered event announced. A failure announces nothing; the next run announces it again."""
        if attributes_of(finished, self.data)["type"] != FAILED:
            for series, keys in self.announces:
                News(site.store, series).acknowledge(keys, finished.run)


@dataclass(frozen=True)
class _StoredRun:
    """What a run left in the store."""

    records: Sequence[JobRecord] = ()
    jobs: Sequence[dict[str, Any]] = ()
    causes: Sequence[dict[str, Any]] = ()
    images: Sequence[ImageFindings] = ()
    announces: tuple[tuple[Series, list[str]], ...] = ()


def message_of(finished: FinishedRun, site: Site) -> Message:
    """Make the content of the event; its news are the images of the run's series that were not announced yet.

    A new series gets its watermark. If the run failed and the store cannot be read, that error is the only cause.
    RUN_UNKNOWN if a run that succeeded left no records; errors of Store.
    """
    try:
        stored = _read(finished, site)
    except AcdError as error:
        if finished.status == "Succeeded":
            raise
        cause = _cause(("", "notify", "", error.code.value.number), error.code.name, error.detail, 1)
        stored = _StoredRun(causes=[cause])
    return Message(_data(finished, stored), stored.announces)


def _read(finished: FinishedRun, site: Site) -> _StoredRun:
    """Read the records of a run: jobs, images, and the causes of a failure."""
    records = records_of(finished.run, site)
    if finished.status == "Succeeded" and not records:
        raise AcdError(ErrorCode.RUN_UNKNOWN, f"there is no record of run {finished.run} at {site.address}")
    failed = finished.status != "Succeeded"
    causes = _causes(records, failures_of(finished.run, site), site) if failed else []
    jobs = [_job(record, site) for record in records]
    images: list[ImageFindings] = []
    announces: list[tuple[Series, list[str]]] = []
    for record in records:
        if record.series is not None:
            news, keys = _news_of(record.series, site)
            images += news
            announces.append((record.series, keys))
        elif record.gathered and not record.gathered_before:
            images += record.findings.images
    return _StoredRun(records, jobs, causes, images, tuple(announces))


def _news_of(series: Series, site: Site) -> tuple[list[ImageFindings], list[str]]:
    from acdtask.jobs.monitor.news import pending_images

    News(site.store, series).open()
    return pending_images(series, site)


def _data(finished: FinishedRun, stored: _StoredRun) -> dict[str, Any]:
    images = stored.images
    announced = {(image.label, image.datetime) for image in images}
    gathered = [image for record in stored.records if record.gathered for image in record.findings.images]
    return {
        "run": finished.run,
        "workflow": finished.workflow,
        "namespace": finished.namespace,
        "status": finished.status,
        "aoi": finished.aoi,
        "patches": sum(image.patches or 0 for image in images),
        "changed_area_m2": round(sum(image.changed_area_m2 or 0.0 for image in images), 1),
        "images": [image.model_dump(mode="json", exclude={"warnings"}) for image in images[-MAX_IMAGES:]],
        "images_left_out": max(len(images) - MAX_IMAGES, 0),
        "images_not_announced": sum((image.label, image.datetime) not in announced for image in gathered),
        "area_px": sum(image.area_px or 0 for image in images),
        "judged_px": sum(image.judged_px or 0 for image in images),
        "warnings": _warnings(stored),
        "files": {name: address for record in stored.records for name, address in record.findings.files.items()},
        "jobs": list(stored.jobs),
        "causes": list(stored.causes),
    }


def _warnings(stored: _StoredRun) -> list[dict[str, Any]]:
    """The warnings about the announced images and about this run's results, one of each kind and job."""
    records = [record for record in stored.records if record.gathered and not record.gathered_before]
    images = [*stored.images, *(image for record in records for image in record.findings.images)]
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
            key = (failure.job, failure.round)
            if key not in missing:
                missing[key] = set(
                    missing_shards(load_plan_head(record.job, record.plan_id, site), failure.round, site)
                )
            if failure.shard is None or failure.shard in missing[key]:
                yield failure
