"""A command that may write files of a limited size only, as on a disk with a quota."""

from __future__ import annotations

import sys

__all__ = ["with_file_size"]

LIMIT = """
import os, resource, sys
most = int(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
os.execv(sys.argv[2], sys.argv[2:])
"""


def with_file_size(most: int, *command: str) -> list[str]:
    """The command, with a limit in bytes. It is not set in between fork and exec: gRPC's threads are there too."""
    return [sys.executable, "-c", LIMIT, str(most), *command]
