"""What is kept, by age and by number."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from itertools import pairwise

from pydantic import BaseModel, ConfigDict, Field

from acdtask.errors import AcdError, ErrorCode
from acdtask.storage.listing import Entry

__all__ = ["SAFE_DAYS", "Retention", "superseded"]

SAFE_DAYS = 2
"""A workflow ends after a day, and what a job has written is named when it ends."""


class Retention(BaseModel):
    """What stays although nothing names it, or something newer has replaced it.

    Attributes:
        keep_days: whatever is younger stays.
        keep_runs: finished runs of each AOI and job.
        keep_versions: versions of each manifest, and reports of each AOI.
        keep_heads: heads of the index.
    """

    model_config = ConfigDict(frozen=True)

    keep_days: float = Field(default=14, ge=0, allow_inf_nan=False)
    keep_runs: int = Field(default=10, ge=1)
    keep_versions: int = Field(default=3, ge=1)
    keep_heads: int = Field(default=10, ge=1)

    def cutoff(self, now: datetime) -> datetime:
        """What was modified later stays."""
        return now - timedelta(days=self.keep_days)

    def require_safe(self) -> None:
        """RETENTION_TOO_SHORT if a running job might lose what it needs."""
        if self.keep_days < SAFE_DAYS:
            raise AcdError(
                ErrorCode.RETENTION_TOO_SHORT,
                f"--keep-days {self.keep_days:g} could delete what a running job has just written",
            )


def superseded(versions: Iterable[tuple[int, Entry]], keep: int, cutoff: datetime) -> list[Entry]:
    """The versions that may go, oldest first, without a gap between them.

    The newest ones stay, and each that was the newest at some time after the cutoff: a reader may still have it.

    Args:
        versions: number and object of each.
        keep: how many newest ones stay.
        cutoff: from `Retention.cutoff`.
    """
    ordered = [entry for _, entry in sorted(versions, key=lambda version: version[0])]
    going = []
    for entry, successor in pairwise(ordered[: len(ordered) - keep + 1]):
        if successor.modified > cutoff:
            break
        going.append(entry)
    return going
