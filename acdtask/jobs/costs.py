"""What units of work cost on one core, and their memory: measured on the demo, held to it by benchmarks.estimates."""

from __future__ import annotations

from dataclasses import dataclass

from acdtask.raster.open_images import HELD_BYTES, held_bytes_of

__all__ = ["BASELINE", "CONSOLIDATE", "INGEST", "MONITOR", "REPORT", "Cost"]

PROCESS_BYTES = 256 << 20
"""A process with the libraries and the plan, before it works."""


@dataclass(frozen=True)
class Cost:
    """What a job takes for a unit, such as a tile, and for the parts of it, such as its images.

    Attributes:
        unit_seconds: for a unit, whatever its size.
        part_seconds: for a part, whatever its size: to open a file, to write one.
        byte_seconds: for a byte of pixels.
        pixel_bytes: memory for a pixel of the largest unit or part, beyond the process.
    """

    unit_seconds: float = 0.0
    part_seconds: float = 0.0
    byte_seconds: float = 0.0
    pixel_bytes: int = 0

    def seconds(self, parts: int, part_bytes: int) -> float:
        """What a unit is expected to take, whose parts have so many bytes of pixels each.

        >>> Cost(unit_seconds=1, part_seconds=0.5, byte_seconds=0.001).seconds(parts=2, part_bytes=1000)
        4.0
        """
        return self.unit_seconds + parts * (self.part_seconds + part_bytes * self.byte_seconds)

    def memory(self, pixels: int, files: int, file_pixels: int, held: int = 0) -> int:
        """The most bytes that a process holds at once.

        Args:
            pixels: of the largest unit or part that is in memory as a whole.
            files: how many rasters are opened; some of them stay open.
            file_pixels: what is read of the largest of them.
            held: what a shard collects until it ends.
        """
        opened = min(HELD_BYTES, files * held_bytes_of(file_pixels))
        return PROCESS_BYTES + pixels * self.pixel_bytes + opened + held


INGEST = Cost(unit_seconds=0.014, byte_seconds=4.5e-8, pixel_bytes=32)
"""A unit and part is a file, and is read twice. Its pixels are in memory as a whole, with those to write."""
CONSOLIDATE = Cost(part_seconds=0.0019, byte_seconds=4.9e-9, pixel_bytes=160)
"""A unit is a cell, a part an image of it."""
BASELINE = Cost(unit_seconds=0.03, byte_seconds=5.5e-9, pixel_bytes=160)
"""A unit is a tile, a part an image of it."""
MONITOR = Cost(part_seconds=0.027, byte_seconds=6.8e-8, pixel_bytes=160)
"""A unit is a tile, a part an image of it, in all rounds."""
REPORT = Cost(unit_seconds=0.1, byte_seconds=4.4e-7, pixel_bytes=160)
"""A unit and part is an image with its pictures. A byte is a pixel as it is drawn; one that is only read is a third."""
