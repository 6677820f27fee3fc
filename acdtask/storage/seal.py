"""Checksums of JSON documents: every object that acd reads back ends with the CRC-32C of the rest.

The checksum is the object's last member, `"crc32c"`, so any JSON reader can open the document. A document without it
counts as damaged: otherwise a flipped bit in the member's name would disable the check.
"""

from __future__ import annotations

import re
from typing import TypeVar

import google_crc32c
from pydantic import BaseModel, ValidationError

from acdtask.errors import AcdError, ErrorCode

__all__ = ["is_sealed", "parse_sealed", "seal", "unseal"]

ModelT = TypeVar("ModelT", bound=BaseModel)

_MEMBER = re.compile(rb'(?:, )?"crc32c": "([0-9a-f]{8})"}')
_MEMBER_BYTES = len(b', "crc32c": "00000000"}')


def seal(body: bytes) -> bytes:
    """Add its checksum to a JSON object as the last member. The text must end with the object's brace.

    >>> seal(b'{"a": 1}')
    b'{"a": 1, "crc32c": "efa86ef0"}'
    """
    members = body[:-1]
    comma = b"" if members.strip() == b"{" else b", "
    return b'%s%s"crc32c": "%08x"}' % (members, comma, google_crc32c.value(members))


def is_sealed(data: bytes) -> bool:
    """Whether a document has a valid checksum.

    >>> is_sealed(seal(b'{"a": 1}')), is_sealed(b'{"a": 1}')
    (True, False)
    """
    try:
        unseal(data, "")
    except AcdError:
        return False
    return True


def unseal(data: bytes, where: str, code: ErrorCode = ErrorCode.CUBE_DAMAGED, fix: str | None = None) -> bytes:
    """Verify a sealed document and return it without its checksum.

    If that is missing or wrong, raises the code, naming the document by its address and with the fix, if given.

    >>> unseal(seal(b'{"a": 1}'), "a.json")
    b'{"a": 1}'
    """
    member = _MEMBER.search(data, max(len(data) - _MEMBER_BYTES, 0))
    members = data[: member.start()] if member else b""
    if member is None or member.end() != len(data) or int(member[1], 16) != google_crc32c.value(members):
        raise AcdError(code, f"{where} is damaged: its checksum is {'wrong' if member else 'missing'}", fix)
    return members + b"}"


def parse_sealed(
    kind: type[ModelT], data: bytes, where: str, code: ErrorCode = ErrorCode.CUBE_DAMAGED, fix: str | None = None
) -> ModelT:
    """Verify and parse a sealed document. Raises `code` if it is damaged."""
    try:
        return kind.model_validate_json(unseal(data, where, code, fix))
    except ValidationError as error:
        raise AcdError(code, f"{where} is damaged: it is not a valid {kind.__name__.lstrip('_')}", fix) from error
