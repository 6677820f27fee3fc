"""Fused patches as GeoParquet 1.1 and as GeoJSON (RFC 7946)."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import shapely
from arro3.core import DataType
from shapely.geometry.base import BaseGeometry

from acdtask.errors import AcdError, ErrorCode
from acdtask.jobs.patch_files import feature_collection, require_format
from acdtask.storage.geoparquet import (
    GEOMETRY,
    UTC_TIME,
    encode_table,
    geo_metadata,
    read_table,
    typed_column,
    wkb_column,
)
from acdtask.storage.store import Store

__all__ = ["FusedPatch", "fused_to_geojson", "fused_to_parquet", "read_fused", "save_fused"]

COLUMNS: tuple[tuple[str, DataType], ...] = (
    ("id", DataType.utf8()),
    ("aoi", DataType.utf8()),
    ("window", DataType.utf8()),
    ("datetime", UTC_TIME),
    ("start_datetime", UTC_TIME),
    ("area_m2", DataType.float64()),
    ("probability", DataType.float64()),
    ("kept", DataType.bool()),
    ("members", DataType.utf8()),
    ("absent", DataType.utf8()),
    ("unseen", DataType.utf8()),
    ("patches", DataType.utf8()),
    ("z_max", DataType.float64()),
    ("drop_mean", DataType.float64()),
    ("reason", DataType.utf8()),
)
MAY_BE_UNKNOWN = frozenset({"start_datetime"})


@dataclass(frozen=True)
class FusedPatch:
    """A finding of a window, with its place and time.

    Attributes:
        id: `<aoi>_<window>_<digest of the outline>`.
        aoi, window: name of the area, and label of the window.
        datetime: datetime of the newest image in which it is a candidate.
        start_datetime: first date of the oldest pair in which it is a candidate, if known.
        area_m2: area in square metres on the WGS 84 ellipsoid.
        probability: probability that it is a change of the ground.
        kept: whether it is a patch.
        members, absent, unseen: names of the members that found it, that saw the place without finding it, and that
            have no data there; separated by commas.
        patches: ids of the members' candidates, the most probable first, separated by commas.
        z_max, drop_mean: those of the most probable candidate.
        reason: a sentence on why it is a patch, or why it is held back.
        geometry: polygon(s) in longitude and latitude, exteriors counter-clockwise.
    """

    id: str
    aoi: str
    window: str
    datetime: dt.datetime
    start_datetime: dt.datetime | None
    area_m2: float
    probability: float
    kept: bool
    members: str
    absent: str
    unseen: str
    patches: str
    z_max: float
    drop_mean: float
    reason: str
    geometry: BaseGeometry

    @property
    def properties(self) -> dict[str, Any]:
        """Properties of the GeoJSON feature."""
        values = {name: getattr(self, name) for name, _ in COLUMNS}
        start = self.start_datetime
        return values | {"datetime": self.datetime.isoformat(), "start_datetime": start.isoformat() if start else None}


def fused_to_geojson(patches: Sequence[FusedPatch]) -> bytes:
    """A FeatureCollection with one feature per line."""
    return feature_collection((patch.id, patch.properties, patch.geometry) for patch in patches)


def fused_to_parquet(patches: Sequence[FusedPatch]) -> bytes:
    """A GeoParquet 1.1 table with a WKB column `geometry`. Times are UTC; an unknown one is null."""
    columns = {name: typed_column([getattr(patch, name) for patch in patches], dtype) for name, dtype in COLUMNS}
    geometries = [patch.geometry for patch in patches]
    columns[GEOMETRY] = wkb_column([shapely.to_wkb(geometry) for geometry in geometries])
    metadata = geo_metadata(geometries, orientation="counterclockwise")
    return encode_table(columns, metadata, required=columns.keys() - MAY_BE_UNKNOWN)


def read_fused(body: bytes) -> list[FusedPatch]:
    """Read a table of fused patches. CUBE_DAMAGED."""
    try:
        table = read_table(body)
    except ValueError as error:
        raise AcdError(ErrorCode.CUBE_DAMAGED, f"a table of fused patches cannot be read: {error}") from error
    columns = {name: table.column(name).to_pylist() for name in (*dict(COLUMNS), GEOMETRY)}
    rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    return [
        FusedPatch(
            **row
            | {name: row[name] and row[name].astimezone(dt.UTC) for name in ("datetime", "start_datetime")}
            | {GEOMETRY: shapely.from_wkb(row[GEOMETRY])}
        )
        for row in rows
    ]


def save_fused(patches: Sequence[FusedPatch], address: str) -> None:
    """Write fused patches to a .parquet or .geojson file at a path or an s3:// address. FORMAT_UNKNOWN."""
    require_format(address)
    store, name = Store.of_file(address)
    store.put(name, fused_to_geojson(patches) if name.endswith(".geojson") else fused_to_parquet(patches))
