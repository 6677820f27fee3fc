"""Content of a report plan, and the work and results of its shards."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field

from acdtask.jobs.contract import Content, Context, Plan, Settings, Work
from acdtask.jobs.report.edition import DrawnDate, report_folder
from acdtask.jobs.report.fused import PlannedFusion
from acdtask.jobs.report.model import BaselinePage, LeftOutRow
from acdtask.jobs.report.settings import ReportSettings

__all__ = ["ComparedResult", "Pictures", "PicturesWork", "PlannedMonth", "ReportContent", "ReportContext", "ReportPlan"]


class PlannedMonth(BaseModel):
    """A month to write: a digest of its inputs, and the folder of pictures of each image, by label."""

    inputs: str
    dates: dict[str, str]


class ComparedResult(BaseModel):
    """Another monitoring result: its name, its id, and the number of its manifest."""

    name: str
    monitor: str
    version: int


class ReportContent(Content):
    """The decisions of a report plan.

    Attributes:
        aoi, report: the AOI and the report's id.
        monitor, version: the monitoring result and the number of its manifest.
        edition: number of the newest edition; `shown` says whether its first page is in place.
        truth: digest of the known events; empty without.
        ground, inputs: digests of what all pictures have in common, and of the first page's inputs.
        months: the months to write.
        left_out: what other jobs left out, for the first page (`""`) and for each month to write.
        compared: other results that are compared with the known events.
        fused: the fusion that is shown, if there is one.
    """

    aoi: str
    monitor: str
    truth: str
    report: str
    edition: int
    shown: bool
    version: int
    ground: str
    inputs: str
    months: dict[str, PlannedMonth]
    left_out: dict[str, list[LeftOutRow]] = Field(default={}, exclude_if=lambda value: not value)
    compared: list[ComparedResult] = Field(default=[], exclude_if=lambda value: not value)
    fused: PlannedFusion | None = Field(default=None, exclude_if=lambda value: value is None)

    @property
    def folder(self) -> str:
        """The folder of the report in the cube."""
        return report_folder(self.aoi, self.report)

    def identity(self, settings: Settings) -> dict[str, Any]:
        """The identity includes only settings that affect what is shown, not where the copy goes."""
        return {**self.decided(), **settings.model_dump(mode="json", include={"variable", "dates"})}


class PicturesWork(Work):
    """The labels of images that a shard draws; `""` is the baseline. Empty if only pages are to be written."""

    images: list[str]

    @property
    def names(self) -> tuple[str, ...]:
        """The image labels, with `baseline` for the baseline."""
        return tuple(label or "baseline" for label in self.images)


class Pictures(BaseModel):
    """The pictures that a shard drew: the baseline, and images by label."""

    baseline: BaselinePage | None = None
    dates: dict[str, DrawnDate] = {}


ReportPlan = Plan[ReportSettings, ReportContent]
ReportContext = Context[ReportSettings, ReportContent]
