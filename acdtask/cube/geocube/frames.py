"""One image of a stream: its header and chunks, inflated straight to where its pixels belong."""

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
    GetCubeResponseHeader,
    ImageChunk,
    ImageHeader,
)
from acdtask.cube.protocol.values_pb2 import BigEndian
from acdtask.raster.data_format import Pixels

__all__ = ["DamagedError", "ImageReader", "Message", "Place", "StreamReader", "empty_images"]

Message: TypeAlias = GetCubeResponse | GetCubeMetadataResponse

RAW_DEFLATE = -15
STEP = 1024 * 1024
"""Bytes that are inflated at once, so that a small message cannot become a large one in memory."""


class DamagedError(Exception):
    """A stream is not what the protocol says."""


def empty_images(count: int, variable: Variable, shape: tuple[int, int]) -> Pixels:
    """Unset pixels of (height, width): (count, height, width), or (count, bands, height, width) for several bands."""
    bands = (len(variable.bands),) if len(variable.bands) > 1 else ()
    return np.empty((count, *bands, *shape), variable.dformat.dtype)


class ImageReader:
    """Puts the bytes of an image, as they come, to where they belong.

    Args:
        header: of the image; its own data come first.
        variable: what the image is of.
        pixels: where it goes: (height, width) or (bands, height, width), contiguous.

    Raises:
        DamagedError: every method, for bytes that are no such image.
    """

    def __init__(self, header: ImageHeader, variable: Variable, pixels: Pixels) -> None:
        bands = len(variable.bands)
        height, width = pixels.shape[-2:]
        _check(header, variable, (bands, width, height), pixels.nbytes)
        self._dtype = np.dtype(variable.dformat.dtype).newbyteorder(">" if header.order == BigEndian else "<")
        self._view = np.moveaxis(pixels.reshape(bands, height * width), 0, 1)  # as they come: pixel by pixel
        self._bytes_of_pixel = bands * self._dtype.itemsize
        self._whole = pixels.nbytes
        self._row = 0
        self._rest = b""
        self._inflate = zlib.decompressobj(RAW_DEFLATE) if header.compression else None
        self.feed(header.data)

    def feed(self, data: bytes) -> None:
        """Take the data of a chunk."""
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
            more = bool(data) or len(part) == STEP  # zlib may hold more than it gave, though it took everything
        if self._inflate.unused_data:
            raise DamagedError("an image has bytes behind its end")

    def end(self) -> None:
        """There are no more bytes."""
        got = self._row * self._bytes_of_pixel + len(self._rest)
        if got != self._whole:
            raise DamagedError(f"an image has {got} bytes in place of {self._whole}")

    def _put(self, data: bytes) -> None:
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
        raise DamagedError(f"an image has the shape {shape} (bands, width, height) in place of {dims}")
    if header.dtype != DTYPES[variable.dformat.dtype]:
        raise DamagedError(
            f"an image of {variable.name} has the data type {header.dtype}, and not that of the variable"
        )
    if header.size != nbytes:
        raise DamagedError(f"an image of {math.prod(dims)} numbers says that it has {header.size} bytes")


Place: TypeAlias = Callable[[ImageHeader], ImageReader | None]
"""Where an image goes, by its header; None if nothing follows it."""


class StreamReader:
    """Cuts a stream into images: yields each header when its image is whole.

    Streams of servers that know protocol_v11x and of those that do not are read alike: an image ends with its first
    empty chunk or with the last that its header counts, and empty ones that follow are passed over.

    Attributes:
        count: how many images the stream says that it has; None before its beginning.

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
            return  # broken off before it began; whoever reads sees that `count` is None
        if first.WhichOneof("response") != "global_header":
            raise DamagedError("the stream does not begin with its own header")
        self.count = self._checked_count(first.global_header)
        for number, message in enumerate(self._headers()):
            if number >= self.count:
                raise DamagedError(f"the stream has more than its {self.count} images")
            header = message.header
            if self._image(header):
                yield header

    def _checked_count(self, header: GetCubeResponseHeader) -> int:
        if header.count < 0:
            raise DamagedError(f"the stream counts {header.count} images")
        return header.count

    def _headers(self) -> Iterator[Message]:
        for message in self._messages:
            kind = message.WhichOneof("response")
            if kind == "header":
                yield message
            elif kind != "chunk" or message.chunk.data or message.chunk.part <= self._part:
                raise DamagedError(f"a {kind or 'message without content'} comes where an image begins")

    def _image(self, header: ImageHeader) -> bool:
        """Whether the image came whole; false if the stream ended within."""
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
