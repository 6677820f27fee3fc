"""Areas of interest: the payload of the Geocube ingester, read and checked.

Field names and types are those of AreaToIngest (airbusgeo/geocube-ingester, catalog/entities/entities.go), so that one
file serves both. Fields that acd does not use are kept, and checked only for what their server would refuse.
"""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from functools import cached_property
from typing import Annotated, Any

import shapely
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from shapely.geometry.base import BaseGeometry

from acdtask.cube.grid import RegularGrid
from acdtask.cube.local.store import Store
from acdtask.cube.model import NAME_BYTES, NAME_RULE
from acdtask.errors import AcdError, ErrorCode
from acdtask.files import read_small_file

__all__ = ["Aoi", "Layer", "SceneType", "load_aoi"]

RFC_3339 = re.compile(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)$")


def _moment(value: object) -> datetime:
    """Read what Go's time.Time reads, and nothing more."""
    if isinstance(value, datetime) and value.tzinfo is not None:
        return value.astimezone(UTC)
    if not isinstance(value, str) or not RFC_3339.match(value):
        raise ValueError(f"{value!r} is not a date with time and zone, such as 2021-01-07T00:00:00Z")
    return datetime.fromisoformat(value).astimezone(UTC)


Moment = Annotated[datetime, BeforeValidator(_moment)]


class _Payload(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)


class SceneType(_Payload):
    """Which scenes the ingester downloads."""

    constellation: str = ""
    parameters: dict[str, str] = {}


class Layer(_Payload):
    """The variable and instance that an output of the ingester becomes."""

    variable: str = ""
    instance: str = ""
    instance_id: str = ""


class Aoi(_Payload):
    """An area, a time range, tags and settings.

    Attributes:
        geojson: a GeoJSON Polygon or MultiPolygon in longitude and latitude, the union of all that the file has. A
            polygon that crosses the antimeridian must be cut there, as RFC 7946 asks.
        start_time, end_time: UTC, inclusive.
    """

    name: str
    geojson: dict[str, Any] = Field(exclude=True)
    start_time: Moment
    end_time: Moment
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
        """The area as a shapely Polygon or MultiPolygon."""
        return shapely.geometry.shape(self.geojson)

    @property
    def start(self) -> datetime:
        """The first moment."""
        return self.start_time

    @property
    def end(self) -> datetime:
        """The last moment."""
        return self.end_time

    def layout_grid(self, cell_size: int = 1024) -> RegularGrid | None:
        """The grid of graph_config's projection and resolution, or None if one of them is not given.

        Args:
            cell_size: width and height of a cell in pixels.

        Raises:
            AcdError: LAYOUT_INVALID if they make no grid.
        """
        projection, resolution = self.graph_config.get("projection"), self.graph_config.get("resolution")
        if not projection or not resolution:
            return None
        from acdtask.cube.points import crs_of

        try:
            grid = RegularGrid(crs=projection, resolution=float(resolution), cell_size=cell_size)
            known = crs_of(projection)
        except (ValueError, AcdError) as error:
            raise AcdError(
                ErrorCode.LAYOUT_INVALID,
                f"graph_config of AOI {self.name} has projection {projection!r} and resolution {resolution!r}",
            ) from error
        if not (known.is_projected or known.is_geographic):
            raise AcdError(ErrorCode.LAYOUT_INVALID, f"{projection!r} of AOI {self.name} is not a map's CRS")
        return grid

    def payload(self) -> dict[str, Any]:
        """The AOI as a GeoJSON Feature that the ingester's server takes; what was left out stays out."""
        fields = self.model_dump(mode="json", exclude_unset=True)
        return {"type": "Feature", "properties": {}, "geometry": self.geojson, **fields}


def load_aoi(source: str) -> Aoi:
    """Read an AOI from a path, a file:// or s3:// address, or JSON text.

    Raises:
        AcdError: AOI_UNREADABLE, AOI_EMPTY, AOI_INVALID (naming the place), NAME_INVALID, NAME_TOO_LONG, DATE_INVALID,
            FILE_UNFIT.

    >>> load_aoi('{"name": "koln", "type": "Polygon", "coordinates": [[[7, 50], [7.1, 50], [7.1, 50.1], [7, 50]]],'
    ...          ' "start_time": "2021-01-01T00:00:00Z", "end_time": "2021-12-31T00:00:00Z"}').geometry.bounds
    (7.0, 50.0, 7.1, 50.1)
    """
    text, label = _text_of(source)
    try:
        document = json.loads(text, parse_constant=_refuse_constant)
    except ValueError as error:
        raise AcdError(ErrorCode.AOI_UNREADABLE, f"{label} is not JSON: {error}") from error
    if not isinstance(document, dict):
        raise AcdError(ErrorCode.AOI_UNREADABLE, f"{label} is not a JSON object")
    geometry = _area(document, label)
    try:
        aoi = Aoi.model_validate({**document, "geojson": shapely.geometry.mapping(geometry)})
    except ValidationError as error:
        raise _explain(error, label) from error
    if not NAME_RULE.match(aoi.name):
        raise AcdError(ErrorCode.NAME_INVALID, f"{label} has the name {aoi.name!r}")
    if len(aoi.name) > NAME_BYTES:
        raise AcdError(
            ErrorCode.NAME_TOO_LONG, f"{label} has a name of {len(aoi.name)} bytes, and may have {NAME_BYTES} at most"
        )
    if aoi.end < aoi.start:
        raise AcdError(
            ErrorCode.DATE_INVALID,
            f"{label} ends {aoi.end:%Y-%m-%d}, before it starts {aoi.start:%Y-%m-%d}",
            "Set end_time after start_time.",
        )
    return aoi


def _text_of(source: str) -> tuple[bytes | str, str]:
    if source.lstrip().startswith(("{", "[")):
        return source, "the AOI"
    if source.startswith(("s3://", "file://")):
        parent, _, name = source.rpartition("/")
        found = Store.at(parent).find_small(name)
        if found is None:
            raise AcdError(ErrorCode.AOI_UNREADABLE, f"there is no {source}")
        return found, source
    try:
        return read_small_file(source), source
    except OSError as error:
        raise AcdError(ErrorCode.AOI_UNREADABLE, f"{source} cannot be read: {error.strerror}") from error


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON number")


def _explain(error: ValidationError, label: str) -> AcdError:
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    if first["type"] == "missing":
        return AcdError(ErrorCode.AOI_UNREADABLE, f"{label} has no {where}")
    reason = first["msg"].removeprefix("Value error, ")
    if where in ("start_time", "end_time"):
        return AcdError(ErrorCode.DATE_INVALID, f"{where} of {label}: {reason}", "Write dates as 2021-01-07T00:00:00Z.")
    return AcdError(ErrorCode.AOI_UNREADABLE, f"{where} of {label}: {reason}")


def _area(document: dict[str, Any], label: str) -> BaseGeometry:
    """The union of the document's polygons, each of them checked."""
    polygons = [part for geometry in _geometries(document, label) for part in _polygons(geometry, label)]
    for polygon in polygons:
        min_x, min_y, max_x, max_y = polygon.bounds
        if min_x < -180 or max_x > 180 or min_y < -90 or max_y > 90:
            raise AcdError(
                ErrorCode.AOI_INVALID,
                f"{label} reaches from ({min_x:g}, {min_y:g}) to ({max_x:g}, {max_y:g})",
                "Give longitudes from -180 to 180, then latitudes from -90 to 90.",
            )
        if polygon.convex_hull.area > 0 and not polygon.is_valid:  # the halves of a bow tie may cancel out
            raise AcdError(ErrorCode.AOI_INVALID, f"{label}: {_defect(polygon)}")
    area = shapely.normalize(shapely.union_all([polygon for polygon in polygons if polygon.area > 0]))
    if area.is_empty:
        raise AcdError(ErrorCode.AOI_EMPTY, f"{label} has no polygon with an area")
    return area


def _defect(polygon: BaseGeometry) -> str:
    """What is wrong and where, such as 'Self-intersection at longitude 7.05, latitude 50.05'."""
    reason = str(shapely.is_valid_reason(polygon))
    found = re.match(r"^(.*)\[(\S+) (\S+)\]$", reason)
    return f"{found[1]} at longitude {found[2]}, latitude {found[3]}" if found else reason


def _geometries(document: dict[str, Any], label: str) -> list[dict[str, Any]]:
    """The plain geometries of a GeoJSON object, in order."""
    kind = document.get("type")
    try:
        if kind == "FeatureCollection":
            return [plain for feature in document["features"] for plain in _geometries(feature, label)]
        if kind == "Feature":
            return _geometries(document["geometry"], label) if document["geometry"] else []
        if kind == "GeometryCollection":
            return [plain for part in document["geometries"] for plain in _geometries(part, label)]
    except (KeyError, TypeError, AttributeError) as error:
        raise AcdError(ErrorCode.AOI_UNREADABLE, f"{label} has a {kind} that is not GeoJSON") from error
    return [document]


def _polygons(geometry: dict[str, Any], label: str) -> list[BaseGeometry]:
    kind = geometry.get("type")
    if kind in ("Point", "MultiPoint", "LineString", "MultiLineString"):
        raise AcdError(ErrorCode.AOI_EMPTY, f"{label} has a {kind}, which has no area")
    if kind not in ("Polygon", "MultiPolygon"):
        raise AcdError(ErrorCode.AOI_UNREADABLE, f"{label} has the GeoJSON type {kind!r}")
    try:
        shape = shapely.force_2d(shapely.geometry.shape(geometry))
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, shapely.errors.ShapelyError) as error:
        raise AcdError(ErrorCode.AOI_UNREADABLE, f"{label} has a {kind} whose coordinates are damaged") from error
    return list(shapely.get_parts(shape))
