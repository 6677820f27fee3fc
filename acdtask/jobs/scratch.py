"""Data that rounds of a plan leave for later rounds, under keys that contain a digest of it."""

from __future__ import annotations

import hashlib
from typing import TypeVar

from pydantic import BaseModel

from acdtask.errors import AcdError, ErrorCode
from acdtask.jobs.codec import decode, encode
from acdtask.storage.store import Store

__all__ = ["leave_scratch", "read_scratch"]

ENDING = ".zip"

ModelT = TypeVar("ModelT", bound=BaseModel)


def leave_scratch(scratch: Store, name: str, value: BaseModel) -> str:
    """Store a value and return its key. The key contains a digest, so a late duplicate replaces nothing newer."""
    body = encode(value, type(value))
    key = f"{name}-{_digest(body)}{ENDING}"
    scratch.put(key, body)
    return key


def read_scratch(scratch: Store, key: str, kind: type[ModelT]) -> ModelT:
    """Read a value stored by `leave_scratch`. RUN_DAMAGED."""
    body = scratch.find(key)
    if body is None or not key.endswith(f"-{_digest(body)}{ENDING}"):
        raise AcdError(
            ErrorCode.RUN_DAMAGED,
            f"{scratch.address_of(key)} is {'missing' if body is None else 'damaged'}",
            f"Delete the folder {scratch.url.rpartition('/')[0]} and run the job again; it then starts over.",
        )
    return decode(body, kind)


def _digest(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()[:16]
