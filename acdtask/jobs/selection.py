"""Settings that select records, shared by all jobs that stack images."""

from __future__ import annotations

from datetime import datetime

from pydantic import Field

from acdtask.cube.aoi import Aoi
from acdtask.cube.model import Name
from acdtask.dates import LastMoment, Moment
from acdtask.jobs.contract import Settings
from acdtask.jobs.stacks import MIXED, ONE_TRACK, PAIR_DAYS, TAGS, RecordChoice, Selection

__all__ = ["ImageSelectionSettings", "SelectionSettings"]


class SelectionSettings(Settings):
    """Settings that select a job's records."""

    aoi: str = Field(description="AOI file (a Geocube ingester payload)")
    layout: Name = Field(description="layout whose tiles are computed")
    variable: Name = Field(default="CoherenceVV", description="variable to read")
    instance: Name = Field(default="master", description="instance to read")
    start: Moment | None = Field(default=None, description="first datetime; default: the AOI's start")
    end: LastMoment | None = Field(
        default=None, description="last datetime (of a day, 00:00 UTC); default: the AOI's end"
    )
    tags: dict[str, str] = Field(default={}, description=TAGS)
    track: str = Field(default="", description=ONE_TRACK)

    def choice(self) -> RecordChoice:
        """The filters for records in the area and period."""
        return RecordChoice(tags=self.tags, track=self.track)

    def selection(self, aoi: Aoi, start: datetime | None, end: datetime | None) -> Selection:
        """The records selected by these settings.

        `start` and `end` are the defaults for the first and last datetime.
        """
        return Selection(aoi, self.variable, self.instance, self.start or start, self.end or end, self.choice())


class ImageSelectionSettings(SelectionSettings):
    """Settings that select the records of the images that are compared."""

    records: str = Field(default="", description="only records whose names match this pattern (* and ?)")
    leave_out: tuple[str, ...] = Field(default=(), description="records to exclude: patterns of names (* and ?)")
    pair_days: tuple[int, ...] = Field(default=(), description=PAIR_DAYS)
    mixed: bool = Field(default=False, description=MIXED)

    def choice(self) -> RecordChoice:
        """The filters for records in the area and period."""
        return RecordChoice(self.records, self.leave_out, self.tags, self.track, self.pair_days, self.mixed)
