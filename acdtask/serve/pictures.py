"""Renders web map tiles of the cube as PNG."""

from __future__ import annotations

import io
from collections.abc import Sequence
from math import isfinite

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Picture

from acdtask.cube.local.cube import LocalCube
from acdtask.cube.model import CubeRequest, Outcome, RecordQuery, Variable
from acdtask.errors import AcdError, ErrorCode
from acdtask.raster.data_format import Pixels
from acdtask.raster.grid import Grid, Layout, WebMercatorGrid
from acdtask.serve.catalogue import Catalogue
from acdtask.serve.errors import invalid
from acdtask.serve.palettes import Colour, Palettes

__all__ = ["colours_of", "render_tile"]

GREY = (Colour(value=0, r=0, g=0, b=0, a=255), Colour(value=1, r=255, g=255, b=255, a=255))
LAST_ZOOM = 24


def render_tile(
    cube: LocalCube,
    instance_id: str,
    which: Sequence[str] | RecordQuery,
    tile: tuple[int, int, int],
    limits: tuple[float, float],
) -> bytes:
    """Render a web map tile (x, y, z): a PNG of 256 x 256 px, transparent at nodata.

    `which` are ids of records, later ones on top, or a query, later dates on top. The limits are the values of the
    first and the last colour; 0, 0 for the range of the variable.

    Raises:
        RefusalError: for an invalid tile, invalid limits or records, and an unknown instance.
        AcdError: IMAGE_FAILED if a container cannot be read, and errors of the store.
    """
    grid = _grid(tile)
    if isinstance(which, RecordQuery):
        ids = tuple(record.id for record in cube.records(which))
    elif which:
        ids = tuple(which)
    else:
        raise invalid("At least one record must be provided")
    variable, instance = Catalogue(cube).instance(instance_id, f"Invalid Instance.uuid {instance_id}")
    first, last = limits if any(limits) else (variable.dformat.min, variable.dformat.max)
    if not (first < last and isfinite(first) and isfinite(last)):
        raise invalid(f"min {first:g} must be less than max {last:g}")
    pixels = _mosaic(cube, CubeRequest(variable=variable.name, instance=instance.name, grid=grid, groups=(ids,)))
    if pixels is None:
        return _png(np.zeros((*grid.shape, 4), np.uint8))
    return _png(_coloured(pixels, variable, (first, last), _palette(cube, variable.palette)))


def colours_of(values: NDArray[np.float64], points: Sequence[Colour]) -> NDArray[np.uint8]:
    """The colours of values, interpolated linearly between the points of a palette (ascending) and clamped beyond them.

    Returns:
        RGBA, uint8, shape (*values.shape, 4).

    >>> colours_of(np.array([-1, 0, 0.5, 2]), GREY).tolist()
    [[0, 0, 0, 255], [0, 0, 0, 255], [128, 128, 128, 255], [255, 255, 255, 255]]
    """
    at = [point.value for point in points]
    channels = [np.interp(values, at, [getattr(point, name) for point in points]) for name in "rgba"]
    return np.asarray(np.rint(np.stack(channels, axis=-1)), np.uint8)


def _grid(tile: tuple[int, int, int]) -> Grid:
    x, y, z = tile
    if not 0 <= z <= LAST_ZOOM or not (0 <= x < 2**z and 0 <= y < 2**z):
        raise invalid(f"Invalid tile: {x}/{y}/{z}")
    return Layout(name="", grid=WebMercatorGrid(zoom=z)).tile(x, y).grid


def _palette(cube: LocalCube, name: str) -> Sequence[Colour]:
    palette = Palettes(cube.store).find(name) if name else None
    return palette.colours if palette else GREY


def _mosaic(cube: LocalCube, request: CubeRequest) -> Pixels | None:
    image = cube.picture(request)
    if image.outcome is Outcome.FAILED:
        raise AcdError(ErrorCode.IMAGE_FAILED, image.reason)
    return image.pixels


def _coloured(
    pixels: Pixels, variable: Variable, limits: tuple[float, float], points: Sequence[Colour]
) -> NDArray[np.uint8]:
    """RGBA of an image: three or more bands are red, green and blue; otherwise the palette colours the first band."""
    first, last = limits
    bands = pixels.reshape(-1, *pixels.shape[-2:])
    shown = bands[:3] if len(bands) >= 3 else bands[:1]
    valid = variable.dformat.valid(shown).all(axis=0)
    values = (np.where(valid, shown, first).astype(np.float64) - first) / (last - first)
    if len(shown) == 3:
        alpha = np.full((*valid.shape, 1), 255, np.uint8)
        picture = np.concatenate([np.moveaxis(colours_of(values, GREY)[..., 0], 0, -1), alpha], axis=-1)
    else:
        picture = colours_of(values[0], points)
    picture[~valid] = 0
    return picture


def _png(picture: NDArray[np.uint8]) -> bytes:
    file = io.BytesIO()
    Picture.fromarray(picture).save(file, "PNG", compress_level=1)
    return file.getvalue()
