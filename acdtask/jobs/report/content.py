"""What a plan of a report has decided, the work of its shards, and what they have drawn."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field

from acdtask.jobs.contract import Content, Context, Plan, Settings, Work
from acdtask.jobs.report.edition import DrawnDate
from acdtask.jobs.report.model import BaselinePage, LeftOutRow
from acdtask.jobs.report.settings import ReportSettings

__all__ = ["Pictures", "PicturesWork", "PlannedMonth", "ReportContent", "ReportContext", "ReportPlan"]


class PlannedMonth(BaseModel):
    """A month that is made: a digest of what it is made from, and for each image the folder of its pictures."""

    inputs: str
    dates: dict[str, str]


class ReportContent(Content):
    """What a report shows.

    Attributes:
        aoi, report: its area, and its id.
        monitor, version: the monitoring result, and the number of its manifest.
        edition: the number of the newest edition, and whether it is `shown`.
        truth: a digest of the known events, empty without.
        ground, inputs: digests of what all pictures have in common, and of what the first page is made from.
        months: the months that are made.
        left_out: what other jobs left out, for the first page (`""`) and for each month that is made.
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

    def identity(self, settings: Settings) -> dict[str, Any]:
        """Of the settings only what is shown: not where the copy goes."""
        return {**self.decided(), **settings.model_dump(mode="json", include={"variable", "dates"})}


class PicturesWork(Work):
    """The images that a shard draws, by label; the baseline has none. Nothing, if only pages are to be made."""

    images: list[str]

    @property
    def names(self) -> tuple[str, ...]:
        """Its images; the baseline is called so."""
        return tuple(label or "baseline" for label in self.images)


class Pictures(BaseModel):
    """What a shard has drawn: the baseline, and images by label."""

    baseline: BaselinePage | None = None
    dates: dict[str, DrawnDate] = {}


ReportPlan = Plan[ReportSettings, ReportContent]
ReportContext = Context[ReportSettings, ReportContent]
