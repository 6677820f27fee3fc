"""Parts of a plan: settings, content, shards and their work."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Generic, TypeVar

from pydantic import BaseModel, Field

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
"""Key in a plan's notes: what a plan without units does, such as making a published result the current one again."""

WARNING = "warning"
"""Key in a plan's notes: a sentence that its user should read before the work begins."""


class Settings(BaseModel, frozen=True, extra="forbid", ser_json_inf_nan="strings"):
    """The settings of a job, from which options, workflow parameters and the reference are generated.

    `execution` names the settings that affect how a job runs but not its results; they never enter a content id.
    """

    execution: ClassVar[frozenset[str]] = frozenset({"shard_tiles", "pod_start"})

    def science(self) -> dict[str, Any]:
        """The settings that affect results, as JSON values."""
        return self.model_dump(mode="json", exclude=set(self.execution))


class Estimate(BaseModel, frozen=True, ser_json_inf_nan="strings"):
    """Expected cost of a plan. `memory_bytes` is the peak memory of a process that runs any of its shards."""

    tiles: int = 0
    dates: int = 0
    bytes_read: int = 0
    bytes_written: int = 0
    core_seconds: float = 0.0
    memory_bytes: int = 0


class Content(BaseModel, frozen=True, extra="forbid", ser_json_inf_nan="strings"):
    """Decisions of a plan, in addition to its settings. Each job has its own class."""

    described: ClassVar[frozenset[str]] = frozenset()
    """Fields that follow from the others; they never enter a content id."""

    def identity(self, settings: Settings) -> dict[str, Any]:
        """Everything that affects results, as JSON values, from which the content id is made."""
        return {"settings": settings.science(), **self.decided()}

    def decided(self) -> dict[str, Any]:
        """The fields that affect results, as JSON values; empty optional fields are omitted."""
        return self.model_dump(mode="json", exclude=set(self.described))


class Series(BaseModel, frozen=True):
    """A series of images that are judged the same way, as watched by a user (docs/decisions/0027).

    Attributes:
        aoi: name of the AOI.
        id: content id, made from what the user asked for.
        watermark: datetime of the newest image when the plan was made. If this plan opens the watch, only later
            images are news.
        watch: id of what the series is for its user, whatever its thresholds and versions (docs/decisions/0044).
    """

    aoi: str
    id: str
    watermark: dt.datetime
    watch: str = ""


class Work(BaseModel, frozen=True, extra="forbid", ser_json_inf_nan="strings"):
    """The work of a shard, the same in all rounds of a job. Each job has its own class."""

    @property
    def names(self) -> tuple[str, ...]:
        """Names of its tiles or files, for messages."""
        return ()


SettingsT = TypeVar("SettingsT", bound=Settings)
ContentT = TypeVar("ContentT", bound=Content)
WorkT = TypeVar("WorkT", bound=Work)


class Shard(BaseModel, Generic[WorkT], frozen=True, ser_json_inf_nan="strings"):
    """The work of one pod, and its number of `units` (tiles or files)."""

    units: int
    work: WorkT


@dataclass(frozen=True)
class Draft(Generic[ContentT, WorkT]):
    """The result of `Job.plan`, from which the engine makes a `Plan`.

    Attributes:
        content: its decisions.
        shards: the work.
        rounds: names of the rounds that the plan needs, in order; None means all.
        notes: notes for the caller, such as the tiles as GeoJSON under "map", or WARNING. A plan that computes nothing
            and only makes a published result the current one again has a sentence under AGAIN.
        nothing_to_do: a sentence that explains why there is no work, or empty.
        unusable: inputs that cannot be used, by name. `content` must name them too.
        series: series of the images, for jobs that have series.
    """

    content: ContentT
    shards: list[Shard[WorkT]]
    estimate: Estimate
    notes: dict[str, Any] = field(default_factory=dict)
    nothing_to_do: str = ""
    unusable: Mapping[str, Failure] = field(default_factory=dict)
    rounds: tuple[str, ...] | None = None
    series: Series | None = None


class PlanHead(BaseModel, frozen=True, ser_json_inf_nan="strings"):
    """The part of a plan that does not depend on the job. Equal inputs, settings and shards give the same plan_id.

    `content_id` does not depend on the sharding; products are named by it. `rounds` are the rounds that the plan needs.
    `version` is that of the acd which made the plan, for information; `algorithm` is the job's; `format` is that of the
    stored plan and rounds. `series` is the series of the images, for jobs that have series.
    """

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
    unusable: dict[str, Failure] = Field(default={}, exclude_if=lambda value: not value)
    algorithm: int = 1
    format: int = 1
    series: Series | None = None


class Plan(PlanHead, Generic[SettingsT, ContentT]):
    """A stored plan, with the settings that it was made with and its content."""

    settings: SettingsT
    content: ContentT


def content_id_of(job: str, algorithm: int, content: dict[str, Any]) -> str:
    """The content id of a job's results: 16 hexadecimal digits, equal for equal content.

    It does not depend on the version of acd, so a release that changes no results makes nothing pending.

    `algorithm` is the job's `ALGORITHM`; `content` is everything else that affects results, as JSON values.
    """
    canonical = json.dumps([job, algorithm, content], sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]
