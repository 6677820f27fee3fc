"""Files on the web, as an ingest reads them: their fingerprints, small ones whole, and large ones fetched to a file.

No part of a cube is read in this way: whoever reads one has a `Store`, which opens no address of the web.
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
from acdtask.http import Reply, leads_inside, origin_of
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
        signed: the whole addresses of those that have a query, by the address without it.
        named_by: the document that names the files, or the file itself if the user named it.
    """

    signed: Mapping[str, str] = field(default_factory=dict)
    named_by: str = ""

    def fingerprint(self, address: str) -> str | None:
        """A text that changes when the file does, or None if there is none. What `ask` raises, and WEB_PAGE."""

        def asked() -> str | None:
            with self.ask(address, {"Range": f"bytes=0-{BLOCK_BYTES - 1}"}) as answer:
                if answer is None:
                    return None
                mark = mark_of(answer, address)
                if mark or answer.status != OK:
                    next(body(answer, address), b"")  # a web page may be told by how it begins alone
                return mark or self._digest(answer, address)

        return patiently(asked)

    def marks_beside(self, address: str, endings: Mapping[str, tuple[bytes, ...]]) -> dict[str, str]:
        """The fingerprints of the files beside a file, by ending. A signature is for one file, which has none then.

        Args:
            address: of the file.
            endings: of the files beside it, each with how such a file may begin; servers answer with many a thing.
        """
        if address in self.signed:
            return {}
        marks = {ending: self._mark_beside(address + ending, starts) for ending, starts in endings.items()}
        return {ending: mark for ending, mark in marks.items() if mark is not None}

    def find_small(self, address: str, limit: int = SMALL_FILE_BYTES) -> bytes | None:
        """A document, or None; FILE_UNFIT if it is larger than the limit. What `ask` raises."""

        def asked() -> bytes | None:
            with self.ask(address, {}) as answer:
                if answer is None:
                    return None
                data = bytearray()
                for piece in body(answer, address):
                    data += piece
                    if len(data) > limit:
                        raise AcdError(ErrorCode.FILE_UNFIT, f"{address} is larger than {limit:,} bytes")
                return bytes(data)

        return patiently(asked)

    def fetch(self, address: str, file: IO[bytes]) -> str | None:
        """Fetch a file whole, and return its fingerprint; None if there is none."""

        def asked() -> str | None:
            with self.ask(address, {}) as answer, writing(Path(tempfile.gettempdir())):
                if answer is None:
                    return None
                file.seek(0)
                file.truncate()
                digest, size = hashlib.sha256(), 0
                for piece in body(answer, address):
                    size = within_bounds(size + len(piece), address)
                    digest.update(piece)
                    file.write(piece)
                file.flush()
                return mark_of(answer, address) or f"{size} sha256:{digest.hexdigest()}"

        return patiently(asked)

    def _digest(self, answer: Reply, address: str) -> str:
        """The fingerprint of a file by its bytes, as its server says nothing that changes with them."""
        if answer.status != OK:
            with self.ask(address, {}) as whole:
                if whole is None or whole.status != OK:
                    raise AcdError(ErrorCode.WEB_UNREACHABLE, f"{address} is sent in part only")
                return self._digest(whole, address)
        digest, size = hashlib.sha256(), 0
        for piece in body(answer, address):
            size = within_bounds(size + len(piece), address)
            digest.update(piece)
        return f"{size} sha256:{digest.hexdigest()}"

    def _mark_beside(self, address: str, starts: tuple[bytes, ...]) -> str | None:
        def asked() -> str | None:
            with self.ask(address, {"Range": f"bytes=0-{BLOCK_BYTES - 1}"}) as answer:
                if answer is None or answer.status == UNSATISFIABLE or is_page(answer):
                    return None
                begin = next(body(answer, address), b"")
                if not begin.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(starts):
                    return None
                return mark_of(answer, address) or self.fingerprint(address)

        try:
            return patiently(asked)
        except AcdError as error:
            if error.code in (ErrorCode.WEB_DENIED, ErrorCode.WEB_PAGE):  # so do stores for a file that is not there
                return None
            raise

    @contextmanager
    def ask(self, address: str, headers: dict[str, str]) -> Iterator[Reply | None]:
        """The answer to a GET with these headers; None if there is no such file. What `web_request.get` raises."""
        asked = {"Accept-Encoding": "identity", "Accept": "*/*", **headers}
        with get(self.signed.get(address, address), asked, public=self._is_from_outside(address)) as answer:
            yield answer

    def _is_from_outside(self, address: str) -> bool:
        """Whether somebody on the public internet named an address that is not theirs."""
        namer = self.named_by
        return is_web(namer) and origin_of(namer) != origin_of(address) and not leads_inside(namer)
