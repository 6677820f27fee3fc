"""Times and windows out of consolidated containers: chunks as StackWriter writes them, decoded by themselves.

zarr takes about as long around a chunk as the chunk takes to decode (`python -m benchmarks.cube_speed`).
"""

from __future__ import annotations

import base64
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from itertools import product
from typing import Literal, TypeAlias, cast

import google_crc32c
import numpy as np
from numcodecs import blosc  # type: ignore[import-untyped]  # it has no types
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError

from acdtask.raster.data_format import DType, Pixels
from acdtask.raster.grid import Window
from acdtask.storage.store import Store

__all__ = [
    "DATA_ARRAY",
    "NODES",
    "WRITTEN_CHUNKS",
    "Stack",
    "StackLayout",
    "Target",
    "Wanted",
    "chunk_counts",
    "chunk_list",
    "damaged_chunk",
    "read_stack",
    "stack_of",
]

Shape: TypeAlias = tuple[int, int, int]
Chunk: TypeAlias = tuple[int, int, int]

WRITTEN_CHUNKS = "acd_written_chunks"
"""The attribute of an array that lists its chunks: a bit for each, 1 if it was written, in base64."""

CHECKSUM_BYTES = 4
HEADER_BYTES = 16
"""Of Blosc: among them how many bytes there are decoded, and how many here."""


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

    @cached_property
    def written(self) -> NDArray[np.bool_] | None:
        """Which chunks there are, shape (time, y, x) in chunks; None if the container does not say it.

        Raises ValueError if the list does not fit the array.
        """
        text = self.attributes.get(WRITTEN_CHUNKS) if isinstance(self.attributes, dict) else None
        if text is None:
            return None
        counts = chunk_counts(self.shape, self.chunks)
        bits = np.frombuffer(base64.b64decode(text, validate=True), np.uint8)
        number = math.prod(counts)
        if len(bits) != -(-number // 8):
            raise ValueError("the list of chunks does not fit the array")
        return np.unpackbits(bits, count=number).astype(bool).reshape(counts)


def chunk_counts(shape: Shape, chunks: Shape) -> Shape:
    """How many chunks an array has along each axis.

    >>> chunk_counts((70, 300, 256), (64, 256, 256))
    (2, 2, 1)
    """
    times, rows, columns = (-(-size // chunk) for size, chunk in zip(shape, chunks, strict=True))
    return times, rows, columns


def chunk_list(written: NDArray[np.bool_]) -> str:
    """The attribute that lists the chunks that were written; `StackLayout.written` reads it."""
    return base64.b64encode(np.packbits(written).tobytes()).decode()


DATA_ARRAY = "acd_data"
"""The attribute of a container's group that names its array of images."""

NODES = "acd_files"
"""The attribute of a container's group with the checksum of each of its files but the chunks of images."""

ARRAY_NAME = re.compile(r"[\w-]+")


class _Nodes(BaseModel):
    metadata: dict[str, object]


class _GroupAttributes(BaseModel):
    acd_data: str
    acd_files: dict[str, str] = {}


class _Group(BaseModel):
    """The zarr.json of a container that is a group, with that of its arrays in it."""

    zarr_format: Literal[3]
    node_type: Literal["group"]
    attributes: _GroupAttributes
    consolidated_metadata: _Nodes


@dataclass(frozen=True)
class Stack:
    """A container's array of images.

    Attributes:
        layout: of the array.
        name: its name in the container's group; empty for a container that is the array itself, as in acd 0.1.0.
        files: the checksum of each further file of the container, by its key in there.
    """

    layout: StackLayout
    name: str = ""
    files: Mapping[str, str] = field(default_factory=dict)

    def key(self, container: str) -> str:
        """The key of the array; that of the container may be empty."""
        return "/".join(part for part in (container, self.name) if part)


@lru_cache(maxsize=1024)
def stack_of(metadata: bytes) -> Stack | None:
    """The array that a container's zarr.json describes, or None if it is another one than StackWriter's."""
    with suppress(ValidationError):
        return Stack(StackLayout.model_validate_json(metadata))
    with suppress(ValidationError):
        group = _Group.model_validate_json(metadata)
        name = group.attributes.acd_data
        if ARRAY_NAME.fullmatch(name):
            layout = StackLayout.model_validate(group.consolidated_metadata.metadata.get(name))
            return Stack(layout, name, group.attributes.acd_files)
    return None


@dataclass(frozen=True, slots=True)
class Target:
    """A place in a stack of images, shape (places, height, width), to read an image into."""

    stack: Pixels
    place: int

    @property
    def image(self) -> Pixels:
        """The image there, shape (height, width)."""
        image: Pixels = self.stack[self.place]
        return image


@dataclass(frozen=True, slots=True)
class Wanted:
    """A window of an image, and where to read it, if that matters."""

    time: int
    window: Window
    target: Target | None = None


def read_stack(
    store: Store, key: str, layout: StackLayout, wanted: Sequence[Wanted], pool: Executor | None = None
) -> list[Pixels]:
    """Windows of images, each chunk fetched and decoded once.

    Args:
        store: where the container is.
        key: of the array; empty if it is the store itself.
        layout: from its zarr.json.
        wanted: within its shape; targets are of one stack of its data type. A chunk that makes a run of places is
            decoded right there.
        pool: whose threads fetch and decode; default: this one.

    Returns:
        Arrays of the windows' shapes: the targets where there are some, perhaps views of larger ones.

    Raises:
        ValueError, RuntimeError: a chunk is damaged.
        AcdError: what Store raises.
    """
    found = [None if one.target is None else one.target.image for one in wanted]
    parts: dict[Chunk, list[int]] = {}
    written = layout.written
    for number, one in enumerate(wanted):
        for chunk in _chunks_of(layout, one.time, one.window):
            parts.setdefault(chunk, []).append(number)

    def read(chunk: Chunk) -> tuple[Pixels, bool]:
        run = _run(layout, chunk, [wanted[number] for number in parts[chunk]])
        is_listed = written is not None and bool(written[chunk])
        data = store.find_buffer("/".join(map(str, (*([key] if key else []), "c", *chunk))))
        if is_listed and data is None:
            raise ValueError(f"chunk {chunk} is missing")
        return _decoded(data, layout, run), run is not None

    read_chunks = pool.map(read, parts) if pool and len(parts) > 1 else map(read, parts)
    for (chunk, numbers), (pixels, is_in_place) in zip(parts.items(), read_chunks, strict=True):
        for number in () if is_in_place else numbers:
            image = pixels[wanted[number].time - chunk[0] * layout.chunks[0]]
            found[number] = _with_part(found[number], wanted[number].window, chunk, image, layout)
    return cast(list[Pixels], found)


def damaged_chunk(store: Store, key: str, layout: StackLayout) -> tuple[str, int]:
    """What is wrong with the first bad chunk of an array, or nothing, and how many bytes were read.

    Raises AcdError: what Store raises.
    """
    size = 0
    try:
        written = layout.written
    except ValueError as error:
        return str(error), size
    if written is None:
        return "it has no list of its chunks", size
    for chunk in np.argwhere(written).tolist():
        place = "/".join(map(str, chunk))
        data = store.find_buffer(f"{key}/c/{place}")
        if data is None:
            return f"chunk {place} is missing", size
        size += len(data)
        try:
            _body(data)
        except ValueError as error:
            return f"{error}: {place}", size
    return "", size


def _body(data: memoryview) -> NDArray[np.uint8]:
    """A stored chunk without its checksum. ValueError if that is wrong."""
    stored = np.frombuffer(data, np.uint8)
    body = stored[:-CHECKSUM_BYTES]
    if google_crc32c.value(body) != int.from_bytes(stored[-CHECKSUM_BYTES:].tobytes(), "little"):
        raise ValueError("the checksum of a chunk is wrong")
    return body


def _run(layout: StackLayout, chunk: Chunk, users: list[Wanted]) -> Pixels | None:
    """The part of the stack that is the chunk, image by image, if there is one."""
    times, rows, columns = layout.chunks
    window, target = users[0].window, users[0].target
    if target is None or len(users) != times or target.stack.shape[1:] != (rows, columns):
        return None
    if (window.row, window.column) != (chunk[1] * rows, chunk[2] * columns):
        return None
    for number, one in enumerate(users):
        is_next = one.target is not None and one.target.place == target.place + number
        if not is_next or one.time != chunk[0] * times + number or one.window != window:
            return None
    return target.stack[target.place : target.place + times]


def _chunks_of(layout: StackLayout, time: int, window: Window) -> Iterator[Chunk]:
    times, height, width = layout.chunks
    rows = range(window.row // height, (window.row + window.height - 1) // height + 1)
    columns = range(window.column // width, (window.column + window.width - 1) // width + 1)
    return product((time // times,), rows, columns)


def _with_part(there: Pixels | None, window: Window, chunk: Chunk, image: Pixels, layout: StackLayout) -> Pixels:
    """The window with the part of it that lies in a chunk; that part itself if it is all and nothing is there."""
    top, left = chunk[1] * layout.chunks[1] - window.row, chunk[2] * layout.chunks[2] - window.column
    rows, columns = image.shape
    part = image[max(-top, 0) : window.height - top, max(-left, 0) : window.width - left]
    if there is None:
        if part.shape == (window.height, window.width):
            return part
        there = np.empty((window.height, window.width), image.dtype)
    there[max(top, 0) : top + rows, max(left, 0) : left + columns] = part
    return there


def _decoded(data: memoryview | None, layout: StackLayout, out: Pixels | None) -> Pixels:
    """A chunk as an array of the chunks' shape; one that is not there is nodata."""
    dtype = np.dtype(layout.data_type).newbyteorder("<")
    if data is None:
        if out is None:
            return np.broadcast_to(np.array(layout.fill_value, dtype), layout.chunks)
        out[...] = layout.fill_value
        return out
    body = _body(data)
    # Blosc believes its header, wherever that leads.
    size = int(np.prod(layout.chunks)) * dtype.itemsize
    sizes = (0, 0) if len(body) < HEADER_BYTES else tuple(body[4:HEADER_BYTES].view("<u4")[[0, 2]].tolist())
    if sizes != (size, len(body)):
        raise ValueError("the size of a chunk is wrong")
    pixels = np.empty(layout.chunks, dtype) if out is None else out
    blosc.decompress(body, pixels)
    return pixels
