"""A file on the web as a stream of bytes: only the ranges that are read are fetched."""

from __future__ import annotations

import io
import tempfile
from typing import IO

from acdtask.errors import AcdError, ErrorCode
from acdtask.storage.web import BLOCK_BYTES, Web
from acdtask.storage.web_answers import CONTENT_RANGE, body, encoding_of, is_page, mark_of, page_error, within_bounds
from acdtask.storage.web_request import PARTIAL, UNSATISFIABLE, patiently

__all__ = ["RangedFile"]

MOST_HEADER_BYTES = 64 * 1024 * 1024
"""That are fetched for the header of a file."""


class RangedFile(io.RawIOBase):
    """A file that is read by ranges, or from a copy where a server gives none. `fault` is why a read failed."""

    def __init__(self, web: Web, address: str) -> None:
        super().__init__()
        self._web, self._address = web, address
        self._blocks: dict[int, bytes] = {}
        self._position, self._fetched = 0, 0
        self._copy: IO[bytes] | None = None
        self._mark, self._size = "", 0
        self.fault: AcdError | None = None

    @property
    def begin(self) -> bytes:
        """How the file begins."""
        return self._block(0)[:16]

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def tell(self) -> int:
        """Where the next read begins."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go somewhere."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        self._position = max(base + offset, 0)
        return self._position

    def read(self, size: int = -1) -> bytes:
        """Bytes; fewer than asked for at the end of the file, and after a fault."""
        end = self._size if size < 0 else min(self._position + size, self._size)
        data = bytearray()
        try:
            while self.fault is None and self._position < end:
                number, start = divmod(self._position, BLOCK_BYTES)
                part = self._block(number)[start : start + end - self._position]
                if not part:
                    break
                data += part
                self._position += len(part)
        except AcdError as error:  # GDAL would swallow it
            self.fault = error
        return bytes(data)

    def close(self) -> None:
        """GDAL closes it, and may open it again; `__exit__` ends it."""

    def __exit__(self, *_: object) -> None:
        if self._copy is not None:
            self._copy.close()
        super().close()

    def _block(self, number: int) -> bytes:
        if self._copy is not None:
            self._copy.seek(number * BLOCK_BYTES)
            return self._copy.read(BLOCK_BYTES)
        if number not in self._blocks:
            data = patiently(lambda: self._asked(number))
            if data is None:
                return self._block(number)
            self._fetched += len(data)
            if self._fetched > MOST_HEADER_BYTES:
                raise AcdError(
                    ErrorCode.INPUT_UNREADABLE,
                    f"{self._address} needs more than {MOST_HEADER_BYTES:,} bytes to tell what it holds",
                    "Download the file, and give its folder as --source.",
                )
            self._blocks[number] = data
        return self._blocks[number]

    def _asked(self, number: int) -> bytes | None:
        """A block; None if the whole file was fetched instead."""
        start = number * BLOCK_BYTES
        headers = {"Range": f"bytes={start}-{start + BLOCK_BYTES - 1}"}
        with self._web.ask(self._address, headers) as answer:
            if answer is None:
                raise AcdError(ErrorCode.INPUT_MISSING, f"there is no {self._address}", "Check the address.")
            if is_page(answer):
                raise page_error(answer, self._address)
            if answer.status == UNSATISFIABLE:
                raise AcdError(ErrorCode.INPUT_UNREADABLE, f"{self._address} has no bytes")
            span = CONTENT_RANGE.fullmatch(answer.header("Content-Range").strip())
            if answer.status == PARTIAL and span and int(span[1]) == start and not encoding_of(answer):
                self._check_same(mark_of(answer, self._address) or self._mark)
                self._size = within_bounds(int(span[3]), self._address)
                data = b"".join(body(answer, self._address))
                if len(data) != int(span[2]) - start + 1:
                    raise AcdError(ErrorCode.WEB_UNREACHABLE, f"{self._address} is sent in part only")
                return data
        self._fetch_all()
        return None

    def _fetch_all(self) -> None:
        copy = tempfile.TemporaryFile()  # noqa: SIM115 - closed by __exit__
        try:
            self._check_same(self._web.fetch(self._address, copy) or "")
        except BaseException:
            copy.close()
            raise
        self._size = copy.seek(0, io.SEEK_END)
        self._copy = copy

    def _check_same(self, mark: str) -> None:
        if self._mark and mark != self._mark:
            raise AcdError(ErrorCode.INPUT_CHANGED, f"{self._address} changed while it was looked at")
        self._mark = mark
