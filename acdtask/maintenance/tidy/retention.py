"""Retention rules, by age and by number."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from itertools import pairwise

from pydantic import BaseModel, ConfigDict, Field

from acdtask.errors import AcdError, ErrorCode
from acdtask.storage.listing import Entry

__all__ = ["SAFE_DAYS", "Retention", "superseded"]

SAFE_DAYS = 2
"""Workflows end within a day, and a job's files are referenced when it ends."""


class Retention(BaseModel):
    """What to keep although it is unreferenced or superseded.

    Attributes:
        keep_days: keep anything younger.
        keep_runs: number of finished runs per AOI and job.
        keep_versions: number of versions per manifest.
        keep_heads: number of heads of the index.
    """

    model_config = ConfigDict(frozen=True)

    keep_days: float = Field(default=14, ge=0, allow_inf_nan=False)
    keep_runs: int = Field(default=10, ge=1)
    keep_versions: int = Field(default=3, ge=1)
    keep_heads: int = Field(default=10, ge=1)

    def cutoff(self, now: datetime) -> datetime:
        """The time after which modified objects are kept."""
        return now - timedelta(days=self.keep_days)

    def require_safe(self) -> None:
        """Require enough days for running jobs. RETENTION_TOO_SHORT."""
        if self.keep_days < SAFE_DAYS:
            raise AcdError(
                ErrorCode.RETENTION_TOO_SHORT,
                f"--keep-days {self.keep_days:g} could delete files that a running job has just written",
            )


def superseded(versions: Iterable[tuple[int, Entry]], keep: int, cutoff: datetime) -> list[Entry]:
    """The versions to remove, oldest first and without gaps.

    The newest `keep` are kept, and any that was the newest at some time after the cutoff, since readers may still use
    it. A version is a number and its object.
    """
    ordered = [entry for _, entry in sorted(versions, key=lambda version: version[0])]
    old_versions = []
    for entry, successor in pairwise(ordered[: len(ordered) - keep + 1]):
        if successor.modified > cutoff:
            break
        old_versions.append(entry)
    return old_versions
