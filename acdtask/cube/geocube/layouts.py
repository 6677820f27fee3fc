"""Layouts and tiles on a Geocube, where both of acd's kinds of grids are regular grids."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from acdtask.cube.geocube.channel import Channel
from acdtask.cube.geocube.errors import check_name, malformed
from acdtask.cube.protocol import layouts_pb2 as pb
from acdtask.cube.protocol.convert import area_to_message, grid_parameters, layout_to_message
from acdtask.errors import AcdError, ErrorCode
from acdtask.raster.grid import WEB_MERCATOR_HALF_WIDTH, Layout, RegularGrid, Tile, WebMercatorGrid

__all__ = ["Layouts", "layout_of"]

WEB_MERCATOR = "EPSG:3857"
SCALES = (1, 2, 4, 8, 16)
ZOOMS = 25

OFF_GRID = 1e-3
"""Tolerance, in cells, for the rounding of a tile's position in the grid."""


class Layouts:
    """The layouts of a Geocube. Every method raises AcdError."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    def layout(self, name: str) -> Layout:
        """The layout of that name. LAYOUT_UNKNOWN; LAYOUT_INVALID if acd does not support its grid."""
        message = self._find(name)
        if message is None:
            raise AcdError(ErrorCode.LAYOUT_UNKNOWN, f"{self._channel.endpoint.address} has no layout {name!r}")
        return layout_of(message)

    def layouts(self) -> list[Layout]:
        """All layouts that acd can use, sorted by name."""
        layouts = []
        for message in self._list(""):
            try:
                layouts.append(layout_of(message))
            except AcdError as error:
                if error.code is not ErrorCode.LAYOUT_INVALID:
                    raise
        return sorted(layouts, key=lambda layout: layout.name)

    def add(self, layout: Layout) -> bool:
        """Create the layout if it does not exist. Returns whether it is new.

        Rejects layouts that Geocube would accept but fail to use. NAME_INVALID, LAYOUT_INVALID, LAYOUT_CONFLICT (naming
        the differences).
        """
        from acdtask.raster.points import crs_of

        check_name("a layout", layout.name)
        crs_of(layout.crs)
        existing = self._find(layout.name)
        if existing is None:
            request = pb.CreateLayoutRequest(layout=layout_to_message(layout))
            try:
                self._channel.call(self._channel.geocube.CreateLayout, request)
            except AcdError as error:
                if error.code is not ErrorCode.LAYOUT_CONFLICT:
                    raise
                existing = self._find(layout.name)  # another client was faster
            if existing is None:
                return True
        self._compare(layout, layout_of(existing))
        return False

    def tiles(self, area: dict[str, Any], layout: Layout) -> list[Tile]:
        """The cells of a layout that intersect an area according to the server, sorted by row, then column.

        The area is GeoJSON polygons in longitude and latitude, which the protocol rounds by up to a metre. The server
        need not know the layout.
        """
        request = pb.TileAOIRequest(aoi=area_to_message(area), layout=layout_to_message(layout))
        messages = self._channel.listed(self._channel.geocube.TileAOI, request)
        cells = {self._cell(tile, layout) for message in messages for tile in message.tiles}
        return [layout.tile(i, j) for j, i in sorted(cells)]

    def _cell(self, tile: pb.Tile, layout: Layout) -> tuple[int, int]:
        """(j, i) of a tile."""
        ox, oy = layout.origin
        i, j = (tile.transform.a - ox) / layout.cell_extent, (oy - tile.transform.d) / layout.cell_extent
        if not (abs(i - round(i)) < OFF_GRID and abs(j - round(j)) < OFF_GRID):
            raise malformed(self._channel.endpoint, f"a tile of {layout.name} is not a cell of it ({i:g}/{j:g})")
        return round(j), round(i)

    def _list(self, pattern: str) -> list[pb.Layout]:
        answer = self._channel.call(self._channel.geocube.ListLayouts, pb.ListLayoutsRequest(name_like=pattern))
        return list(answer.layouts)

    def _find(self, name: str) -> pb.Layout | None:
        return next((message for message in self._list(name) if message.name == name), None) if name else None

    def _compare(self, wanted: Layout, existing: Layout) -> None:
        mine, others = grid_parameters(wanted), grid_parameters(existing)
        differences = [
            f"{key} {others[key]} instead of {mine[key]}" for key in mine if not _same(mine[key], others[key])
        ]
        if differences:
            detail = f"{self._channel.endpoint.address} has the layout {wanted.name} with {', '.join(differences)}"
            raise AcdError(ErrorCode.LAYOUT_CONFLICT, detail)


def layout_of(message: pb.Layout) -> Layout:
    """The layout of a message. LAYOUT_INVALID if acd does not support its grid.

    Web mercator tiles are recognised by origin and size of cells.

    >>> layout_of(layout_to_message(Layout(name="z9", grid=WebMercatorGrid(zoom=9, scale=2)))).grid
    WebMercatorGrid(kind='web_mercator', zoom=9, scale=2)
    """
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


def _same(mine: str, other: str) -> bool:
    if mine == other:
        return True
    try:
        return math.isclose(float(mine), float(other), rel_tol=1e-12)
    except ValueError:
        return False


def _crs(text: str) -> str:
    """The CRS as `EPSG:<number>` if it has an EPSG number, as everywhere in acd."""
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
    """The same grid as a web mercator grid, or None if it is none."""
    origin = -grid.ox, grid.oy
    is_world = all(math.isclose(offset, WEB_MERCATOR_HALF_WIDTH, rel_tol=1e-12) for offset in origin)
    if grid.crs != WEB_MERCATOR or not is_world:
        return None
    zoom = math.log2(2 * WEB_MERCATOR_HALF_WIDTH / (grid.cell_size * grid.resolution))
    scale = next((scale for scale in SCALES if grid.cell_size == 256 * scale), None)
    if scale is None or abs(zoom - round(zoom)) > 1e-9 or not 0 <= round(zoom) < ZOOMS:
        return None
    return WebMercatorGrid.model_validate({"zoom": round(zoom), "scale": scale})
