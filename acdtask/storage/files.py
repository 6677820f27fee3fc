"""Files that options name: small ones are read whole, within a limit; nothing hangs on a FIFO or a device."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from acdtask.errors import AcdError, ErrorCode

__all__ = ["SMALL_FILE_BYTES", "read_small_file", "require_regular", "write_file", "writing"]

SMALL_FILE_BYTES = 64 * 1024 * 1024
"""Largest document that is read whole: an AOI, settings, known events, a STAC document."""


def read_small_file(path: Path | str, limit: int = SMALL_FILE_BYTES) -> bytes:
    """The content of a regular file.

    Raises:
        OSError: what opening or reading it raises.
        AcdError: FILE_UNFIT if it is not a regular file (without waiting for anything) or larger than the limit.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        require_regular(os.fstat(descriptor), str(path))
        data = file.read(limit + 1)
    if len(data) > limit:
        raise AcdError(ErrorCode.FILE_UNFIT, f"{path} is larger than {limit:,} bytes")
    return data


def require_regular(status: os.stat_result, path: str) -> None:
    """FILE_UNFIT if a status is not that of a regular file; a folder raises IsADirectoryError as reading it does."""
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
    if not stat.S_ISREG(status.st_mode):
        raise AcdError(ErrorCode.FILE_UNFIT, f"{path} is a device, a pipe or a socket, not a regular file")


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn what writing a file or folder raises into DISK_FULL, STORE_DENIED or OUTPUT_UNWRITABLE."""
    try:
        yield
    except OSError as error:
        known = {errno.ENOSPC: ErrorCode.DISK_FULL, errno.EACCES: ErrorCode.STORE_DENIED}
        code = known.get(error.errno or 0, ErrorCode.OUTPUT_UNWRITABLE)
        where = error.filename or path
        raise AcdError(code, f"{where} cannot be written: {error.strerror}") from error


def write_file(path: Path, data: bytes) -> None:
    """Write a file. A FIFO that nobody reads raises OSError at once instead of waiting for a reader."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NONBLOCK | os.O_CLOEXEC, 0o666)
    os.set_blocking(descriptor, True)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
