"""Which cells a consolidation fills, and with what."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

import numpy as np

from acdtask.cube.jobs import stored_as
from acdtask.cube.local.appending import plan_containers
from acdtask.cube.local.consolidation_cell import CellWork, container_key, require_one_band
from acdtask.cube.local.stack import CHUNK_TIMES
from acdtask.cube.model import Dataset, Record, Slice
from acdtask.raster.grid import Grid, Layout, RegularGrid, Tile
from acdtask.raster.points import move_points
from acdtask.raster.tiling import footprint, tiles_of
from acdtask.serve.consolidation.events import CellOrder, Definition

if TYPE_CHECKING:
    from acdtask.cube.local.cube import LocalCube

__all__ = ["order_of", "work_of"]


def work_of(cube: LocalCube, definition: Definition, between: Callable[[], None]) -> Iterator[CellWork]:
    """The containers to write: for each cell that lacks records of the job, those records and the ones appended to."""
    wanted = definition.wanted
    layout, variable = cube.layout(wanted.layout), cube.variable(wanted.variable)
    require_one_band(variable)
    stored = stored_as(variable, definition.params)
    made_by = (wanted.name, stored.model_dump_json())
    records = _records(cube, wanted.records)
    tiles = _tiles(layout, cube.datasets(wanted.variable, wanted.instance, frozenset(records)))
    # Converting to another number format rounds; existing containers in such a format are not rewritten.
    appendable = tiles if stored == variable.dformat else []
    copies = cube.copies_with_room(wanted.variable, wanted.instance, appendable, CHUNK_TIMES)
    known = _records(cube, [copy.record_id for cell in copies.values() for copy in cell]) | records
    grids = [tile.grid for tile in tiles]
    sources = cube.where(wanted.variable, wanted.instance, records, grids, wanted.layout)
    for tile, datasets in zip(tiles, sources, strict=True):
        between()
        slices = _slices(datasets)
        if slices:

            def key_of(part: list[Slice], tile: Tile = tile) -> str:
                resampling = definition.params.resampling
                return container_key(wanted.variable, wanted.instance, tile, part, resampling, made_by)

            yield from plan_containers(tile, slices, copies.get(tile.cell, []), known, stored, key_of, cut=False)


def order_of(cell: CellWork) -> CellOrder:
    """What the job keeps and reports of a cell's work."""
    return CellOrder(
        cell=cell.tile.cell,
        records=len(cell.records),
        datasets=sum(len(part.datasets) for part in cell.slices),
        outline=_outline(cell.tile.grid),
    )


def _records(cube: LocalCube, ids: Iterable[str]) -> dict[str, Record]:
    """The records of some ids, ordered by datetime, name and id."""
    records = cube.records_by_id(sorted(set(ids)))
    records.sort(key=lambda record: (record.datetime, record.name, record.id))
    return {record.id: record for record in records}


def _slices(datasets: Iterable[Dataset]) -> list[Slice]:
    """A slice for each record that the tile lacks."""
    sources: dict[str, list[Dataset]] = {}
    for dataset in datasets:
        if not dataset.layout:
            sources.setdefault(dataset.record_id, []).append(dataset)
    return [Slice(label=record_id, datasets=tuple(members)) for record_id, members in sources.items()]


def _tiles(layout: Layout, datasets: Iterable[Dataset]) -> list[Tile]:
    """The cells that the datasets intersect, by row, then column."""
    grids = dict.fromkeys(dataset.grid for dataset in datasets if not dataset.layout)
    tiles: dict[tuple[int, int], Tile] = {}
    for grid in grids:
        if isinstance(layout.grid, RegularGrid) and grid.crs == layout.crs:
            intersected = layout.cells_within(grid.bounds)
        else:
            from shapely.geometry import shape

            intersected = tiles_of(shape(footprint(grid)), layout)
        tiles.update({(tile.j, tile.i): tile for tile in intersected})
    return [tiles[cell] for cell in sorted(tiles)]


def _outline(grid: Grid) -> tuple[tuple[float, float], ...]:
    """The closed ring of a cell's corners in longitude and latitude."""
    min_x, min_y, max_x, max_y = grid.bounds
    corners = np.array([(min_x, min_y), (max_x, min_y), (max_x, max_y), (min_x, max_y), (min_x, min_y)], np.float64)
    return tuple((float(lon), float(lat)) for lon, lat in move_points(corners, grid.crs, "EPSG:4326"))
