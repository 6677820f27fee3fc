"""The event that says how a run ended, made from what the run has left in the store."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Literal, TypeAlias
from urllib.parse import quote

from acdtask.engine.run_summary import JobRecord, StageFailure, failures_of, records_of
from acdtask.engine.stages import load_plan_head, missing_shards
from acdtask.errors import AcdError, ErrorCode
from acdtask.jobs.contract import ImageFindings, Series, Site
from acdtask.jobs.news import News

__all__ = ["Ending", "Message", "Status", "attributes_of", "message_of"]

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


@dataclass(frozen=True)
class Message:
    """What an event carries, and the news that it announces.

    Attributes:
        data: the run in numbers, its news, and for each job what it did or lacks.
        announces: series, and the keys of their news that are among the images of the event.
    """

    data: dict[str, Any]
    announces: tuple[tuple[Series, list[str]], ...] = ()

    def acknowledge(self, ending: Ending, site: Site) -> None:
        """Remember what a delivered event has announced. A failure announces nothing: the next run tells it again."""
        if attributes_of(ending, self.data)["type"] != FAILED:
            for series, keys in self.announces:
                News(site.store, series).acknowledge(keys, ending.run)


@dataclass(frozen=True)
class _Account:
    """What a run has left in the store."""

    records: Sequence[JobRecord] = ()
    jobs: Sequence[dict[str, Any]] = ()
    causes: Sequence[dict[str, Any]] = ()
    images: Sequence[ImageFindings] = ()
    announces: tuple[tuple[Series, list[str]], ...] = ()


def message_of(ending: Ending, site: Site) -> Message:
    """What the event carries: news are the images of the run's series that were not announced yet.

    A series that is new gets its watermark. Of a run that failed it is less if the store cannot be read, which then is
    among the causes.

    Raises:
        AcdError: RUN_UNKNOWN if a run that succeeded has left nothing, or what Store raises.
    """
    try:
        account = _read(ending, site)
    except AcdError as error:
        if ending.status == "Succeeded":
            raise
        cause = _cause(("", "notify", "", error.code.value.number), error.code.name, error.detail, 1)
        account = _Account(causes=[cause])
    return Message(_data(ending, account), account.announces)


def _read(ending: Ending, site: Site) -> _Account:
    """What the run has left: of its jobs, and the causes of a failure."""
    records = records_of(ending.run, site)
    if ending.status == "Succeeded" and not records:
        raise AcdError(ErrorCode.RUN_UNKNOWN, f"nothing of run {ending.run} is at {site.address}")
    failed = ending.status != "Succeeded"
    causes = _causes(records, failures_of(ending.run, site), site) if failed else []
    jobs = [_job(record, site) for record in records]
    images: list[ImageFindings] = []
    announces: list[tuple[Series, list[str]]] = []
    for record in records:
        if record.series is not None:
            found, keys = _news_of(record.series, site)
            images += found
            announces.append((record.series, keys))
        elif record.gathered and not record.gathered_before:
            images += record.findings.images
    return _Account(records, jobs, causes, images, tuple(announces))


def _news_of(series: Series, site: Site) -> tuple[list[ImageFindings], list[str]]:
    from acdtask.jobs.monitor.news import pending_images

    News(site.store, series).open()
    return pending_images(series, site)


def _data(ending: Ending, account: _Account) -> dict[str, Any]:
    images = account.images
    named = {(image.label, image.datetime) for image in images}
    gathered = [image for record in account.records if record.gathered for image in record.findings.images]
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
        "images_not_announced": sum((image.label, image.datetime) not in named for image in gathered),
        "area_px": sum(image.area_px or 0 for image in images),
        "judged_px": sum(image.judged_px or 0 for image in images),
        "files": {name: address for record in account.records for name, address in record.findings.files.items()},
        "jobs": list(account.jobs),
        "causes": list(account.causes),
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


def _causes(records: Sequence[JobRecord], failures: Sequence[StageFailure], site: Site) -> list[dict[str, Any]]:
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


def _kind(failure: StageFailure) -> Kind:
    return failure.job, failure.stage, failure.round, failure.error


def _unsolved(records: Sequence[JobRecord], failures: Sequence[StageFailure], site: Site) -> Iterator[StageFailure]:
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
