"""Read and write the files of options, with a size limit and without blocking on FIFOs or devices."""

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
"""Size limit of documents that are read whole: AOIs, settings, simulated events, STAC."""


def read_small_file(path: Path | str, limit: int = SMALL_FILE_BYTES) -> bytes:
    """Read a regular file of at most `limit` bytes.

    Raises:
        OSError: the file cannot be opened or read.
        AcdError: FILE_UNFIT if it is not a regular file (detected without blocking) or is larger than the limit.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        require_regular(os.fstat(descriptor), str(path))
        data = file.read(limit + 1)
    if len(data) > limit:
        raise AcdError(ErrorCode.FILE_UNFIT, f"{path} is larger than {limit:,} bytes")
    return data


def require_regular(status: os.stat_result, path: str) -> None:
    """Raise FILE_UNFIT unless a status is that of a regular file; for a folder, IsADirectoryError as reading does."""
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
    if not stat.S_ISREG(status.st_mode):
        raise AcdError(ErrorCode.FILE_UNFIT, f"{path} is a device, a pipe or a socket, not a regular file")


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Convert errors of writing a file or folder to DISK_FULL, STORE_DENIED or OUTPUT_UNWRITABLE."""
    try:
        yield
    except OSError as error:
        codes = {errno.ENOSPC: ErrorCode.DISK_FULL, errno.EACCES: ErrorCode.STORE_DENIED}
        code = codes.get(error.errno or 0, ErrorCode.OUTPUT_UNWRITABLE)
        raise AcdError(code, f"{error.filename or path} cannot be written: {error.strerror}") from error


def write_file(path: Path, data: bytes) -> None:
    """Write a file. A FIFO without a reader raises OSError at once instead of blocking."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NONBLOCK | os.O_CLOEXEC, 0o666)
    os.set_blocking(descriptor, True)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
