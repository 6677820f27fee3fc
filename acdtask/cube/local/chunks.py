"""Reads windows from consolidated containers, decoding the chunks that StackWriter writes without zarr.

A chunk is an object with up to 64 images of 256 x 256 px. Its images are separate blocks, or, in containers of acd
0.1, compressed together (docs/decisions/0045).

zarr's overhead for a chunk is about as long as its decoding (`python -m benchmarks.cube_speed`).
"""

from __future__ import annotations

import base64
import math
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import product
from typing import Literal, Self, TypeAlias, cast

import numpy as np
from numcodecs import blosc
from numpy.typing import NDArray
from pydantic import AliasPath, BaseModel, ConfigDict, Field, ValidationError, model_validator

from acdtask.cube.local.blocks import checked_body, read_blocks, stored_blocks
from acdtask.raster.data_format import DType, Pixels
from acdtask.raster.grid import Window
from acdtask.storage.block_cache import BlockCache
from acdtask.storage.store import Store

__all__ = [
    "DATA_ARRAY",
    "NODES",
    "WRITTEN_CHUNKS",
    "Request",
    "StackArray",
    "StackLayout",
    "Target",
    "chunk_counts",
    "chunk_list",
    "damaged_chunk",
    "read_stack",
    "stack_of",
]

Shape: TypeAlias = tuple[int, int, int]
Chunk: TypeAlias = tuple[int, int, int]

WRITTEN_CHUNKS = "acd_written_chunks"
"""The attribute of an array that lists its chunks: a bit for each, 1 if it was written; in base64."""

BLOSC_HEADER_BYTES = 16
"""Bytes 4 to 7 hold the decoded size, bytes 12 to 15 the encoded size."""


class _Metadata(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class _Endian(_Metadata):
    endian: Literal["little"]


class _Bytes(_Metadata):
    name: Literal["bytes"]
    configuration: _Endian | None = None


class _Blosc(BaseModel):
    """Parameters are ignored: each chunk's header has its own."""

    name: Literal["blosc"]


class _Checksum(BaseModel):
    name: Literal["crc32c"]


Codecs: TypeAlias = tuple[_Bytes, _Blosc, _Checksum]


class _Blocks(BaseModel):
    """The codec of a chunk with separate blocks, and an index at its start."""

    name: Literal["sharding_indexed"]
    block: Shape = Field(validation_alias=AliasPath("configuration", "chunk_shape"))
    codecs: Codecs = Field(validation_alias=AliasPath("configuration", "codecs"))
    index_codecs: tuple[_Bytes, _Checksum] = Field(validation_alias=AliasPath("configuration", "index_codecs"))
    index_location: Literal["start"] = Field(validation_alias=AliasPath("configuration", "index_location"))


class StackLayout(_Metadata):
    """The zarr.json of an array in little endian, compressed with Blosc, with a CRC-32C for each block or chunk.

    Attributes:
        chunks: shape (time, y, x) of a chunk.
    """

    zarr_format: Literal[3]
    node_type: Literal["array"]
    shape: Shape
    data_type: DType
    chunk_grid: Literal["regular"] = Field(validation_alias=AliasPath("chunk_grid", "name"))
    chunks: Shape = Field(validation_alias=AliasPath("chunk_grid", "configuration", "chunk_shape"))
    chunk_keys: Literal["default"] = Field(validation_alias=AliasPath("chunk_key_encoding", "name"))
    separator: Literal["/"] = Field(validation_alias=AliasPath("chunk_key_encoding", "configuration", "separator"))
    fill_value: float | Literal["NaN"]
    codecs: Codecs | tuple[_Blocks]
    storage_transformers: tuple[()] = ()
    attributes: object = None
    dimension_names: object = None

    @model_validator(mode="after")
    def _block_per_image(self) -> Self:
        if isinstance(self.codecs[0], _Blocks) and self.codecs[0].block != (1, *self.chunks[1:]):
            raise ValueError("a block is not an image of a chunk")
        return self

    @property
    def has_blocks(self) -> bool:
        """Whether each image of a chunk is a separate block."""
        return len(self.codecs) == 1

    @property
    def image_bytes(self) -> int:
        """Bytes of the pixels of an image in a chunk."""
        return self.chunks[1] * self.chunks[2] * np.dtype(self.data_type).itemsize

    @cached_property
    def written(self) -> NDArray[np.bool_] | None:
        """Which chunks exist, shape (time, y, x) in chunks; None if the array does not list them.

        Raises:
            ValueError: the list does not match the array.
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
    """Number of chunks of an array along each axis.

    >>> chunk_counts((70, 300, 256), (64, 256, 256))
    (2, 2, 1)
    """
    times, rows, columns = (-(-size // chunk) for size, chunk in zip(shape, chunks, strict=True))
    return times, rows, columns


def chunk_list(written: NDArray[np.bool_]) -> str:
    """Encode which chunks were written, as `StackLayout.written` decodes it."""
    return base64.b64encode(np.packbits(written).tobytes()).decode()


DATA_ARRAY = "acd_data"
"""The attribute of a container's group that names its array of images."""

NODES = "acd_files"
"""The attribute of a container's group with the checksums of its files, except chunks of images."""

ARRAY_NAME = re.compile(r"[\w-]+")


class _Group(BaseModel):
    """The zarr.json of a container that is a group; it contains those of its arrays."""

    zarr_format: Literal[3]
    node_type: Literal["group"]
    name: str = Field(validation_alias=AliasPath("attributes", DATA_ARRAY))
    files: dict[str, str] = Field(validation_alias=AliasPath("attributes", NODES))
    nodes: dict[str, object] = Field(validation_alias=AliasPath("consolidated_metadata", "metadata"))


@dataclass(frozen=True)
class StackArray:
    """A container's array of images.

    Attributes:
        layout: metadata of the array.
        name: name in the container's group.
        files: checksums of the container's files by key, except chunks of images.
    """

    layout: StackLayout
    name: str
    files: Mapping[str, str]

    def key(self, container: str) -> str:
        """The key of the array, given that of its container, which may be empty."""
        return f"{container}/{self.name}" if container else self.name


@lru_cache(maxsize=1024)
def stack_of(metadata: bytes) -> StackArray | None:
    """The array that a container's zarr.json describes, or None if StackWriter did not write it."""
    with suppress(ValidationError):
        group = _Group.model_validate_json(metadata)
        if ARRAY_NAME.fullmatch(group.name):
            return StackArray(StackLayout.model_validate(group.nodes.get(group.name)), group.name, group.files)
    return None


@dataclass(frozen=True, slots=True)
class Target:
    """Where to read an image: position `index` of a stack of shape (images, height, width)."""

    stack: Pixels
    index: int

    @property
    def image(self) -> Pixels:
        """A view of the target, shape (height, width)."""
        image: Pixels = self.stack[self.index]
        return image


@dataclass(frozen=True, slots=True)
class Request:
    """A window of the image with index `time`, and optionally where to read it."""

    time: int
    window: Window
    target: Target | None = None


def read_stack(
    store: Store,
    key: str,
    layout: StackLayout,
    requests: Sequence[Request],
    pool: Executor | None = None,
    cache: BlockCache | None = None,
) -> list[Pixels]:
    """Read windows of images of the array with this key. Each block (or chunk without blocks) is read and decoded once.

    Requests are within the array's shape, and their targets in one stack of its data type. A block is decoded into its
    target directly if it is all of it, and a chunk without blocks if consecutive targets make it up. The threads of
    `pool` fetch and decode, or else the calling thread. Blocks are kept in the `cache`, and found there.

    Returns:
        Arrays of the windows' shapes: the targets, if given, or possibly views of larger arrays.

    Raises:
        ValueError, RuntimeError: a chunk is damaged.
        AcdError: what Store raises.
    """
    # Requests may share chunks, so they are first collected by chunk: each chunk is decoded once.
    images = [None if request.target is None else request.target.image for request in requests]
    parts: dict[Chunk, list[int]] = {}
    written = layout.written
    for number, request in enumerate(requests):
        for chunk in _chunks_of(layout, request.time, request.window):
            parts.setdefault(chunk, []).append(number)

    def read(chunk: Chunk) -> _Images:
        path = "/".join(map(str, (*([key] if key else []), "c", *chunk)))
        members = [requests[number] for number in parts[chunk]]
        if layout.has_blocks:
            decoded = _read_blocks(store, path, layout, chunk, members, cache)
        else:
            decoded = _read_chunk(store, path, layout, chunk, members)
        if decoded is not None:
            return decoded
        # Chunks that are all nodata are not listed and not stored, so only a listed one can be missing.
        if written is not None and bool(written[chunk]):
            raise ValueError(f"chunk {chunk} is missing")
        return _Images(_nodata(layout))

    read_chunks = pool.map(read, parts) if pool and len(parts) > 1 else map(read, parts)
    for (chunk, numbers), decoded in zip(parts.items(), read_chunks, strict=True):
        for number in numbers:
            request = requests[number]
            time = request.time - chunk[0] * layout.chunks[0]
            if time not in decoded.in_place:
                images[number] = _with_part(images[number], request.window, chunk, decoded.images[time], layout)
    return cast(list[Pixels], images)


def damaged_chunk(store: Store, key: str, layout: StackLayout) -> tuple[str, int]:
    """Verify an array's chunks. Return the fault of the first damaged one (empty if none is) and the bytes read.

    Raises:
        AcdError: what Store raises.
    """
    size = 0
    try:
        written = layout.written
    except ValueError as error:
        return str(error), size
    if written is None:
        return "it has no list of its chunks", size
    for chunk in np.argwhere(written).tolist():
        name = "/".join(map(str, chunk))
        data = store.find_buffer(f"{key}/c/{name}")
        if data is None:
            return f"chunk {name} is missing", size
        size += len(data)
        try:
            blocks = stored_blocks(data, layout.chunks[0], layout.image_bytes) if layout.has_blocks else [data]
            for block in blocks:
                if block is not None:
                    checked_body(block)
        except ValueError as error:
            return f"{error}: {name}", size
    return "", size


@dataclass(frozen=True)
class _Images:
    """Decoded images of a chunk, by their position in it, and which of them were decoded into their targets."""

    images: Pixels | Mapping[int, Pixels]
    in_place: Collection[int] = ()


def _read_blocks(
    store: Store, path: str, layout: StackLayout, chunk: Chunk, requests: list[Request], cache: BlockCache | None
) -> _Images | None:
    """Read the requested images of a chunk with blocks; None if it does not exist."""
    count, *shape = layout.chunks
    by_time: dict[int, list[Request]] = {}
    for request in requests:
        by_time.setdefault(request.time - chunk[0] * count, []).append(request)
    blocks = read_blocks(store, path, count, by_time, layout.image_bytes, cache)
    if blocks is None:
        return None
    images: dict[int, Pixels] = {}
    in_place: set[int] = set()
    whole = Window(row=chunk[1] * shape[0], column=chunk[2] * shape[1], height=shape[0], width=shape[1])
    for time, members in by_time.items():
        target = members[0].target
        fits = target is not None and len(members) == 1 and members[0].window == whole
        out = target.image if target is not None and fits and target.stack.shape[1:] == tuple(shape) else None
        block = blocks[time]
        if block is not None:
            images[time] = _decoded(block, layout, (shape[0], shape[1]), out)
        else:
            images[time] = _nodata(layout)[time]
            if out is not None:
                out[...] = layout.fill_value
        if out is not None:
            in_place.add(time)
    return _Images(images, in_place)


def _read_chunk(store: Store, path: str, layout: StackLayout, chunk: Chunk, requests: list[Request]) -> _Images | None:
    """Read all images of a chunk that are compressed together; None if it does not exist."""
    run = _run(layout, chunk, requests)
    data = store.find_buffer(path)
    if data is not None:
        pixels = _decoded(data, layout, layout.chunks, run)
        return _Images(pixels, () if run is None else range(layout.chunks[0]))
    return None


def _run(layout: StackLayout, chunk: Chunk, requests: list[Request]) -> Pixels | None:
    """The part of the targets' stack that a whole chunk can be decoded into, or None.

    The requests that need the chunk must be its images in order, each as a whole, with consecutive targets. Example:
    with chunks of 64 images of 256 x 256 px, a block of 256 x 256 px is read with 64 dates into stack[64:128].
    """
    times, rows, columns = layout.chunks
    window, target = requests[0].window, requests[0].target
    if target is None or len(requests) != times or target.stack.shape[1:] != (rows, columns):
        return None
    if (window.row, window.column) != (chunk[1] * rows, chunk[2] * columns):
        return None
    # A gap or another order would leave images in the wrong targets.
    for number, request in enumerate(requests):
        is_next = request.target is not None and request.target.index == target.index + number
        if not is_next or request.time != chunk[0] * times + number or request.window != window:
            return None
    return target.stack[target.index : target.index + times]


def _chunks_of(layout: StackLayout, time: int, window: Window) -> Iterator[Chunk]:
    """The chunks that a window of an image intersects."""
    times, height, width = layout.chunks
    rows = range(window.row // height, (window.row + window.height - 1) // height + 1)
    columns = range(window.column // width, (window.column + window.width - 1) // width + 1)
    return product((time // times,), rows, columns)


def _with_part(result: Pixels | None, window: Window, chunk: Chunk, image: Pixels, layout: StackLayout) -> Pixels:
    """Copy the part of a window that is in a chunk's image into the result, and return the result.

    Without a result, it is created; if the part is the whole window, it is returned without a copy.
    """
    # Position of the chunk in the window; negative if the chunk begins before it.
    top, left = chunk[1] * layout.chunks[1] - window.row, chunk[2] * layout.chunks[2] - window.column
    rows, columns = image.shape
    part = image[max(-top, 0) : window.height - top, max(-left, 0) : window.width - left]
    if result is None:
        if part.shape == (window.height, window.width):
            return part
        result = np.empty((window.height, window.width), image.dtype)
    result[max(top, 0) : top + rows, max(left, 0) : left + columns] = part
    return result


def _nodata(layout: StackLayout) -> Pixels:
    """A chunk that is all nodata: a read-only view of one number, which takes no memory."""
    return np.broadcast_to(np.array(layout.fill_value, np.dtype(layout.data_type)), layout.chunks)


def _decoded(data: memoryview, layout: StackLayout, shape: tuple[int, ...], out: Pixels | None) -> Pixels:
    """Decode a stored block or chunk to an array of this shape."""
    dtype = np.dtype(layout.data_type).newbyteorder("<")
    body = checked_body(data)
    # Blosc trusts the sizes in the header, so with wrong ones it would read or write beyond the buffers.
    size = int(np.prod(shape)) * dtype.itemsize
    header = body[4:BLOSC_HEADER_BYTES]
    sizes = (0, 0) if len(body) < BLOSC_HEADER_BYTES else tuple(header.view("<u4")[[0, 2]].tolist())
    if sizes != (size, len(body)):
        raise ValueError("the size of a chunk is wrong")
    pixels = np.empty(shape, dtype) if out is None else out
    blosc.decompress(body, pixels)
    return pixels
