"""Reads vector files (GeoPackage, Shapefile, FlatGeobuf, KML) as GeoJSON. Needs the extra `vector` (pyogrio)."""

from __future__ import annotations

import datetime as dt
import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import shapely

from acdtask.errors import AcdError, ErrorCode
from acdtask.storage.files import SMALL_FILE_BYTES, require_regular

__all__ = ["VECTOR_ENDINGS", "read_vector_file"]

STARTS: dict[str, tuple[bytes, ...]] = {
    ".gpkg": (b"SQLite format 3\x00",),
    ".shp": (b"\x00\x00\x27\x0a",),
    ".fgb": (b"fgb",),
    ".kml": (b"<?xml", b"<kml", b"\xef\xbb\xbf<?xml"),
    ".zip": (b"PK\x03\x04",),
}
"""First bytes of files by ending. GDAL ignores the ending, and other formats, such as VRT, may refer to any file."""

VECTOR_ENDINGS = tuple(STARTS)
LAYER = "|layername="
"""Separates the path and the layer of a file in QGIS."""


def read_vector_file(source: str) -> dict[str, Any]:
    """Read the features of a layer as a FeatureCollection with a crs member.

    The path has one of VECTOR_ENDINGS (.zip for a zipped Shapefile), followed by `|layername=NAME` if the file has
    several layers. AOI_UNREADABLE, AOI_CRS, FILE_UNFIT, EXTRA_MISSING.
    """
    text, _, layer = source.partition(LAYER)
    path = Path(text.partition("|")[0])
    gdal_path = _checked(path)
    try:
        import pyogrio.raw as pyogrio
    except ImportError as error:
        raise AcdError(
            ErrorCode.EXTRA_MISSING,
            f"{path} is not GeoJSON, and pyogrio is not installed",
            "Install it with: pip install 'acdtask[vector]', or export the area as GeoJSON.",
        ) from error
    from pyogrio.errors import DataLayerError, DataSourceError

    try:
        meta, _, geometries, columns = pyogrio.read(gdal_path, layer=_layer(gdal_path, path, layer))
    except (DataSourceError, DataLayerError, ValueError) as error:
        raise AcdError(ErrorCode.AOI_UNREADABLE, f"{path} cannot be read: {_one_line(error)}") from error
    if not meta["crs"]:
        raise AcdError(ErrorCode.AOI_CRS, f"{path} has no coordinate system{_hint(path)}")
    shapes = shapely.from_wkb(geometries if geometries is not None else [])
    rows = zip(*columns, strict=True) if columns else [()] * len(shapes)
    features = [
        {
            "type": "Feature",
            "properties": {str(name): _plain(value) for name, value in zip(meta["fields"], row, strict=True)},
            "geometry": shapely.geometry.mapping(shape) if shape is not None else None,
        }
        for shape, row in zip(shapes, rows, strict=True)
    ]
    crs = {"type": "name", "properties": {"name": meta["crs"]}}
    return {"type": "FeatureCollection", "crs": crs, "features": features}


def _checked(path: Path) -> str:
    """Require that the file's content matches its ending, and return its path for GDAL. AOI_UNREADABLE, FILE_UNFIT."""
    ending = path.suffix.lower()
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            require_regular(status, str(path))
            start = file.read(64)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise AcdError(ErrorCode.AOI_UNREADABLE, f"{path} cannot be read: {reason}") from error
    if status.st_size > SMALL_FILE_BYTES:
        raise AcdError(ErrorCode.FILE_UNFIT, f"{path} is larger than {SMALL_FILE_BYTES:,} bytes")
    if not start.lstrip().startswith(STARTS[ending]) and not start.startswith(STARTS[ending]):
        raise AcdError(ErrorCode.AOI_UNREADABLE, f"{path} is not a {ending[1:]} file: it begins with {start[:8]!r}")
    if ending == ".zip":
        return f"/vsizip/{path.absolute()}/{_zipped_shapefile(path)}"
    return str(path.absolute())


def _zipped_shapefile(path: Path) -> str:
    """Find the only Shapefile in an archive. AOI_UNREADABLE, FILE_UNFIT."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            names = [member.filename for member in members if member.filename.lower().endswith(".shp")]
            start = archive.open(names[0]).read(4) if len(names) == 1 else b""
    except (zipfile.BadZipFile, OSError, RuntimeError, NotImplementedError) as error:
        raise AcdError(ErrorCode.AOI_UNREADABLE, f"{path} cannot be read: {_one_line(error)}") from error
    if sum(member.file_size for member in members) > SMALL_FILE_BYTES:
        raise AcdError(ErrorCode.FILE_UNFIT, f"{path} contains more than {SMALL_FILE_BYTES:,} bytes")
    if not start.startswith(STARTS[".shp"]):
        raise AcdError(ErrorCode.AOI_UNREADABLE, f"{path} does not contain exactly one Shapefile (.shp)")
    return names[0]


def _layer(gdal_path: str, path: Path, wanted: str) -> str | None:
    """Name of the layer to read: the wanted one, or the only one. AOI_UNREADABLE."""
    import pyogrio

    names = [str(name) for name, kind in pyogrio.list_layers(gdal_path) if kind is not None]
    if wanted in names or (len(names) == 1 and not wanted):
        return wanted or names[0]
    listed = ", ".join(names) or "none"
    problem = (
        f"has no layer {wanted!r}" if wanted else "has several layers" if names else "has no layer with geometries"
    )
    raise AcdError(ErrorCode.AOI_UNREADABLE, f"{path} {problem}; its layers: {listed}", f"Give {path}{LAYER}NAME.")


def _plain(value: Any) -> Any:
    """A value of a column as a JSON value."""
    if isinstance(value, np.datetime64):
        return None if np.isnat(value) else str(np.datetime_as_string(value, unit="s" if _has_time(value) else "D"))
    if isinstance(value, dt.date):
        return value.isoformat()
    plain = value.item() if isinstance(value, np.generic) else value
    return None if isinstance(plain, float) and plain != plain else plain  # NaN means null


def _has_time(value: np.datetime64) -> bool:
    return str(np.datetime_data(value.dtype)[0]) != "D"


def _one_line(error: Exception) -> str:
    return str(error).splitlines()[0][:200] if str(error) else type(error).__name__


def _hint(path: Path) -> str:
    return f": {path.with_suffix('.prj').name} is missing" if path.suffix.lower() == ".shp" else ""
