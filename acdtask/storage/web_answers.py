"""Answers of a web server: their bodies, unpacked, and the fingerprint of the file that they are of."""

from __future__ import annotations

import re
import time
import zlib
from collections.abc import Callable, Iterator

from acdtask.errors import AcdError, ErrorCode
from acdtask.http import Reply, host_of
from acdtask.storage.traffic import count_object_read
from acdtask.storage.web_address import without_query
from acdtask.storage.web_request import PARTIAL, UNSATISFIABLE

__all__ = ["CONTENT_RANGE", "body", "encoding_of", "is_page", "mark_of", "page_error", "within_bounds"]

PIECE_BYTES = 1024 * 1024

MOST_BYTES = 32 * 1024**3
"""Of a file: as many as the most pixels of a raster have, in the widest type, and some more."""

SLOWEST, PATIENCE_SECONDS = 1024, 60.0
"""Bytes in a second below which a server counts as one that does not answer, after some time."""

CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)")
PAGE = re.compile(rb"(?:\xef\xbb\xbf)?\s*<(?:!doctype\s+html|html)\b", re.IGNORECASE)
PAGE_TYPES = ("text/html", "application/xhtml")


def body(answer: Reply, address: str) -> Iterator[bytes]:
    """The bytes of an answer, unpacked, some at a time. WEB_PAGE, WEB_UNREACHABLE."""
    unpack = _unpacker(answer, address)
    began, received, is_first = time.monotonic(), 0, True
    for packed in answer.pieces(PIECE_BYTES):
        received += len(packed)
        count_object_read(len(packed))
        seconds = time.monotonic() - began
        if seconds > PATIENCE_SECONDS and received < SLOWEST * seconds:
            raise AcdError(ErrorCode.WEB_UNREACHABLE, f"{address} is sent too slowly")
        for piece in unpack(packed):
            if is_first and (is_page(answer) or PAGE.match(piece)):
                raise page_error(answer, address)
            is_first = False
            yield piece


def _unpacker(answer: Reply, address: str) -> Callable[[bytes], Iterator[bytes]]:
    """How the pieces of a body are unpacked; a small one may become a large one, so bit by bit."""
    encoding = encoding_of(answer)
    if not encoding:
        return lambda packed: iter((packed,))
    if encoding not in ("gzip", "x-gzip", "deflate"):
        raise AcdError(
            ErrorCode.INPUT_UNREADABLE,
            f"{address} is sent as {encoding[:40]!r}, which was not asked for",
            "Download the file, and give its folder as --source.",
        )
    state = zlib.decompressobj(zlib.MAX_WBITS | 32)

    def unpack(packed: bytes) -> Iterator[bytes]:
        try:
            while packed and not state.eof:
                piece = state.decompress(packed, PIECE_BYTES)
                packed = state.unconsumed_tail
                if piece:
                    yield piece
        except zlib.error:
            raise AcdError(ErrorCode.INPUT_UNREADABLE, f"{address} is sent as {encoding}, and is none") from None

    return unpack


def encoding_of(answer: Reply) -> str:
    """The Content-Encoding; empty for plain bytes."""
    encoding = answer.header("Content-Encoding").strip().lower()
    return "" if encoding == "identity" else encoding


def mark_of(answer: Reply, address: str) -> str:
    """The fingerprint by the headers; empty if they do not say anything that changes with the file."""
    if answer.status == UNSATISFIABLE:
        raise AcdError(ErrorCode.INPUT_UNREADABLE, f"{address} has no bytes")
    if is_page(answer):
        raise page_error(answer, address)
    if tag := answer.header("ETag").strip():
        return tag.removeprefix("W/")
    modified = answer.header("Last-Modified").strip()
    span = CONTENT_RANGE.fullmatch(answer.header("Content-Range").strip())
    size = span[3] if answer.status == PARTIAL and span else answer.header("Content-Length").strip()
    return f"{size} {modified}" if size and modified and not encoding_of(answer) else ""


def is_page(answer: Reply) -> bool:
    """Whether the answer says that it is a web page."""
    return answer.header("Content-Type").strip().lower().startswith(PAGE_TYPES)


def page_error(answer: Reply, address: str) -> AcdError:
    """WEB_PAGE, naming the server."""
    by = f" {answer.host} gives" if answer.host != host_of(address) else " its server gives"
    return AcdError(ErrorCode.WEB_PAGE, f"in place of {without_query(address)}{by} a web page")


def within_bounds(size: int, address: str) -> int:
    """The size of a file; INPUT_TOO_LARGE if it is too large."""
    if size > MOST_BYTES:
        raise AcdError(ErrorCode.INPUT_TOO_LARGE, f"{address} has more than {MOST_BYTES:,} bytes")
    return size
