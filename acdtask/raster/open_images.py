"""Keeps GeoTIFFs of a file system open between reads: opening one takes longer than reading a tile."""

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
"""Maximum number of files that stay open."""

HELD_BYTES = 384 << 20
"""Maximum memory of all idle images together."""
FILE_BYTES, PIXEL_BYTES, READ_PIXELS = 600_000, 60, 256 * 256
"""Memory that GDAL keeps for an open image (measured): per file, and per pixel for at most READ_PIXELS pixels."""

SETTLED_SECONDS = 2.0
"""A younger file is not kept open: a second write within the clock's resolution would leave its mtime unchanged."""


def held_bytes_of(pixels: int) -> int:
    """Estimate the memory in bytes that an open image of this many pixels holds.

    >>> held_bytes_of(128 * 128) < held_bytes_of(256 * 256) == held_bytes_of(4096 * 4096) < 5_000_000
    True
    """
    return FILE_BYTES + PIXEL_BYTES * min(pixels, READ_PIXELS)


@dataclass(frozen=True)
class _Mark:
    """Identity of a file, which changes when the file is replaced or written."""

    device: int
    inode: int
    size: int
    written_ns: int

    @classmethod
    def of(cls, path: str) -> _Mark | None:
        try:
            status = Path(path).stat()
        except OSError:
            return None  # /vsis3/..., or the file is missing
        return cls(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)

    def is_settled(self) -> bool:
        return time.time() - self.written_ns / 1e9 > SETTLED_SECONDS


_Kind: TypeAlias = tuple[int | None, Roots | None]


@dataclass(frozen=True)
class _Idle:
    """An open image that is not being read; `kind` is its overview number (None: full resolution) and its roots."""

    path: str
    kind: _Kind
    mark: _Mark
    image: DatasetReader

    @property
    def held_bytes(self) -> int:
        """Estimated memory of the image."""
        return held_bytes_of(self.image.width * self.image.height)


class OpenImages:
    """Pool of idle open images, least recently used first. Each image is read by one thread at a time.

    A file that was replaced, changed or removed is reopened. Images in object stores are opened and closed each time.
    The number of idle images and their memory are limited.
    """

    def __init__(self, most: int = MOST, held_bytes: int = HELD_BYTES) -> None:
        self._most, self._held_bytes = most, held_bytes
        self._lock = threading.Lock()
        self._idle: OrderedDict[int, _Idle] = OrderedDict()
        self._by_path: dict[str, list[int]] = {}
        self._number = 0

    @contextmanager
    def opened(self, path: str, level: int | None = None, roots: Roots | None = None) -> Iterator[DatasetReader]:
        """Open an image, or one of its overviews, for use by this thread only.

        Raises the errors of `open_raster`. An error inside the context closes the image.
        """
        mark, kind = _Mark.of(path), (level, roots)
        image = self._take(path, kind, mark) or open_raster(path, level, roots)
        try:
            yield image
        except BaseException:
            image.close()
            raise
        # In object stores (no mark), and for a file just written, a change could go unnoticed.
        if mark is None or not mark.is_settled():
            image.close()
        else:
            self._put(_Idle(path, kind, mark, image))

    def forget(self, path: str) -> None:
        """Close a file's idle images, so that deleting the file frees its space."""
        with self._lock:
            images = [self._idle.pop(number).image for number in self._by_path.pop(path, [])]
        _close(images)

    def close(self) -> None:
        """Close all idle images."""
        with self._lock:
            images = [idle.image for idle in self._idle.values()]
            self._idle.clear()
            self._by_path.clear()
        _close(images)

    def __len__(self) -> int:
        return len(self._idle)

    def _take(self, path: str, kind: _Kind, mark: _Mark | None) -> DatasetReader | None:
        """Take an idle image of this file; images of a file since replaced are closed."""
        with self._lock:
            stale = []
            image = None
            for number in self._by_path.pop(path, []):
                idle = self._idle[number]
                # Take one image only; other readers may need its overviews and further copies.
                if idle.mark == mark and (image is not None or idle.kind != kind):
                    self._by_path.setdefault(path, []).append(number)
                    continue
                del self._idle[number]
                if idle.mark == mark:
                    image = idle.image
                else:
                    stale.append(idle.image)
        _close(stale)
        return image

    def _put(self, idle: _Idle) -> None:
        with self._lock:
            self._number += 1
            self._idle[self._number] = idle
            self._by_path.setdefault(idle.path, []).append(self._number)
            dropped = []
            held = sum(each.held_bytes for each in self._idle.values())
            while len(self._idle) > self._most or held > self._held_bytes:
                oldest = self._drop_oldest()
                held -= oldest.held_bytes
                dropped.append(oldest.image)
        _close(dropped)

    def _drop_oldest(self) -> _Idle:
        number, idle = self._idle.popitem(last=False)
        numbers = self._by_path[idle.path]
        numbers.remove(number)
        if not numbers:
            del self._by_path[idle.path]
        return idle


def _close(images: Iterable[DatasetReader]) -> None:
    for image in images:
        image.close()


_images = OpenImages()
_inherited: list[OpenImages] = []  # kept, so that the child never closes its parent's images


def open_image(
    path: str, level: int | None = None, roots: Roots | None = None
) -> AbstractContextManager[DatasetReader]:
    """Open an image, or one of its overviews, from this process's pool; see `OpenImages.opened`."""
    return _images.opened(path, level, roots)


def forget_image(path: str) -> None:
    """Close this process's idle images of a file that is about to be deleted."""
    _images.forget(path)


def close_idle_images() -> None:
    """Close all idle images of this process, to free their memory."""
    _images.close()


def _replace_pool() -> None:
    """Give a forked child its own pool: the file offsets of inherited images are shared with the parent."""
    global _images
    _inherited.append(_images)
    _images = OpenImages()


os.register_at_fork(after_in_child=_replace_pool)
atexit.register(lambda: _images.close())
