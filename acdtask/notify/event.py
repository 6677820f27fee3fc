"""The event that says how a run ended, made from what the run has left in the store."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Literal, TypeAlias
from urllib.parse import quote

from acdtask.engine.account import Failure, JobRecord, failures_of, records_of
from acdtask.engine.stages import load_plan_head, missing_shards
from acdtask.errors import AcdError, ErrorCode
from acdtask.jobs.contract import Site

__all__ = ["Ending", "Status", "attributes_of", "data_of"]

Status = Literal["Succeeded", "Failed", "Error"]
Kind: TypeAlias = tuple[str, str, str, int]
"""Job, stage, round and number of an error."""

ALERT, HEARTBEAT, FAILED = (f"io.github.acd.run.{name}" for name in ("alert", "heartbeat", "failed"))

IMAGES_AT_MOST = 200
CAUSES_AT_MOST = 20
DETAIL_AT_MOST = 300
"""An event has to stay below 64 KiB: more need not be forwarded (CloudEvents 1.0, size limits)."""


@dataclass(frozen=True)
class Ending:
    """A run that has ended. `workflow` and `namespace` may be empty."""

    run: str
    status: Status
    aoi: str
    workflow: str = ""
    namespace: str = ""


def attributes_of(ending: Ending, data: dict[str, Any]) -> dict[str, str]:
    """The attributes of the CloudEvent, without a time: the same run and status have the same source and id.

    >>> ending = Ending("7c1e", "Succeeded", "koln", "acd-all-x", "acd")
    >>> attributes = attributes_of(ending, {"patches": 2})
    >>> attributes["type"], attributes["source"], attributes["id"]
    ('io.github.acd.run.alert', '/namespaces/acd/workflows/acd-all-x', '7c1e-succeeded')
    """
    judged_nothing = data.get("area_px", 0) and not data.get("judged_px", 0)
    failed = ending.status != "Succeeded" or judged_nothing
    kind = FAILED if failed else ALERT if data["patches"] else HEARTBEAT
    attributes = {
        "specversion": "1.0",
        "type": kind,
        "source": _source(ending),
        "id": f"{ending.run}-{ending.status.lower()}",
        "subject": ending.aoi,
        "datacontenttype": "application/json",
    }
    return {name: value for name, value in attributes.items() if value}


def data_of(ending: Ending, site: Site) -> dict[str, Any]:
    """What the event carries: the run in numbers, its new images and patches, and for each job what it did or lacks.

    Of a run that failed it is less if the store cannot be read, which then is among the causes.

    Raises:
        AcdError: RUN_UNKNOWN if a run that succeeded has left nothing, or what Store raises.
    """
    try:
        return _told(ending, *_read(ending, site))
    except AcdError as error:
        if ending.status == "Succeeded":
            raise
        cause = _cause(("", "notify", "", error.code.value.number), error.code.name, error.detail, 1)
        return _told(ending, [], [], [cause])


def _read(ending: Ending, site: Site) -> tuple[list[JobRecord], list[dict[str, Any]], list[dict[str, Any]]]:
    """The records of the run's jobs, each as the event has it, and the causes of a failure."""
    records = records_of(ending.run, site)
    if ending.status == "Succeeded":
        if not records:
            raise AcdError(ErrorCode.RUN_UNKNOWN, f"nothing of run {ending.run} is at {site.address}")
        return records, [_job(record, site) for record in records], []
    causes = _causes(records, failures_of(ending.run, site), site)
    return records, [_job(record, site) for record in records], causes


def _told(
    ending: Ending, records: Sequence[JobRecord], jobs: list[dict[str, Any]], causes: list[dict[str, Any]]
) -> dict[str, Any]:
    news = [record for record in records if record.gathered and not record.gathered_before]
    images = [image for record in news for image in record.findings.images]
    return {
        "run": ending.run,
        "workflow": ending.workflow,
        "namespace": ending.namespace,
        "status": ending.status,
        "aoi": ending.aoi,
        "patches": sum(image.patches or 0 for image in images),
        "changed_area_m2": round(sum(image.changed_area_m2 or 0.0 for image in images), 1),
        "images": [image.model_dump(mode="json") for image in images[-IMAGES_AT_MOST:]],
        "images_left_out": max(len(images) - IMAGES_AT_MOST, 0),
        "area_px": sum(image.area_px or 0 for image in images),
        "judged_px": sum(image.judged_px or 0 for image in images),
        "files": {name: address for one in records for name, address in one.findings.files.items()},
        "jobs": jobs,
        "causes": causes,
    }


def _source(ending: Ending) -> str:
    if not ending.workflow:
        return f"/runs/{quote(ending.run, safe='')}"
    space = f"/namespaces/{quote(ending.namespace, safe='')}" if ending.namespace else ""
    return f"{space}/workflows/{quote(ending.workflow, safe='')}"


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
        "left_out": [one[:DETAIL_AT_MOST] for one in record.left_out[:CAUSES_AT_MOST]],
        "left_out_count": len(record.left_out),
    }


def _missing(record: JobRecord, site: Site) -> list[dict[str, Any]]:
    """The rounds with shards that are not done."""
    if record.gathered or record.nothing_to_do:
        return []
    plan = load_plan_head(record.job, record.plan_id, site)
    counted = ((name, len(missing_shards(plan, name, site))) for name in record.rounds)
    return [{"round": name, "shards": count, "of": record.shards} for name, count in counted if count]


def _causes(records: Sequence[JobRecord], failures: Sequence[Failure], site: Site) -> list[dict[str, Any]]:
    """The errors of stages that never went well, those of one kind together."""
    left = sorted(_unsolved(records, failures, site), key=_kind)
    grouped = [(kind, list(group)) for kind, group in groupby(left, _kind)]
    return [_cause(kind, same[0].name, same[0].detail, len(same)) for kind, same in grouped[:CAUSES_AT_MOST]]


def _cause(kind: Kind, name: str, detail: str, pods: int) -> dict[str, Any]:
    job, stage, round_name, number = kind
    return {
        "job": job,
        "stage": stage,
        "round": round_name,
        "error": f"ACD-{number}",
        "name": name,
        "detail": detail[:DETAIL_AT_MOST],
        "pods": pods,
    }


def _kind(failure: Failure) -> Kind:
    return failure.job, failure.stage, failure.round, failure.error


def _unsolved(records: Sequence[JobRecord], failures: Sequence[Failure], site: Site) -> Iterator[Failure]:
    """What failed, and did not go well when it was tried again."""
    by_job = {record.job: record for record in records}
    missing: dict[tuple[str, str], set[int]] = {}
    for failure in failures:
        record = by_job.get(failure.job)
        if record is None:
            yield failure
        elif not record.gathered and failure.stage != "plan":
            place = (failure.job, failure.round)
            if place not in missing:
                missing[place] = set(
                    missing_shards(load_plan_head(record.job, record.plan_id, site), failure.round, site)
                )
            if failure.shard is None or failure.shard in missing[place]:
                yield failure
