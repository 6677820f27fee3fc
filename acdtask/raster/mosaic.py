"""VRTs of a product's tiles, so that GDAL and QGIS open a date as one image.

A VRT names its tiles by paths relative to its own, so that a copied cube still opens. It is an output: acd never reads
one of its own.
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
"""GDAL's names."""

BLOCK = 256


@dataclass(frozen=True)
class MosaicBand:
    """What a band of a mosaic says of itself.

    Attributes:
        name: its description.
        dtype: numpy's name of the data type.
        nodata: the value that means nodata.
        scale: physical = stored * scale.
        unit: of the physical value.
        colours: red, green, blue, alpha (0..255) by value.
        categories: what the values 0, 1, ... mean.
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
    """A VRT of tiles that lie on the pixels of one grid without rotation; the same bytes for the same tiles.

    Args:
        tiles: the grid of each tile by its key, at least one.
        bands: what the tiles hold.
        href: the VRT's own key; paths of tiles are relative to it.
        metadata: of the whole image.
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
    """The smallest grid that has all of them as windows."""
    first = grids[0]
    a, b, c, d, e, f = first.transform
    if (
        b
        or d
        or any((grid.crs, grid.transform[:2], grid.transform[3:5]) != (first.crs, (a, b), (d, e)) for grid in grids)
    ):
        raise ValueError("the tiles of a mosaic lie on one grid without rotation")
    places = [_place(grid, first) for grid in grids]
    left, top = (min(place[axis] for place in places) for axis in (0, 1))
    right = max(place[0] + grid.width for place, grid in zip(places, grids, strict=True))
    bottom = max(place[1] + grid.height for place, grid in zip(places, grids, strict=True))
    # The corner of a tile of the layout, not a multiple of a pixel's size, so that it has that tile's very bits.
    x = min((grid.transform[2] for grid in grids), key=lambda x: (x - c) / a)
    y = min((grid.transform[5] for grid in grids), key=lambda y: (y - f) / e)
    return Grid(crs=first.crs, transform=(a, b, x, d, e, y), width=right - left, height=bottom - top)


def _place(grid: Grid, origin: Grid) -> tuple[int, int]:
    """The column and row of a grid's first pixel in another one."""
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
            SubElement(table, "Entry", {f"c{place + 1}": str(channel) for place, channel in enumerate(colour)})
    for key, grid in tiles.items():
        _add_source(node, number, band, posixpath.relpath(key, home or "."), grid, _place(grid, whole))


def _add_source(node: Element, number: int, band: MosaicBand, path: str, grid: Grid, place: tuple[int, int]) -> None:
    width, height = str(grid.width), str(grid.height)
    source = SubElement(node, "SimpleSource")
    SubElement(source, "SourceFilename", relativeToVRT="1").text = path
    SubElement(source, "SourceBand").text = str(number)
    # What GDAL knows of a source this way, it need not open the file for.
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
    SubElement(source, "DstRect", xOff=str(place[0]), yOff=str(place[1]), xSize=width, ySize=height)


def _number(value: float) -> str:
    if math.isnan(value):
        return "nan"
    return str(int(value)) if value == int(value) else repr(value)
