"""Checksums of documents: every JSON object that acd reads back ends with the CRC-32C of the rest.

The checksum is the object's last member, `"crc32c"`, so any JSON reader can still open the document. A document without
that member is refused, since a flipped bit in the member's name must not turn the check off.
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
    """A JSON object with its checksum as the last member; the object ends with its brace.

    >>> seal(b'{"a": 1}')
    b'{"a": 1, "crc32c": "efa86ef0"}'
    """
    members = body[:-1]
    comma = b"" if members.strip() == b"{" else b", "
    return b'%s%s"crc32c": "%08x"}' % (members, comma, google_crc32c.value(members))


def is_sealed(data: bytes) -> bool:
    """Whether a document is what `seal` made.

    >>> is_sealed(seal(b'{"a": 1}')), is_sealed(b'{"a": 1}')
    (True, False)
    """
    try:
        unseal(data, "")
    except AcdError:
        return False
    return True


def unseal(data: bytes, where: str, code: ErrorCode = ErrorCode.CUBE_DAMAGED, fix: str | None = None) -> bytes:
    """The JSON object that `seal` was given, without its checksum.

    Args:
        data: the sealed document.
        where: its address, for the error.
        code: the error to raise if the checksum is missing or wrong.
        fix: what its reader should do, if there is something better than the fix of the code.

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
    """The model in a sealed document. Raises `code` if the document is damaged."""
    try:
        return kind.model_validate_json(unseal(data, where, code, fix))
    except ValidationError as error:
        raise AcdError(code, f"{where} is damaged: it does not hold a {kind.__name__.lstrip('_')}", fix) from error
