"""Parts of a growing product: immutable objects, one per month, named by a digest of their bytes."""

from __future__ import annotations

import datetime as dt
import hashlib
import re

from acdtask.errors import AcdError, ErrorCode
from acdtask.storage.store import Store

__all__ = ["digest_in", "month_of", "read_part", "write_part"]

_DIGEST = re.compile(r"-([0-9a-f]{32})\.[a-z]+$")


def month_of(datetime: dt.datetime) -> str:
    """The month of a datetime, in UTC.

    >>> month_of(dt.datetime.fromisoformat("2018-07-31T23:30:00-01:00"))
    '2018-08'
    """
    return f"{datetime.astimezone(dt.UTC):%Y-%m}"


def write_part(store: Store, stem: str, ending: str, body: bytes) -> str:
    """Write a part and return its key `<stem>-<digest><ending>`.

    An existing part is written again, so that its age shows that it is in use.
    """
    key = f"{stem}-{_digest(body)}{ending}"
    store.put(key, body)
    return key


def read_part(store: Store, key: str) -> bytes:
    """Read a part and check it against the digest in its key. CUBE_DAMAGED."""
    body = store.get(key)
    if digest_in(key) != _digest(body):
        raise AcdError(ErrorCode.CUBE_DAMAGED, f"{store.address_of(key)} does not match the digest in its name")
    return body


def digest_in(key: str) -> str:
    """The digest in the key of a part (the first half of a SHA-256); empty for other keys.

    >>> digest_in("patches/2018-07-0123456789abcdef0123456789abcdef.parquet")
    '0123456789abcdef0123456789abcdef'
    """
    match = _DIGEST.search(key)
    return match[1] if match else ""


def _digest(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()[:32]
