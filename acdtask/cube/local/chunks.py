"""Times and windows out of consolidated containers: chunks as StackWriter writes them, decoded by themselves.

zarr takes about as long around a chunk as the chunk takes to decode (`python -m benchmarks.cube_speed`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import Executor
from functools import lru_cache
from itertools import product
from typing import Literal, TypeAlias

import google_crc32c
import numpy as np
from numcodecs import blosc  # type: ignore[import-untyped]  # it has no types
from pydantic import BaseModel, ConfigDict, ValidationError

from acdtask.cube.grid import Window
from acdtask.cube.local.store import Store
from acdtask.cube.model import DType, Pixels

__all__ = ["StackLayout", "read_stack", "stack_layout"]

Shape: TypeAlias = tuple[int, int, int]
Chunk: TypeAlias = tuple[int, int, int]

CHECKSUM_BYTES = 4


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class _ChunkShape(_Part):
    chunk_shape: Shape


class _ChunkGrid(_Part):
    name: Literal["regular"]
    configuration: _ChunkShape


class _Separator(_Part):
    separator: Literal["/"]


class _ChunkKeys(_Part):
    name: Literal["default"]
    configuration: _Separator


class _Endian(_Part):
    endian: Literal["little"]


class _Bytes(_Part):
    name: Literal["bytes"]
    configuration: _Endian | None = None


class _Blosc(BaseModel):
    """Blosc says in each chunk how it was compressed."""

    name: Literal["blosc"]


class _Checksum(BaseModel):
    name: Literal["crc32c"]


class StackLayout(_Part):
    """The zarr.json of a container whose chunks are plain: little endian, Blosc, a checksum."""

    zarr_format: Literal[3]
    node_type: Literal["array"]
    shape: Shape
    data_type: DType
    chunk_grid: _ChunkGrid
    chunk_key_encoding: _ChunkKeys
    fill_value: float | Literal["NaN"]
    codecs: tuple[_Bytes, _Blosc, _Checksum]
    storage_transformers: tuple[()] = ()
    attributes: object = None
    dimension_names: object = None

    @property
    def chunks(self) -> Shape:
        """(time, y, x) of a chunk."""
        return self.chunk_grid.configuration.chunk_shape


@lru_cache(maxsize=1024)
def stack_layout(metadata: bytes) -> StackLayout | None:
    """The layout that a zarr.json describes, or None if it is another one than StackWriter's."""
    try:
        return StackLayout.model_validate_json(metadata)
    except ValidationError:
        return None


def read_stack(
    store: Store, key: str, layout: StackLayout, wanted: Iterable[tuple[int, Window]], pool: Executor | None = None
) -> dict[tuple[int, Window], Pixels]:
    """Windows of images, each chunk fetched and decoded once.

    Args:
        store: where the container is.
        key: its key; empty if it is the store itself.
        layout: from its zarr.json.
        wanted: (time, window), within its shape.
        pool: whose threads fetch and decode; default: this one.

    Returns:
        Arrays of the windows' shapes, perhaps views of larger ones.

    Raises:
        ValueError, RuntimeError: a chunk is damaged.
        AcdError: what Store raises.
    """
    found: dict[tuple[int, Window], Pixels] = {}
    parts: dict[Chunk, list[tuple[int, Window]]] = {}
    for time, window in dict.fromkeys(wanted):
        for chunk in _chunks_of(layout, time, window):
            parts.setdefault(chunk, []).append((time, window))

    def decode(chunk: Chunk) -> Pixels:
        prefix = f"{key}/c" if key else "c"
        return _decoded(store.find(f"{prefix}/{chunk[0]}/{chunk[1]}/{chunk[2]}"), layout)

    decoded = pool.map(decode, parts) if pool and len(parts) > 1 else map(decode, parts)
    for (chunk, images), pixels in zip(parts.items(), decoded, strict=True):
        for time, window in images:
            _place(found, (time, window), chunk, pixels[time - chunk[0] * layout.chunks[0]], layout)
    return found


def _chunks_of(layout: StackLayout, time: int, window: Window) -> Iterator[Chunk]:
    times, height, width = layout.chunks
    rows = range(window.row // height, (window.row + window.height - 1) // height + 1)
    columns = range(window.column // width, (window.column + window.width - 1) // width + 1)
    return product((time // times,), rows, columns)


def _place(
    found: dict[tuple[int, Window], Pixels],
    wanted: tuple[int, Window],
    chunk: Chunk,
    pixels: Pixels,
    layout: StackLayout,
) -> None:
    """Put an image's part that lies in a chunk where it belongs."""
    _, window = wanted
    top, left = chunk[1] * layout.chunks[1] - window.row, chunk[2] * layout.chunks[2] - window.column
    rows, columns = pixels.shape
    part = pixels[max(-top, 0) : window.height - top, max(-left, 0) : window.width - left]
    if part.shape == (window.height, window.width):
        found[wanted] = part
        return
    if wanted not in found:
        found[wanted] = np.empty((window.height, window.width), pixels.dtype)
    found[wanted][max(top, 0) : top + rows, max(left, 0) : left + columns] = part


def _decoded(data: bytes | None, layout: StackLayout) -> Pixels:
    """A chunk as an array of the chunks' shape; one that is not there is nodata."""
    dtype = np.dtype(layout.data_type).newbyteorder("<")
    if data is None:
        return np.broadcast_to(np.array(layout.fill_value, dtype), layout.chunks)
    body = np.frombuffer(data, np.uint8)[:-CHECKSUM_BYTES]
    if google_crc32c.value(body) != int.from_bytes(data[-CHECKSUM_BYTES:], "little"):
        raise ValueError("the checksum of a chunk is wrong")
    pixels: Pixels = np.frombuffer(blosc.decompress(body), dtype).reshape(layout.chunks)
    return pixels
