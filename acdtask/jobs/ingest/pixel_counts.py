"""How many pixels an ingest has brought, and how many of them are valid."""

from __future__ import annotations

from pydantic import BaseModel

from acdtask.jobs.contract import PlanHead, Site

__all__ = ["PixelCounts", "keep_counts", "pixel_notes"]

FILE = "pixels.json"


class PixelCounts(BaseModel):
    """Of all files of a plan: pixels, valid ones, and valid ones of float files that are exactly 0."""

    pixels: int = 0
    valid: int = 0
    zeros: int = 0


def keep_counts(counts: PixelCounts, plan: PlanHead, site: Site) -> None:
    """Remember them with the plan."""
    site.scratch(plan).put(FILE, counts.model_dump_json().encode())


def pixel_notes(plan: PlanHead, site: Site) -> list[str]:
    """What the user of a gathered plan should know of its pixels."""
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
