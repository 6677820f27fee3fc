"""The images of a cube's stream: put together in place, told apart by their records, asked for again when it breaks."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from acdtask.cube.model import Outcome, Pixels
from acdtask.cube.protocol import cubes_pb2, values_pb2
from acdtask.errors import AcdError, ErrorCode

__all__ = ["NO_DATA", "Received", "images_of"]

NO_DATA = "rpc error: code = NotFound desc = Not enough valid pixels (skipped)"
"""How a server says that an image has no valid pixel: it sends no other sign of it."""

RAW_DEFLATE = -15

DTYPES: dict[int, str] = {
    values_pb2.DataFormat.UInt8: "u1",
    values_pb2.DataFormat.UInt16: "u2",
    values_pb2.DataFormat.UInt32: "u4",
    values_pb2.DataFormat.Int8: "i1",
    values_pb2.DataFormat.Int16: "i2",
    values_pb2.DataFormat.Int32: "i4",
    values_pb2.DataFormat.Float32: "f4",
    values_pb2.DataFormat.Float64: "f8",
    values_pb2.DataFormat.Complex64: "c8",
}


@dataclass(frozen=True)
class Received:
    """An image that arrived.

    Attributes:
        records: the server's ids of its records.
        pixels: shape (height, width, bands), in this machine's byte order; None unless the outcome is DATA.
    """

    records: frozenset[str]
    outcome: Outcome
    pixels: Pixels | None = None
    reason: str = ""


def images_of(messages: Iterable[Any], shape: tuple[int, int]) -> Iterator[Received]:
    """The images of a stream, each when it is whole.

    Args:
        messages: GetCubeResponse or GetCubeMetadataResponse, as they come.
        shape: (height, width) that was asked for.

    Raises:
        AcdError: GEOCUBE_FAILED for a stream that does not keep to the protocol; what `messages` raises.
    """
    current: _Image | None = None
    for message in messages:
        kind = message.WhichOneof("response")
        if kind == "header":
            if current is not None:
                yield current.finished()
            current = None
            if message.header.error:
                yield _without_pixels(message.header)
            else:
                current = _Image(message.header, shape)
                if current.is_complete:
                    yield current.finished()
                    current = None
        elif kind == "chunk" and current is not None:
            current.add(message.chunk)
            if current.is_complete:
                yield current.finished()
                current = None
        elif kind == "chunk" and message.chunk.data:
            raise _malformed("bytes came after the end of an image")
    if current is not None:
        yield current.finished()


def outlines_of(messages: Iterable[Any]) -> Iterator[cubes_pb2.ImageHeader]:
    """The headers of a stream that was asked for headers only."""
    for message in messages:
        if message.WhichOneof("response") == "header":
            yield message.header


def _records_of(header: cubes_pb2.ImageHeader) -> frozenset[str]:
    return frozenset(record.id for record in header.grouped_records.records)


def _without_pixels(header: cubes_pb2.ImageHeader) -> Received:
    if header.error == NO_DATA:
        return Received(_records_of(header), Outcome.NODATA)
    return Received(_records_of(header), Outcome.FAILED, reason=" ".join(header.error.split()))


class _Image:
    """An image on its way: its bytes go straight to where they belong."""

    def __init__(self, header: cubes_pb2.ImageHeader, shape: tuple[int, int]) -> None:
        self._records = _records_of(header)
        self._parts, self._part = header.nb_parts, 0
        kind = DTYPES.get(header.dtype)
        bands, width, height = header.shape.dim1, header.shape.dim2, header.shape.dim3
        if kind is None or bands < 1 or (height, width) != shape:
            raise _malformed(f"an image of {height} x {width} x {bands} and data type {header.dtype} came")
        order: Literal["<", ">"] = ">" if header.order == values_pb2.BigEndian else "<"
        stored: np.dtype[Any] = np.dtype(kind).newbyteorder(order)
        self._pixels: Pixels = np.empty((height, width, bands), dtype=stored)
        if self._pixels.nbytes != header.size:
            raise _malformed(f"an image of {header.size} bytes came, where {self._pixels.nbytes} are due")
        self._bytes = self._pixels.reshape(-1).view(np.uint8).data
        self._filled = 0
        self._inflater = zlib.decompressobj(RAW_DEFLATE) if header.compression else None
        self._ended = False
        self._take(header.data)

    @property
    def is_complete(self) -> bool:
        """Whether no more of it will come."""
        return self._ended or self._part >= self._parts - 1

    def add(self, chunk: cubes_pb2.ImageChunk) -> None:
        """Take the next part."""
        if chunk.part != self._part + 1:
            raise _malformed(f"part {chunk.part} of an image came after part {self._part}")
        self._part = chunk.part
        if not chunk.data:
            self._ended = True
        else:
            self._take(chunk.data)

    def finished(self) -> Received:
        """The image. GEOCUBE_FAILED if bytes are missing."""
        if self._filled != len(self._bytes):
            raise _malformed(f"an image came with {self._filled} of {len(self._bytes)} bytes")
        pixels = self._pixels
        if not pixels.dtype.isnative:
            pixels = pixels.byteswap(inplace=True).view(pixels.dtype.newbyteorder())
        return Received(self._records, Outcome.DATA, pixels)

    def _take(self, data: bytes) -> None:
        if self._inflater is None:
            self._put(data)
            return
        try:
            room = len(self._bytes) - self._filled
            self._put(self._inflater.decompress(data, room + 1))
            if self._inflater.unconsumed_tail:
                self._put(self._inflater.decompress(self._inflater.unconsumed_tail, 1))
        except zlib.error as error:
            raise _malformed(f"an image cannot be inflated ({error})") from error

    def _put(self, data: bytes) -> None:
        end = self._filled + len(data)
        if end > len(self._bytes):
            raise _malformed(f"an image came with more than its {len(self._bytes)} bytes")
        self._bytes[self._filled : end] = data
        self._filled = end


def _malformed(what: str) -> AcdError:
    return AcdError(ErrorCode.GEOCUBE_FAILED, f"the stream of a cube is not Geocube's: {what}")


def place_of(received: frozenset[str], groups: Sequence[frozenset[str]], start: int) -> int:
    """Which of the groups from `start` on the records are (a part) of. Servers keep the order of the groups.

    Raises:
        AcdError: GEOCUBE_FAILED if they are of none.
    """
    for place in range(start, len(groups)):
        if received <= groups[place]:
            return place
    raise _malformed(f"an image of the records {', '.join(sorted(received))} came, which was not asked for")
