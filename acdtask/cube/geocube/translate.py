"""The catalogue of a Geocube in acd's words."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from acdtask.cube.grid import WEB_MERCATOR_HALF_WIDTH, Layout, RegularGrid, WebMercatorGrid
from acdtask.cube.model import Dataset, Instance, Record, Variable
from acdtask.cube.protocol import datasets_pb2, layouts_pb2, records_pb2, variables_pb2
from acdtask.cube.protocol.convert import (
    RESAMPLING_NAMES,
    RESAMPLINGS,
    area_from_wire,
    dformat_from_wire,
    dformat_to_wire,
    moment_from_wire,
)
from acdtask.errors import AcdError, ErrorCode

__all__ = [
    "dataset_to_wire",
    "instances_from_wire",
    "layout_from_wire",
    "layout_to_wire",
    "record_from_wire",
    "variable_from_wire",
    "variable_to_wire",
]

SCALE = re.compile(r" ?\(acd:scale=([-+.\deE]+)\)$")
"""Geocube's variables have no scale: it is the end of the description."""

MERCATOR_ZOOMS = range(25)
MERCATOR_SCALES = (1, 2, 4, 8, 16)


def variable_from_wire(message: variables_pb2.Variable) -> Variable:
    """A variable. SETTING_INVALID if acd has no such format."""
    found = SCALE.search(message.description)
    return Variable(
        name=message.name,
        dformat=dformat_from_wire(message.dformat),
        unit=message.unit,
        description=SCALE.sub("", message.description),
        bands=tuple(message.bands) or ("",),
        resampling=RESAMPLING_NAMES.get(message.resampling_alg, "nearest"),
        scale=float(found[1]) if found else 1.0,
        palette=message.palette,
    )


def variable_to_wire(variable: Variable) -> variables_pb2.Variable:
    """A variable, without instances. SETTING_INVALID if Geocube has no such data type."""
    scale = f" (acd:scale={variable.scale!r})" if variable.scale != 1 else ""
    return variables_pb2.Variable(
        name=variable.name,
        unit=variable.unit,
        description=(variable.description + scale).strip(),
        dformat=dformat_to_wire(variable.dformat),
        bands=variable.bands,
        palette=variable.palette,
        resampling_alg=RESAMPLINGS[variable.resampling],
    )


def instances_from_wire(message: variables_pb2.Variable) -> list[Instance]:
    """The instances of a variable, by name."""
    found = [Instance(variable=message.name, name=one.name, metadata=dict(one.metadata)) for one in message.instances]
    return sorted(found, key=lambda one: one.name)


def record_from_wire(message: records_pb2.Record) -> Record:
    """A record; its footprint is {} if its area did not come along."""
    moment = moment_from_wire(message.time)
    if moment is None:
        raise AcdError(ErrorCode.GEOCUBE_FAILED, f"the record {message.name} came without a time")
    return Record(name=message.name, datetime=moment, tags=dict(message.tags), footprint=area_from_wire(message.aoi))


def layout_to_wire(layout: Layout) -> layouts_pb2.Layout:
    """A layout as a regular grid, square blocks of 256 px inside; a web mercator one is the grid of its tiles."""
    ox, oy = layout.origin
    return layouts_pb2.Layout(
        name=layout.name,
        grid_parameters={
            "grid": "regular",
            "crs": layout.crs,
            "resolution": repr(layout.cell_extent / layout.cell_pixels),
            "cell_size": str(layout.cell_pixels),
            "ox": repr(ox),
            "oy": repr(oy),
        },
        block_x_size=256,
        block_y_size=256,
        max_records=1000,
        interlacing_pattern="Z=0>T>R>B;R>Z=1:>T>B",
    )


def layout_from_wire(message: layouts_pb2.Layout) -> Layout:
    """A layout. LAYOUT_INVALID if its cells are not squares of a regular grid."""
    given = message.grid_parameters
    width = given.get("cell_x_size") or given.get("cell_size") or ""
    height = given.get("cell_y_size") or given.get("cell_size") or ""
    if given.get("grid", "regular") != "regular" or width != height:
        kind = given.get("grid", "regular")
        raise AcdError(
            ErrorCode.LAYOUT_INVALID,
            f"the layout {message.name} has the grid {kind} with cells of {width or '?'} x {height or '?'} px",
            "Use a layout with a regular grid of square cells.",
        )
    try:
        grid = RegularGrid(
            crs=given["crs"],
            resolution=float(given["resolution"]),
            cell_size=int(width),
            ox=float(given.get("ox", 0)),
            oy=float(given.get("oy", 0)),
        )
    except (KeyError, ValueError, ValidationError) as error:
        shown = _shown(given)
        raise AcdError(ErrorCode.LAYOUT_INVALID, f"the layout {message.name} has the grid {shown}") from error
    return Layout(name=message.name, grid=_mercator(grid) or grid)


def _mercator(grid: RegularGrid) -> WebMercatorGrid | None:
    """The web mercator grid that a regular one is, to the last bit."""
    if grid.crs != "EPSG:3857" or (grid.ox, grid.oy) != (-WEB_MERCATOR_HALF_WIDTH, WEB_MERCATOR_HALF_WIDTH):
        return None
    for scale in MERCATOR_SCALES:
        for zoom in MERCATOR_ZOOMS if grid.cell_size == 256 * scale else ():
            made = WebMercatorGrid(zoom=zoom, scale=scale)
            whole = Layout(name="made", grid=made)
            if whole.cell_extent / whole.cell_pixels == grid.resolution:
                return made
    return None


def dataset_to_wire(dataset: Dataset, record_id: str, instance_id: str, variable: Variable) -> datasets_pb2.Dataset:
    """A dataset, with the server's ids of its record and instance. SETTING_INVALID."""
    low, high = dataset.real or (variable.dformat.min, variable.dformat.max)
    return datasets_pb2.Dataset(
        record_id=record_id,
        instance_id=instance_id,
        container_subdir=dataset.subdir,
        bands=dataset.bands,
        dformat=dformat_to_wire(dataset.dformat),
        real_min_value=low,
        real_max_value=high,
        exponent=dataset.exponent,
    )


def _shown(given: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in sorted(given.items()))
