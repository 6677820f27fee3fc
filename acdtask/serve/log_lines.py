"""Lines of job logs in Geocube's format."""

from __future__ import annotations

from datetime import UTC, datetime
from enum import Enum

__all__ = ["Severity", "line"]


class Severity(Enum):
    """Severity of a line."""

    DEBUG = "DEBUG"
    INFO = "INFO"
    WARN = "WARN"
    ERROR = "ERROR"


def line(moment: datetime, severity: Severity, state: str, message: str) -> str:
    """Format a line of a job log.

    >>> line(datetime(2026, 11, 23, 3, 29, 43, 600000, UTC), Severity.INFO, "NEW", "Create")
    '2026-11-23T03:29:43.6Z - INFO | Status: NEW - Message: Create'
    """
    second = moment.astimezone(UTC)
    fraction = f".{second.microsecond:06d}".rstrip("0").rstrip(".")
    stamp = second.strftime("%Y-%m-%dT%H:%M:%S")
    return f"{stamp}{fraction}Z - {severity.value} | Status: {state} - Message: {message}"
