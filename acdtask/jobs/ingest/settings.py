"""Settings of ingest."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from acdtask.cube.model import Name, NameIfAny, Variable
from acdtask.jobs.contract import Settings
from acdtask.jobs.ingest.producers import PRODUCERS, ProducerName
from acdtask.jobs.shards import BY_COST, POD_START
from acdtask.raster.data_format import DataFormat, DType, format_faults
from acdtask.storage.web_address import take_signature

__all__ = ["INGESTER", "ON_GEOCUBE", "IngestSettings"]

INGESTER = "geocube-ingester"
"""Source that stands for a Geocube ingester. A folder of that name can be given as ./geocube-ingester."""

ON_GEOCUBE = "geocube"
"""Source that stands for records already on the Geocube."""


class IngestSettings(Settings):
    """Which images to ingest, and how to read their values."""

    execution: ClassVar[frozenset[str]] = frozenset(
        {"shard_files", "pod_start", "wait_minutes", "post_again", "accept_failed"}
    )

    source: str = Field(
        description="GeoTIFFs: a folder, a file (https:// too), a pattern in quotes ('images/**/*.tif') or an s3:// "
        "prefix; STAC: a catalogue or items (.json, .geojson, .ndjson, .parquet), or an API "
        "(https://.../collections/NAME); "
        "geocube-ingester: post the AOI to the ingester at ACD_INGESTER_ADDRESS, which indexes its scenes; geocube: "
        "use records already on the Geocube at ACD_GEOCUBE_ADDRESS"
    )
    pattern: str = Field(
        default="*{start:%Y%m%d}_{end:%Y%m%d}*.tif",
        description="filename pattern: {date}, or {start} and {end}; any other {tag}; * matches anything; a pattern "
        "with / is matched against the end of the path; | separates several patterns",
    )
    asset: str = Field(default="", description="STAC only: asset to read; may be empty if each item has one GeoTIFF")
    aoi: str = Field(
        default="", description="AOI file; rasters outside it are excluded, and records get its record_tags"
    )
    make_layout: NameIfAny = Field(
        default="",
        description="layout to create if missing: on the grid of the AOI's graph_config (projection, resolution), or "
        "else on the images' grid",
    )
    cell_size: int = Field(
        default=1024, ge=1, le=65536, description="width and height of that layout's cells in pixels"
    )
    variable: Name = Field(default="CoherenceVV", description="variable to fill; created if missing")
    instance: Name = Field(default="master", description="instance to fill; created if missing")
    dtype: DType = Field(
        default="int16", description="data type of the variable; a baseline needs an integer type of 8 or 16 bits"
    )
    nodata: float = Field(default=-1, description="nodata of the variable")
    minimum: float = Field(default=0, allow_inf_nan=False, description="smallest valid value of the variable")
    maximum: float = Field(default=1000, allow_inf_nan=False, description="largest valid value of the variable")
    scale: float = Field(default=0.001, gt=0, allow_inf_nan=False, description="physical value = stored value x scale")
    unit: str = Field(default="", description="unit of the physical value")
    band: int | None = Field(
        default=None,
        ge=1,
        description="band of the rasters to read; default: the only band, or the only one whose name matches the "
        "variable's quantity and polarisation",
    )
    source_nodata: float | None = Field(
        default=None,
        description="nodata value of the source, in addition to NaN and each file's own nodata (see file_nodata)",
    )
    source_minimum: float | None = Field(
        default=None,
        allow_inf_nan=False,
        description="source value that maps to minimum; default: from the scale and offset of the file or its "
        "STAC item, or 0 for float rasters without them",
    )
    source_maximum: float | None = Field(
        default=None,
        allow_inf_nan=False,
        description="source value that maps to maximum; default: from the scale and offset of the file or its "
        "STAC item, or 1 for float rasters without them",
    )
    tags: dict[str, str] = Field(default={}, description="tags to add to every record")
    on_known: Literal["skip", "keep", "verify", "replace"] = Field(
        default="skip",
        description="records already in the cube: skip those whose file and settings are unchanged, and refuse "
        "different pixels; keep them without comparing; verify all, and repair the cube's damaged files; or replace "
        "pixels that differ",
    )
    wait_minutes: float = Field(
        default=0,
        ge=0,
        allow_inf_nan=False,
        description="geocube-ingester only: minutes to wait until it is done; 0 checks once",
    )
    post_again: bool = Field(
        default=False,
        description="geocube-ingester only: post the AOI again once its scenes are done, to add new scenes",
    )
    accept_failed: bool = Field(
        default=False,
        description="geocube-ingester only: continue without scenes and tiles that failed permanently, however many "
        "(see unusable_files)",
    )
    shard_files: int | None = Field(default=None, ge=1, description=f"rasters per shard; {BY_COST}, or 4")
    file_nodata: bool = Field(
        default=True,
        description="use each file's own nodata: its nodata value, mask, alpha band, mask file and STAC item; if off, "
        "only source_nodata and NaN count",
    )
    producer: ProducerName | None = Field(
        default=None,
        description="producer of the images: sets the pattern and the meaning of the values; other settings win",
    )

    @field_validator("source", mode="after")
    @classmethod
    def _without_signature(cls, value: str) -> str:
        """Move a signed query out of the address, since settings are stored and shown, into the environment."""
        return take_signature(value)

    @model_validator(mode="before")
    @classmethod
    def _of_producer(cls, values: Any) -> Any:
        """Fill in the settings implied by the producer, where they are not given.

        A workflow passes defaults explicitly, so a default counts as not given.
        """
        name = values.get("producer") if isinstance(values, dict) else None
        producer = next((producer for key, producer in PRODUCERS.items() if key == name), None)
        if producer is None:
            return values
        implied = {"pattern": producer.pattern, **producer.settings}
        return values | {
            field: value
            for field, value in implied.items()
            if field not in values or values[field] in (None, "", cls.model_fields[field].default)
        }

    track: str = Field(
        default="",
        description="track of all files, such as A015, for the tag track; default: from pattern, STAC or filename",
    )
    polarisation: Literal["VV", "VH", "HH", "HV", "any"] | None = Field(
        default=None, description="only files of this polarisation, or any; default: the one in the variable's name"
    )
    pod_start: float = Field(default=0, ge=0, allow_inf_nan=False, description=POD_START)
    unusable_files: int = Field(
        default=10,
        ge=0,
        description="how many of the source's files may be unusable, such as damaged ones, and at most half of them; "
        "the others are ingested, and the next run tries these again",
    )

    @model_validator(mode="after")
    def _ranges(self) -> IngestSettings:
        names = ("--nodata", "--minimum", "--maximum")
        faults = format_faults(self.dtype, nodata=self.nodata, low=self.minimum, high=self.maximum, names=names)
        if faults:
            raise ValueError("; ".join(f"{name} {fault}" for name, fault in faults))
        if self.minimum <= self.nodata <= self.maximum:
            raise ValueError(
                f"--nodata {self.nodata:g} is in the valid range, --minimum {self.minimum:g} to "
                f"--maximum {self.maximum:g}"
            )
        least, greatest = self.source_minimum, self.source_maximum
        if least is not None and greatest is not None and not least < greatest:
            raise ValueError(f"--source-minimum {least:g} is not below --source-maximum {greatest:g}")
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
