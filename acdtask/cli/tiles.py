"""The command `tiles`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from acdtask.cli.cube_options import Aoi, AsJson, Cube, LayoutName, open_cube
from acdtask.cli.lazy import as_command
from acdtask.cli.output import say, say_json, table, write_json
from acdtask.cli.project import require_aoi, taking_aoi

__all__ = ["command"]


@as_command(
    "Lists the tiles of a layout that an AOI touches, row by row. --geojson writes them for a map.",
    "acdtask tiles --cube cube --aoi aoi.json --layout utm --geojson tiles.json",
)
@taking_aoi
def command(
    cube: Cube,
    layout: LayoutName,
    aoi: Aoi = "",
    geojson: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the tiles to this file, as GeoJSON.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    from acdtask.cube.aoi import load_aoi
    from acdtask.raster.tiling import tiles_as_geojson, tiles_of

    tiles = tiles_of(load_aoi(require_aoi(aoi)).geometry, open_cube(cube).layout(layout))
    if geojson is not None:
        write_json(geojson, tiles_as_geojson(tiles))
    if as_json:
        say_json([tile.model_dump(mode="json") for tile in tiles])
        return
    if tiles:
        bounds = [" ".join(f"{value:g}" for value in tile.grid.bounds) for tile in tiles]
        table(("cell", "bounds"), [(tile.cell, box) for tile, box in zip(tiles, bounds, strict=True)])
    say(f"{len(tiles)} tile{'' if len(tiles) == 1 else 's'}")
