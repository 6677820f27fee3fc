"""Pixel counts of an ingest: all, valid, and exactly zero."""

from __future__ import annotations

from pydantic import BaseModel

from acdtask.jobs.contract import PlanHead, Site

__all__ = ["PixelCounts", "pixel_notes", "store_counts"]

FILE = "pixels.json"


class PixelCounts(BaseModel):
    """Totals over a plan's files: pixels, valid pixels, and valid pixels of float files that are exactly 0."""

    pixels: int = 0
    valid: int = 0
    zeros: int = 0


def store_counts(counts: PixelCounts, plan: PlanHead, site: Site) -> None:
    """Store the counts with the plan."""
    site.scratch(plan).put(FILE, counts.model_dump_json().encode())


def pixel_notes(plan: PlanHead, site: Site) -> list[str]:
    """Sentences about a gathered plan's pixels, for the user."""
    body = site.scratch(plan).find(FILE)
    counts = PixelCounts.model_validate_json(body) if body else PixelCounts()
    if not counts.pixels:
        return []
    share = 100 * counts.valid / counts.pixels
    notes = [f"valid pixels: {counts.valid:,} of {counts.pixels:,} ({share:.1f} %)"]
    if counts.zeros:
        notes.append(
            f"{counts.zeros:,} pixels are exactly 0 and count as values; if they mean nodata, ingest again with "
            "--source-nodata 0 --on-known replace"
        )
    return notes
