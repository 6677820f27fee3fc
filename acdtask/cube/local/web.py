"""Files on the web, as an ingest reads them: their fingerprints, their headers by ranges, their pixels as a copy.

No part of a cube is read in this way: whoever reads one has a `Store`, which opens no address of the web.
"""

from __future__ import annotations

import hashlib
import io
import re
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TypeVar

import rasterio
from rasterio.errors import RasterioError, RasterioIOError
from rasterio.io import DatasetReader

from acdtask.cube.local.open_raster import open_raster, open_stream
from acdtask.cube.local.store import Store
from acdtask.cube.local.traffic import count_object_read
from acdtask.cube.local.web_address import is_web, without_query
from acdtask.cube.local.web_request import OK, PARTIAL, UNSATISFIABLE, get, patiently
from acdtask.errors import AcdError, ErrorCode
from acdtask.files import SMALL_FILE_BYTES, writing
from acdtask.http import Reply, host_of, leads_inside, origin_of

__all__ = ["TIFF_MARKS", "Web"]

ResultT = TypeVar("ResultT")

BLOCK_BYTES = 64 * 1024
PIECE_BYTES = 1024 * 1024

MOST_HEADER_BYTES = 64 * 1024 * 1024
"""That are fetched for the header of a file."""

MOST_BYTES = 32 * 1024**3
"""Of a file: as many as the most pixels of a raster have, in the widest type, and some more."""

SLOWEST, PATIENCE_SECONDS = 1024, 60.0
"""Bytes in a second below which a server counts as one that does not answer, after some time."""

CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)")
TIFF_MARKS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
PAGE = re.compile(rb"(?:\xef\xbb\xbf)?\s*<(?:!doctype\s+html|html)\b", re.IGNORECASE)
PAGE_TYPES = ("text/html", "application/xhtml")


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
        """A text that changes when the file does, or None if there is none. What `get` raises, and WEB_PAGE."""

        def asked() -> str | None:
            with self._get(address, {"Range": f"bytes=0-{BLOCK_BYTES - 1}"}) as answer:
                if answer is None:
                    return None
                mark = _mark_of(answer, address)
                if mark or answer.status != OK:
                    next(_body(answer, address), b"")  # a web page may be told by how it begins alone
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
        """A document, or None; FILE_UNFIT if it is larger than the limit. What `get` raises."""

        def asked() -> bytes | None:
            with self._get(address, {}) as answer:
                if answer is None:
                    return None
                data = bytearray()
                for piece in _body(answer, address):
                    data += piece
                    if len(data) > limit:
                        raise AcdError(ErrorCode.FILE_UNFIT, f"{address} is larger than {limit:,} bytes")
                return bytes(data)

        return patiently(asked)

    @contextmanager
    def header(self, address: str) -> Iterator[DatasetReader]:
        """A GeoTIFF, of which its header may be looked at: only what is asked for is fetched.

        WEB_PAGE, INPUT_MISSING, INPUT_CHANGED, INPUT_TOO_LARGE, INPUT_UNREADABLE.
        """
        with _Ranged(self, address) as file:
            if not file.begin.startswith(TIFF_MARKS):
                raise AcdError(ErrorCode.INPUT_UNREADABLE, f"{address} is not a GeoTIFF")
            name = f"/web/{hashlib.sha256(address.encode()).hexdigest()[:16]}.tif"

            def opener(path: str, mode: str = "rb") -> io.RawIOBase:
                if path != name or mode != "rb":
                    raise FileNotFoundError(path)
                return file

            try:
                with (
                    _named(name, address),
                    rasterio.Env(**Store.gdal_options()),
                    open_stream(name, opener) as raster,
                ):
                    yield raster
            except RasterioError:
                if file.fault is not None:
                    raise file.fault from None
                raise
            if file.fault is not None:
                raise file.fault

    @contextmanager
    def copy(self, address: str, mark: str | None = None) -> Iterator[DatasetReader]:
        """A GeoTIFF, fetched whole. INPUT_CHANGED if it has another fingerprint; as `header` otherwise.

        The copy has no name in a folder, so that nothing is left of it whatever happens.
        """
        with tempfile.TemporaryFile() as file:
            fetched = self._fetched(address, file)
            if mark is not None and fetched != mark:
                raise AcdError(
                    ErrorCode.INPUT_CHANGED, f"{address} is another file than the one that was planned, or is gone"
                )
            path = f"/proc/self/fd/{file.fileno()}"
            with _named(path, address), rasterio.Env(**Store.gdal_options()), open_raster(path) as raster:
                yield raster

    def _fetched(self, address: str, file: IO[bytes]) -> str | None:
        """Fetch a file whole, and return its fingerprint; None if there is none."""

        def asked() -> str | None:
            with self._get(address, {}) as answer, writing(Path(tempfile.gettempdir())):
                if answer is None:
                    return None
                file.seek(0)
                file.truncate()
                digest, size = hashlib.sha256(), 0
                for piece in _body(answer, address):
                    size = _within_bounds(size + len(piece), address)
                    digest.update(piece)
                    file.write(piece)
                file.flush()
                return _mark_of(answer, address) or f"{size} sha256:{digest.hexdigest()}"

        return patiently(asked)

    def _digest(self, answer: Reply, address: str) -> str:
        """The fingerprint of a file by its bytes, as its server says nothing that changes with them."""
        if answer.status != OK:
            with self._get(address, {}) as whole:
                if whole is None or whole.status != OK:
                    raise AcdError(ErrorCode.WEB_UNREACHABLE, f"{address} is sent in part only")
                return self._digest(whole, address)
        digest, size = hashlib.sha256(), 0
        for piece in _body(answer, address):
            size = _within_bounds(size + len(piece), address)
            digest.update(piece)
        return f"{size} sha256:{digest.hexdigest()}"

    def _mark_beside(self, address: str, starts: tuple[bytes, ...]) -> str | None:
        def asked() -> str | None:
            with self._get(address, {"Range": f"bytes=0-{BLOCK_BYTES - 1}"}) as answer:
                if answer is None or answer.status == UNSATISFIABLE or _is_page(answer):
                    return None
                begin = next(_body(answer, address), b"")
                if not begin.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(starts):
                    return None
                return _mark_of(answer, address) or self.fingerprint(address)

        try:
            return patiently(asked)
        except AcdError as error:
            if error.code in (ErrorCode.WEB_DENIED, ErrorCode.WEB_PAGE):  # so do stores for a file that is not there
                return None
            raise

    @contextmanager
    def _get(self, address: str, headers: dict[str, str]) -> Iterator[Reply | None]:
        asked = {"Accept-Encoding": "identity", "Accept": "*/*", **headers}
        with get(self.signed.get(address, address), asked, public=self._is_from_outside(address)) as answer:
            yield answer

    def _is_from_outside(self, address: str) -> bool:
        """Whether somebody on the public internet named an address that is not theirs."""
        namer = self.named_by
        return is_web(namer) and origin_of(namer) != origin_of(address) and not leads_inside(namer)


class _Ranged(io.RawIOBase):
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
        with self._web._get(self._address, headers) as answer:
            if answer is None:
                raise AcdError(ErrorCode.INPUT_MISSING, f"there is no {self._address}", "Check the address.")
            if _is_page(answer):
                raise _page(answer, self._address)
            if answer.status == UNSATISFIABLE:
                raise AcdError(ErrorCode.INPUT_UNREADABLE, f"{self._address} has no bytes")
            span = CONTENT_RANGE.fullmatch(answer.header("Content-Range").strip())
            if answer.status == PARTIAL and span and int(span[1]) == start and not _encoding(answer):
                self._check_same(_mark_of(answer, self._address) or self._mark)
                self._size = _within_bounds(int(span[3]), self._address)
                data = b"".join(_body(answer, self._address))
                if len(data) != int(span[2]) - start + 1:
                    raise AcdError(ErrorCode.WEB_UNREACHABLE, f"{self._address} is sent in part only")
                return data
        self._fetch_all()
        return None

    def _fetch_all(self) -> None:
        copy = tempfile.TemporaryFile()  # noqa: SIM115 - closed by __exit__
        try:
            self._check_same(self._web._fetched(self._address, copy) or "")
        except BaseException:
            copy.close()
            raise
        self._size = copy.seek(0, io.SEEK_END)
        self._copy = copy

    def _check_same(self, mark: str) -> None:
        if self._mark and mark != self._mark:
            raise AcdError(ErrorCode.INPUT_CHANGED, f"{self._address} changed while it was looked at")
        self._mark = mark


@contextmanager
def _named(path: str, address: str) -> Iterator[None]:
    """What GDAL says of a path, said of the address instead."""
    try:
        yield
    except RasterioError as error:
        raise RasterioIOError(str(error.__cause__ or error).replace(path, address)) from None


def _body(answer: Reply, address: str) -> Iterator[bytes]:
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
            if is_first and (_is_page(answer) or PAGE.match(piece)):
                raise _page(answer, address)
            is_first = False
            yield piece


def _unpacker(answer: Reply, address: str) -> Callable[[bytes], Iterator[bytes]]:
    """How the pieces of a body are unpacked; a small one may become a large one, so bit by bit."""
    encoding = _encoding(answer)
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


def _encoding(answer: Reply) -> str:
    encoding = answer.header("Content-Encoding").strip().lower()
    return "" if encoding == "identity" else encoding


def _mark_of(answer: Reply, address: str) -> str:
    """The fingerprint by the headers; empty if they do not say anything that changes with the file."""
    if answer.status == UNSATISFIABLE:
        raise AcdError(ErrorCode.INPUT_UNREADABLE, f"{address} has no bytes")
    if _is_page(answer):
        raise _page(answer, address)
    if tag := answer.header("ETag").strip():
        return tag.removeprefix("W/")
    modified = answer.header("Last-Modified").strip()
    span = CONTENT_RANGE.fullmatch(answer.header("Content-Range").strip())
    size = span[3] if answer.status == PARTIAL and span else answer.header("Content-Length").strip()
    return f"{size} {modified}" if size and modified and not _encoding(answer) else ""


def _is_page(answer: Reply) -> bool:
    return answer.header("Content-Type").strip().lower().startswith(PAGE_TYPES)


def _page(answer: Reply, address: str) -> AcdError:
    by = f" {answer.host} gives" if answer.host != host_of(address) else " its server gives"
    return AcdError(ErrorCode.WEB_PAGE, f"in place of {without_query(address)}{by} a web page")


def _within_bounds(size: int, address: str) -> int:
    if size > MOST_BYTES:
        raise AcdError(ErrorCode.INPUT_TOO_LARGE, f"{address} has more than {MOST_BYTES:,} bytes")
    return size
