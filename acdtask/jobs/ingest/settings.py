"""Settings of ingest."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field, model_validator

from acdtask.cube.model import DataFormat, DType, Name, NameIfAny, Variable
from acdtask.jobs.contract import Settings

__all__ = ["INGESTER", "ON_GEOCUBE", "IngestSettings"]

INGESTER = "geocube-ingester"
"""The source that is no place of files; a folder of that name is ./geocube-ingester."""

ON_GEOCUBE = "geocube"
"""The source that says that the records are there already."""


class IngestSettings(Settings):
    """What to bring in, and what its numbers mean."""

    execution: ClassVar[frozenset[str]] = frozenset({"shard_files", "wait_minutes", "post_again", "accept_failed"})

    source: str = Field(
        description="folder or s3:// prefix of GeoTIFFs, a STAC catalogue, collection or item collection (.json), "
        "geocube-ingester: the ingester of ACD_INGESTER_ADDRESS gets the AOI and indexes its scenes, or geocube: the "
        "records are on the Geocube of ACD_GEOCUBE_ADDRESS"
    )
    pattern: str = Field(
        default="*{start:%Y%m%d}_{end:%Y%m%d}*.tif",
        description="how filenames give dates and tags: {date} or {start} and {end}, any other {tag}, * for the rest",
    )
    asset: str = Field(default="", description="STAC only: the asset to read; empty if each item has one GeoTIFF")
    aoi: str = Field(
        default="", description="AOI file; rasters that do not touch it are left out, records get its record_tags"
    )
    make_layout: NameIfAny = Field(
        default="",
        description="layout to make from the AOI's graph_config (projection, resolution), if it is not there",
    )
    cell_size: int = Field(
        default=1024, ge=1, le=65536, description="width and height of that layout's cells in pixels"
    )
    variable: Name = Field(default="CoherenceVV", description="variable to fill; created if missing")
    instance: Name = Field(default="master", description="instance to fill; created if missing")
    dtype: DType = Field(default="int16", description="data type of the variable")
    nodata: float = Field(default=-1, description="nodata of the variable")
    minimum: float = Field(default=0, description="smallest valid value of the variable")
    maximum: float = Field(default=1000, description="largest valid value of the variable")
    scale: float = Field(default=0.001, gt=0, description="physical value = stored value x scale")
    unit: str = Field(default="", description="unit of the physical value")
    band: int = Field(default=1, ge=1, description="band of the rasters to read")
    source_nodata: float | None = Field(
        default=None, description="value (or nan) that means nodata in the source; default: what each file says"
    )
    source_minimum: float | None = Field(
        default=None, description="source value that becomes minimum; default: 0 for float rasters, else minimum"
    )
    source_maximum: float | None = Field(
        default=None, description="source value that becomes maximum; default: 1 for float rasters, else maximum"
    )
    tags: dict[str, str] = Field(default={}, description="tags to add to every record")
    on_known: Literal["skip", "verify"] = Field(
        default="skip",
        description="records that the cube has already: skip them, or compare them with the source and repair the "
        "cube's damaged files",
    )
    wait_minutes: float = Field(
        default=0, ge=0, description="geocube-ingester only: how long to wait until it is done; 0 looks once"
    )
    post_again: bool = Field(
        default=False,
        description="geocube-ingester only: post the AOI again once its scenes are done, so that new ones are added",
    )
    accept_failed: bool = Field(
        default=False, description="geocube-ingester only: continue without scenes and tiles that failed permanently"
    )
    shard_files: int = Field(default=4, ge=1, description="rasters per shard")

    @model_validator(mode="after")
    def _ranges(self) -> IngestSettings:
        self.definition()
        if self.minimum <= self.nodata <= self.maximum:
            raise ValueError(f"nodata {self.nodata:g} lies in the valid range {self.minimum:g} to {self.maximum:g}")
        if self.source == INGESTER and not self.aoi:
            raise ValueError(f"source {INGESTER} needs an AOI")
        return self

    def definition(self) -> Variable:
        """The variable that these settings describe."""
        return Variable(
            name=self.variable,
            dformat=DataFormat(dtype=self.dtype, nodata=self.nodata, min=self.minimum, max=self.maximum),
            unit=self.unit,
            scale=self.scale,
        )
