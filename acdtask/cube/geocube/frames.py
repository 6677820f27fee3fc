"""Decoding of images from a stream: header and chunks, inflated directly into the target array."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import TypeAlias

import numpy as np

from acdtask.cube.model import Variable
from acdtask.cube.protocol.convert import DTYPES
from acdtask.cube.protocol.cubes_pb2 import (
    GetCubeMetadataResponse,
    GetCubeResponse,
    ImageChunk,
    ImageHeader,
)
from acdtask.cube.protocol.values_pb2 import BigEndian
from acdtask.raster.data_format import Pixels

__all__ = ["DamagedError", "ImageReader", "Message", "Place", "StreamReader", "empty_images"]

Message: TypeAlias = GetCubeResponse | GetCubeMetadataResponse

RAW_DEFLATE = -15
STEP = 1024 * 1024
"""Maximum bytes inflated at once, so that a small message cannot exhaust the memory."""


class DamagedError(Exception):
    """A stream violates the protocol."""


def empty_images(count: int, variable: Variable, shape: tuple[int, int]) -> Pixels:
    """Uninitialised images of `shape` (height, width): (count, height, width), or (count, bands, height, width)."""
    bands = (len(variable.bands),) if len(variable.bands) > 1 else ()
    return np.empty((count, *bands, *shape), variable.dformat.dtype)


class ImageReader:
    """Writes the bytes of an image into a contiguous array, (height, width) or (bands, height, width), as they arrive.

    The header contains the first ones. Every method raises DamagedError if the bytes do not match the header or the
    variable.
    """

    def __init__(self, header: ImageHeader, variable: Variable, pixels: Pixels) -> None:
        bands = len(variable.bands)
        height, width = pixels.shape[-2:]
        _check(header, variable, (bands, width, height), pixels.nbytes)
        self._dtype = np.dtype(variable.dformat.dtype).newbyteorder(">" if header.order == BigEndian else "<")
        self._view = np.moveaxis(pixels.reshape(bands, height * width), 0, 1)  # the stream interleaves bands by pixel
        self._bytes_of_pixel = bands * self._dtype.itemsize
        self._whole = pixels.nbytes
        self._row = 0
        self._rest = b""
        self._inflate = zlib.decompressobj(RAW_DEFLATE) if header.compression else None
        self.feed(header.data)

    def feed(self, data: bytes) -> None:
        """Process the data of a chunk."""
        if self._inflate is None:
            self._put(data)
            return
        more = bool(data)
        while more:
            try:
                part = self._inflate.decompress(data, STEP)
            except zlib.error as error:
                raise DamagedError(f"an image cannot be inflated ({error})") from error
            self._put(part)
            data = self._inflate.unconsumed_tail
            more = bool(data) or len(part) == STEP  # zlib may hold more output although it has consumed all input
        if self._inflate.unused_data:
            raise DamagedError("an image has bytes beyond its end")

    def end(self) -> None:
        """Verify that the image is complete."""
        received = self._row * self._bytes_of_pixel + len(self._rest)
        if received != self._whole:
            raise DamagedError(f"an image has {received} bytes instead of {self._whole}")

    def _put(self, data: bytes) -> None:
        # Chunks may end within a pixel: its first bytes wait in `_rest` for the next chunk.
        if self._rest:
            data = self._rest + data
        count = len(data) // self._bytes_of_pixel
        end = self._row + count
        if len(data) > self._whole - self._row * self._bytes_of_pixel:
            raise DamagedError(f"an image has more than {self._whole} bytes")
        used = count * self._bytes_of_pixel
        if count:
            block = np.frombuffer(data, self._dtype, count * self._view.shape[1])
            self._view[self._row : end] = block.reshape(count, -1)
        self._row, self._rest = end, data[used:] if used < len(data) else b""


def _check(header: ImageHeader, variable: Variable, dims: tuple[int, int, int], nbytes: int) -> None:
    shape = (header.shape.dim1, header.shape.dim2, header.shape.dim3)
    if shape != dims:
        raise DamagedError(f"an image has the shape {shape} (bands, width, height) instead of {dims}")
    if header.dtype != DTYPES[variable.dformat.dtype]:
        raise DamagedError(f"an image of {variable.name} has the data type {header.dtype}, not that of the variable")
    if header.size != nbytes:
        raise DamagedError(f"an image of {math.prod(dims)} values claims to have {header.size} bytes")


Place: TypeAlias = Callable[[ImageHeader], ImageReader | None]
"""Returns the reader for an image from its header, or None if no pixels follow."""


class StreamReader:
    """Splits a stream into images, yielding each header when its image is complete.

    Reads streams of servers with and without protocol_v11x: an image ends with its first empty chunk or with the last
    chunk announced by its header; further empty chunks are skipped.

    Attributes:
        count: number of images announced by the stream; None before its beginning.

    Raises:
        DamagedError: while iterating. The stream's own errors pass through.
    """

    def __init__(
        self, messages: Iterable[Message], place: Place, on_bytes: Callable[[int], None] | None = None
    ) -> None:
        self._messages = iter(messages)
        self._place = place
        self._on_bytes = on_bytes or (lambda _: None)
        self._part = 0
        self.count: int | None = None

    def __iter__(self) -> Iterator[ImageHeader]:
        first = next(self._messages, None)
        if first is None:
            return  # broken before the first message: `count` stays None
        if first.WhichOneof("response") != "global_header":
            raise DamagedError("the stream does not begin with a global header")
        self.count = first.global_header.count
        if self.count < 0:
            raise DamagedError(f"the stream announces {self.count} images")
        for number, message in enumerate(self._headers()):
            if number >= self.count:
                raise DamagedError(f"the stream has more than its {self.count} images")
            header = message.header
            if self._image(header):
                yield header

    def _headers(self) -> Iterator[Message]:
        for message in self._messages:
            kind = message.WhichOneof("response")
            if kind == "header":
                yield message
            elif kind != "chunk" or message.chunk.data or message.chunk.part <= self._part:
                raise DamagedError(f"the stream has a {kind or 'message without content'} instead of an image header")

    def _image(self, header: ImageHeader) -> bool:
        """Read an image. False if the stream ended within it."""
        self._part = 0
        self._on_bytes(len(header.data))
        reader = self._place(header)
        if reader is None:
            return True
        for part in range(1, header.nb_parts):
            chunk = self._chunk(part)
            if chunk is None:
                return False
            self._part = part
            if not chunk.data:
                break
            self._on_bytes(len(chunk.data))
            reader.feed(chunk.data)
        reader.end()
        return True

    def _chunk(self, part: int) -> ImageChunk | None:
        message = next(self._messages, None)
        if message is None:
            return None
        if message.WhichOneof("response") != "chunk" or message.chunk.part != part:
            raise DamagedError(f"part {part} of an image is missing")
        return message.chunk
