"""Consolidated containers: the images of a tile as a Zarr v3 array (time, y, x), with a year of a pixel in one object.

An object is a chunk with a block for each image (`blocks`), so that a year is read at once, or an image as a range.

A container is a group with the array and its coordinates, so xarray and other programs can open it. The zarr.json of
the group also contains those of its arrays, and the checksums of all files except chunks of images.
"""

from __future__ import annotations

import base64
import json
import math
import struct
from collections.abc import Sequence
from itertools import product
from typing import Any, cast

import numpy as np
import zarr
from zarr.codecs import BloscCodec, Crc32cCodec
from zarr.core.buffer import Buffer
from zarr.core.buffer.cpu import NDBuffer
from zarr.storage import MemoryStore

from acdtask.cube.local.blocks import CLEVEL, CNAME, SHUFFLE, block_size, chunk_of_blocks, encode_block
from acdtask.cube.local.chunks import DATA_ARRAY, NODES, WRITTEN_CHUNKS, chunk_counts, chunk_list
from acdtask.cube.local.coordinates import SPATIAL_REF, coordinates_of
from acdtask.cube.local.workers import pool_of
from acdtask.cube.model import Record, Variable
from acdtask.raster.checksums import checksum_of
from acdtask.raster.data_format import DataFormat, Pixels
from acdtask.raster.grid import Grid, Window
from acdtask.storage.store import Store

__all__ = ["METADATA", "StackWriter", "array_name", "chunk_shape", "container_checksum"]

CHUNK_TIMES = 64
CHUNK_PIXELS = 256
METADATA = "zarr.json"
WRITES_AT_ONCE = 8
"""Parallel requests to an object store."""


def chunk_shape(times: int, grid: Grid) -> tuple[int, int, int]:
    """Shape (time, y, x) of a chunk: up to 64 images of up to 256 x 256 px."""
    return min(times, CHUNK_TIMES), min(grid.height, CHUNK_PIXELS), min(grid.width, CHUNK_PIXELS)


class StackWriter:
    """Writes a container block by block. Readers see it only after `finish`, which writes its zarr.json.

    The same pixels give the same bytes, regardless of the order of blocks. Chunks that are all nodata are not written;
    an attribute of the array lists the others. Every method raises what Store raises.

    The key ends in ".zarr". The records are those of the images, in the order of the time axis. The variable has one
    band; its nodata is the fill value. Physical value = stored * scale + `offset`.
    """

    def __init__(
        self,
        store: Store,
        key: str,
        grid: Grid,
        records: Sequence[Record],
        variable: Variable,
        instance: str = "",
        offset: float = 0.0,
    ) -> None:
        if not key.endswith(".zarr") or len(variable.bands) != 1 or not records:
            raise ValueError(f"{key} must end in .zarr and hold at least one record of one band")
        self._store, self._key, self.name = store, key, array_name(variable.name)
        self.shape = (len(records), *grid.shape)
        self.chunks = chunk_shape(len(records), grid)
        self._dtype = np.dtype(variable.dformat.dtype)
        itemsize = self._dtype.itemsize
        documents: dict[str, Buffer] = {}
        group = zarr.create_group(
            MemoryStore(documents),
            attributes={"Conventions": "CF-1.11", DATA_ARRAY: self.name, "images": _images(records)},
        )
        plan = group.create_array(
            self.name,
            shape=self.shape,
            chunks=(1, *self.chunks[1:]),
            shards=cast(Any, {"shape": self.chunks, "index_location": "start"}),
            dtype=variable.dformat.dtype,
            fill_value=np.dtype(variable.dformat.dtype).type(variable.dformat.nodata),
            # Blosc alone may decode a damaged block without an error, so each block has a CRC-32C.
            compressors=(
                BloscCodec(
                    cname=CNAME, clevel=CLEVEL, shuffle=SHUFFLE, blocksize=block_size(self.chunks[1:], itemsize)
                ),
                Crc32cCodec(),
            ),
            dimension_names=("time", "y", "x"),
            attributes=_attributes(grid, records, variable, instance) | ({"add_offset": offset} if offset else {}),
        )
        for name, coordinate in coordinates_of(grid, records).items():
            group.create_array(
                name,
                data=coordinate.values,
                compressors=(Crc32cCodec(),),
                dimension_names=coordinate.dimensions,
                attributes=coordinate.attributes,
            )
        self._files = {name: buffer.to_bytes() for name, buffer in sorted(documents.items())}
        self._fill = plan.metadata.fill_value
        self._written = np.zeros(chunk_counts(self.shape, self.chunks), dtype=bool)

    def write(self, window: Window, pixels: Pixels) -> None:
        """Write a window of all images: shape (times, window height, window width), the variable's dtype.

        The window must begin and end at borders of chunks, or end at the grid's edge, so that blocks share no chunk.
        """
        _, height, width = self.shape
        for start, size, chunk, end in (
            (window.row, window.height, self.chunks[1], height),
            (window.column, window.width, self.chunks[2], width),
        ):
            if start % chunk or ((start + size) % chunk and start + size != end) or start + size > end:
                raise ValueError(f"{window} is not aligned with chunks of {self.chunks}")
        if pixels.shape != (self.shape[0], window.height, window.width) or pixels.dtype != self._dtype:
            raise ValueError(f"{pixels.dtype} {pixels.shape} is not a block of {self._dtype} {self.shape}")
        first = window.row // self.chunks[1], window.column // self.chunks[2]
        steps = [range(0, size, chunk) for size, chunk in zip(pixels.shape, self.chunks, strict=True)]

        def write_chunk(corner: tuple[int, ...]) -> None:
            time, row, column = corner
            times, height, width = self.chunks
            number = time // times, first[0] + row // height, first[1] + column // width
            self._write_chunk(number, pixels[time : time + times, row : row + height, column : column + width])

        corners = list(product(*steps))
        if self._store.is_folder:
            for corner in corners:
                write_chunk(corner)
        else:  # these mostly wait
            for _ in pool_of(WRITES_AT_ONCE).map(write_chunk, corners):
                pass

    def finish(self) -> str:
        """Make the container visible, and return its checksum (see `Dataset`)."""
        nodes = {name: json.loads(body) for name, body in self._files.items() if name.endswith(METADATA)}
        group = nodes.pop(METADATA)
        array = f"{self.name}/{METADATA}"
        nodes[array]["attributes"][WRITTEN_CHUNKS] = chunk_list(self._written)
        files = {name: body for name, body in self._files.items() if name != METADATA}
        files |= {name: _encoded(node) for name, node in nodes.items()}
        group["attributes"][NODES] = {name: checksum_of(body) for name, body in files.items()}
        group["consolidated_metadata"] = {
            "kind": "inline",
            "must_understand": False,
            "metadata": {name.removesuffix(f"/{METADATA}"): node for name, node in nodes.items()},
        }
        for name, body in files.items():
            self._store.put(f"{self._key}/{name}", body)
        data = _encoded(group)  # written last: without it, there is no container
        self._store.put(f"{self._key}/{METADATA}", data)
        return checksum_of(data)

    def _write_chunk(self, number: tuple[int, int, int], pixels: Pixels) -> None:
        """Write a chunk, unless it is all nodata. At the end of an axis, `pixels` are fewer than those of a chunk."""
        blocks: list[bytes | None] = [None] * self.chunks[0]
        shape = self.chunks[1:]
        for time, image in enumerate(pixels):
            if NDBuffer.from_numpy_array(image).all_equal(self._fill):  # zarr's own test
                continue
            if image.shape != shape:
                padded = np.full(shape, self._fill, self._dtype)
                padded[: image.shape[0], : image.shape[1]] = image
                blocks[time] = encode_block(padded)
            else:
                blocks[time] = encode_block(image)
        self._written[number] = any(block is not None for block in blocks)
        if self._written[number]:
            self._store.put("/".join(map(str, (self._key, self.name, "c", *number))), chunk_of_blocks(blocks))


def container_checksum(store: Store, key: str) -> str:
    """The checksum of a container that `StackWriter` wrote. CUBE_DAMAGED if it is missing."""
    return checksum_of(store.get(f"{key}/{METADATA}"))


def array_name(variable: str) -> str:
    """The name of a variable's array in its container.

    >>> array_name("sentinel-1/CoherenceVV")
    'sentinel-1_CoherenceVV'
    """
    return variable.replace("/", "_").replace(":", "_")


def _attributes(grid: Grid, records: Sequence[Record], variable: Variable, instance: str) -> dict[str, Any]:
    """Attributes of the array of images, with the names that xarray and CF define."""
    return {
        "variable": variable.name,
        "instance": instance,
        **({"long_name": variable.description} if variable.description else {}),
        "crs": grid.crs,
        "transform": list(grid.transform),
        "grid_mapping": SPATIAL_REF,
        "coordinates": SPATIAL_REF,
        **_fill_value(variable.dformat),
        "scale_factor": variable.scale,
        "units": variable.unit or "1",
        "valid_min": variable.dformat.min,
        "valid_max": variable.dformat.max,
    }


def _encoded(document: dict[str, Any]) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()


def _images(records: Sequence[Record]) -> list[dict[str, str]]:
    """The record of each image, in the order of the time axis."""
    return [
        {"record": record.name, "record_id": record.id, "datetime": record.datetime.isoformat()} for record in records
    ]


def _fill_value(dformat: DataFormat) -> dict[str, Any]:
    """Nodata as xarray encodes it in Zarr: integers as numbers, floats as the base64 of a little-endian double."""
    if math.isnan(dformat.nodata):
        return {}
    if np.issubdtype(np.dtype(dformat.dtype), np.integer):
        return {"_FillValue": int(dformat.nodata)}
    return {"_FillValue": base64.b64encode(struct.pack("<d", dformat.nodata)).decode()}
