"""Presents a file on the web as a byte stream, fetching only the ranges that are read."""

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
"""Maximum number of bytes fetched to read the header of a file."""


class RangedFile(io.RawIOBase):
    """A file read by range requests, or from a copy if the server does not support them.

    Attributes:
        fault: the error of a failed read, or None.
    """

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
        """First 16 bytes of the file."""
        return self._block(0)[:16]

    def readable(self) -> bool:
        """Whether the stream can be read (always)."""
        return True

    def seekable(self) -> bool:
        """Whether the stream can seek (always)."""
        return True

    def tell(self) -> int:
        """Position of the next read."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Set the position of the next read."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        self._position = max(base + offset, 0)
        return self._position

    def read(self, size: int = -1) -> bytes:
        """Read bytes; fewer than requested at the end of the file and after a fault."""
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
        except AcdError as error:  # GDAL would discard it
            self.fault = error
        return bytes(data)

    def close(self) -> None:
        """Do nothing, since GDAL closes the stream and may reopen it; `__exit__` closes it."""

    def __exit__(self, *_: object) -> None:
        if self._copy is not None:
            self._copy.close()
        super().close()

    def _block(self, number: int) -> bytes:
        if self._copy is not None:
            self._copy.seek(number * BLOCK_BYTES)
            return self._copy.read(BLOCK_BYTES)
        if number not in self._blocks:
            data = patiently(lambda: self._fetch_block(number))
            if data is None:  # there is a copy now
                return self._block(number)
            self._fetched += len(data)
            if self._fetched > MOST_HEADER_BYTES:
                raise AcdError(
                    ErrorCode.INPUT_UNREADABLE,
                    f"the header of {self._address} is larger than {MOST_HEADER_BYTES:,} bytes",
                    "Download the file, and pass its folder as --source.",
                )
            self._blocks[number] = data
        return self._blocks[number]

    def _fetch_block(self, number: int) -> bytes | None:
        """Fetch a block; None if the whole file was downloaded instead."""
        start = number * BLOCK_BYTES
        headers = {"Range": f"bytes={start}-{start + BLOCK_BYTES - 1}"}
        # A server without ranges sends status 200 and the whole file; one that compresses sends other bytes than asked
        # for. In both cases the file is downloaded instead.
        with self._web.ask(self._address, headers) as reply:
            if reply is None:
                raise AcdError(ErrorCode.INPUT_MISSING, f"{self._address} does not exist", "Check the address.")
            if is_page(reply):
                raise page_error(reply, self._address)
            if reply.status == UNSATISFIABLE:
                raise AcdError(ErrorCode.INPUT_UNREADABLE, f"{self._address} is empty")
            span = CONTENT_RANGE.fullmatch(reply.header("Content-Range").strip())
            if reply.status == PARTIAL and span and int(span[1]) == start and not encoding_of(reply):
                self._check_same(mark_of(reply, self._address) or self._mark)
                self._size = within_bounds(int(span[3]), self._address)
                data = b"".join(body(reply, self._address))
                if len(data) != int(span[2]) - start + 1:
                    raise AcdError(ErrorCode.WEB_UNREACHABLE, f"the server sends only a part of {self._address}")
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
            raise AcdError(ErrorCode.INPUT_CHANGED, f"{self._address} changed while it was being read")
        self._mark = mark
