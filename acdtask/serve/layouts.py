"""Geocube's layout messages: the parameters of a grid, and the internal structure of containers."""

from __future__ import annotations

import math
from collections.abc import Mapping

from google.protobuf import json_format
from pydantic import ValidationError

from acdtask.cube.protocol import layouts_pb2 as pb
from acdtask.cube.protocol.convert import layout_to_message
from acdtask.errors import AcdError
from acdtask.raster.grid import Layout, RegularGrid
from acdtask.raster.points import crs_of
from acdtask.serve.errors import RefusalError, invalid, not_served
from acdtask.serve.messages import is_name, require_short
from acdtask.storage.store import Store

__all__ = ["LayoutDetails", "layout_of"]

LEVELS = 4
KEYS = "BRZT"


def layout_of(message: pb.Layout, *, name: str | None = None) -> Layout:
    """The layout of a client's message; a given name replaces that in the message, which is then not validated.

    INVALID_ARGUMENT; UNIMPLEMENTED for a grid that acd does not support.
    """
    if name is None and not is_name(message.name):
        raise invalid(f"invalid name: {message.name}")
    require_short(message.name)
    if message.block_x_size <= 0 or message.block_y_size <= 0:
        raise invalid("blocksize must be positive")
    if message.max_records <= 0:
        raise invalid("maxRecords must be positive")
    _check_pattern(message.interlacing_pattern)
    return Layout(name=message.name if name is None else name, grid=_grid_of(message.grid_parameters))


class LayoutDetails:
    """Layout messages as sent by clients, stored below `layouts/`. Every method raises the store's errors."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def keep(self, message: pb.Layout) -> None:
        """Store a layout's message."""
        self._store.put(_key(message.name), json_format.MessageToJson(message).encode())

    def forget(self, name: str) -> None:
        """Remove the stored message of a layout."""
        self._store.delete(_key(name))

    def of(self, layout: Layout) -> pb.Layout:
        """The message of a layout: the stored one if it still matches the cube's layout, or else a default one."""
        data = self._store.find(_key(layout.name))
        if data is None:
            return layout_to_message(layout)
        try:
            message = json_format.Parse(data, pb.Layout())
            same = layout_of(message) == layout
        except (json_format.ParseError, RefusalError):
            same = False
        return message if same else layout_to_message(layout)


def _key(name: str) -> str:
    return f"layouts/{name}.json"


def _check_pattern(pattern: str) -> None:
    """Check that each alternative has every level once, with T after Z; levels except T may have values or a range."""
    for alternative in pattern.split(";"):
        levels = alternative.split(">")
        if len(levels) != LEVELS:
            raise _bad_pattern(f"{alternative} must have four level of iterations, got {len(levels)}")
        seen = ""
        for level in levels:
            key, _, values = level.partition("=")
            if key not in KEYS or len(key) != 1:
                raise _bad_pattern(f"unknown key {key}: must be one of [{', '.join(KEYS)}]")
            if key in seen:
                raise _bad_pattern(f"{key} is defined twice")
            if key == "T" and "Z" not in seen:
                raise _bad_pattern("T cannot be defined before Z")
            if key != "T" and "=" in level:
                _check_values(level, values)
            seen += key


def _check_values(level: str, values: str) -> None:
    parts = values.split(":", 1) if ":" in values else values.split(",")
    for part in parts:
        if not (part.removeprefix("-").isascii() and part.removeprefix("-").isdigit()) and not (
            ":" in values and not part
        ):
            raise _bad_pattern(f"cannot parse values of {level}: {part!r} is no integer")


def _bad_pattern(reason: str) -> RefusalError:
    return invalid(f"InterlacingPattern is incorrect: {reason}")


def _grid_of(parameters: Mapping[str, str]) -> RegularGrid:
    kind = parameters.get("grid", "")
    if not kind:
        raise invalid("missing 'grid' in parameters")
    if kind.lower() != "regular":
        raise not_served(f"acd supports only regular grids, not {kind!r}; use grid=regular with a cell_size")
    try:
        return RegularGrid(
            crs=_crs_of(parameters.get("crs", "")),
            resolution=_number(parameters, "resolution"),
            cell_size=_cell_size(parameters),
            ox=_number(parameters, "ox", 0.0),
            oy=_number(parameters, "oy", 0.0),
        )
    except ValidationError as error:
        raise _bad_grid(f"{error.errors()[0]['loc'][0]}: {error.errors()[0]['msg']}") from error


def _cell_size(parameters: Mapping[str, str]) -> int:
    named = [parameters[key] for key in ("cell_size",) if key in parameters] or [
        parameters[key] for key in ("cell_x_size", "cell_y_size") if key in parameters
    ]
    try:
        sizes = {int(size) for size in named}
    except ValueError:
        sizes = set()
    if not sizes or not all(1 <= size <= 65536 for size in sizes) or ("cell_size" not in parameters and len(named) < 2):
        raise _bad_grid(
            "CellSize parameters: must contain a valid 'cell_size', 'cell_x_size' or 'cell_y_size' in [1, 65536]"
        )
    if len(sizes) > 1:
        raise not_served(f"acd supports only square cells, not {named[0]} x {named[1]} px")
    return sizes.pop()


def _number(parameters: Mapping[str, str], key: str, default: float | None = None) -> float:
    text = parameters.get(key)
    if text is None and default is not None:
        return default
    try:
        number = float(text or "")
    except ValueError:
        number = math.nan
    if not math.isfinite(number) or (key == "resolution" and number <= 0):
        raise _bad_grid(f"must contain a valid '{key}', not {text!r}")
    return number


def _crs_of(text: str) -> str:
    """The CRS as `EPSG:<number>` if it has an EPSG number, as everywhere in the cube."""
    try:
        crs = crs_of(text)
    except AcdError as error:
        raise _bad_grid(f'CRS parameters ["crs"={text}]: {error.detail}') from error
    if not (crs.is_projected or crs.is_geographic):
        raise _bad_grid(f'CRS parameters ["crs"={text}]: it is neither projected nor geographic')
    epsg = crs.to_epsg()
    return f"EPSG:{epsg}" if epsg else text


def _bad_grid(reason: str) -> RefusalError:
    return invalid(f"invalid RegularGrid: {reason}")
