"""Layouts and tiles on a Geocube: acd's two kinds of grids are both regular ones there."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from acdtask.cube.geocube.channel import Channel
from acdtask.cube.geocube.errors import check_name, malformed
from acdtask.cube.protocol import layouts_pb2 as pb
from acdtask.cube.protocol.convert import area_to_wire
from acdtask.errors import AcdError, ErrorCode
from acdtask.raster.grid import WEB_MERCATOR_HALF_WIDTH, Layout, RegularGrid, Tile, WebMercatorGrid

__all__ = ["Layouts", "layout_of", "layout_to_wire"]

WEB_MERCATOR = "EPSG:3857"
SCALES = (1, 2, 4, 8, 16)
ZOOMS = 25
BLOCK = 256
MAX_RECORDS = 1000
PATTERN = "Z=0>T>R>B;R>Z=1:>T>B"
"""Pixels of a tile for all records lie together: Geocube's own default."""

OFF_GRID = 1e-3
"""Cells: what a tile may lie beside its place in the grid, by rounding."""


class Layouts:
    """The layouts of a Geocube. Every method raises AcdError."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    def layout(self, name: str) -> Layout:
        """The layout of that name. LAYOUT_UNKNOWN; LAYOUT_INVALID if acd has no such grid."""
        message = self._find(name)
        if message is None:
            raise AcdError(ErrorCode.LAYOUT_UNKNOWN, f"{self._channel.endpoint.address} has no layout {name!r}")
        return layout_of(message)

    def layouts(self) -> list[Layout]:
        """Every layout that acd can use, by name."""
        found = []
        for message in self._list(""):
            try:
                found.append(layout_of(message))
            except AcdError as error:
                if error.code is not ErrorCode.LAYOUT_INVALID:
                    raise
        return sorted(found, key=lambda layout: layout.name)

    def add(self, layout: Layout) -> bool:
        """Make the layout; whether it is new. NAME_INVALID, LAYOUT_INVALID, LAYOUT_CONFLICT (naming what differs).

        What Geocube itself would take and fail with at the first use is refused here.
        """
        from acdtask.raster.points import crs_of

        check_name("a layout", layout.name)
        crs_of(layout.crs)
        there = self._find(layout.name)
        if there is None:
            request = pb.CreateLayoutRequest(layout=layout_to_wire(layout))
            try:
                self._channel.call(self._channel.geocube.CreateLayout, request)
            except AcdError as error:
                if error.code is not ErrorCode.LAYOUT_CONFLICT:
                    raise
                there = self._find(layout.name)  # somebody was faster
            if there is None:
                return True
        self._compare(layout, layout_of(there))
        return False

    def delete(self, name: str) -> None:
        """Remove a layout; nothing happens if there is none."""
        self._channel.call(self._channel.geocube.DeleteLayout, pb.DeleteLayoutRequest(name=name))

    def tiles(self, area: dict[str, Any], layout: Layout) -> list[Tile]:
        """The cells of a layout that an area needs, as the server finds them, by row, then column.

        Args:
            area: GeoJSON polygons in longitude and latitude; up to a metre of them is lost on the way.
            layout: of this server or not.
        """
        request = pb.TileAOIRequest(aoi=area_to_wire(area), layout=layout_to_wire(layout))
        messages = self._channel.listed(self._channel.geocube.TileAOI, request)
        cells = {self._cell(tile, layout) for message in messages for tile in message.tiles}
        return [layout.tile(i, j) for j, i in sorted(cells)]

    def _cell(self, tile: pb.Tile, layout: Layout) -> tuple[int, int]:
        """(j, i) of a tile."""
        ox, oy = layout.origin
        i, j = (tile.transform.a - ox) / layout.cell_extent, (oy - tile.transform.d) / layout.cell_extent
        if not (abs(i - round(i)) < OFF_GRID and abs(j - round(j)) < OFF_GRID):
            raise malformed(self._channel.endpoint, f"a tile of {layout.name} begins within a cell ({i:g}/{j:g})")
        return round(j), round(i)

    def _list(self, pattern: str) -> list[pb.Layout]:
        answer = self._channel.call(self._channel.geocube.ListLayouts, pb.ListLayoutsRequest(name_like=pattern))
        return list(answer.layouts)

    def _find(self, name: str) -> pb.Layout | None:
        return next((one for one in self._list(name) if one.name == name), None) if name else None

    def _compare(self, wanted: Layout, there: Layout) -> None:
        mine, others = _parameters(wanted), _parameters(there)
        differences = [
            f"{key} {others[key]} in place of {mine[key]}" for key in mine if not _same(mine[key], others[key])
        ]
        if differences:
            detail = f"{self._channel.endpoint.address} has the layout {wanted.name} with {', '.join(differences)}"
            raise AcdError(ErrorCode.LAYOUT_CONFLICT, detail)


def layout_to_wire(layout: Layout) -> pb.Layout:
    """A layout as a regular grid; one of web mercator tiles is known by the place and the size of its cells.

    >>> wire = layout_to_wire(Layout(name="z9", grid=WebMercatorGrid(zoom=9, scale=2)))
    >>> layout_of(wire).grid
    WebMercatorGrid(kind='web_mercator', zoom=9, scale=2)
    """
    return pb.Layout(
        name=layout.name,
        grid_parameters={"grid": "regular"} | _parameters(layout),
        block_x_size=BLOCK,
        block_y_size=BLOCK,
        max_records=MAX_RECORDS,
        interlacing_pattern=PATTERN,
    )


def layout_of(message: pb.Layout) -> Layout:
    """The layout of a message. LAYOUT_INVALID for a grid that acd has not."""
    parameters = message.grid_parameters
    try:
        _check_regular(parameters.get("grid", ""))
        grid = RegularGrid(
            crs=_crs(parameters.get("crs", "")),
            resolution=float(parameters["resolution"]),
            cell_size=_cell_size(parameters),
            ox=float(parameters.get("ox", 0)),
            oy=float(parameters.get("oy", 0)),
        )
    except (KeyError, ValueError, ValidationError) as error:
        reason = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
        raise AcdError(
            ErrorCode.LAYOUT_INVALID,
            f"the layout {message.name} is not a regular grid of square cells ({reason})",
            "Choose a layout whose grid is regular.",
        ) from error
    return Layout.model_construct(name=message.name, grid=_web_mercator(grid) or grid)


def _check_regular(kind: str) -> None:
    if kind.lower() != "regular":
        raise ValueError(f"its grid is {kind!r}")


def _parameters(layout: Layout) -> dict[str, str]:
    ox, oy = layout.origin
    grid = layout.grid
    resolution = grid.resolution if isinstance(grid, RegularGrid) else layout.cell_extent / layout.cell_pixels
    return {
        "crs": layout.crs,
        "resolution": repr(resolution),
        "cell_size": str(layout.cell_pixels),
        "ox": repr(ox),
        "oy": repr(oy),
    }


def _same(mine: str, other: str) -> bool:
    if mine == other:
        return True
    try:
        return math.isclose(float(mine), float(other), rel_tol=1e-12)
    except ValueError:
        return False


def _crs(text: str) -> str:
    """By its EPSG number if it has one, as in other places of acd."""
    from acdtask.raster.points import crs_of

    number = crs_of(text).to_epsg()
    return f"EPSG:{number}" if number else text


def _cell_size(parameters: Mapping[str, str]) -> int:
    if "cell_size" in parameters:
        return int(parameters["cell_size"])
    width, height = int(parameters["cell_x_size"]), int(parameters["cell_y_size"])
    if width != height:
        raise ValueError(f"its cells are {width} x {height} px")
    return width


def _web_mercator(grid: RegularGrid) -> WebMercatorGrid | None:
    """The web mercator grid that the grid is, if it is one."""
    world = -grid.ox, grid.oy
    if grid.crs != WEB_MERCATOR or not all(math.isclose(one, WEB_MERCATOR_HALF_WIDTH, rel_tol=1e-12) for one in world):
        return None
    zoom = math.log2(2 * WEB_MERCATOR_HALF_WIDTH / (grid.cell_size * grid.resolution))
    scale = next((one for one in SCALES if grid.cell_size == 256 * one), None)
    if scale is None or abs(zoom - round(zoom)) > 1e-9 or not 0 <= round(zoom) < ZOOMS:
        return None
    return WebMercatorGrid.model_validate({"zoom": round(zoom), "scale": scale})
