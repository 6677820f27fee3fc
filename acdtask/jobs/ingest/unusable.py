"""Files that an ingest cannot use, and how many of them it tolerates (docs/decisions/0047)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from acdtask.cube.model import Record
from acdtask.errors import AcdError, ErrorCode
from acdtask.jobs.quarantine import Failure

__all__ = ["Unusable", "exceeds_half", "require_few"]

NAMED_AT_MOST = 10
_CHANGED = ErrorCode.INPUT_CHANGED.value.number


@dataclass(frozen=True)
class Unusable:
    """A file that cannot be used, and why.

    The record is None if the file's name or item does not say what it is, and has no footprint if its header cannot be
    read.
    """

    address: str
    record: Record | None
    error: AcdError


def exceeds_half(unusable: int, files: int) -> bool:
    """Whether so many of a source's files are unusable that the cause is a setting rather than the files.

    >>> exceeds_half(1, 2), exceeds_half(2, 3), exceeds_half(1, 1)
    (False, True, True)
    """
    return 2 * unusable > files


def require_few(failures: Mapping[str, Failure], files: int, limit: int) -> None:
    """Require that few of a source's files are unusable.

    Args:
        failures: the unusable files.
        files: number of the source's files, known ones included.
        limit: how many unusable files are tolerated.

    Raises:
        AcdError: INPUT_CHANGED if a file changed under way; the error of the first file, if more than half are
            unusable; UNUSABLE_FILES if more than `limit` are.
    """
    changed = {key: failure for key, failure in failures.items() if failure.number == _CHANGED}
    if changed:
        fix = next(iter(changed.values())).fix
        raise AcdError(ErrorCode.INPUT_CHANGED, "; ".join(failure.message for failure in changed.values()), fix)
    count = len(failures)
    if count and exceeds_half(count, files):
        error = next(iter(failures.values())).as_error()
        if count == 1:
            raise error
        raise AcdError(error.code, f"{count} files cannot be used: {_named(failures)}", error.fix)
    if count > limit:
        raise AcdError(
            ErrorCode.UNUSABLE_FILES,
            f"{count} of {files} files cannot be used, and --unusable-files allows {limit}: {_named(failures)}",
            f"Correct or remove the named files, or go on without them with --unusable-files {count}.",
        )


def _named(failures: Mapping[str, Failure]) -> str:
    """The failures as text, up to NAMED_AT_MOST."""
    more = f"; and {len(failures) - NAMED_AT_MOST} more" if len(failures) > NAMED_AT_MOST else ""
    return "; ".join(str(failure) for failure in list(failures.values())[:NAMED_AT_MOST]) + more
