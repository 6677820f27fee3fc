"""The patches of a change as a table, GeoJSON or a GeoDataFrame."""

from __future__ import annotations

import html
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, overload

import numpy as np
import shapely
from shapely import MultiPolygon

from acdtask.api.files import Address, store_and_name
from acdtask.change import detect
from acdtask.change.patches import Patch, patch_table
from acdtask.change.polygons import Outline, to_crs_coordinates
from acdtask.errors import AcdError, ErrorCode
from acdtask.jobs.patch_files import DECIMALS
from acdtask.raster.grid import Grid
from acdtask.raster.tiling import LON_LAT, project
from acdtask.wording import aligned

if TYPE_CHECKING:
    import geopandas

__all__ = ["PatchTable", "TablePatch", "table_of"]


@dataclass(frozen=True)
class TablePatch:
    """One patch.

    Attributes:
        number: rank by size; 1 is the largest.
        id: `<name>_<date>_r<row>_c<column>`, from its first pixel.
        area_px: number of pixels.
        area: area in square CRS units; None if the coordinates are unknown.
        area_m2: area in square metres on the WGS 84 ellipsoid; None if the CRS is unknown.
        bounds: min x, min y, max x, max y in CRS units, or in pixels if the coordinates are unknown.
        z_max: maximum z, in standard deviations.
        z_mean: mean z.
        drop_mean: mean drop of coherence below the baseline mean, 0 to 1.
        baseline_count: number of baseline images, averaged over its pixels.
        geometry: outline, in the coordinates of `bounds`.
    """

    number: int
    id: str
    area_px: int
    area: float | None
    area_m2: float | None
    bounds: tuple[float, float, float, float]
    z_max: float
    z_mean: float
    drop_mean: float
    baseline_count: int
    geometry: Outline

    def to_dict(self) -> dict[str, Any]:
        """The fields by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


@dataclass(frozen=True)
class PatchTable(Sequence[TablePatch]):
    """The patches of a change, largest first: a sequence of `TablePatch`.

    Attributes:
        rows: the patches.
        time: time of the image, ISO 8601; empty if unknown.
        grid: pixel grid of the image, or None if unknown.
    """

    rows: tuple[TablePatch, ...]
    time: str = ""
    grid: Grid | None = None

    @overload
    def __getitem__(self, index: int) -> TablePatch: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[TablePatch, ...]: ...
    def __getitem__(self, index: int | slice) -> TablePatch | tuple[TablePatch, ...]:
        return self.rows[index]

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[TablePatch]:
        return iter(self.rows)

    def to_records(self) -> list[dict[str, Any]]:
        """Convert to one dictionary per patch, as pandas takes them."""
        return [row.to_dict() for row in self.rows]

    def to_geojson(self) -> dict[str, Any]:
        """Convert to a FeatureCollection in longitude and latitude (RFC 7946). INPUT_CRS_MISSING."""
        features = [
            {
                "type": "Feature",
                "id": row.id,
                "properties": {**_properties(row), "time": self.time or None},
                "geometry": json.loads(shapely.to_geojson(self._in_lon_lat(row.geometry))),
            }
            for row in self.rows
        ]
        return {"type": "FeatureCollection", "features": features}

    def to_geopandas(self) -> geopandas.GeoDataFrame:
        """Convert to a GeoDataFrame in the CRS of the image. EXTRA_MISSING."""
        try:
            import geopandas
        except ImportError as error:
            raise AcdError(
                ErrorCode.EXTRA_MISSING, "geopandas is not installed", "Install it with: pip install geopandas"
            ) from error
        columns = {name: [_properties(row)[name] for row in self.rows] for name in PROPERTIES}
        crs = self.grid.crs if self.grid and self.grid.crs else None
        return geopandas.GeoDataFrame(columns, geometry=[row.geometry for row in self.rows], crs=crs)

    def save(self, address: Address) -> None:
        """Write GeoJSON to a path or s3:// address. FORMAT_UNKNOWN, INPUT_CRS_MISSING."""
        store, name = store_and_name(address)
        if not name.endswith((".geojson", ".json")):
            raise AcdError(
                ErrorCode.FORMAT_UNKNOWN,
                f"{name} does not end in .geojson",
                "Use the extension .geojson; for other formats use to_geopandas().to_file or to_parquet.",
            )
        store.put(name, json.dumps(self.to_geojson(), indent=1).encode())

    def __repr__(self) -> str:
        return "\n".join(aligned([_HEADINGS, *(_cells(row) for row in self.rows)]))

    def _repr_html_(self) -> str:
        lines = [(_HEADINGS, "th"), *((_cells(row), "td") for row in self.rows)]
        body = "".join(
            f"<tr>{''.join(f'<{tag}>{html.escape(cell)}</{tag}>' for cell in cells)}</tr>" for cells, tag in lines
        )
        return f"<table>{body}</table>"

    def _in_lon_lat(self, geometry: Outline) -> Any:
        if self.grid is None or not self.grid.crs:
            raise AcdError(
                ErrorCode.INPUT_CRS_MISSING,
                "the position of the pixels is unknown, but GeoJSON needs longitude and latitude",
                "Give crs= and transform= to acdtask.baseline, or images with coordinates and a CRS.",
            )
        return shapely.transform(project(geometry, self.grid.crs, LON_LAT), lambda points: np.round(points, DECIMALS))


PROPERTIES = tuple(field.name for field in fields(TablePatch) if field.name not in ("bounds", "geometry"))
_HEADINGS = ("number", "area_px", "hectares", "z_max", "drop_mean", "bounds")


def table_of(detected: detect.ImageChange, *, scale: float, time: str, grid: Grid | None, name: str) -> PatchTable:
    """List the patches of a change, largest first.

    Blobs are in pixels and stored units, where coherence = stored unit * `scale`. `time` is ISO 8601, empty if unknown;
    `grid` is None if unknown. `name` is the prefix of the ids.
    """
    outlines = detected.outlines
    if grid is not None:
        outlines = {blob: to_crs_coordinates(outline, grid.transform) for blob, outline in outlines.items()}
    lon_lat_outlines: dict[int, Outline] = dict.fromkeys(outlines, MultiPolygon())
    if grid is not None and grid.crs:
        lon_lat_outlines = {blob: project(outline, grid.crs, LON_LAT) for blob, outline in outlines.items()}
    image = time[:10] or "image"
    table = patch_table(detected.blobs, lon_lat_outlines, aoi=name, image=image, scale=scale)
    largest_first = sorted(table, key=lambda patch: (-patch.area_px, patch.id))
    rows = (_row(number, patch, outlines[patch.blob], grid) for number, patch in enumerate(largest_first, start=1))
    return PatchTable(tuple(rows), time, grid)


def _row(number: int, patch: Patch, outline: Outline, grid: Grid | None) -> TablePatch:
    min_x, min_y, max_x, max_y = outline.bounds
    return TablePatch(
        number=number,
        id=patch.id,
        area_px=patch.area_px,
        area=float(outline.area) if grid is not None else None,
        area_m2=patch.area_m2 if grid is not None and grid.crs else None,
        bounds=(min_x, min_y, max_x, max_y),
        z_max=patch.z_max,
        z_mean=patch.z_mean,
        drop_mean=patch.drop_mean,
        baseline_count=patch.baseline_count,
        geometry=outline,
    )


def _properties(row: TablePatch) -> dict[str, Any]:
    return {name: getattr(row, name) for name in PROPERTIES}


def _cells(row: TablePatch) -> tuple[str, ...]:
    return (
        str(row.number),
        str(row.area_px),
        "" if row.area_m2 is None else f"{row.area_m2 / 1e4:.2f}",
        f"{row.z_max:.1f}",
        f"{row.drop_mean:.3f}",
        ", ".join(f"{number:.10g}" for number in row.bounds),
    )
