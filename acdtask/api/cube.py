"""A cube in a folder or an object store, with its images as xarray.DataArray."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import shapely
import shapely.geometry
from shapely.geometry.base import BaseGeometry

from acdtask.api.georeference import coordinates, crs_attributes, import_xarray
from acdtask.api.lazy import LazyImages
from acdtask.cube.aoi import load_aoi
from acdtask.cube.local.cube import LocalCube
from acdtask.cube.model import Dataset, Instance, Record, RecordQuery, Variable
from acdtask.dates import FORMS, end_of_period, parse_moment
from acdtask.errors import AcdError, ErrorCode
from acdtask.jobs.fuse.files import fused_to_geojson
from acdtask.jobs.fuse.months import findings_of
from acdtask.jobs.fuse.publish import latest_fusion
from acdtask.jobs.stacks import image_label, start_of
from acdtask.jobs.tracks import polarisation_of, track_of
from acdtask.raster.data_format import Resampling
from acdtask.raster.grid import Grid, Layout
from acdtask.raster.tiling import LON_LAT, footprint, project
from acdtask.storage.store import Store

if TYPE_CHECKING:
    from xarray import DataArray

__all__ = ["OpenedCube", "Place", "open_cube"]

Place: TypeAlias = str | os.PathLike[str] | BaseGeometry | dict[str, Any] | tuple[float, float, float, float]
"""An AOI file, a shapely or GeoJSON geometry, or bounds (min x, min y, max x, max y) in longitude and latitude."""

Moment: TypeAlias = datetime | str


class OpenedCube:
    """A cube opened for reading. Made by `acdtask.open`.

    Attributes:
        address: address of the cube.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        self._cube = LocalCube.open(address)

    def __repr__(self) -> str:
        names = ", ".join(variable.name for variable in self.variables())
        return f"<acdtask cube at {self.address}: {names or 'no variable'}>"

    def variables(self) -> list[Variable]:
        """List the variables by name."""
        return self._cube.variables()

    def instances(self, variable: str) -> list[Instance]:
        """List the instances of a variable by name. VARIABLE_UNKNOWN."""
        return self._cube.instances(variable)

    def layouts(self) -> list[Layout]:
        """List the layouts by name."""
        return self._cube.layouts()

    def records(
        self,
        name: str = "",
        *,
        area: Place | None = None,
        start: Moment | None = None,
        end: Moment | None = None,
        tags: dict[str, str] | None = None,
    ) -> list[Record]:
        """List records by time.

        Args:
            name: pattern of names, with `*` and `?`.
            area: area that the records touch: an AOI file, a shapely or GeoJSON geometry, or bounds (min x, min y,
                max x, max y) in longitude and latitude.
            start: first time, inclusive; UTC without a zone.
            end: last time, inclusive; a date without a time means the whole day.
            tags: tags that the records have; a value may be a pattern, and an empty value matches any.

        Raises:
            AcdError: DATE_INVALID, AOI_UNREADABLE, AOI_EMPTY.
        """
        geometry = None if area is None else shapely.geometry.mapping(_geometry(area))
        first, last = _moment(start), _moment(end, last=True)
        return self._cube.records(RecordQuery(name=name, tags=tags or {}, start=first, end=last, area=geometry))

    def images(
        self,
        variable: str = "CoherenceVV",
        instance: str = "master",
        *,
        layout: str = "",
        area: Place | None = None,
        start: Moment | None = None,
        end: Moment | None = None,
        name: str = "",
        tags: dict[str, str] | None = None,
        resampling: Resampling | None = None,
        stored: bool = False,
    ) -> DataArray:
        """Open the images of a variable as a lazy array (time, y, x), or (time, band, y, x) for several bands.

        Pixels are read when they are used. The records of one day, or of one pair of days, form one image; where they
        overlap, the later record is on top. Records of different tracks or polarisations form separate images.

        Args:
            variable: variable to read.
            instance: instance of the variable.
            layout: layout whose pixel grid is used. Default: the cube's only layout; without one, the grid of the first
                image.
            area: area whose bounding box is read, as in `records`. Default: the extent of the images.
            start: first time, as in `records`.
            end: last time, as in `records`.
            name: pattern of names of the records.
            tags: tags of the records, as in `records`.
            resampling: resampling of images on another grid. Default: that of the variable.
            stored: whether to return the stored integers, with `scale_factor` and `_FillValue` as attributes, instead
                of physical values in float32 with NaN for nodata.

        Returns:
            An array with the coordinates x, y (pixel centres), spatial_ref, time (later date of a pair), image (name of
            the image in results) and, for pairs, start (earlier date).

        Raises:
            AcdError: VARIABLE_UNKNOWN, INSTANCE_UNKNOWN, LAYOUT_UNKNOWN, INPUT_MISSING if no record matches,
                EXTRA_MISSING.
        """
        xr = import_xarray()
        definition = self._cube.variable(variable)
        records = self.records(name, area=area, start=start, end=end, tags=tags)
        having = self._cube.having(variable, instance, [record.id for record in records])
        records = [record for record in records if record.id in having]
        if not records:
            raise AcdError(
                ErrorCode.INPUT_MISSING,
                f"{self.address} has no record of {variable}:{instance} with this name, area, time and tags",
                "List the records with .records().",
            )
        grid = self._grid(self._cube.datasets(variable, instance, having), layout, area)
        several = len({(track_of(record), polarisation_of(record)) for record in records}) > 1
        groups: dict[str, list[Record]] = {}
        for record in records:
            groups.setdefault(image_label(record, mixed=several), []).append(record)
        ids = tuple(tuple(record.id for record in group) for group in groups.values())
        lazy = LazyImages(self._cube, definition, instance, grid, ids, resampling, stored=stored)
        bands = ("band",) if len(definition.bands) > 1 else ()
        array: DataArray = xr.DataArray(
            lazy.variable(("time", *bands, "y", "x")),
            coords=_coordinates(grid, groups, definition),
            name=variable,
        )
        array.encoding["grid_mapping"] = "spatial_ref"
        return array

    def fused(self, aoi: str, name: str = "fused", *, held_back: bool = False) -> dict[str, Any]:
        """The patches of fused monitoring results of an area (`acdtask fuse`), as a GeoJSON FeatureCollection.

        Args:
            aoi: AOI file that was given to the fusion.
            name: name of the fusion.
            held_back: the findings that were not kept instead, with the reason.

        Raises:
            AcdError: FUSION_UNKNOWN, or an error of the AOI file.
        """
        store = Store.at(self.address)
        manifest = latest_fusion(store, load_aoi(aoi).name, name)
        body = fused_to_geojson(findings_of(manifest.months, store, held_back=held_back))
        collection: dict[str, Any] = json.loads(body)
        return collection

    def _grid(self, datasets: Sequence[Dataset], layout: str, area: Place | None) -> Grid:
        """The grid to read: a rectangle of the layout's pixels, or of the first image's."""
        chosen = self._layout(layout)
        crs = chosen.crs if chosen else datasets[0].grid.crs
        extent = _geometry(area) if area is not None else _extent(datasets)
        box = project(extent, LON_LAT, crs).bounds
        if chosen:
            resolution, (ox, oy) = chosen.cell_extent / chosen.cell_pixels, chosen.origin
            steps = (resolution, -resolution)
        else:
            a, b, ox, d, e, oy = datasets[0].grid.transform
            if b or d:
                raise AcdError(ErrorCode.LAYOUT_UNKNOWN, "the images are rotated, so their grid has no x and y axes")
            steps = (a, e)
        return _window(box, (ox, oy), steps, crs)

    def _layout(self, name: str) -> Layout | None:
        if name:
            return self._cube.layout(name)
        layouts = self._cube.layouts()
        if len(layouts) > 1:
            names = ", ".join(layout.name for layout in layouts)
            raise AcdError(
                ErrorCode.LAYOUT_UNKNOWN, f"the cube has several layouts: {names}", "Choose one with layout=."
            )
        return layouts[0] if layouts else None


def open_cube(cube: str | os.PathLike[str]) -> OpenedCube:
    """Open a cube made by `acdtask ingest`.

    Args:
        cube: folder or s3://bucket/prefix.

    Raises:
        AcdError: CUBE_UNKNOWN, CUBE_VERSION, ADDRESS_INVALID.
    """
    return OpenedCube(os.fspath(cube))


def _moment(value: Moment | None, *, last: bool = False) -> datetime | None:
    try:
        if value is None:
            return None
        return end_of_period(value) if last and isinstance(value, str) else parse_moment(value)
    except ValueError as error:
        raise AcdError(ErrorCode.DATE_INVALID, str(error), f"Write {FORMS}.") from error


def _geometry(area: Place) -> BaseGeometry:
    if isinstance(area, BaseGeometry):
        return area
    if isinstance(area, tuple):
        return shapely.box(*area)
    if isinstance(area, dict):
        return shapely.geometry.shape(area.get("geometry", area))
    return load_aoi(str(Path(area))).geometry


def _extent(datasets: Sequence[Dataset]) -> BaseGeometry:
    """The area covered by the images; consolidated tiles extend beyond it, so they count only without originals."""
    grids = {dataset.grid for dataset in datasets if not dataset.is_copy} or {dataset.grid for dataset in datasets}
    return shapely.union_all([shapely.geometry.shape(footprint(grid)) for grid in grids])


def _window(
    box: tuple[float, float, float, float], origin: tuple[float, float], steps: tuple[float, float], crs: str
) -> Grid:
    """The pixels of a lattice that intersect a box, apart from slivers."""
    (ox, oy), (a, e) = origin, steps
    columns = sorted(((box[0] - ox) / a, (box[2] - ox) / a))
    rows = sorted(((box[1] - oy) / e, (box[3] - oy) / e))
    left, top = math.floor(columns[0] + SLIVER), math.floor(rows[0] + SLIVER)
    right, bottom = math.ceil(columns[1] - SLIVER), math.ceil(rows[1] - SLIVER)
    return Grid(
        crs=crs,
        transform=(a, 0.0, ox + left * a, 0.0, e, oy + top * e),
        width=max(right - left, 1),
        height=max(bottom - top, 1),
    )


SLIVER = 0.01
"""Overlaps narrower than this, in pixels, are ignored, since footprints are rounded to a centimetre."""


def _coordinates(grid: Grid, groups: dict[str, list[Record]], variable: Variable) -> dict[str, Any]:
    last = [group[-1] for group in groups.values()]
    starts = [start_of(record) for record in last]
    coords: dict[str, Any] = {
        **coordinates(grid),
        "time": [_naive(record.datetime) for record in last],
        "image": ("time", list(groups)),
        "spatial_ref": ((), 0, crs_attributes(grid)),
    }
    if all(starts):
        coords["start"] = ("time", [_naive(start) for start in starts if start])
    if len(variable.bands) > 1:
        coords["band"] = list(variable.bands)
    return coords


def _naive(moment: datetime) -> np.datetime64:
    """Convert to UTC without a zone, as xarray stores times."""
    return np.datetime64(moment.astimezone(UTC).replace(tzinfo=None), "ns")
