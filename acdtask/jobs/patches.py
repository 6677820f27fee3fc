"""Patches as GeoParquet 1.1 and as GeoJSON (RFC 7946)."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import shapely
from arro3.core import Array, DataType
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from acdtask.change.patches import Patch
from acdtask.errors import AcdError, ErrorCode
from acdtask.storage.geoparquet import (
    GEOMETRY,
    UTC_TIME,
    encode_table,
    geo_metadata,
    read_table,
    time_column,
    wkb_column,
)
from acdtask.storage.store import Store

__all__ = [
    "LocatedPatch",
    "numbered",
    "patches_to_geojson",
    "patches_to_parquet",
    "read_patches",
    "require_format",
    "save_patches",
]

EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
DECIMALS = 7
"""Of a degree: about a centimetre."""

COLUMNS: tuple[tuple[str, DataType], ...] = (
    ("number", DataType.int64()),
    ("id", DataType.utf8()),
    ("aoi", DataType.utf8()),
    ("variable", DataType.utf8()),
    ("datetime", UTC_TIME),
    ("start_datetime", UTC_TIME),
    ("area_px", DataType.int64()),
    ("area_m2", DataType.float64()),
    ("z_max", DataType.float64()),
    ("z_mean", DataType.float64()),
    ("drop_mean", DataType.float64()),
    ("baseline_count", DataType.int64()),
    ("blob", DataType.int64()),
)

MAY_BE_UNKNOWN = frozenset({"number", "start_datetime"})

NEWER = frozenset({"number"})
"""Columns that tables of acd 0.1.0 lack."""


@dataclass(frozen=True)
class LocatedPatch:
    """A patch where and when it is.

    Attributes:
        patch: what was measured of it.
        aoi, variable: where it was looked for, and in what.
        datetime: of the image in which it shows; the ground changed between `start` and then.
        start: the first date of the pair, if it is known.
        geometry: polygon(s) in longitude and latitude, exteriors counter-clockwise.
        number: its number in the whole result (`numbered`); None in the tables of one image or month, which are
            written before earlier months may grow.
    """

    patch: Patch
    aoi: str
    variable: str
    datetime: dt.datetime
    start: dt.datetime | None
    geometry: BaseGeometry
    number: int | None = None

    @property
    def properties(self) -> dict[str, Any]:
        """The attributes of a GeoJSON feature, and the columns of a table."""
        return {
            **({} if self.number is None else {"number": self.number}),
            "id": self.patch.id,
            "aoi": self.aoi,
            "variable": self.variable,
            "datetime": self.datetime.isoformat(),
            "start_datetime": self.start.isoformat() if self.start else None,
            "area_px": self.patch.area_px,
            "area_m2": round(self.patch.area_m2, 1),
            "z_max": round(self.patch.z_max, 3),
            "z_mean": round(self.patch.z_mean, 3),
            "drop_mean": round(self.patch.drop_mean, 6),
            "baseline_count": self.patch.baseline_count,
            "blob": self.patch.blob,
        }


def numbered(patches: Sequence[LocatedPatch], before: int) -> list[LocatedPatch]:
    """The patches of a month with their numbers in the whole result, in the order in which they are given.

    Patches are counted by date, then by the first date of the pair, those of an image from the largest. A later date
    only adds numbers; an image that is added or judged again among earlier ones renumbers all that follow.

    Args:
        patches: all those of a month.
        before: how many patches the months before have.
    """
    ranks = {one.patch.id: rank for rank, one in enumerate(sorted(patches, key=_turn), before + 1)}
    return [replace(one, number=ranks[one.patch.id]) for one in patches]


def _turn(one: LocatedPatch) -> tuple[dt.datetime, dt.datetime, int, str]:
    return one.datetime, one.start or one.datetime, -one.patch.area_px, one.patch.id


def patches_to_geojson(patches: Sequence[LocatedPatch]) -> bytes:
    """A FeatureCollection, one feature a line; a patch whose number is known has the property `number`."""
    features = []
    for one in patches:
        geometry = json.loads(shapely.to_geojson(_rounded(one.geometry)))
        feature = {"type": "Feature", "id": one.patch.id, "properties": one.properties, "geometry": geometry}
        features.append(json.dumps(feature, ensure_ascii=False))
    body = ",\n".join(features)
    return f'{{"type": "FeatureCollection", "features": [\n{body}\n]}}\n'.encode()


def patches_to_parquet(patches: Sequence[LocatedPatch]) -> bytes:
    """A GeoParquet 1.1 table with a WKB column `geometry`; times are UTC, an unknown number or start is null."""
    rows = [
        one.properties | {"number": one.number, "datetime": one.datetime, "start_datetime": one.start}
        for one in patches
    ]
    geometries = [_rounded(one.geometry) for one in patches]
    columns = {name: _column([row[name] for row in rows], dtype) for name, dtype in COLUMNS}
    columns[GEOMETRY] = wkb_column([shapely.to_wkb(geometry) for geometry in geometries])
    metadata = geo_metadata(geometries, orientation="counterclockwise")
    return encode_table(columns, metadata, required=columns.keys() - MAY_BE_UNKNOWN)


def read_patches(body: bytes) -> list[LocatedPatch]:
    """What `patches_to_parquet` wrote, also in acd 0.1.0: no numbers, and times as text. CUBE_DAMAGED."""
    try:
        table = read_table(body)
    except ValueError as error:
        raise AcdError(ErrorCode.CUBE_DAMAGED, f"a table of patches cannot be read: {error}") from error
    absent = NEWER.difference(table.column_names)
    names = [name for name in (*dict(COLUMNS), GEOMETRY) if name not in absent]
    columns = {name: table.column(name).to_pylist() for name in names}
    rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    return [_located(row) for row in rows]


def require_format(address: str) -> None:
    """Check that the name of an output file, if there is one, names a format. FORMAT_UNKNOWN."""
    if address and not address.endswith(tuple(_WRITERS)):
        raise AcdError(ErrorCode.FORMAT_UNKNOWN, f"{address} ends neither with .parquet nor with .geojson")


def save_patches(patches: Sequence[LocatedPatch], address: str) -> None:
    """Write patches to a .parquet or .geojson file at a path or an s3:// address. FORMAT_UNKNOWN."""
    require_format(address)
    folder, _, name = address.rpartition("/")
    body = next(write(patches) for ending, write in _WRITERS.items() if name.endswith(ending))
    Store.at(folder or ("/" if address.startswith("/") else ".")).put(name, body)


_WRITERS = {".parquet": patches_to_parquet, ".geojson": patches_to_geojson}


def _column(values: Sequence[Any], dtype: DataType) -> Array:
    if dtype != UTC_TIME:
        return Array(values, dtype)
    micros = [None if value is None else (value - EPOCH) // dt.timedelta(microseconds=1) for value in values]
    return time_column(micros)


def _located(row: dict[str, Any]) -> LocatedPatch:
    patch = Patch(**{name: row[name] for name in Patch.__dataclass_fields__})
    datetime = _moment(row["datetime"])
    if datetime is None:
        raise AcdError(ErrorCode.CUBE_DAMAGED, f"the patch {patch.id} has no datetime")
    return LocatedPatch(
        patch=patch,
        aoi=row["aoi"],
        variable=row["variable"],
        datetime=datetime,
        start=_moment(row["start_datetime"]),
        geometry=shapely.from_wkb(row["geometry"]),
        number=row.get("number"),
    )


def _moment(value: dt.datetime | str | None) -> dt.datetime | None:
    if isinstance(value, str):
        return dt.datetime.fromisoformat(value) if value else None
    return None if value is None else value.astimezone(dt.UTC)


def _rounded(geometry: BaseGeometry) -> BaseGeometry:
    """Coordinates as they are written. Pixels are far larger, so no ring changes its shape."""

    def to_decimals(points: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.round(points, DECIMALS)

    return shapely.transform(geometry, to_decimals)
