"""The commands `layout list|create|show|delete`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from acdtask.cli.cube_options import AsJson, Cube, open_cube
from acdtask.cli.lazy import Lazy, LazyGroup, as_command, example
from acdtask.cli.output import say, say_json, table
from acdtask.errors import AcdError, ErrorCode

if TYPE_CHECKING:
    from acdtask.cube import model
    from acdtask.raster.grid import Layout, RegularGrid

__all__ = ["group"]

Name = Annotated[str, typer.Argument(help="Name of the layout.")]
DEFAULT_CELL_SIZE = 1024
MAX_USES = 5
DEFAULT_ORIGIN = (0.0, 0.0)
DEFAULT_SCALE = 1


group = LazyGroup(
    name="layout",
    lazy={
        "list": Lazy("List the layouts of a cube.", f"{__name__}:list_command"),
        "create": Lazy("Create a layout.", f"{__name__}:create_command"),
        "show": Lazy("Show one layout.", f"{__name__}:show_command"),
        "delete": Lazy("Delete an unused layout.", f"{__name__}:delete_command"),
    },
    help="A layout is a grid of tiles in one coordinate system. Jobs work tile by tile."
    + example("acdtask layout create utm --cube cube --crs EPSG:32632 --resolution 20 --cell-size 1024"),
)


@as_command("Lists the layouts of a cube with their grids.", "acdtask layout list --cube cube")
def list_command(cube: Cube, as_json: AsJson = False) -> None:
    layouts = open_cube(cube).layouts()
    if as_json:
        say_json([layout.model_dump(mode="json") for layout in layouts])
    elif layouts:
        table(("name", "grid"), [(layout.name, _grid_text(layout)) for layout in layouts])
    else:
        say("no layouts")


@as_command("Shows the grid of one layout.", "acdtask layout show utm --cube cube")
def show_command(name: Name, cube: Cube, as_json: AsJson = False) -> None:
    layout = open_cube(cube).layout(name)
    if as_json:
        say_json(layout.model_dump(mode="json"))
        return
    rows: list[tuple[str, object]] = [("name", layout.name), ("crs", layout.crs)]
    rows += list(layout.grid.model_dump(exclude={"crs"}).items())
    rows += [("pixels per cell", f"{layout.cell_pixels} x {layout.cell_pixels}"), ("cell extent", layout.cell_extent)]
    table(("layout", ""), rows)


@as_command(
    "Creates a layout. A regular layout has square cells in a coordinate system. A web mercator layout has the XYZ "
    "tiles of a zoom level, each 256 px times the scale wide. Creating the same layout again changes nothing.",
    "acdtask layout create utm --cube cube --crs EPSG:32632 --resolution 20 --cell-size 1024",
    "acdtask layout create images --cube cube --like CoherenceVV --cell-size 512",
    "acdtask layout create web --cube cube --zoom 9 --scale 4",
)
def create_command(
    name: Name,
    cube: Cube,
    crs: Annotated[
        str, typer.Option(metavar="CRS", help="Regular: coordinate reference system, such as EPSG:32632.")
    ] = "",
    resolution: Annotated[
        float | None, typer.Option(metavar="NUMBER", help="Regular: pixel size in CRS units.")
    ] = None,
    cell_size: Annotated[
        int | None,
        typer.Option(
            metavar="PIXELS", help=f"Regular: width and height of a cell in pixels.  [default: {DEFAULT_CELL_SIZE}]"
        ),
    ] = None,
    origin: Annotated[
        tuple[float, float] | None,
        typer.Option(
            metavar="X Y", help="Regular: coordinates of a cell corner.  [default: {:g} {:g}]".format(*DEFAULT_ORIGIN)
        ),
    ] = None,
    zoom: Annotated[int | None, typer.Option(metavar="ZOOM", help="Web mercator: zoom level.")] = None,
    scale: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help=f"Web mercator: width of a cell, 1, 2, 4, 8 or 16 times 256 px.  [default: {DEFAULT_SCALE}]",
        ),
    ] = None,
    like: Annotated[
        str,
        typer.Option(
            metavar="VARIABLE[:INSTANCE]",
            help="Regular: use the pixel grid of these images, so that they are not resampled.",
        ),
    ] = "",
) -> None:
    regular = {"crs": crs or None, "resolution": resolution, "cell_size": cell_size, "origin": origin}
    mercator = {"zoom": zoom, "scale": scale}
    if like and (crs or resolution is not None or origin or zoom is not None or scale is not None):
        raise AcdError(ErrorCode.USAGE, "--like sets CRS, resolution and origin; omit the other options")
    grid = _grid_of_images(open_cube(cube), like, cell_size) if like else _grid(regular, mercator)
    layout = _layout(name, grid)
    open_cube(cube).add_layout(layout)
    say(f"{layout.name}: {_grid_text(layout)}")


def _grid_of_images(cube: model.Cube, like: str, cell_size: int | None) -> RegularGrid:
    """The grid of an instance's images. LAYOUT_INVALID if there are no images, or if their pixels are not square."""
    from acdtask.cube.layout_rules import regular_grid_like

    variable, _, instance = like.partition(":")
    grids = [dataset.grid for dataset in cube.datasets(variable, instance or "master") if not dataset.layout]
    return regular_grid_like(grids, DEFAULT_CELL_SIZE if cell_size is None else cell_size, like)


def _grid(regular: dict[str, Any], mercator: dict[str, Any]) -> dict[str, Any]:
    """Make a grid from the options. USAGE."""
    is_regular = any(value is not None for value in regular.values())
    if is_regular == any(value is not None for value in mercator.values()):
        raise AcdError(ErrorCode.USAGE, "a layout is either regular (--crs, --resolution) or web mercator (--zoom)")
    if is_regular and (regular["crs"] is None or regular["resolution"] is None):
        raise AcdError(ErrorCode.USAGE, "a regular layout needs --crs and --resolution")
    if not is_regular and mercator["zoom"] is None:
        raise AcdError(ErrorCode.USAGE, "a web mercator layout needs --zoom")
    if not is_regular:
        scale = DEFAULT_SCALE if mercator["scale"] is None else mercator["scale"]
        return {"kind": "web_mercator", "zoom": mercator["zoom"], "scale": scale}
    ox, oy = regular["origin"] or DEFAULT_ORIGIN
    cell_size = DEFAULT_CELL_SIZE if regular["cell_size"] is None else regular["cell_size"]
    grid = {"kind": "regular", "crs": regular["crs"], "resolution": regular["resolution"], "ox": ox, "oy": oy}
    return {**grid, "cell_size": cell_size}


def _layout(name: str, grid: RegularGrid | dict[str, Any]) -> Layout:
    """Make and check a layout. LAYOUT_INVALID, NAME_INVALID, NAME_TOO_LONG."""
    from pydantic import ValidationError

    from acdtask.cube.layout_rules import require_usable
    from acdtask.raster.grid import Layout

    try:
        layout = Layout.model_validate({"name": name, "grid": grid})
    except ValidationError as error:
        first = error.errors()[0]
        field = str(first["loc"][-1]).replace("_", " ")
        rule = first["msg"].removeprefix("Value error, ").removeprefix("Input ")
        raise AcdError(ErrorCode.LAYOUT_INVALID, f"{field} {rule}") from error
    require_usable(layout)
    return layout


@as_command(
    "Deletes a layout. A layout that is used by baselines, monitoring results or consolidated images is not "
    "deleted; the error names its uses.",
    "acdtask layout delete utm --cube cube",
)
def delete_command(name: Name, cube: Cube) -> None:
    from acdtask.cube.local.cube import LocalCube
    from acdtask.jobs.layout_users import uses_of_layout

    opened = open_cube(cube)
    opened.layout(name)
    if not isinstance(opened, LocalCube):
        raise AcdError(ErrorCode.USAGE, f"the layout {name} belongs to a Geocube", "Delete it with a Geocube client.")
    if uses := uses_of_layout(opened, name):
        shown = "; ".join(uses[:MAX_USES]) + (f"; and {len(uses) - MAX_USES} more" if uses[MAX_USES:] else "")
        raise AcdError(
            ErrorCode.IN_USE,
            f"the layout {name} is in use: {shown}",
            "Keep it, and create a layout with another name with 'acdtask layout create'.",
        )
    opened.remove(layouts=[name])
    say(f"{name}: deleted")


def _grid_text(layout: Layout) -> str:
    from acdtask.raster.grid import RegularGrid

    pixels = f"{layout.cell_pixels} x {layout.cell_pixels} px"
    if isinstance(layout.grid, RegularGrid):
        return f"{layout.crs}, {layout.grid.resolution:g} units per pixel, cells of {pixels}"
    return f"web mercator, zoom {layout.grid.zoom}, cells of {pixels}"
