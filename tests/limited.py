"""Commands with limits of the system: the size of files, as on a disk with a quota, and open files."""

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
    """The command, with a limit in bytes. It is not set in between fork and exec: gRPC's threads are there too."""
    return [sys.executable, "-c", LIMIT, "RLIMIT_FSIZE", str(most), *command]


def with_open_files(most: int, *command: str) -> list[str]:
    """The command, with at most so many open files."""
    return [sys.executable, "-c", LIMIT, "RLIMIT_NOFILE", str(most), *command]
