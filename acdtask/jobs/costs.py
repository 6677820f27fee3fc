"""Time and memory per unit of work on one core, measured on the demo and checked by benchmarks.estimates."""

from __future__ import annotations

from dataclasses import dataclass

from acdtask.raster.open_images import HELD_BYTES, held_bytes_of

__all__ = ["BASELINE", "CONSOLIDATE", "FUSE", "INGEST", "JUDGE", "MONITOR", "REPORT", "Cost"]

PROCESS_BYTES = 256 << 20
"""Memory of a process with libraries and plan before it does any work."""


@dataclass(frozen=True)
class Cost:
    """Cost of a job per unit, such as a tile, and per part of it, such as an image.

    Attributes:
        unit_seconds: seconds per unit, whatever its size.
        part_seconds: seconds per part, whatever its size, such as for opening or writing a file.
        byte_seconds: seconds per byte of pixels.
        pixel_bytes: memory per pixel of the largest unit or part, in addition to the process.
    """

    unit_seconds: float = 0.0
    part_seconds: float = 0.0
    byte_seconds: float = 0.0
    pixel_bytes: int = 0

    def seconds(self, parts: int, part_bytes: int) -> float:
        """Expected seconds for a unit with a number of parts, each with `part_bytes` bytes of pixels.

        >>> Cost(unit_seconds=1, part_seconds=0.5, byte_seconds=0.001).seconds(parts=2, part_bytes=1000)
        4.0
        """
        return self.unit_seconds + parts * (self.part_seconds + part_bytes * self.byte_seconds)

    def memory(self, pixels: int, files: int, file_pixels: int, held: int = 0) -> int:
        """Peak memory of a process in bytes.

        Args:
            pixels: number of pixels of the largest unit or part that is held in memory.
            files: number of rasters that are opened; some stay open.
            file_pixels: number of pixels read of the largest raster.
            held: bytes that a shard accumulates until it ends.
        """
        opened = min(HELD_BYTES, files * held_bytes_of(file_pixels))
        return PROCESS_BYTES + pixels * self.pixel_bytes + opened + held


INGEST = Cost(unit_seconds=0.014, byte_seconds=4.5e-8, pixel_bytes=32)
"""Unit and part are a file, which is read twice. Its pixels and those to write are in memory as a whole."""
CONSOLIDATE = Cost(part_seconds=0.0019, byte_seconds=4.9e-9, pixel_bytes=160)
"""A unit is a cell, a part is an image of it."""
BASELINE = Cost(unit_seconds=0.03, byte_seconds=5.5e-9, pixel_bytes=160)
"""A unit is a tile, a part is an image of it."""
MONITOR = Cost(part_seconds=0.027, byte_seconds=6.8e-8, pixel_bytes=160)
"""A unit is a tile, a part is an image of it; for all rounds together."""
JUDGE = Cost(part_seconds=0.004, byte_seconds=1e-8)
"""A unit is a tile with candidates, a part is an image of the baseline; in addition to MONITOR."""
REPORT = Cost(unit_seconds=0.1, byte_seconds=4.4e-7, pixel_bytes=160)
"""Unit and part are an image with its pictures. A byte is a drawn pixel; a pixel that is only read counts a third."""
FUSE = Cost(unit_seconds=0.1, part_seconds=0.05, byte_seconds=4e-8)
"""A unit is a window, a part is an image of it; a byte is a pixel of its masks."""
