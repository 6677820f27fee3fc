"""Reads files on the web for ingestion: fingerprints, small documents, and downloads of large files.

Used only for ingestion. Cubes are read through `Store`, which opens no web addresses.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from acdtask.errors import AcdError, ErrorCode
from acdtask.hosts import leads_inside, origin_of
from acdtask.http import Reply
from acdtask.storage.files import SMALL_FILE_BYTES, writing
from acdtask.storage.web_address import is_web
from acdtask.storage.web_answers import body, is_page, mark_of, within_bounds
from acdtask.storage.web_request import OK, UNSATISFIABLE, get, patiently

__all__ = ["BLOCK_BYTES", "Web"]

BLOCK_BYTES = 64 * 1024


@dataclass(frozen=True)
class Web:
    """Files on the web.

    Attributes:
        signed: full addresses of files that have a query, by the address without the query.
        named_by: document that lists the files, or the file itself if the user gave its address.
    """

    signed: Mapping[str, str] = field(default_factory=dict)
    named_by: str = ""

    def fingerprint(self, address: str) -> str | None:
        """Fingerprint of a file, which changes when the file does; None if it is missing. As `ask`, and WEB_PAGE."""

        def attempt() -> str | None:
            with self.ask(address, {"Range": f"bytes=0-{BLOCK_BYTES - 1}"}) as reply:
                if reply is None:
                    return None
                mark = mark_of(reply, address)
                if mark or reply.status != OK:
                    next(body(reply, address), b"")  # raises WEB_PAGE if the first bytes are HTML
                return mark or self._digest(reply, address)

        return patiently(attempt)

    def marks_beside(self, address: str, endings: Mapping[str, tuple[bytes, ...]]) -> dict[str, str]:
        """Fingerprints of a file's existing sidecar files, by ending; none for a signed address, valid for one file.

        Each ending comes with the possible first bytes of such a file: some servers send other content instead of 404.
        """
        if address in self.signed:
            return {}
        marks = {ending: self._mark_beside(address + ending, starts) for ending, starts in endings.items()}
        return {ending: mark for ending, mark in marks.items() if mark is not None}

    def find_small(self, address: str, limit: int = SMALL_FILE_BYTES) -> bytes | None:
        """Read a document; None if it is missing. As `ask`, and FILE_UNFIT if it is larger than the limit."""

        def attempt() -> bytes | None:
            with self.ask(address, {}) as reply:
                if reply is None:
                    return None
                data = bytearray()
                for piece in body(reply, address):
                    data += piece
                    if len(data) > limit:
                        raise AcdError(ErrorCode.FILE_UNFIT, f"{address} is larger than {limit:,} bytes")
                return bytes(data)

        return patiently(attempt)

    def fetch(self, address: str, file: IO[bytes]) -> str | None:
        """Download a file and return its fingerprint; None if it is missing."""

        def attempt() -> str | None:
            with self.ask(address, {}) as reply, writing(Path(tempfile.gettempdir())):
                if reply is None:
                    return None
                file.seek(0)
                file.truncate()
                digest = _digest_of(reply, address, file)
                file.flush()
                return mark_of(reply, address) or digest

        return patiently(attempt)

    def _digest(self, reply: Reply, address: str) -> str:
        """Fingerprint computed from a file's bytes, for servers that send neither ETag nor Last-Modified."""
        if reply.status != OK:
            with self.ask(address, {}) as whole:
                if whole is None or whole.status != OK:
                    raise AcdError(ErrorCode.WEB_UNREACHABLE, f"the server sends only a part of {address}")
                return self._digest(whole, address)
        return _digest_of(reply, address)

    def _mark_beside(self, address: str, starts: tuple[bytes, ...]) -> str | None:
        def attempt() -> str | None:
            with self.ask(address, {"Range": f"bytes=0-{BLOCK_BYTES - 1}"}) as reply:
                if reply is None or reply.status == UNSATISFIABLE or is_page(reply):
                    return None
                begin = next(body(reply, address), b"")
                if not begin.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(starts):
                    return None
                return mark_of(reply, address) or self.fingerprint(address)

        try:
            return patiently(attempt)
        except AcdError as error:
            if error.code in (ErrorCode.WEB_DENIED, ErrorCode.WEB_PAGE):  # some stores report a missing file this way
                return None
            raise

    @contextmanager
    def ask(self, address: str, headers: dict[str, str]) -> Iterator[Reply | None]:
        """Send a GET with these headers; None if the file is missing. Raises the errors of `web_request.get`."""
        headers = {"Accept-Encoding": "identity", "Accept": "*/*", **headers}
        with get(self.signed.get(address, address), headers, public=self._must_be_public(address)) as reply:
            yield reply

    def _must_be_public(self, address: str) -> bool:
        """Whether a document on the public internet lists this address of another origin, which must be public too."""
        document = self.named_by
        return is_web(document) and origin_of(document) != origin_of(address) and not leads_inside(document)


def _digest_of(reply: Reply, address: str, file: IO[bytes] | None = None) -> str:
    """Fingerprint of the bytes of a reply, which are also written to a file, if given."""
    digest, size = hashlib.sha256(), 0
    for piece in body(reply, address):
        size = within_bounds(size + len(piece), address)
        digest.update(piece)
        if file is not None:
            file.write(piece)
    return f"{size} sha256:{digest.hexdigest()}"
