"""Vector files as GeoJSON: GeoPackage, Shapefile, FlatGeobuf, KML. Reading them needs the extra `vector` (pyogrio)."""

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
"""How files of each ending begin. GDAL would go by the content, and a file of another kind may lead anywhere."""

VECTOR_ENDINGS = tuple(STARTS)
LAYER = "|layername="
"""How QGIS writes the layer of a file, after its path."""


def read_vector_file(source: str) -> dict[str, Any]:
    """The polygons of a layer as a FeatureCollection with a crs member.

    Args:
        source: a path that ends with one of VECTOR_ENDINGS (a zipped Shapefile with .zip), and after it
            `|layername=NAME` if the file has several layers.

    Raises:
        AcdError: AOI_UNREADABLE, AOI_CRS, FILE_UNFIT, EXTRA_MISSING.
    """
    text, _, layer = source.partition(LAYER)
    path = Path(text.partition("|")[0])
    place = _checked(path)
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
        meta, _, geometries, columns = pyogrio.read(place, layer=_layer(place, path, layer))
    except (DataSourceError, DataLayerError, ValueError) as error:
        raise AcdError(ErrorCode.AOI_UNREADABLE, f"{path} cannot be read: {_one_line(error)}") from error
    if not meta["crs"]:
        raise AcdError(ErrorCode.AOI_CRS, f"{path} does not say its coordinate system{_hint(path)}")
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
    """What GDAL is to open, once the file is known to be what its ending says. AOI_UNREADABLE, FILE_UNFIT."""
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
    """The Shapefile in an archive. AOI_UNREADABLE, FILE_UNFIT."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            found = [one.filename for one in members if one.filename.lower().endswith(".shp")]
            begins = archive.open(found[0]).read(4) if len(found) == 1 else b""
    except (zipfile.BadZipFile, OSError, RuntimeError, NotImplementedError) as error:
        raise AcdError(ErrorCode.AOI_UNREADABLE, f"{path} cannot be read: {_one_line(error)}") from error
    if sum(one.file_size for one in members) > SMALL_FILE_BYTES:
        raise AcdError(ErrorCode.FILE_UNFIT, f"{path} holds more than {SMALL_FILE_BYTES:,} bytes")
    if not begins.startswith(STARTS[".shp"]):
        raise AcdError(ErrorCode.AOI_UNREADABLE, f"{path} does not hold exactly one Shapefile (.shp)")
    return found[0]


def _layer(place: str, path: Path, wanted: str) -> str | None:
    """The layer to read: the one that is wanted, or the only one. AOI_UNREADABLE."""
    import pyogrio

    names = [str(name) for name, kind in pyogrio.list_layers(place) if kind is not None]
    if wanted in names or (len(names) == 1 and not wanted):
        return wanted or names[0]
    listed = ", ".join(names) or "none"
    problem = f"has no layer {wanted!r}" if wanted else "has several layers" if names else "has no layer of geometries"
    raise AcdError(ErrorCode.AOI_UNREADABLE, f"{path} {problem}; its layers are: {listed}", f"Write {path}{LAYER}NAME.")


def _plain(value: Any) -> Any:
    """A value of a column as JSON has it."""
    if isinstance(value, np.datetime64):
        return None if np.isnat(value) else str(np.datetime_as_string(value, unit="s" if _has_time(value) else "D"))
    if isinstance(value, dt.date):
        return value.isoformat()
    plain = value.item() if isinstance(value, np.generic) else value
    return None if isinstance(plain, float) and plain != plain else plain  # nan is a column's null


def _has_time(value: np.datetime64) -> bool:
    return str(np.datetime_data(value.dtype)[0]) != "D"


def _one_line(error: Exception) -> str:
    return str(error).splitlines()[0][:200] if str(error) else type(error).__name__


def _hint(path: Path) -> str:
    return f": {path.with_suffix('.prj').name} is missing" if path.suffix.lower() == ".shp" else ""
