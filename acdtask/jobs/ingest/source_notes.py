"""Notes and sentences about the files of a source that are not ingested."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from acdtask.jobs.ingest.sources import SourceRasters

__all__ = ["source_lines", "source_notes"]

UNMATCHED, NAMES, SKIPPED = "excluded, name does not match", "first excluded names", "skipped"
SHOWN = 3


def source_notes(rasters: SourceRasters) -> dict[str, Any]:
    """Notes of a plan: number of names that do not match, the first of them, and other skipped files.

    >>> source_notes(SourceRasters([], ("a.tif", "b.tif", "c.tif", "d.tif"), {"hidden": 2}))
    {'excluded, name does not match': 4, 'first excluded names': 'a.tif, b.tif, c.tif', 'skipped': '2 hidden'}
    """
    notes: dict[str, Any] = {UNMATCHED: len(rasters.unmatched)}
    if rasters.unmatched:
        notes[NAMES] = ", ".join(rasters.unmatched[:SHOWN])
    if rasters.skipped:
        notes[SKIPPED] = ", ".join(f"{count} {kind}" for kind, count in rasters.skipped.items())
    return notes


def source_lines(notes: Mapping[str, Any]) -> list[str]:
    """Sentences for the user about excluded and skipped files.

    >>> source_lines({"excluded, name does not match": 1, "first excluded names": "dem.tif", "skipped": "2 hidden"})
    ['excluded: 1 file whose name does not match the pattern (dem.tif)', 'skipped: 2 hidden']
    """
    lines = []
    if count := notes.get(UNMATCHED):
        names = f"{notes[NAMES]}, ..." if count > SHOWN else notes[NAMES]
        files = "file whose name does" if count == 1 else "files whose names do"
        lines.append(f"excluded: {count} {files} not match the pattern ({names})")
    if notes.get(SKIPPED):
        lines.append(f"skipped: {notes[SKIPPED]}")
    return lines
