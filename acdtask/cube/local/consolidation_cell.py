"""A cell of a consolidation: writes its container and makes its datasets."""

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
    """A container to write for a cell.

    Attributes:
        tile: the cell.
        key: key of the container.
        records: the record of each slice, in the same order.
        slices: the datasets of each image.
        replaced: copies in older containers that this container replaces.
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
    """Key of a container. The same inputs give the same key.

    `made_by` are other inputs that affect the content, and the owner.
    """
    datasets = [part.model_dump(mode="json") for part in slices]
    inputs = [tile.grid.model_dump(mode="json"), resampling, datasets, *made_by]
    digest = hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()[:16]
    return f"consolidated/{tile.layout}/{variable}/{instance}/{tile.i}_{tile.j}/{digest}.zarr"


def require_one_band(variable: Variable) -> None:
    """Require a variable that can be consolidated. INPUT_BANDS."""
    if len(variable.bands) > 1:
        raise AcdError(
            ErrorCode.INPUT_BANDS, f"{variable.name} has several bands; only variables of one band can be consolidated"
        )


def is_written(store: Store, cell: CellWork) -> bool:
    """Whether the container is complete."""
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
    """Read a cell block by block, with all records of a block at once; write its container, and return the checksum.

    Resampling and data format are by default those of the variable, which has one band. `between` is called before each
    block; an exception of it ends the writing. INPUT_BANDS, CUBE_DAMAGED, INPUT_UNREADABLE, or what Store raises.
    """
    require_one_band(variable)
    stored = dformat or variable.dformat
    stored_variable, offset = _as_stored(variable, stored)
    writer = StackWriter(store, cell.key, cell.tile.grid, cell.records, stored_variable, instance, offset)
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
    """The datasets of a container, one for each record; `checksum` is that of `write_cell`."""
    return [
        Dataset(
            record_id=record.id,
            variable=variable.name,
            instance=instance,
            uri=cell.key,
            subdir=str(time),
            dformat=dformat or variable.dformat,
            grid=cell.tile.grid,
            layout=cell.tile.layout,
            cell=cell.tile.cell,
            checksum=checksum,
        )
        for time, record in enumerate(cell.records)
    ]


def _as_stored(variable: Variable, stored: DataFormat) -> tuple[Variable, float]:
    """The variable with a container's data format and scale, and the offset: physical = stored * scale + offset."""
    original = variable.dformat
    if (original.min, original.max) == (stored.min, stored.max):
        return variable.model_copy(update={"dformat": stored}), 0.0
    step = (original.max - original.min) / (stored.max - stored.min)
    offset = variable.scale * (original.min - stored.min * step)
    return variable.model_copy(update={"dformat": stored, "scale": variable.scale * step}), offset
