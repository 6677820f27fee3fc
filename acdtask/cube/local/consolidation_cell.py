"""A cell of a consolidation: its container, and how it is written and indexed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable

from pydantic import BaseModel

from acdtask.cube.local.mapping import Mapping
from acdtask.cube.local.stack import StackWriter
from acdtask.cube.model import Cube, Dataset, Record, Slice, Variable
from acdtask.errors import AcdError, ErrorCode
from acdtask.raster.data_format import DataFormat, Resampling
from acdtask.raster.grid import Tile
from acdtask.storage.store import Store

__all__ = ["CellWork", "container_key", "datasets_of", "is_written", "require_one_band", "write_cell"]

BLOCK = 512


class CellWork(BaseModel):
    """What one container is made of.

    Attributes:
        key: of the container.
        records: one for each slice, in the same order.
        replaced: the copies in older containers whose place this one takes.
    """

    tile: Tile
    key: str
    records: list[Record]
    slices: list[Slice]
    replaced: list[Dataset] = []


def container_key(
    variable: str,
    instance: str,
    tile: Tile,
    slices: list[Slice],
    resampling: Resampling | None,
    made_by: tuple[str, ...] = (),
) -> str:
    """Where the container lies: the same inputs, the same key.

    Args:
        variable: its name.
        instance: its name.
        tile: the cell.
        slices: where the pixels come from.
        resampling: None for the variable's.
        made_by: what else decides what is in it, and whose it is.
    """
    inputs = [tile.grid.model_dump(mode="json"), resampling, [one.model_dump(mode="json") for one in slices], *made_by]
    digest = hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()[:16]
    return f"consolidated/{tile.layout}/{variable}/{instance}/{tile.i}_{tile.j}/{digest}.zarr"


def require_one_band(variable: Variable) -> None:
    """INPUT_BANDS for a variable that cannot be consolidated."""
    if len(variable.bands) > 1:
        raise AcdError(ErrorCode.INPUT_BANDS, f"{variable.name} has several bands; only one can be consolidated")


def is_written(store: Store, cell: CellWork) -> bool:
    """Whether the container is there, whole."""
    return store.exists(f"{cell.key}/zarr.json")


def write_cell(
    cube: Cube,
    store: Store,
    cell: CellWork,
    variable: Variable,
    instance: str,
    resampling: Resampling | None = None,
    dformat: DataFormat | None = None,
    between: Callable[[], None] = lambda: None,
) -> str:
    """Read the cell block by block, every record of a block at once, and write its container.

    Args:
        cube: where the pixels come from.
        store: where the container goes.
        cell: which.
        variable: of one band.
        instance: kept as an attribute.
        resampling: default: the variable's.
        dformat: how the container keeps numbers; default: as the variable.
        between: called before each block; what it raises ends the writing.

    Returns:
        The container's checksum.

    Raises:
        AcdError: INPUT_BANDS, CUBE_DAMAGED, INPUT_UNREADABLE, what Store raises.
    """
    require_one_band(variable)
    stored = dformat or variable.dformat
    kept, offset = _as_stored(variable, stored)
    writer = StackWriter(store, cell.key, cell.tile.grid, cell.records, kept, instance, offset)
    for window in cell.tile.grid.blocks(BLOCK):
        between()
        pixels = cube.read(cell.tile.grid.window(window), cell.slices, variable, resampling)
        if stored != variable.dformat:
            pixels = Mapping(variable.dformat, stored, (stored.min, stored.max)).whole(pixels)
        writer.write(window, pixels)
    return writer.finish()


def datasets_of(
    cell: CellWork, variable: Variable, instance: str, checksum: str, dformat: DataFormat | None = None
) -> list[Dataset]:
    """The datasets of the container, one for each record; `checksum` is what `write_cell` gave."""
    return [
        Dataset(
            record_id=record.id,
            variable=variable.name,
            instance=instance,
            uri=cell.key,
            subdir=str(place),
            dformat=dformat or variable.dformat,
            grid=cell.tile.grid,
            layout=cell.tile.layout,
            cell=cell.tile.cell,
            checksum=checksum,
        )
        for place, record in enumerate(cell.records)
    ]


def _as_stored(variable: Variable, stored: DataFormat) -> tuple[Variable, float]:
    """The variable with the numbers of a container, and what to add to them to have the unit."""
    mine = variable.dformat
    if (mine.min, mine.max) == (stored.min, stored.max):
        return variable.model_copy(update={"dformat": stored}), 0.0
    step = (mine.max - mine.min) / (stored.max - stored.min)
    scale = variable.scale * step
    return variable.model_copy(update={"dformat": stored, "scale": scale}), variable.scale * (
        mine.min - stored.min * step
    )
