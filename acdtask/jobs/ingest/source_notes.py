"""What a plan and its user are told of the files of a source that were not taken."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from acdtask.jobs.ingest.sources import Found

__all__ = ["source_lines", "source_notes"]

UNMATCHED, NAMES, PASSED_OVER = "left out, name does not match", "first names left out", "passed over"
SHOWN = 3


def source_notes(found: Found) -> dict[str, Any]:
    """The notes of a plan: how many names do not match, the first of them, and what else was passed over.

    >>> source_notes(Found([], ("a.tif", "b.tif", "c.tif", "d.tif"), {"hidden": 2}))
    {'left out, name does not match': 4, 'first names left out': 'a.tif, b.tif, c.tif', 'passed over': '2 hidden'}
    """
    notes: dict[str, Any] = {UNMATCHED: len(found.unmatched)}
    if found.unmatched:
        notes[NAMES] = ", ".join(found.unmatched[:SHOWN])
    if found.passed_over:
        notes[PASSED_OVER] = ", ".join(f"{count} {what}" for what, count in found.passed_over.items())
    return notes


def source_lines(notes: Mapping[str, Any]) -> list[str]:
    """Sentences for the person who runs the job.

    >>> source_lines({"left out, name does not match": 1, "first names left out": "dem.tif", "passed over": "2 hidden"})
    ['left out: 1 file whose name does not match the pattern (dem.tif)', 'passed over: 2 hidden']
    """
    lines = []
    if count := notes.get(UNMATCHED):
        names = f"{notes[NAMES]}, ..." if count > SHOWN else notes[NAMES]
        files = "file whose name does" if count == 1 else "files whose names do"
        lines.append(f"left out: {count} {files} not match the pattern ({names})")
    if notes.get(PASSED_OVER):
        lines.append(f"passed over: {notes[PASSED_OVER]}")
    return lines
