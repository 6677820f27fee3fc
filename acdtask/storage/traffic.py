"""What this process has read and written so far: numbers for people and dashboards, never for decisions."""

from __future__ import annotations

import threading
from dataclasses import dataclass

__all__ = ["Traffic", "count_object_read", "count_pixels_read", "count_written", "traffic_so_far"]


@dataclass(frozen=True)
class Traffic:
    """Bytes that a process has moved.

    Attributes:
        pixel_bytes_read: pixels read out of rasters and Zarr arrays, as they are in memory. GDAL does not tell how many
            compressed bytes it fetched for them.
        object_bytes_read: objects, or ranges of them, fetched whole by Store and for Zarr, as they are stored; what
            GDAL fetches is not among them.
        bytes_written: objects that the storage has accepted, as they are stored. What was written again counts again.
    """

    pixel_bytes_read: int = 0
    object_bytes_read: int = 0
    bytes_written: int = 0

    def __sub__(self, earlier: Traffic) -> Traffic:
        return Traffic(
            self.pixel_bytes_read - earlier.pixel_bytes_read,
            self.object_bytes_read - earlier.object_bytes_read,
            self.bytes_written - earlier.bytes_written,
        )

    def __add__(self, more: Traffic) -> Traffic:
        return Traffic(
            self.pixel_bytes_read + more.pixel_bytes_read,
            self.object_bytes_read + more.object_bytes_read,
            self.bytes_written + more.bytes_written,
        )


_so_far = Traffic()
_lock = threading.Lock()


def traffic_so_far() -> Traffic:
    """Since the process began; the difference of two is what happened between."""
    return _so_far


def count_pixels_read(size: int) -> None:
    """Add the bytes of an array of pixels that was read."""
    _count(Traffic(pixel_bytes_read=size))


def count_object_read(size: int) -> None:
    """Add the bytes of an object that was read."""
    _count(Traffic(object_bytes_read=size))


def count_written(size: int) -> None:
    """Add the bytes of an object that was written."""
    _count(Traffic(bytes_written=size))


def _count(more: Traffic) -> None:
    global _so_far  # it is of the process, as its memory and its time are
    with _lock:
        _so_far += more
