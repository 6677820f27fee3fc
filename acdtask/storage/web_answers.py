"""Replies of web servers: decompressed bodies, and fingerprints of the files."""

from __future__ import annotations

import re
import time
import zlib
from collections.abc import Callable, Iterator

from acdtask.errors import AcdError, ErrorCode
from acdtask.hosts import host_of
from acdtask.http import Reply
from acdtask.storage.traffic import count_object_read
from acdtask.storage.web_address import without_query
from acdtask.storage.web_request import PARTIAL, UNSATISFIABLE

__all__ = ["CONTENT_RANGE", "body", "encoding_of", "is_page", "mark_of", "page_error", "within_bounds"]

PIECE_BYTES = 1024 * 1024

MOST_BYTES = 32 * 1024**3
"""Maximum size of a file: twice the largest raster in the widest data type."""

SLOWEST, PATIENCE_SECONDS = 1024, 60.0
"""Slowest acceptable rate in bytes per second, checked after PATIENCE_SECONDS."""

CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)")
PAGE = re.compile(rb"(?:\xef\xbb\xbf)?\s*<(?:!doctype\s+html|html)\b", re.IGNORECASE)
PAGE_TYPES = ("text/html", "application/xhtml")


def body(reply: Reply, address: str) -> Iterator[bytes]:
    """Iterate over the decompressed body of a reply in pieces. WEB_PAGE, WEB_UNREACHABLE."""
    decompress = _decompressor(reply, address)
    began, received, is_first = time.monotonic(), 0, True
    for packed in reply.pieces(PIECE_BYTES):
        received += len(packed)
        count_object_read(len(packed))
        seconds = time.monotonic() - began
        if seconds > PATIENCE_SECONDS and received < SLOWEST * seconds:
            raise AcdError(ErrorCode.WEB_UNREACHABLE, f"the server sends {address} too slowly")
        for piece in decompress(packed):
            if is_first and (is_page(reply) or PAGE.match(piece)):
                raise page_error(reply, address)
            is_first = False
            yield piece


def _decompressor(reply: Reply, address: str) -> Callable[[bytes], Iterator[bytes]]:
    """Create a function that decompresses a piece of the body in steps of limited size."""
    encoding = encoding_of(reply)
    if not encoding:
        return lambda packed: iter((packed,))
    if encoding not in ("gzip", "x-gzip", "deflate"):
        raise AcdError(
            ErrorCode.INPUT_UNREADABLE,
            f"the server sends {address} with the unsupported encoding {encoding[:40]!r}",
            "Download the file, and pass its folder as --source.",
        )
    state = zlib.decompressobj(zlib.MAX_WBITS | 32)

    def decompress(packed: bytes) -> Iterator[bytes]:
        try:
            while packed and not state.eof:
                piece = state.decompress(packed, PIECE_BYTES)
                packed = state.unconsumed_tail
                if piece:
                    yield piece
        except zlib.error:
            detail = f"the server sends {address} as {encoding}, but its data are not valid {encoding}"
            raise AcdError(ErrorCode.INPUT_UNREADABLE, detail) from None

    return decompress


def encoding_of(reply: Reply) -> str:
    """Content-Encoding of a reply; empty if uncompressed."""
    encoding = reply.header("Content-Encoding").strip().lower()
    return "" if encoding == "identity" else encoding


def mark_of(reply: Reply, address: str) -> str:
    """Fingerprint of a file from the reply's headers; empty if they do not identify its version."""
    if reply.status == UNSATISFIABLE:
        raise AcdError(ErrorCode.INPUT_UNREADABLE, f"{address} is empty")
    if is_page(reply):
        raise page_error(reply, address)
    if tag := reply.header("ETag").strip():
        return tag.removeprefix("W/")
    modified = reply.header("Last-Modified").strip()
    span = CONTENT_RANGE.fullmatch(reply.header("Content-Range").strip())
    size = span[3] if reply.status == PARTIAL and span else reply.header("Content-Length").strip()
    return f"{size} {modified}" if size and modified and not encoding_of(reply) else ""


def is_page(reply: Reply) -> bool:
    """Whether a reply's headers declare a web page."""
    return reply.header("Content-Type").strip().lower().startswith(PAGE_TYPES)


def page_error(reply: Reply, address: str) -> AcdError:
    """Make a WEB_PAGE error that names the server."""
    server = reply.host if reply.host != host_of(address) else "the server"
    return AcdError(ErrorCode.WEB_PAGE, f"{server} sends a web page instead of {without_query(address)}")


def within_bounds(size: int, address: str) -> int:
    """Return the size of a file; INPUT_TOO_LARGE if it exceeds the limit."""
    if size > MOST_BYTES:
        raise AcdError(ErrorCode.INPUT_TOO_LARGE, f"{address} is larger than {MOST_BYTES:,} bytes")
    return size
