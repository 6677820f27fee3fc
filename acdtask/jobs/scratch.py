"""What the rounds of a plan leave for later ones, each under a name of its content."""

from __future__ import annotations

import hashlib

from acdtask.cube.local.store import Store
from acdtask.errors import AcdError, ErrorCode

__all__ = ["leave_scratch", "read_scratch"]

ENDING = ".npz"


def leave_scratch(scratch: Store, name: str, body: bytes) -> str:
    """Store a body under a name of its content, so that a late shard replaces nothing newer; returns its key."""
    key = f"{name}-{_digest(body)}{ENDING}"
    scratch.put(key, body)
    return key


def read_scratch(scratch: Store, key: str) -> bytes:
    """What `leave_scratch` stored. RUN_DAMAGED."""
    body = scratch.find(key)
    if body is None or not key.endswith(f"-{_digest(body)}{ENDING}"):
        raise AcdError(
            ErrorCode.RUN_DAMAGED,
            f"{scratch.address_of(key)} is {'missing' if body is None else 'damaged'}",
            f"Delete the folder {scratch.url.rpartition('/')[0]} and run the job again: it is then done anew.",
        )
    return body


def _digest(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()[:16]
