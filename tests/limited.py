"""Commands with system limits: file size, as on a disk with a quota, and number of open files."""

from __future__ import annotations

import sys

__all__ = ["with_file_size", "with_open_files"]

LIMIT = """
import os, resource, sys
most = int(sys.argv[2])
resource.setrlimit(getattr(resource, sys.argv[1]), (most, most))
os.execv(sys.argv[3], sys.argv[3:])
"""


def with_file_size(most: int, *command: str) -> list[str]:
    """Limit a command's file size in bytes. A preexec function would be unsafe beside gRPC's threads."""
    return [sys.executable, "-c", LIMIT, "RLIMIT_FSIZE", str(most), *command]


def with_open_files(most: int, *command: str) -> list[str]:
    """Limit a command's number of open files."""
    return [sys.executable, "-c", LIMIT, "RLIMIT_NOFILE", str(most), *command]
