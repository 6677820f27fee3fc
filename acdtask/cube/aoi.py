"""Areas of interest: any GeoJSON or vector file with a name, such as a payload of the Geocube ingester.

Field names and types are those of AreaToIngest (airbusgeo/geocube-ingester, catalog/entities/entities.go), so a file
can be used for both. Fields that acd does not use are kept, and validated only as far as the ingester's server does.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import datetime
from functools import cached_property
from typing import Annotated, Any

import shapely
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from shapely.geometry.base import BaseGeometry

from acdtask.cube.aoi_area import area_of_document, features_of
from acdtask.cube.model import NAME_BYTES, NAME_RULE
from acdtask.cube.vector import VECTOR_ENDINGS, read_vector_file
from acdtask.dates import end_of_period, parse_moment
from acdtask.errors import AcdError, ErrorCode
from acdtask.raster.grid import RegularGrid
from acdtask.storage.files import read_small_file
from acdtask.storage.store import Store

__all__ = ["Aoi", "Layer", "SceneType", "aoi_document", "load_aoi"]

SLASHED = re.compile(r"^(\d{4})/(\d\d)/(\d\d)")
"""A date field in GeoJSON that GDAL wrote."""

GIVEN = ("name", "start_time", "end_time")
"""Fields of an AOI that may also be properties of its features, or given as options."""

NAME_FIX = (
    "Give --aoi-name, or add name to the file, as a top-level member or as a property of the feature. To limit the "
    "dates, give --aoi-start and --aoi-end, or add start_time and end_time."
)

OPTION_OF = {"name": "--aoi-name", "start_time": "--aoi-start", "end_time": "--aoi-end"}
"""Options for the fields of an area."""


def _moment(value: object) -> datetime:
    """Parse a date from a JSON string. ValueError for anything else."""
    return parse_moment(_text(value))


def _last_moment(value: object) -> datetime:
    """Parse a date; a day without a time means its end."""
    return end_of_period(_text(value))


def _text(value: object) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is not a date, such as 2021-01-07 or 2021-01-07T00:00:00Z")  # noqa: TRY004  # pydantic turns it into an error of the field
    return SLASHED.sub(r"\1-\2-\3", value.strip())


Moment = Annotated[datetime, BeforeValidator(_moment)]
LastMoment = Annotated[datetime, BeforeValidator(_last_moment)]


class _Payload(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)


class SceneType(_Payload):
    """The scenes that the ingester downloads."""

    constellation: str = ""
    parameters: dict[str, str] = {}


class Layer(_Payload):
    """The variable and instance of an output of the ingester."""

    variable: str = ""
    instance: str = ""
    instance_id: str = ""


class Aoi(_Payload):
    """An area, a time range, tags and settings.

    Attributes:
        geojson: a GeoJSON Polygon or MultiPolygon in longitude and latitude: the union of all geometries in the file,
            cut at the antimeridian (RFC 7946, section 3.1.9).
        start, end: UTC, inclusive; None for no limit. The ingester calls them start_time and end_time.
    """

    name: str
    geojson: dict[str, Any] = Field(exclude=True)
    start: Moment | None = Field(default=None, alias="start_time")
    end: LastMoment | None = Field(default=None, alias="end_time")
    scene_type: SceneType = SceneType()
    scene_graph_name: str = ""
    tile_graph_name: str = ""
    graph_config: dict[str, str] = {}
    layers: dict[str, Layer] = {}
    record_tags: dict[str, str] = {}
    annotations_urls: list[str] = []
    is_retriable: bool = False
    retry_count: int = 0
    page: int = 0
    limit: int = 0
    storage_uri: str = ""

    @cached_property
    def geometry(self) -> BaseGeometry:
        """The area as a shapely Polygon or MultiPolygon, in degrees."""
        return shapely.geometry.shape(self.geojson)

    def period(self) -> tuple[datetime, datetime]:
        """Start and end of the time range. AOI_UNREADABLE if one of them is missing."""
        if self.start is None or self.end is None:
            missing = [name for name, moment in (("start_time", self.start), ("end_time", self.end)) if moment is None]
            raise AcdError(
                ErrorCode.AOI_UNREADABLE,
                f"the AOI {self.name} has no {' and no '.join(missing)}, but an ingester needs both",
                "Add both to the file as top-level members, or give --aoi-start and --aoi-end.",
            )
        return self.start, self.end

    def layout_grid(self, cell_size: int = 1024) -> RegularGrid | None:
        """The grid of the projection and resolution in graph_config; None if one of them is missing.

        `cell_size` is the width and height of a cell in pixels. LAYOUT_INVALID.
        """
        projection, resolution = self.graph_config.get("projection"), self.graph_config.get("resolution")
        if not projection or not resolution:
            return None
        from acdtask.raster.points import crs_of

        try:
            grid = RegularGrid(crs=projection, resolution=float(resolution), cell_size=cell_size)
            known = crs_of(projection)
        except (ValueError, AcdError) as error:
            raise AcdError(
                ErrorCode.LAYOUT_INVALID,
                f"graph_config of AOI {self.name} has the projection {projection!r} and the resolution {resolution!r}",
            ) from error
        if not (known.is_projected or known.is_geographic):
            raise AcdError(
                ErrorCode.LAYOUT_INVALID,
                f"{projection!r} of AOI {self.name} is neither a geographic nor a projected CRS",
            )
        return grid

    def payload(self) -> dict[str, Any]:
        """The AOI as a GeoJSON Feature for the ingester's server. AOI_UNREADABLE if start or end is missing."""
        self.period()
        fields = self.model_dump(mode="json", by_alias=True, exclude_unset=True)
        return {"type": "Feature", "properties": {}, "geometry": self.geojson, **fields}


def load_aoi(source: str, given: Mapping[str, Any] | None = None) -> Aoi:
    """Read an AOI from a file, a file:// or s3:// address, or JSON text.

    Args:
        source: path or address of GeoJSON, path of another vector file (VECTOR_ENDINGS), or JSON text.
        given: name, start_time and end_time from options, if given; they override the file.

    Raises:
        AcdError: AOI_UNREADABLE, AOI_EMPTY, AOI_INVALID (with the coordinates), AOI_CRS, EXTRA_MISSING, NAME_INVALID,
            NAME_TOO_LONG, DATE_INVALID, FILE_UNFIT.

    >>> load_aoi('{"name": "koln", "type": "Polygon", "coordinates": [[[7, 50], [7.1, 50], [7.1, 50.1], [7, 50]]]}'
    ...          ).geometry.bounds
    (7.0, 50.0, 7.1, 50.1)
    """
    document, label = _document_of(source)
    geometry = area_of_document(document, label)
    fields = {**document, **_fields_of(document, label, given or {}), "geojson": shapely.geometry.mapping(geometry)}
    try:
        aoi = Aoi.model_validate({name: value for name, value in fields.items() if value is not None})
    except ValidationError as error:
        raise _explain(error, label) from error
    if not NAME_RULE.match(aoi.name):
        raise AcdError(
            ErrorCode.NAME_INVALID,
            f"{label} has the name {aoi.name!r}",
            f"{ErrorCode.NAME_INVALID.value.fix[:-1]}; --aoi-name gives the area another name.",
        )
    if len(aoi.name) > NAME_BYTES:
        raise AcdError(
            ErrorCode.NAME_TOO_LONG, f"the name of {label} has {len(aoi.name)} bytes, more than {NAME_BYTES}"
        )
    if aoi.start and aoi.end and aoi.end < aoi.start:
        raise AcdError(
            ErrorCode.DATE_INVALID,
            f"{label} ends {aoi.end:%Y-%m-%d}, before it starts {aoi.start:%Y-%m-%d}",
            "Set end_time after start_time.",
        )
    return aoi


def aoi_document(source: str, given: Mapping[str, Any]) -> str:
    """An AOI and its options as JSON text that `load_aoi` can read on any machine. Raises what `load_aoi` raises."""
    aoi = load_aoi(source, given)
    fields = aoi.model_dump(mode="json", by_alias=True, exclude_unset=True, exclude_none=True)
    return json.dumps({"type": "Feature", "properties": {}, "geometry": aoi.geojson, **fields})


def _document_of(source: str) -> tuple[dict[str, Any], str]:
    path = source.partition("|")[0]
    if path.lower().endswith(VECTOR_ENDINGS) and not source.lstrip().startswith(("{", "[")):
        return read_vector_file(source.removeprefix("file://")), path
    text, label = _text_of(source)
    try:
        document = json.loads(text, parse_constant=_refuse_constant)
    except RecursionError as error:
        raise AcdError(ErrorCode.AOI_UNREADABLE, f"{label} is nested too deeply") from error
    except ValueError as error:
        raise AcdError(
            ErrorCode.AOI_UNREADABLE,
            f"{label} is not JSON: {error}",
            f"Give GeoJSON, or a file with one of the endings {', '.join(VECTOR_ENDINGS)}.",
        ) from error
    if not isinstance(document, dict):
        raise AcdError(ErrorCode.AOI_UNREADABLE, f"{label} is not a JSON object")
    return document, label


def _text_of(source: str) -> tuple[bytes | str, str]:
    if source.lstrip().startswith(("{", "[")):
        return source, "the AOI"
    if source.startswith(("s3://", "file://")):
        parent, _, name = source.rpartition("/")
        data = Store.at(parent).find_small(name)
        if data is None:
            raise AcdError(ErrorCode.AOI_UNREADABLE, f"{source} does not exist")
        return data, source
    try:
        return read_small_file(source), source
    except (OSError, ValueError) as error:  # ValueError: the path contains a zero byte
        reason = error.strerror if isinstance(error, OSError) else error
        raise AcdError(ErrorCode.AOI_UNREADABLE, f"{source} cannot be read: {reason}") from error


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON number")


def _fields_of(document: dict[str, Any], label: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Name, start and end: from options, otherwise from properties of features, otherwise from top-level members.

    A document with a top-level time is an ingester's payload; then properties are ignored. Otherwise they override a
    top-level name, which QGIS sets to the name of the layer.
    """
    fields = {name: document.get(name) for name in GIVEN}
    if fields["start_time"] is None and fields["end_time"] is None:
        for name, values in _properties_of(document).items():
            if given.get(name) is None and len(values) > 1:
                shown = ", ".join(repr(value) for value in values[:3])
                raise AcdError(
                    ErrorCode.AOI_UNREADABLE,
                    f"the features of {label} have different values of {name}: {shown}",
                    f"Give {OPTION_OF[name]} for the whole area.",
                )
            fields[name] = values[0] if values else fields[name]
    return fields | {name: value for name, value in given.items() if value is not None}


def _properties_of(document: dict[str, Any]) -> dict[str, list[Any]]:
    """Distinct values of the features' properties for each of GIVEN. Names of properties are case-insensitive."""
    values_of: dict[str, list[Any]] = {name: [] for name in GIVEN}
    for feature in features_of(document):
        properties = feature.get("properties")
        for key, value in properties.items() if isinstance(properties, dict) else ():
            name = str(key).lower()
            if name in values_of and value not in (None, "") and value not in values_of[name]:
                values_of[name].append(value)
    return values_of


def _explain(error: ValidationError, label: str) -> AcdError:
    """The error about a missing name, otherwise about the first invalid field."""
    errors = error.errors()
    if any(problem["type"] == "missing" for problem in errors):
        return _missing(error, label)
    first = errors[0]
    field = ".".join(str(part) for part in first["loc"] if not str(part).startswith("function-"))
    reason = first["msg"].removeprefix("Value error, ")
    if field in ("start_time", "end_time"):
        fix = "Write dates as 2021-01-07 or 2021-01-07T00:00:00Z."
        return AcdError(ErrorCode.DATE_INVALID, f"{field} of {label}: {reason}", fix)
    return AcdError(ErrorCode.AOI_UNREADABLE, f"{field} of {label}: {reason}")


def _missing(error: ValidationError, label: str) -> AcdError:
    fields = error.errors()[0]["input"]
    optional = [name for name in ("start_time", "end_time") if fields.get(name) is None]
    also = f"; it also has no {' and no '.join(optional)}, which means no limit" if optional else ""
    return AcdError(ErrorCode.AOI_UNREADABLE, f"{label} has no name{also}", NAME_FIX)
