"""Writes VRTs of a product's tiles, so that GDAL and QGIS open a date as one image.

Paths are relative to the VRT, so a copied cube still opens. VRTs are output only: acd never reads its own.
"""

from __future__ import annotations

import math
import posixpath
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

from acdtask.raster.cog import Colour
from acdtask.raster.grid import Grid
from acdtask.raster.points import crs_of

__all__ = ["MosaicBand", "encode_vrt"]

DATA_TYPES = {
    "uint8": "Byte",
    "int16": "Int16",
    "uint16": "UInt16",
    "int32": "Int32",
    "int64": "Int64",
    "float32": "Float32",
    "float64": "Float64",
}
"""GDAL's data type names."""

BLOCK = 256


@dataclass(frozen=True)
class MosaicBand:
    """Description of a mosaic's band.

    Attributes:
        name: description of the band.
        dtype: numpy's name of the data type.
        nodata: value of invalid pixels.
        scale: physical = stored * scale.
        unit: unit of the physical value.
        colours: red, green, blue, alpha (0..255) by value.
        categories: names of the values 0, 1, ...
    """

    name: str
    dtype: str
    nodata: float
    scale: float = 1.0
    unit: str = ""
    colours: Mapping[int, Colour] = field(default_factory=dict)
    categories: Sequence[str] = ()


def encode_vrt(
    tiles: Mapping[str, Grid], bands: Sequence[MosaicBand], *, href: str, metadata: Mapping[str, str] | None = None
) -> bytes:
    """Encode a VRT of tiles (by key) aligned to one north-up grid; the same tiles give the same bytes.

    Paths of tiles are relative to `href`, the key of the VRT.
    """
    grids = list(tiles.values())
    whole = _union(grids)
    root = Element("VRTDataset", rasterXSize=str(whole.width), rasterYSize=str(whole.height))
    SubElement(root, "SRS").text = crs_of(whole.crs).to_wkt()  # without a mapping of axes, x comes first
    a, b, c, d, e, f = whole.transform
    SubElement(root, "GeoTransform").text = ", ".join(repr(float(number)) for number in (c, a, b, f, d, e))
    if metadata:
        items = SubElement(root, "Metadata")
        for key, value in sorted(metadata.items()):
            SubElement(items, "MDI", key=key).text = value
    for number, band in enumerate(bands, start=1):
        _add_band(root, number, band, tiles, whole, posixpath.dirname(href))
    ElementTree.indent(root, space="")
    return ElementTree.tostring(root, encoding="unicode").encode() + b"\n"


def _union(grids: Sequence[Grid]) -> Grid:
    """Smallest grid that contains all grids as windows."""
    first = grids[0]
    a, b, c, d, e, f = first.transform
    if (
        b
        or d
        or any((grid.crs, grid.transform[:2], grid.transform[3:5]) != (first.crs, (a, b), (d, e)) for grid in grids)
    ):
        raise ValueError("tiles of a mosaic must be aligned to one grid without rotation")
    offsets = [_offset(grid, first) for grid in grids]
    left, top = (min(offset[axis] for offset in offsets) for axis in (0, 1))
    right = max(offset[0] + grid.width for offset, grid in zip(offsets, grids, strict=True))
    bottom = max(offset[1] + grid.height for offset, grid in zip(offsets, grids, strict=True))
    # Take the corner from a tile instead of computing it: both then agree to the last bit.
    x = min((grid.transform[2] for grid in grids), key=lambda x: (x - c) / a)
    y = min((grid.transform[5] for grid in grids), key=lambda y: (y - f) / e)
    return Grid(crs=first.crs, transform=(a, b, x, d, e, y), width=right - left, height=bottom - top)


def _offset(grid: Grid, origin: Grid) -> tuple[int, int]:
    """(column, row) in another grid of a grid's first pixel."""
    a, _, c, _, e, f = origin.transform
    return round((grid.transform[2] - c) / a), round((grid.transform[5] - f) / e)


def _add_band(root: Element, number: int, band: MosaicBand, tiles: Mapping[str, Grid], whole: Grid, home: str) -> None:
    node = SubElement(
        root,
        "VRTRasterBand",
        dataType=DATA_TYPES[band.dtype],
        band=str(number),
        blockXSize=str(BLOCK),
        blockYSize=str(BLOCK),
    )
    SubElement(node, "Description").text = band.name
    SubElement(node, "NoDataValue").text = _number(band.nodata)
    if band.unit:
        SubElement(node, "UnitType").text = band.unit
    if band.scale != 1.0:
        SubElement(node, "Scale").text = repr(band.scale)
    if band.categories:
        names = SubElement(node, "CategoryNames")
        for category in band.categories:
            SubElement(names, "Category").text = category
    if band.colours:
        SubElement(node, "ColorInterp").text = "Palette"
        table = SubElement(node, "ColorTable")
        for value in range(max(band.colours) + 1):
            colour = band.colours.get(value, (0, 0, 0, 0))
            SubElement(table, "Entry", {f"c{index}": str(channel) for index, channel in enumerate(colour, start=1)})
    for key, grid in tiles.items():
        _add_source(node, number, band, posixpath.relpath(key, home or "."), grid, _offset(grid, whole))


def _add_source(node: Element, number: int, band: MosaicBand, path: str, grid: Grid, offset: tuple[int, int]) -> None:
    width, height = str(grid.width), str(grid.height)
    source = SubElement(node, "SimpleSource")
    SubElement(source, "SourceFilename", relativeToVRT="1").text = path
    SubElement(source, "SourceBand").text = str(number)
    # With these properties, GDAL opens the VRT without opening each tile.
    SubElement(
        source,
        "SourceProperties",
        RasterXSize=width,
        RasterYSize=height,
        DataType=DATA_TYPES[band.dtype],
        BlockXSize=str(BLOCK),
        BlockYSize=str(BLOCK),
    )
    SubElement(source, "SrcRect", xOff="0", yOff="0", xSize=width, ySize=height)
    SubElement(source, "DstRect", xOff=str(offset[0]), yOff=str(offset[1]), xSize=width, ySize=height)


def _number(value: float) -> str:
    if math.isnan(value):
        return "nan"
    return str(int(value)) if value == int(value) else repr(value)
