"""Settings of report."""

from __future__ import annotations

from typing import ClassVar, Self

from pydantic import Field, TypeAdapter, model_validator

from acdtask.cube.model import Name
from acdtask.jobs.contract import Settings
from acdtask.jobs.shards import BY_COST, POD_START

__all__ = ["ReportSettings"]

NAME = TypeAdapter(Name)


class ReportSettings(Settings):
    """Which monitoring result to show, and where to copy it."""

    execution: ClassVar[frozenset[str]] = frozenset({"out", "shard_images", "pod_start"})

    aoi: str = Field(description="AOI file (a Geocube ingester payload)")
    layout: Name = Field(description="layout of the monitoring result")
    variable: Name = Field(default="CoherenceVV", description="variable that was monitored")
    name: Name = Field(default="monitor", description="name of the monitoring result")
    monitor: str = Field(default="latest", description="content id of the monitoring result, or latest")
    truth: str = Field(default="", description="GeoJSON file of known events to compare with")
    compare: str = Field(
        default="",
        description="names of other monitoring results of this area, separated by commas: the report compares all with"
        " the known events",
    )
    fused: Name = Field(
        default="fused", description="name of the fusion to show, if there is one and this result is a member of it"
    )
    dates: int = Field(default=30, ge=1, description="newest dates on the first page; each month has its own page")
    out: str = Field(default="", description="folder or s3:// address to copy the report to")
    shard_images: int | None = Field(default=None, ge=1, description=f"images per shard; {BY_COST}, or 10")
    pod_start: float = Field(default=0, ge=0, allow_inf_nan=False, description=POD_START)

    @model_validator(mode="after")
    def _comparable(self) -> Self:
        for name in self.compared:
            NAME.validate_python(name)
        if self.compared and not self.truth:
            raise ValueError("compare needs truth: results are compared by the known events that they find")
        return self

    @property
    def compared(self) -> tuple[str, ...]:
        """The names in `compare`."""
        return tuple(name.strip() for name in self.compare.split(",") if name.strip())
