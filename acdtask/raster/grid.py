"""Grids, layouts and tiles."""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["Grid", "Layout", "RegularGrid", "Tile", "WebMercatorGrid", "Window"]

WEB_MERCATOR_HALF_WIDTH = math.pi * 6378137.0
"""Half the width of the world in EPSG:3857, in metres."""

Transform = tuple[float, float, float, float, float, float]
"""Pixel to CRS, ordered as in the affine package: x = a*column + b*row + c, y = d*column + e*row + f."""


class Window(BaseModel):
    """A rectangle of pixels: first row and column, height and width."""

    model_config = ConfigDict(frozen=True, ser_json_inf_nan="strings")

    row: int
    column: int
    height: int = Field(gt=0)
    width: int = Field(gt=0)

    @property
    def slices(self) -> tuple[slice, slice]:
        """The window as an index into an array of shape (height, width)."""
        return slice(self.row, self.row + self.height), slice(self.column, self.column + self.width)


class Grid(BaseModel):
    """Pixels on the ground: a CRS, an affine transform (upper-left corner of pixel 0, 0) and a shape.

    >>> grid = Grid(crs="EPSG:32632", transform=(20, 0, 400000, 0, -20, 5600000), width=100, height=50)
    >>> grid.bounds
    (400000.0, 5599000.0, 402000.0, 5600000.0)
    """

    model_config = ConfigDict(frozen=True, ser_json_inf_nan="strings")

    crs: str
    transform: Transform
    width: int = Field(gt=0)
    height: int = Field(gt=0)

    @property
    def shape(self) -> tuple[int, int]:
        """Shape of an array on the grid: (height, width)."""
        return self.height, self.width

    @property
    def resolution(self) -> tuple[float, float]:
        """Size of a pixel in CRS units: (x, y), both positive for a grid without rotation."""
        return abs(self.transform[0]), abs(self.transform[4])

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """(min x, min y, max x, max y) in the CRS."""
        a, b, c, d, e, f = self.transform
        xs = [c, c + a * self.width, c + b * self.height, c + a * self.width + b * self.height]
        ys = [f, f + d * self.width, f + e * self.height, f + d * self.width + e * self.height]
        return min(xs), min(ys), max(xs), max(ys)

    def window(self, window: Window) -> Grid:
        """Grid of a window; the window may extend beyond this grid."""
        a, b, c, d, e, f = self.transform
        return Grid(
            crs=self.crs,
            transform=(
                a,
                b,
                c + a * window.column + b * window.row,
                d,
                e,
                f + d * window.column + e * window.row,
            ),
            width=window.width,
            height=window.height,
        )

    def grown(self, margin: int) -> Grid:
        """Grow the grid by a margin of pixels on each side.

        >>> Grid(crs="EPSG:32632", transform=(20, 0, 400000, 0, -20, 5600000), width=5, height=5).grown(2).bounds
        (399960.0, 5599860.0, 400140.0, 5600040.0)
        """
        if not margin:
            return self
        height, width = self.height + 2 * margin, self.width + 2 * margin
        return self.window(Window(row=-margin, column=-margin, height=height, width=width))

    def blocks(self, size: int) -> list[Window]:
        """Cut the grid into windows of at most size x size px, row by row."""
        return [
            Window(row=row, column=column, height=min(size, self.height - row), width=min(size, self.width - column))
            for row in range(0, self.height, size)
            for column in range(0, self.width, size)
        ]


class RegularGrid(BaseModel):
    """A grid of cells of equal size. Cell (i, j) has its upper-left corner at (ox + i*width, oy - j*height) in the CRS.

    j is negative north of the origin, as in Geocube.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")

    kind: Literal["regular"] = "regular"
    crs: str
    resolution: float = Field(gt=0, description="size of a pixel in CRS units")
    cell_size: int = Field(ge=1, le=65536, description="width and height of a cell in pixels")
    ox: float = 0.0
    oy: float = 0.0


class WebMercatorGrid(BaseModel):
    """The XYZ tiles of a zoom level: cell (i, j) is tile x, y; j grows to the south.

    A cell has 256 * scale pixels a side, so scale 4 groups the pixels of zoom level + 2.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")

    kind: Literal["web_mercator"] = "web_mercator"
    zoom: int = Field(ge=0, le=24)
    scale: Literal[1, 2, 4, 8, 16] = 1


class Tile(BaseModel):
    """A cell of a layout."""

    model_config = ConfigDict(frozen=True, ser_json_inf_nan="strings")

    layout: str
    i: int
    j: int
    grid: Grid

    @property
    def cell(self) -> str:
        """Address of the cell, i/j, as in Geocube."""
        return f"{self.i}/{self.j}"

    @property
    def origin(self) -> tuple[int, int]:
        """(row, column) of the first pixel, counted from the corner of cell 0/0."""
        return self.j * self.grid.height, self.i * self.grid.width


class Layout(BaseModel):
    """A named grid of cells.

    >>> layout = Layout(name="utm32", grid=RegularGrid(crs="EPSG:32632", resolution=20, cell_size=1024))
    >>> layout.tile(8, -138).grid.bounds
    (163840.0, 2805760.0, 184320.0, 2826240.0)
    >>> Layout(name="z9", grid=WebMercatorGrid(zoom=0)).tile(0, 0).grid.width
    256
    """

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")

    name: str
    grid: Annotated[RegularGrid | WebMercatorGrid, Field(discriminator="kind")]

    @property
    def crs(self) -> str:
        """The CRS of every cell."""
        return self.grid.crs if isinstance(self.grid, RegularGrid) else "EPSG:3857"

    @property
    def cell_pixels(self) -> int:
        """Width and height of a cell in pixels."""
        return self.grid.cell_size if isinstance(self.grid, RegularGrid) else 256 * self.grid.scale

    @property
    def cell_extent(self) -> float:
        """Width and height of a cell in CRS units."""
        if isinstance(self.grid, RegularGrid):
            return self.grid.cell_size * self.grid.resolution
        return 2 * WEB_MERCATOR_HALF_WIDTH / float(2**self.grid.zoom)

    @property
    def origin(self) -> tuple[float, float]:
        """(x, y) of the upper-left corner of cell 0/0."""
        if isinstance(self.grid, RegularGrid):
            return self.grid.ox, self.grid.oy
        return -WEB_MERCATOR_HALF_WIDTH, WEB_MERCATOR_HALF_WIDTH

    def pixel_grid(self, row: int, column: int, height: int, width: int) -> Grid:
        """Grid of a rectangle of pixels; row and column count from the upper-left corner of cell 0/0."""
        resolution = self.cell_extent / self.cell_pixels
        ox, oy = self.origin
        return Grid(
            crs=self.crs,
            transform=(resolution, 0.0, ox + column * resolution, 0.0, -resolution, oy - row * resolution),
            width=width,
            height=height,
        )

    def tile(self, i: int, j: int) -> Tile:
        """Tile of cell (i, j)."""
        size = self.cell_pixels
        return Tile(layout=self.name, i=i, j=j, grid=self.pixel_grid(j * size, i * size, size, size))

    def cells_within(self, bounds: tuple[float, float, float, float]) -> list[Tile]:
        """Cells that overlap bounds (min x, min y, max x, max y) in the layout's CRS, by row, then column."""
        ox, oy = self.origin
        extent = self.cell_extent
        min_x, min_y, max_x, max_y = bounds
        columns = range(math.floor((min_x - ox) / extent), math.ceil((max_x - ox) / extent))
        rows = range(math.floor((oy - max_y) / extent), math.ceil((oy - min_y) / extent))
        return [self.tile(i, j) for j in rows for i in columns]
