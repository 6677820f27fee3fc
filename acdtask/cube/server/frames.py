"""Images as Geocube's messages: a header each, then chunks in order."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

from acdtask.cube.grid import Grid
from acdtask.cube.model import Dataset, Image, Outcome, Variable
from acdtask.cube.protocol.convert import DTYPES, dformat_to_wire
from acdtask.cube.protocol.cubes_pb2 import GetCubeMetadataResponse, GetCubeResponse, ImageHeader
from acdtask.cube.protocol.datasets_pb2 import DatasetMeta, InternalMeta
from acdtask.cube.protocol.records_pb2 import GroupedRecords
from acdtask.cube.protocol.values_pb2 import Shape
from acdtask.cube.server.pixels import CHUNK, cut, deflated, pieces_of, tiff_of

__all__ = ["NOT_COMPRESSED", "NO_DATA", "Frames", "Part", "metas_of"]

NO_DATA = "rpc error: code = NotFound desc = Not enough valid pixels (skipped)"
"""Geocube's own client compares the whole text."""

GONE = "its datasets were taken out of the index while the cube was read"

NOT_COMPRESSED = -3
"""The compression level that means none."""

ReplyT = TypeVar("ReplyT", GetCubeResponse, GetCubeMetadataResponse)


@dataclass(frozen=True)
class Part:
    """What an image is made of: its records that have pixels there, and their datasets."""

    records: GroupedRecords
    datasets: DatasetMeta


def metas_of(datasets: Iterable[Dataset], variable: Variable, address_of: Callable[[str], str]) -> DatasetMeta:
    """Datasets as a reader without the catalogue needs them, by absolute addresses."""
    target = variable.dformat
    return DatasetMeta(
        internalsMeta=[
            InternalMeta(
                container_uri=address_of(one.uri),
                container_subdir=one.subdir,
                bands=one.bands,
                dformat=dformat_to_wire(one.dformat),
                range_min=target.min,
                range_max=target.max,
                exponent=1.0,
            )
            for one in datasets
        ]
    )


@dataclass(frozen=True)
class Frames(Generic[ReplyT]):
    """How the images of an answer are sent.

    Attributes:
        reply: the kind of message.
        grid, variable: of every image.
        level: -3 none, -2 Huffman only, -1 to 9 DEFLATE.
        tiff: whether an image is sent as a file.
        ends_early: whether a compressed image ends with its first empty chunk, or has all of them.
        chunk: bytes of a message before compression.
    """

    reply: type[ReplyT]
    grid: Grid
    variable: Variable
    level: int = NOT_COMPRESSED
    tiff: bool = False
    ends_early: bool = False
    chunk: int = CHUNK

    def outline(self, part: Part) -> ReplyT:
        """The header of an image without its pixels."""
        message = self.reply()
        self._describe(message.header, part)
        return message

    def image(self, part: Part, image: Image) -> Iterator[ReplyT]:
        """The messages of an image, or the one that says why there is none."""
        if image.pixels is None:
            message = self.reply()
            message.header.grouped_records.CopyFrom(part.records)
            message.header.dataset_meta.CopyFrom(part.datasets)
            message.header.error = (
                NO_DATA if image.outcome is Outcome.NODATA else image.reason or "its datasets are gone"
            )
            yield message
            return
        if self.tiff:
            with tiff_of(image.pixels, self.grid, self.variable.dformat.nodata) as file:
                yield from self._messages(part, len(file), cut(file, self.chunk))
        else:
            yield from self._messages(part, image.pixels.nbytes, pieces_of(image.pixels, self.chunk))

    def _messages(self, part: Part, size: int, pieces: Iterator[memoryview]) -> Iterator[ReplyT]:
        payload: Iterator[bytes | memoryview] = pieces
        if self.level != NOT_COMPRESSED:
            payload = deflated(pieces, self.level, self.chunk)
        message = self.reply()
        header = message.header
        self._describe(header, part)
        header.size, header.nb_parts = size, -(-size // self.chunk)
        header.data = bytes(next(payload))
        parts = header.nb_parts
        yield message
        for number in range(1, parts):
            message = self.reply()
            message.chunk.part = number
            message.chunk.data = bytes(next(payload, b""))
            empty = not message.chunk.data
            yield message
            if empty and self.ends_early:
                return

    def _describe(self, header: ImageHeader, part: Part) -> None:
        bands = len(self.variable.bands)
        header.shape.CopyFrom(Shape(dim1=bands, dim2=self.grid.width, dim3=self.grid.height))
        header.dtype = DTYPES[self.variable.dformat.dtype]
        header.compression = self.level != NOT_COMPRESSED
        header.grouped_records.CopyFrom(part.records)
        header.dataset_meta.CopyFrom(part.datasets)
