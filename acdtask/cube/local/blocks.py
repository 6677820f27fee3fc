"""Chunks of consolidated containers with a separate block for each image, so that one image is read as a range.

The bytes are those of zarr's codec `sharding_indexed`: an index, then the blocks. The index has the offset and the size
of each image's block as little-endian uint64, and a CRC-32C. Blocks that are all nodata are not stored.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

import google_crc32c
import numpy as np
from numcodecs import blosc
from numpy.typing import NDArray

from acdtask.raster.data_format import Pixels
from acdtask.storage.block_cache import BlockCache
from acdtask.storage.store import Store

__all__ = [
    "CLEVEL",
    "CNAME",
    "SHUFFLE",
    "block_size",
    "checked_body",
    "chunk_of_blocks",
    "encode_block",
    "read_blocks",
    "stored_blocks",
]

CNAME: Final = "zstd"
CLEVEL: Final = 3
SHUFFLE: Final = "bitshuffle"
"""Parameters of Blosc. On coherence, bitshuffle is 10 % smaller than plain ZSTD 3 and as fast."""

CHECKSUM_BYTES = 4
ENTRY_BYTES = 16
NOT_STORED = 2**64 - 1
OVERHEAD_BYTES = 16 + CHECKSUM_BYTES
"""Maximum size of a stored block, in addition to its pixels: Blosc's header and the checksum."""

Index = NDArray[np.uint64]


def block_size(shape: tuple[int, int], itemsize: int) -> int:
    """Bytes of the pixels of a block, which are also one block of Blosc: with several, its threads vary their order."""
    return shape[0] * shape[1] * itemsize


def encode_block(pixels: Pixels) -> bytes:
    """Encode a block of an image, shape (height, width), as zarr does with Blosc and crc32c."""
    body = blosc.compress(
        np.ascontiguousarray(pixels, pixels.dtype.newbyteorder("<")),
        CNAME.encode(),
        CLEVEL,
        blosc.BITSHUFFLE,
        block_size((pixels.shape[0], pixels.shape[1]), pixels.dtype.itemsize),
    )
    return bytes(body) + _checksum(body)


def chunk_of_blocks(blocks: Sequence[bytes | None]) -> bytes:
    """Join the blocks of the images of a chunk, in their order; None for those that are all nodata."""
    entries = np.full((len(blocks), 2), NOT_STORED, np.uint64)
    offset = _index_bytes(len(blocks))
    for number, block in enumerate(blocks):
        if block is not None:
            entries[number] = offset, len(block)
            offset += len(block)
    index = entries.astype("<u8").tobytes()
    return b"".join([index, _checksum(index), *(block for block in blocks if block is not None)])


def read_blocks(
    store: Store, key: str, count: int, wanted: Iterable[int], size: int, cache: BlockCache | None = None
) -> Mapping[int, memoryview | None] | None:
    """Read the blocks of some images of a chunk, with their checksums; None if the chunk does not exist.

    Args:
        store: where the chunk is.
        key: key of the chunk.
        count: number of images in the chunk.
        wanted: positions of the images.
        size: bytes of the pixels of a block.
        cache: where to find blocks that were read before, and to keep these, if the chunk has not changed since.

    Returns:
        The stored block of each image; None for one that is all nodata.

    Raises:
        ValueError: the index is damaged, or a block that is kept.
        AcdError: what Store raises.
    """
    numbers = sorted(set(wanted))
    if cache is not None:
        return _read_with_cache(store, key, count, numbers, size, cache)
    if len(numbers) == count:
        data = store.find_buffer(key)
        return None if data is None else dict(enumerate(stored_blocks(data, count, size)))
    head = store.find_ranges(key, [(0, _index_bytes(count))])
    return None if head is None else _read_listed(store, key, _entries(head[0], count, size), numbers)


def _read_with_cache(
    store: Store, key: str, count: int, numbers: Sequence[int], size: int, cache: BlockCache
) -> Mapping[int, memoryview | None] | None:
    """Read blocks of a chunk, those that are in the cache only if the chunk is still in the same state."""
    place, end = cache.name(store.url, key), _index_bytes(count)
    kept = cache.find(place)
    chunk = None
    if kept is not None and (state := store.state_of(key)) and bytes(kept[end:]) == state.encode():
        index = kept[:end]
    else:
        read = store.find_with_state(key, None if len(numbers) == count else end)
        if read is None:
            return None
        chunk, state = read
        index = chunk[:end]
    entries = _entries(index, count, size)
    names = {number: cache.name(store.url, key, state, number) for number in numbers if number in entries}
    blocks = {number: cache.find(names[number]) if state and number in names else None for number in numbers}
    missing = [number for number in names if blocks[number] is None]
    if chunk is not None and len(numbers) == count:
        whole = stored_blocks(chunk, count, size)
        added: Mapping[int, memoryview | None] | None = {number: whole[number] for number in missing}
    else:
        added = _read_listed(store, key, entries, missing)
    if added is None:
        return None
    if state:
        if kept is None:
            cache.keep(place, bytes(index) + state.encode())
        _keep(cache, {names[number]: block for number, block in added.items()})
    return blocks | dict(added)


def _keep(cache: BlockCache, blocks: Mapping[bytes, memoryview | None]) -> None:
    """Keep blocks by name. They are checked first: another attempt must not get one that was damaged on its way."""
    for name, block in blocks.items():
        if block is not None:
            checked_body(block)
            cache.keep(name, block)


def _read_listed(
    store: Store, key: str, entries: Mapping[int, tuple[int, int]], numbers: Sequence[int]
) -> Mapping[int, memoryview | None] | None:
    """Read the blocks of some images at the places that the index lists; None if the chunk does not exist."""
    runs = list(_runs(entries, numbers))
    parts = store.find_ranges(key, [(start, end - start) for start, end, _ in runs]) if runs else []
    if parts is None:  # it was deleted in between
        return None
    blocks: dict[int, memoryview | None] = dict.fromkeys(numbers)
    for (start, end, members), part in zip(runs, parts, strict=True):
        if len(part) != end - start:
            raise ValueError("a chunk is too short")
        for number in members:
            offset, length = entries[number]
            blocks[number] = part[offset - start : offset - start + length]
    return blocks


def stored_blocks(data: memoryview, count: int, size: int) -> list[memoryview | None]:
    """The blocks of a whole chunk, with their checksums; see `read_blocks`. ValueError."""
    entries = _entries(data[: _index_bytes(count)], count, size)
    if any(offset + length > len(data) for offset, length in entries.values()):
        raise ValueError("a chunk is too short")
    return [data[entries[number][0] : sum(entries[number])] if number in entries else None for number in range(count)]


def checked_body(data: memoryview) -> NDArray[np.uint8]:
    """Stored bytes without the checksum at their end. ValueError if it is wrong."""
    stored = np.frombuffer(data, np.uint8)
    body = stored[:-CHECKSUM_BYTES]
    if google_crc32c.value(body) != int.from_bytes(stored[-CHECKSUM_BYTES:].tobytes(), "little"):
        raise ValueError("the checksum of a chunk is wrong")
    return body


def _entries(index: memoryview, count: int, size: int) -> dict[int, tuple[int, int]]:
    """Offset and size of each stored block, by the image's position. ValueError if the index cannot be right."""
    if len(index) != _index_bytes(count):
        raise ValueError("a chunk is too short")
    pairs = checked_body(index).view("<u8").reshape(count, 2).tolist()
    entries = {number: (offset, length) for number, (offset, length) in enumerate(pairs) if offset != NOT_STORED}
    # Sizes decide how much is read, so wrong ones must not ask for more than a block can have.
    if any(length > size + OVERHEAD_BYTES or offset < len(index) for offset, length in entries.values()):
        raise ValueError("the index of a chunk is wrong")
    return entries


def _runs(entries: Mapping[int, tuple[int, int]], numbers: Sequence[int]) -> Iterator[tuple[int, int, list[int]]]:
    """Ranges of bytes (start, end) that hold the wanted blocks and nothing else, each with its images."""
    members: list[int] = []
    start = end = 0
    for number in sorted((n for n in numbers if n in entries), key=lambda n: entries[n][0]):
        offset, length = entries[number]
        if members and offset != end:
            yield start, end, members
            members = []
        if not members:
            start = offset
        members.append(number)
        end = offset + length
    if members:
        yield start, end, members


def _index_bytes(count: int) -> int:
    return count * ENTRY_BYTES + CHECKSUM_BYTES


def _checksum(body: bytes) -> bytes:
    return int(google_crc32c.value(body)).to_bytes(CHECKSUM_BYTES, "little")
