"""Data of the job fuse: the content of a plan, the work of its shards, their results, and the published manifest."""

from __future__ import annotations

import datetime as dt
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict

from acdtask.jobs.contract import Content, Context, Plan, Settings, Work
from acdtask.jobs.fuse.settings import FuseSettings

__all__ = [
    "FuseContent",
    "FuseContext",
    "FusePlan",
    "FuseWork",
    "FusedImage",
    "FusedMonth",
    "FusedWindow",
    "FusedWindows",
    "FusionManifest",
    "Member",
    "MemberImage",
    "MemberMonths",
    "MonthOfWindows",
    "PlannedWindow",
]


class _Document(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Member(_Document):
    """A monitoring result to fuse: its name as in the settings, and the id of its series."""

    name: str
    series: str

    @property
    def variable(self) -> str:
        """The variable that it watches."""
        return self.name.split("/")[0]

    @property
    def layout(self) -> str:
        """The layout of its pixels."""
        return self.name.split("/")[1]


class MemberImage(_Document):
    """An image of a member in a window: the member's number, its label and datetime, and the key of its document."""

    member: int
    label: str
    datetime: dt.datetime
    document: str


class FusedImage(_Document):
    """An image of a fused window."""

    label: str
    datetime: dt.datetime


class PlannedWindow(_Document):
    """A window to fuse. `inputs` is a digest of its images; `start` and `datetime` are those of the first and last."""

    label: str
    start: dt.datetime
    datetime: dt.datetime
    images: tuple[MemberImage, ...]
    inputs: str


class FusedWindow(_Document):
    """A fused window.

    Attributes:
        label, start, datetime, inputs: as planned.
        images: its images, by name of the member.
        table: key of the part with its findings, kept and held back.
        patches, held_back: numbers of findings.
        changed_area_m2: sum of the areas of patches.
        judged_km2: area that at least one member could judge.
    """

    label: str
    start: dt.datetime
    datetime: dt.datetime
    inputs: str
    images: dict[str, FusedImage]
    table: str
    patches: int
    held_back: int
    changed_area_m2: float
    judged_km2: float


class MonthOfWindows(_Document):
    """The windows that end in a month, by time, stored as the part `FusedMonth.document`."""

    windows: list[FusedWindow]


class FusedMonth(_Document):
    """The windows that end in a month (UTC).

    Attributes:
        month: such as 2018-07.
        windows, patches, held_back: number of windows, and of their findings.
        changed_area_m2: sum of the areas of patches.
        document: key of the part with the `MonthOfWindows`.
        parquet, geojson, rejected: keys of the parts with the patches, and with what is held back.
    """

    month: str
    windows: int
    patches: int
    held_back: int
    changed_area_m2: float
    document: str
    parquet: str
    geojson: str
    rejected: str


class MemberMonths(_Document):
    """The images of all members in a month: keys of the documents that list them, by name of the member."""

    month: str
    documents: dict[str, str]


class FusionManifest(_Document):
    """A published fusion. `content_id` depends on the area, the members and the settings, not on their images.

    `sources` are the images that are in its windows, month by month. A plan only reads those of months that changed.
    """

    content_id: str
    aoi: str
    name: str
    members: list[Member]
    settings: dict[str, Any]
    version: str
    sources: list[MemberMonths]
    months: list[FusedMonth]


class FuseContent(Content):
    """The decisions of a plan.

    Attributes:
        aoi, area: name of the AOI and its GeoJSON geometry.
        fusion: content id of the result.
        members: the members, sorted by name.
        judged_by: name of the model that gave the probabilities of their candidates.
        since: start of the first window of the plan; earlier windows stay as they are. None if it has all.
        windows: digest of the inputs of each window since then, by label, also of those that are fused already.
        sources: the images of the members in the months since then.
        pending: labels of the windows to fuse.
    """

    described: ClassVar[frozenset[str]] = frozenset({"area"})

    aoi: str
    area: dict[str, Any]
    fusion: str
    members: tuple[Member, ...]
    judged_by: str
    since: dt.datetime | None
    windows: dict[str, str]
    sources: tuple[MemberMonths, ...]
    pending: tuple[str, ...]

    def identity(self, settings: Settings) -> dict[str, Any]:
        """The fusion's id has the settings."""
        del settings
        return self.decided()

    @property
    def folder(self) -> str:
        """The folder of the result."""
        return f"products/{self.aoi}/fuse/{self.fusion}"


class FuseWork(Work):
    """The windows that a shard fuses."""

    windows: list[PlannedWindow]

    @property
    def names(self) -> tuple[str, ...]:
        """The labels of the windows."""
        return tuple(window.label for window in self.windows)


class FusedWindows(BaseModel):
    """The windows that a shard fused."""

    windows: list[FusedWindow]


FusePlan = Plan[FuseSettings, FuseContent]
FuseContext = Context[FuseSettings, FuseContent]
