"""Encodes images as messages of a stream: for each image a header, then its chunks in order.

GetCubeResponse and GetCubeMetadataResponse are identical on the wire. Messages are encoded here by hand, because
protobuf would copy all pixels twice more; `CallInterceptor` sends encoded messages unchanged.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

from acdtask.cube.model import Dataset, Image, Outcome, Variable
from acdtask.cube.protocol.convert import DTYPES, NO_DATA, dformat_to_message
from acdtask.cube.protocol.cubes_pb2 import GetCubeResponse, GetCubeResponseHeader, ImageChunk, ImageHeader
from acdtask.cube.protocol.datasets_pb2 import DatasetMeta, InternalMeta
from acdtask.cube.protocol.records_pb2 import GroupedRecords
from acdtask.cube.protocol.values_pb2 import Shape
from acdtask.raster.grid import Grid
from acdtask.serve.pixels import CHUNK, cut, deflated, pieces_of, tiff_of

__all__ = ["NOT_COMPRESSED", "Frames", "Part", "first_frame", "metas_of"]

GONE = "its datasets were removed from the index while the cube was read"

NOT_COMPRESSED = -3
"""The compression level for no compression."""


@dataclass(frozen=True)
class Part:
    """Records and datasets of an image.

    Attributes:
        fields: both, encoded as fields of an ImageHeader.
    """

    fields: bytes

    @classmethod
    def of(cls, records: GroupedRecords, datasets: DatasetMeta) -> Part:
        """Build a part from messages."""
        return cls(ImageHeader(grouped_records=records, dataset_meta=datasets).SerializeToString())

    @classmethod
    def joined(cls, records: Iterable[bytes], datasets: DatasetMeta) -> Part:
        """Build a part from records that are encoded, each as a separate GroupedRecords."""
        # Concatenated messages of one type merge: repeated fields are joined (protobuf's encoding rules).
        coded, metas = b"".join(records), datasets.SerializeToString()
        return cls(b"".join((RECORDS, _varint(len(coded)), coded, DATASETS, _varint(len(metas)), metas)))


def metas_of(datasets: Iterable[Dataset], variable: Variable, address_of: Callable[[str], str]) -> DatasetMeta:
    """The message of datasets for readers without the catalogue, with absolute addresses."""
    whole = (variable.dformat.min, variable.dformat.max)
    return DatasetMeta(
        internalsMeta=[
            InternalMeta(
                container_uri=address_of(dataset.uri),
                container_subdir=dataset.subdir,
                bands=dataset.bands,
                dformat=dformat_to_message(dataset.dformat),
                range_min=(dataset.real or whole)[0],
                range_max=(dataset.real or whole)[1],
                exponent=dataset.exponent,
            )
            for dataset in datasets
        ]
    )


def first_frame(header: GetCubeResponseHeader) -> bytes:
    """The first message of a stream."""
    return GetCubeResponse(global_header=header).SerializeToString()


@dataclass(frozen=True)
class Frames:
    """Encoder for the images of a response.

    Attributes:
        grid, variable: of every image.
        level: -3 none, -2 Huffman only, -1 to 9 DEFLATE.
        tiff: send images as GeoTIFF files.
        ends_early: end a compressed image with its first empty chunk instead of sending all empty chunks.
        chunk: bytes of a message before compression.
    """

    grid: Grid
    variable: Variable
    level: int = NOT_COMPRESSED
    tiff: bool = False
    ends_early: bool = False
    chunk: int = CHUNK

    def outline(self, part: Part) -> bytes:
        """The header of an image without its pixels."""
        return _framed(HEADER, self._shape + part.fields)

    def image(self, part: Part, image: Image) -> Iterator[bytes]:
        """The messages of an image, or a single message with the reason why it has no pixels."""
        if image.pixels is None:
            why = NO_DATA if image.outcome is Outcome.NODATA else image.reason or GONE
            yield _framed(HEADER, part.fields + ImageHeader(error=why).SerializeToString())
        elif self.tiff:
            with tiff_of(image.pixels, self.grid, self.variable.dformat.nodata) as file:
                yield from self._messages(part, len(file), cut(file, self.chunk))
        else:
            yield from self._messages(part, image.pixels.nbytes, pieces_of(image.pixels, self.chunk))

    def _messages(self, part: Part, size: int, pieces: Iterator[memoryview]) -> Iterator[bytes]:
        payload: Iterator[bytes | memoryview] = pieces
        if self.level != NOT_COMPRESSED:
            payload = deflated(pieces, self.level, self.chunk)
        count = -(-size // self.chunk)
        known = b"".join((self._shape, part.fields, HEADER_SIZE, _varint(size), HEADER_PARTS, _varint(count)))
        yield _framed(HEADER, known, HEADER_DATA, next(payload))
        for number in range(1, count):
            piece = next(payload, b"")  # compression needs fewer pieces than announced: the rest is empty
            yield _framed(CHUNK_FIELD, CHUNK_PART + _varint(number), CHUNK_DATA, piece)
            if not piece and self.ends_early:
                return

    @cached_property
    def _shape(self) -> bytes:
        """The header fields common to all images."""
        return ImageHeader(
            shape=Shape(dim1=len(self.variable.bands), dim2=self.grid.width, dim3=self.grid.height),
            dtype=DTYPES[self.variable.dformat.dtype],
            compression=self.level != NOT_COMPRESSED,
        ).SerializeToString()


def _framed(field: bytes, known: bytes, data_field: bytes = b"", data: bytes | memoryview = b"") -> bytes:
    """A response containing one message, from its encoded fields and the bytes of its data field."""
    before_data = data_field + _varint(len(data)) if data_field else b""
    size = len(known) + len(before_data) + len(data)
    return b"".join((field, _varint(size), known, before_data, data))


def _varint(number: int) -> bytes:
    """A number in protobuf's varint encoding: seven bits per byte, lowest first.

    >>> _varint(1).hex(), _varint(300).hex()
    ('01', 'ac02')
    """
    coded = bytearray()
    while number > 0x7F:
        coded.append(number & 0x7F | 0x80)
        number >>= 7
    coded.append(number)
    return bytes(coded)


def _tag(field: int, kind: int) -> bytes:
    return _varint(field << 3 | kind)


NUMBER, LENGTH = 0, 2
"""Protobuf's wire types."""

HEADER = _tag(GetCubeResponse.HEADER_FIELD_NUMBER, LENGTH)
RECORDS = _tag(ImageHeader.GROUPED_RECORDS_FIELD_NUMBER, LENGTH)
DATASETS = _tag(ImageHeader.DATASET_META_FIELD_NUMBER, LENGTH)
HEADER_SIZE = _tag(ImageHeader.SIZE_FIELD_NUMBER, NUMBER)
HEADER_PARTS = _tag(ImageHeader.NB_PARTS_FIELD_NUMBER, NUMBER)
HEADER_DATA = _tag(ImageHeader.DATA_FIELD_NUMBER, LENGTH)
CHUNK_FIELD = _tag(GetCubeResponse.CHUNK_FIELD_NUMBER, LENGTH)
CHUNK_PART = _tag(ImageChunk.PART_FIELD_NUMBER, NUMBER)
CHUNK_DATA = _tag(ImageChunk.DATA_FIELD_NUMBER, LENGTH)
