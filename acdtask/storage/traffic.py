"""Counts the bytes read and written by this process, for people and dashboards, never for decisions."""

from __future__ import annotations

import threading
from dataclasses import dataclass

__all__ = ["Traffic", "count_object_read", "count_pixels_read", "count_written", "traffic_so_far"]


@dataclass(frozen=True)
class Traffic:
    """Bytes read and written by a process.

    Attributes:
        pixel_bytes_read: pixels read from rasters and Zarr arrays, decoded. GDAL does not report the compressed bytes.
        object_bytes_read: objects, or ranges of them, read by Store and by Zarr, as stored. Excludes GDAL's reads.
        bytes_written: objects accepted by the storage, as stored; rewritten objects count again.
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
    """Traffic since the process started; subtract two values to get the traffic in between."""
    return _so_far


def count_pixels_read(size: int) -> None:
    """Add the bytes of a pixel array that was read."""
    _count(Traffic(pixel_bytes_read=size))


def count_object_read(size: int) -> None:
    """Add the bytes of an object that was read."""
    _count(Traffic(object_bytes_read=size))


def count_written(size: int) -> None:
    """Add the bytes of an object that was written."""
    _count(Traffic(bytes_written=size))


def _count(more: Traffic) -> None:
    global _so_far  # counted per process
    with _lock:
        _so_far += more
