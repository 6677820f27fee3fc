"""What a job plans: its settings, the content of a plan, the work of its shards."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from acdtask.jobs.quarantine import Failure

__all__ = [
    "AGAIN",
    "WARNING",
    "Content",
    "ContentT",
    "Draft",
    "Estimate",
    "Plan",
    "PlanHead",
    "Series",
    "Settings",
    "SettingsT",
    "Shard",
    "Work",
    "WorkT",
    "content_id_of",
]

AGAIN = "again"
"""In the notes of a plan that computes nothing and makes a published result the current one: a sentence about it."""

WARNING = "warning"
"""In the notes of a plan: a sentence that its user should read before the work begins."""


class Settings(BaseModel):
    """The settings of a job. Options, workflow parameters and the reference are made from it.

    Settings that say how to run, and not what comes out, are named in `execution`: they never enter a content id.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")
    execution: ClassVar[frozenset[str]] = frozenset({"shard_tiles", "pod_start"})

    def science(self) -> dict[str, Any]:
        """The settings that decide what comes out, as JSON values."""
        return self.model_dump(mode="json", exclude=set(self.execution))


class Estimate(BaseModel):
    """What a plan will cost. `memory_bytes` is what a process holds at once that does any of its shards."""

    model_config = ConfigDict(frozen=True, ser_json_inf_nan="strings")

    tiles: int = 0
    dates: int = 0
    bytes_read: int = 0
    bytes_written: int = 0
    core_seconds: float = 0.0
    memory_bytes: int = 0


class Content(BaseModel):
    """What a plan has decided, beside its settings. Each job has its own."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")
    described: ClassVar[frozenset[str]] = frozenset()
    """Fields that follow from the others: they never enter a content id."""

    def identity(self, settings: Settings) -> dict[str, Any]:
        """Everything that decides what comes out, as JSON values: the content id is made from it."""
        return {"settings": settings.science(), **self.decided()}

    def decided(self) -> dict[str, Any]:
        """The fields that decide what comes out, as JSON values; what is not there is left out."""
        return self.model_dump(mode="json", exclude=set(self.described))


class Series(BaseModel):
    """What a person watches: a series of images judged the same way (docs/decisions/0027).

    Attributes:
        aoi: name of the AOI.
        id: content id, made from what the person asked for.
        watermark: datetime of the newest image when the plan was made. If this plan opens the series, only later
            images are news.
    """

    model_config = ConfigDict(frozen=True)

    aoi: str
    id: str
    watermark: dt.datetime


class Work(BaseModel):
    """The work of one shard; every round of a job gets the same. Each job has its own."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")

    @property
    def names(self) -> tuple[str, ...]:
        """What people call its tiles or files."""
        return ()


SettingsT = TypeVar("SettingsT", bound=Settings)
ContentT = TypeVar("ContentT", bound=Content)
WorkT = TypeVar("WorkT", bound=Work)


class Shard(BaseModel, Generic[WorkT]):
    """The work of one pod, and how many `units` (tiles or files) it is."""

    model_config = ConfigDict(frozen=True, ser_json_inf_nan="strings")

    units: int
    work: WorkT


@dataclass(frozen=True)
class Draft(Generic[ContentT, WorkT]):
    """What `Job.plan` decides.

    Attributes:
        content: what it has decided.
        shards: the work.
        rounds: the names of the rounds that it needs, in order; None for all.
        notes: what the caller of `plan` should see, such as the tiles as GeoJSON under "map", or WARNING. A plan that
            computes nothing, and only makes a published result the current one again, says so under AGAIN.
        nothing_to_do: a sentence that says why there is no work, or empty.
        left_out: inputs that failed for good while planning, by what people call them. `content` has to name them.
        series: what the images belong to, if the job has series.
    """

    content: ContentT
    shards: list[Shard[WorkT]]
    estimate: Estimate
    notes: dict[str, Any] = field(default_factory=dict)
    nothing_to_do: str = ""
    left_out: Mapping[str, Failure] = field(default_factory=dict)
    rounds: tuple[str, ...] | None = None
    series: Series | None = None


class PlanHead(BaseModel):
    """What all plans have, whatever the job. The same inputs, settings and shards make the same plan_id.

    `content_id` leaves the sharding out: products are named by it. `rounds` are those that this plan needs. `version`
    is the acd that made the plan, for people; `algorithm` is the job's, `format` that of what a plan and its rounds
    store. `series` is what the images belong to, for a job that has series.
    """

    model_config = ConfigDict(frozen=True, ser_json_inf_nan="strings")

    job: str
    plan_id: str
    content_id: str
    version: str
    rounds: tuple[str, ...]
    shards: int = Field(ge=0)
    units: int = Field(ge=0)
    estimate: Estimate
    notes: dict[str, Any] = {}
    nothing_to_do: str = ""
    left_out: dict[str, Failure] = Field(default={}, exclude_if=lambda value: not value)
    algorithm: int = 1
    format: int = 1
    series: Series | None = None


class Plan(PlanHead, Generic[SettingsT, ContentT]):
    """A plan as it is stored, with the settings that it was made with, and what it has decided."""

    settings: SettingsT
    content: ContentT


def content_id_of(job: str, algorithm: int, content: dict[str, Any]) -> str:
    """Sixteen hexadecimal digits that name what a job makes: the same content, the same id.

    The version of acd is not part of it: a release that changes no results makes nothing pending.

    Args:
        job: name of the job.
        algorithm: the job's `ALGORITHM`.
        content: everything else that decides what comes out, as JSON values.
    """
    canonical = json.dumps([job, algorithm, content], sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]
