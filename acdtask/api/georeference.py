"""Where the pixels of an array lie: coordinates and CRS of xarray objects, or what a caller says."""

from __future__ import annotations

import sys
from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeGuard, cast

import numpy as np
from numpy.typing import NDArray

from acdtask.errors import AcdError, ErrorCode
from acdtask.raster.grid import Grid
from acdtask.raster.points import crs_of

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["Layers", "coordinates", "crs_attributes", "import_xarray", "is_data_array", "layers_of"]

Y_NAMES = frozenset({"y", "lat", "latitude", "northing"})
X_NAMES = frozenset({"x", "lon", "longitude", "easting"})
LON_LAT_NAMES = frozenset({"lon", "longitude"})
EVEN = 1e-3
"""How far a coordinate may lie beside an even step, in pixels."""


@dataclass(frozen=True, eq=False)
class Layers:
    """An array with what is known about it.

    Attributes:
        values: shape (time, y, x) or (y, x); anything that numpy can index and read, such as a lazy array.
        times: ISO 8601, one for each image; empty if they are not known.
        grid: where the pixels lie; its CRS is empty if it is not known; None if nothing is known.
        scale, nodata: what the array itself says of its numbers; None if it says nothing.
    """

    values: Any
    times: tuple[str, ...] = ()
    grid: Grid | None = None
    scale: float | None = None
    nodata: float | None = None


def import_xarray() -> Any:
    """The package xarray. EXTRA_MISSING."""
    try:
        import xarray as xr
    except ImportError as error:
        raise AcdError(
            ErrorCode.EXTRA_MISSING, "xarray is not installed", "Install it with: pip install 'acdtask[xarray]'"
        ) from error
    return xr


def is_data_array(array: object) -> TypeGuard[xr.DataArray]:
    """Whether an object is an xarray.DataArray; xarray is not imported for this."""
    xr = sys.modules.get("xarray")
    return xr is not None and isinstance(array, xr.DataArray)


def layers_of(
    array: Any, dimensions: int, *, crs: str | None = None, transform: Iterable[float] | None = None
) -> Layers:
    """What is known about an array.

    Args:
        array: an xarray.DataArray, or what numpy takes for an array.
        dimensions: 3 for a stack (time, y, x), 2 for an image (y, x).
        crs: the CRS of the pixels, if the array does not say it, or something else.
        transform: pixel to CRS, a, b, c, d, e, f as in the affine package, the same.

    Raises:
        AcdError: STACK_UNFIT, LAYOUT_INVALID if the CRS is unknown.
    """
    layers = _of_data_array(array, dimensions) if is_data_array(array) else Layers(_as_array(array))
    shape = np.shape(layers.values)
    if len(shape) != dimensions or 0 in shape:
        wanted = "(time, y, x)" if dimensions == 3 else "(y, x)"
        raise AcdError(ErrorCode.STACK_UNFIT, f"the array has shape {shape}, and {wanted} is needed")
    grid = layers.grid
    if transform is not None:
        a, b, c, d, e, f = (float(number) for number in list(transform)[:6])
        grid = _grid((a, b, c, d, e, f), shape, crs or (grid.crs if grid else ""))
    elif grid is not None and crs is not None:
        grid = _grid(grid.transform, shape, crs)
    return Layers(layers.values, layers.times, grid, layers.scale, layers.nodata)


def coordinates(grid: Grid) -> dict[str, NDArray[Any]]:
    """The centres of the columns and rows, `x` and `y`, of a grid without rotation."""
    a, _, c, _, e, f = grid.transform
    return {"y": f + (np.arange(grid.height) + 0.5) * e, "x": c + (np.arange(grid.width) + 0.5) * a}


def crs_attributes(grid: Grid) -> dict[str, str]:
    """The attributes of a coordinate `spatial_ref`, as rioxarray and GDAL write them."""
    a, b, c, d, e, f = grid.transform
    wkt = crs_of(grid.crs).to_wkt()
    return {"crs_wkt": wkt, "spatial_ref": wkt, "GeoTransform": " ".join(f"{one:.17g}" for one in (c, a, b, f, d, e))}


def _as_array(array: Any) -> Any:
    return array if hasattr(array, "shape") and hasattr(array, "dtype") else np.asarray(array)


def _of_data_array(array: xr.DataArray, dimensions: int) -> Layers:
    y, x = (_dimension(array, names) for names in (Y_NAMES, X_NAMES))
    others = [name for name in array.dims if name not in (y, x)]
    if len(others) != dimensions - 2:
        raise AcdError(
            ErrorCode.STACK_UNFIT,
            f"the DataArray has the dimensions {_listed(array.dims)}, and {dimensions} are needed",
            "Select one image with .isel, or rename the dimensions to time, y and x.",
        )
    ordered = array.transpose(*others, y, x)
    return Layers(
        values=ordered if dimensions == 3 else ordered.variable,
        times=_times(array, others),
        grid=_grid_of(array, y, x),
        scale=_scale(array),
        nodata=_nodata(array),
    )


def _dimension(array: xr.DataArray, names: frozenset[str]) -> Hashable:
    found = [name for name in array.dims if str(name).lower() in names]
    if len(found) != 1:
        raise AcdError(
            ErrorCode.STACK_UNFIT,
            f"the DataArray has the dimensions {_listed(array.dims)}, none or several of which are"
            f" {', '.join(sorted(names))}",
            "Rename its dimensions to time, y and x.",
        )
    return found[0]


def _listed(names: Iterable[Hashable]) -> str:
    return f"({', '.join(map(str, names))})"


def _times(array: xr.DataArray, others: list[Hashable]) -> tuple[str, ...]:
    name = others[0] if others else "time"
    if name not in array.coords:
        return ()
    values = np.atleast_1d(array.coords[name].values)
    if values.dtype.kind != "M":
        return tuple(str(value) for value in values)
    return tuple(np.datetime_as_string(values, unit="s").tolist())


def _grid_of(array: xr.DataArray, y: Hashable, x: Hashable) -> Grid | None:
    if x not in array.coords or y not in array.coords or min(array.sizes[x], array.sizes[y]) < 2:
        return None
    a, c = _step(array.coords[x].values, x)
    e, f = _step(array.coords[y].values, y)
    lon_lat = str(x).lower() in LON_LAT_NAMES
    return _grid(
        (a, 0.0, c, 0.0, e, f), (array.sizes[y], array.sizes[x]), _crs_in(array) or ("EPSG:4326" if lon_lat else "")
    )


def _step(centres: NDArray[Any], name: Hashable) -> tuple[float, float]:
    """The step of a coordinate, and where its first pixel begins."""
    centres = centres.astype(np.float64)
    step = (centres[-1] - centres[0]) / (len(centres) - 1)
    if not np.abs(centres - (centres[0] + step * np.arange(len(centres)))).max() <= EVEN * abs(step):
        raise AcdError(
            ErrorCode.STACK_UNFIT,
            f"the coordinate {name} is not evenly spaced",
            "Bring the images onto a regular grid first, or drop the coordinate.",
        )
    return float(step), float(centres[0] - step / 2)


def _crs_in(array: xr.DataArray) -> str:
    """The CRS that a DataArray names, in the ways of CF, rioxarray and older rasterio; empty if it names none."""
    mapping = array.encoding.get("grid_mapping") or array.attrs.get("grid_mapping") or "spatial_ref"
    attributes = array.coords[mapping].attrs if mapping in array.coords else {}
    return str(attributes.get("crs_wkt") or attributes.get("spatial_ref") or array.attrs.get("crs") or "")


def _grid(transform: tuple[float, ...], shape: tuple[int, ...], crs: str) -> Grid:
    a, b, c, d, e, f = transform
    return Grid(crs=_crs_text(crs), transform=(a, b, c, d, e, f), width=shape[-1], height=shape[-2])


def _crs_text(crs: str) -> str:
    """The CRS as the cube writes it, so that two texts of one CRS are one. LAYOUT_INVALID."""
    if not crs:
        return ""
    epsg = crs_of(crs).to_epsg()
    return f"EPSG:{epsg}" if epsg else crs_of(crs).to_wkt()


def _scale(array: xr.DataArray) -> float | None:
    """The scale that an array names; 1 and scales with an offset, as some readers write, say nothing of coherence."""
    scale, offset = _number(array, "scale_factor"), _number(array, "add_offset")
    return None if scale is None or scale == 1 or offset else scale


def _number(array: xr.DataArray, name: str) -> float | None:
    value = array.attrs.get(name, array.encoding.get(name))
    return None if value is None else float(cast(Any, value))


def _nodata(array: xr.DataArray) -> float | None:
    for name in ("_FillValue", "missing_value", "nodata"):
        value = _number(array, name)
        # Decoded arrays have NaN there, and the number that it was in the file is in the encoding.
        if value is not None and (array.dtype.kind in "iu" or name in array.attrs):
            return value
    return None
