"""GeoTIFFs of a file system stay open between two reads: to open one takes longer than to read a tile of it."""

from __future__ import annotations

import atexit
import os
import resource
import threading
import time
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from rasterio.io import DatasetReader

from acdtask.raster.open_raster import open_raster
from acdtask.storage.roots import Roots

__all__ = [
    "HELD_BYTES",
    "MOST",
    "OpenImages",
    "close_idle_images",
    "forget_image",
    "held_bytes_of",
    "open_image",
]

_FILES = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
MOST = 512 if _FILES == resource.RLIM_INFINITY else min(512, _FILES // 4)
"""Files that stay open at most."""

HELD_BYTES = 384 << 20
"""Memory that idle images hold at most, all together."""
FILE_BYTES, PIXEL_BYTES, READ_PIXELS = 600_000, 60, 256 * 256
"""What GDAL keeps of an image that stays open (measured): for the file, and for a pixel of what was read."""

SETTLED_SECONDS = 2.0
"""A file that was written less than so long ago may be written again within one tick of its clock."""


def held_bytes_of(pixels: int) -> int:
    """About the memory that an open image of so many pixels holds.

    >>> held_bytes_of(128 * 128) < held_bytes_of(256 * 256) == held_bytes_of(4096 * 4096) < 5_000_000
    True
    """
    return FILE_BYTES + PIXEL_BYTES * min(pixels, READ_PIXELS)


@dataclass(frozen=True)
class _Mark:
    """What tells a file from one that has taken its place."""

    device: int
    inode: int
    size: int
    written_ns: int

    @classmethod
    def of(cls, path: str) -> _Mark | None:
        try:
            found = Path(path).stat()
        except OSError:
            return None  # /vsis3/..., or it is not there
        return cls(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)

    def is_settled(self) -> bool:
        return time.time() - self.written_ns / 1e9 > SETTLED_SECONDS


_Kind: TypeAlias = tuple[int | None, Roots | None]


@dataclass(frozen=True)
class _Idle:
    """An image that nobody reads; `kind` has the number of its overview, if it is one, and its roots."""

    path: str
    kind: _Kind
    mark: _Mark
    image: DatasetReader

    @property
    def held_bytes(self) -> int:
        """About the memory that it holds."""
        return held_bytes_of(self.image.width * self.image.height)


class OpenImages:
    """Images that nobody reads just now, least recently used first. Each is read by one thread at a time.

    A file that was replaced, changed or removed is opened anew. What lies elsewhere is opened and closed each time.
    """

    def __init__(self, most: int = MOST, held_bytes: int = HELD_BYTES) -> None:
        self._most, self._held_bytes = most, held_bytes
        self._lock = threading.Lock()
        self._idle: OrderedDict[int, _Idle] = OrderedDict()
        self._by_path: dict[str, list[int]] = {}
        self._number = 0

    @contextmanager
    def opened(self, path: str, level: int | None = None, roots: Roots | None = None) -> Iterator[DatasetReader]:
        """The image, or an overview of it, for this thread alone.

        Raises what `open_raster` does; an error within closes the image.
        """
        mark, kind = _Mark.of(path), (level, roots)
        image = self._take(path, kind, mark) or open_raster(path, level, roots)
        try:
            yield image
        except BaseException:
            image.close()
            raise
        if mark is None or not mark.is_settled():
            image.close()
        else:
            self._put(_Idle(path, kind, mark, image))

    def forget(self, path: str) -> None:
        """Close the idle images of a file, so that its space is free when it is deleted."""
        with self._lock:
            images = [self._idle.pop(number).image for number in self._by_path.pop(path, [])]
        _close(images)

    def close(self) -> None:
        """Close what is idle."""
        with self._lock:
            images = [one.image for one in self._idle.values()]
            self._idle.clear()
            self._by_path.clear()
        _close(images)

    def __len__(self) -> int:
        return len(self._idle)

    def _take(self, path: str, kind: _Kind, mark: _Mark | None) -> DatasetReader | None:
        """An idle image of the very file; those of one that was there before are closed."""
        with self._lock:
            stale = []
            found = None
            for number in self._by_path.pop(path, []):
                one = self._idle[number]
                if one.mark == mark and (found is not None or one.kind != kind):
                    self._by_path.setdefault(path, []).append(number)
                    continue
                del self._idle[number]
                if one.mark == mark:
                    found = one.image
                else:
                    stale.append(one.image)
        _close(stale)
        return found

    def _put(self, one: _Idle) -> None:
        with self._lock:
            self._number += 1
            self._idle[self._number] = one
            self._by_path.setdefault(one.path, []).append(self._number)
            over = []
            held = sum(idle.held_bytes for idle in self._idle.values())
            while len(self._idle) > self._most or held > self._held_bytes:
                dropped = self._drop_oldest()
                held -= dropped.held_bytes
                over.append(dropped.image)
        _close(over)

    def _drop_oldest(self) -> _Idle:
        number, one = self._idle.popitem(last=False)
        numbers = self._by_path[one.path]
        numbers.remove(number)
        if not numbers:
            del self._by_path[one.path]
        return one


def _close(images: Iterable[DatasetReader]) -> None:
    for image in images:
        image.close()


_images = OpenImages()
_of_parents: list[OpenImages] = []


def open_image(
    path: str, level: int | None = None, roots: Roots | None = None
) -> AbstractContextManager[DatasetReader]:
    """An image, or an overview of it, of this process' own store of open ones, as `OpenImages.opened`."""
    return _images.opened(path, level, roots)


def forget_image(path: str) -> None:
    """Close the idle images of a file that is about to be deleted."""
    _images.forget(path)


def close_idle_images() -> None:
    """Close all idle images of this process, where none of them will be read again: each holds memory of its own."""
    _images.close()


def _begin_anew() -> None:
    """A forked child shares the place in the file with its parent: it opens its own, and leaves those alone."""
    global _images
    _of_parents.append(_images)
    _images = OpenImages()


os.register_at_fork(after_in_child=_begin_anew)
atexit.register(lambda: _images.close())
