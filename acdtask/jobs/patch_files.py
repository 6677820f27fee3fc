"""Patches as GeoParquet 1.1 and as GeoJSON (RFC 7946)."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import shapely
from arro3.core import DataType
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
    typed_column,
    wkb_column,
)
from acdtask.storage.store import Store

__all__ = [
    "LocatedPatch",
    "PatchJudgement",
    "feature_collection",
    "numbered",
    "patches_to_geojson",
    "patches_to_parquet",
    "read_patches",
    "require_format",
    "save_patches",
]

DECIMALS = 7
"""Decimals of coordinates in degrees, about a centimetre."""

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

JUDGEMENT_COLUMNS: tuple[tuple[str, DataType], ...] = (
    ("probability", DataType.float64()),
    ("contrast", DataType.float64()),
    ("past_contrast", DataType.float64()),
    ("past_datetime", UTC_TIME),
    ("reason", DataType.utf8()),
)
"""Further columns of tables of methods that judge candidates by their past."""

MAY_BE_UNKNOWN = frozenset({"number", "start_datetime", "past_datetime"})


@dataclass(frozen=True)
class PatchJudgement:
    """The comparison of a candidate with its own past.

    Attributes:
        probability: probability that it is a change of the ground and not what happens there at times.
        contrast: how much farther it fell below the baseline mean than its surroundings, in the variable's unit.
        past_contrast: the largest contrast of the same pixels in an image of the baseline.
        past_datetime: datetime of that image; None if no image of the baseline has data there.
        reason: a sentence on why it is a patch, or why it is held back.
    """

    probability: float
    contrast: float
    past_contrast: float
    past_datetime: dt.datetime | None
    reason: str

    @property
    def columns(self) -> dict[str, Any]:
        """The columns of a table."""
        return {name: getattr(self, name) for name, _ in JUDGEMENT_COLUMNS}

    @property
    def properties(self) -> dict[str, Any]:
        """Properties of the GeoJSON feature."""
        past = self.past_datetime.isoformat() if self.past_datetime else None
        return self.columns | {
            "contrast": round(self.contrast, 6),
            "past_contrast": round(self.past_contrast, 6),
            "past_datetime": past,
        }


@dataclass(frozen=True)
class LocatedPatch:
    """A patch with its place and time.

    Attributes:
        patch: its measures.
        aoi, variable: names of the area and variable.
        datetime: datetime of the image; the ground changed between `start` and this.
        start: first date of the pair, if known.
        geometry: polygon(s) in longitude and latitude, exteriors counter-clockwise.
        number: number in the whole result (`numbered`); None in tables of an image or month, since earlier months may
            still grow.
        judgement: comparison with its past; None for methods that do not judge candidates.
    """

    patch: Patch
    aoi: str
    variable: str
    datetime: dt.datetime
    start: dt.datetime | None
    geometry: BaseGeometry
    number: int | None = None
    judgement: PatchJudgement | None = None

    @property
    def properties(self) -> dict[str, Any]:
        """Properties of the GeoJSON feature, and columns of the table."""
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
            **(self.judgement.properties if self.judgement else {}),
        }


def numbered(patches: Sequence[LocatedPatch], before: int) -> list[LocatedPatch]:
    """Number the patches of a month within the whole result; their order is kept.

    Patches are numbered by date, then by the first date of the pair, then by decreasing area. A later date only adds
    numbers; adding an image among earlier ones, or judging it again, renumbers all that follow.

    `patches` are all of the month's; `before` is the number of patches in earlier months.
    """
    ranks = {located.patch.id: rank for rank, located in enumerate(sorted(patches, key=_order), before + 1)}
    return [replace(located, number=ranks[located.patch.id]) for located in patches]


def _order(located: LocatedPatch) -> tuple[dt.datetime, dt.datetime, int, str]:
    return located.datetime, located.start or located.datetime, -located.patch.area_px, located.patch.id


def patches_to_geojson(patches: Sequence[LocatedPatch]) -> bytes:
    """A FeatureCollection with one feature per line. Patches with a known number have the property `number`."""
    return feature_collection((located.patch.id, located.properties, _rounded(located.geometry)) for located in patches)


def feature_collection(features: Iterable[tuple[str, dict[str, Any], BaseGeometry]]) -> bytes:
    """A FeatureCollection with one feature per line, from the id, properties and geometry of each."""
    lines = []
    for feature_id, properties, outline in features:
        geometry = json.loads(shapely.to_geojson(outline))
        feature = {"type": "Feature", "id": feature_id, "properties": properties, "geometry": geometry}
        lines.append(json.dumps(feature, ensure_ascii=False))
    body = ",\n".join(lines)
    return f'{{"type": "FeatureCollection", "features": [\n{body}\n]}}\n'.encode()


def patches_to_parquet(patches: Sequence[LocatedPatch], *, judged: bool = False) -> bytes:
    """A GeoParquet 1.1 table with a WKB column `geometry`. Times are UTC; an unknown number or time is null.

    Args:
        patches: the patches.
        judged: whether a table without rows has the columns of judged patches too.
    """
    rows = [
        located.properties
        | {"number": located.number, "datetime": located.datetime, "start_datetime": located.start}
        | (
            located.judgement.properties | {"past_datetime": located.judgement.past_datetime}
            if located.judgement
            else {}
        )
        for located in patches
    ]
    geometries = [_rounded(located.geometry) for located in patches]
    names = COLUMNS + (JUDGEMENT_COLUMNS if judged or any(located.judgement for located in patches) else ())
    columns = {name: typed_column([row[name] for row in rows], dtype) for name, dtype in names}
    columns[GEOMETRY] = wkb_column([shapely.to_wkb(geometry) for geometry in geometries])
    metadata = geo_metadata(geometries, orientation="counterclockwise")
    return encode_table(columns, metadata, required=columns.keys() - MAY_BE_UNKNOWN)


def read_patches(body: bytes) -> list[LocatedPatch]:
    """Read a table of patches. CUBE_DAMAGED."""
    try:
        table = read_table(body)
    except ValueError as error:
        raise AcdError(ErrorCode.CUBE_DAMAGED, f"a table of patches cannot be read: {error}") from error
    absent = dict(JUDGEMENT_COLUMNS).keys() - set(table.column_names)
    names = [name for name in (*dict(COLUMNS + JUDGEMENT_COLUMNS), GEOMETRY) if name not in absent]
    columns = {name: table.column(name).to_pylist() for name in names}
    rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    return [_located(row) for row in rows]


def require_format(address: str) -> None:
    """Check that the address of an output file, if not empty, has the extension of a format. FORMAT_UNKNOWN."""
    if address and not address.endswith(tuple(_WRITERS)):
        raise AcdError(ErrorCode.FORMAT_UNKNOWN, f"{address} ends with neither .parquet nor .geojson")


def save_patches(patches: Sequence[LocatedPatch], address: str) -> None:
    """Write patches to a .parquet or .geojson file at a path or an s3:// address. FORMAT_UNKNOWN."""
    require_format(address)
    store, name = Store.of_file(address)
    body = next(write(patches) for ending, write in _WRITERS.items() if name.endswith(ending))
    store.put(name, body)


_WRITERS = {".parquet": patches_to_parquet, ".geojson": patches_to_geojson}


def _located(row: dict[str, Any]) -> LocatedPatch:
    patch = Patch(**{name: row[name] for name in Patch.__dataclass_fields__})
    start = row["start_datetime"]
    return LocatedPatch(
        patch=patch,
        aoi=row["aoi"],
        variable=row["variable"],
        datetime=row["datetime"].astimezone(dt.UTC),
        start=start and start.astimezone(dt.UTC),
        geometry=shapely.from_wkb(row["geometry"]),
        number=row["number"],
        judgement=_judgement(row) if "probability" in row else None,
    )


def _judgement(row: dict[str, Any]) -> PatchJudgement:
    past = row["past_datetime"]
    values = {name: row[name] for name, _ in JUDGEMENT_COLUMNS}
    return PatchJudgement(**values | {"past_datetime": past and past.astimezone(dt.UTC)})


def _rounded(geometry: BaseGeometry) -> BaseGeometry:
    """Round coordinates for writing. Pixels are far larger, so rings keep their shape."""

    def to_decimals(points: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.round(points, DECIMALS)

    return shapely.transform(geometry, to_decimals)
