"""Object store on a folder or an s3://bucket/prefix: reads and writes bytes by key."""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from io import FileIO
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from tenacity import Retrying, retry_if_exception, stop_after_attempt, stop_after_delay, wait_random_exponential

from acdtask.errors import AcdError, ErrorCode
from acdtask.storage import backend
from acdtask.storage.backend import ELSEWHERE
from acdtask.storage.errors import PARENT_IS_OBJECT, is_unreachable, os_error
from acdtask.storage.files import SMALL_FILE_BYTES, read_small_file, require_regular
from acdtask.storage.listing import PLAIN_KEY, ListedStore, fingerprint_of
from acdtask.storage.roots import Roots, open_file, plain_address
from acdtask.storage.traffic import count_object_read, count_written

if TYPE_CHECKING:
    from obstore import GetOptions

    from acdtask.storage.zarr_store import CountedStore

__all__ = ["Store"]

PIECE_BYTES = 8 * 1024 * 1024

SETTLED_SECONDS = 2.0
"""In a younger file, a second write within the clock's resolution would leave its state unchanged."""

Ranges: TypeAlias = Sequence[tuple[int, int]]
"""Offset and length of each range."""


class Store(ListedStore):
    """A folder, or a prefix of a bucket. Keys are relative paths with '/' between their parts.

    Writes are atomic. The first write creates a missing folder.

    S3 is configured by the standard environment: AWS_ENDPOINT_URL (http is allowed), AWS_ACCESS_KEY_ID,
    AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN, AWS_REGION, or a web identity; AWS_NO_SIGN_REQUEST or AWS_SKIP_SIGNATURE
    for public buckets. Transient errors are retried for about a minute, with jittered backoff.

    Every method raises AcdError: STORE_UNREACHABLE, BUCKET_UNKNOWN, STORE_DENIED, DISK_FULL, KEY_UNFIT,
    ENDPOINT_INVALID or STORE_CONFIG_INVALID.
    """

    def has_container(self, uri: str) -> bool:
        """Whether a file exists under a key, or at an absolute path, a file:// or an s3:// address."""
        if not uri.startswith(ELSEWHERE):
            return self.exists(uri)
        store, key = Store.of_file(self.roots.resolve(uri) if self.roots else plain_address(uri))
        return store.exists(key)

    def put(self, key: str, data: bytes) -> None:
        """Write data under a key, atomically replacing what was there."""
        import obstore

        with self.explained(key):
            obstore.put(self._backend(write=True), key, data)
        count_written(len(data))

    def create(self, key: str, data: bytes) -> bool:
        """Write data under a key unless it exists. Of several concurrent writers, exactly one gets True.

        On S3, a writer whose response is lost may get False for its own object: compare the content.
        """
        if self._root is not None:
            return self._create(key, data)
        # obstore retries broken connections for all requests except conditional ones like this.
        attempts = Retrying(
            retry=retry_if_exception(is_unreachable),
            stop=stop_after_attempt(backend.RETRIES) | stop_after_delay(backend.RETRY_SECONDS),
            wait=wait_random_exponential(multiplier=0.1, max=5),
            reraise=True,
        )
        return attempts(self._create, key, data)

    def _create(self, key: str, data: bytes) -> bool:
        import obstore
        from obstore.exceptions import AlreadyExistsError

        with self.explained(key):
            try:
                obstore.put(self._backend(write=True), key, data, mode="create")
            except AlreadyExistsError as error:
                if PARENT_IS_OBJECT.search(str(error)):
                    raise
                return False
        count_written(len(data))
        return True

    def get(self, key: str) -> bytes:
        """Read an object. CUBE_DAMAGED if it is missing."""
        data = self.find(key)
        if data is None:
            raise AcdError(ErrorCode.CUBE_DAMAGED, f"{self.address_of(key)} is missing")
        return data

    def find(self, key: str) -> bytes | None:
        """Read an object; None if it is missing."""
        data = self.find_buffer(key)
        return None if data is None else bytes(data)

    def find_small(self, key: str, limit: int = SMALL_FILE_BYTES) -> bytes | None:
        """Read an object of at most `limit` bytes; None if it is missing. FILE_UNFIT if it is larger."""
        if self._root is not None and (self._root / key).exists():
            with self.explained(key):
                try:
                    return read_small_file(self._root / key, limit)
                except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
                    return None
        size = self._head(key)
        if size is not None and size > limit:
            raise AcdError(ErrorCode.FILE_UNFIT, f"{self.address_of(key)} is larger than {limit:,} bytes")
        return self.find(key)

    def find_buffer(self, key: str) -> memoryview | None:
        """Like `find`, without copying."""
        import obstore

        if self._root is not None and PLAIN_KEY.fullmatch(key):
            return self._find_file(self._root / key, key)
        if self._is_absent():
            return None
        # Keys with unusual characters are escaped by obstore, which opens the file itself: check the path before.
        if self._root is not None and self.roots is not None:
            self.roots.resolve(f"{self.url}/{key}")
        with self.explained(key):
            try:
                data = memoryview(obstore.get(self._backend(), key).bytes())
            except FileNotFoundError as error:
                self._check_bucket(error)
                return None
            except obstore.exceptions.GenericError as error:
                if os_error(error) == errno.ENOTDIR:
                    return None
                raise
        count_object_read(len(data))
        return data

    def _find_file(self, path: Path, key: str) -> memoryview | None:
        """Read a file without obstore, which takes as long to hand over a chunk as decoding the chunk takes."""
        with self.explained(key):
            try:
                (body,) = _read_regular(path) if self.roots is None else _read_below(path, self.roots)
            except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
                return None
        count_object_read(len(body))
        return memoryview(body)

    def find_ranges(self, key: str, ranges: Ranges) -> list[memoryview] | None:
        """Read ranges of an object; None if it is missing. Ranges that go beyond its end are shorter."""
        import obstore

        if self._root is not None and PLAIN_KEY.fullmatch(key):
            return self._find_ranges_of_file(self._root / key, key, ranges)
        if self._root is None:
            with self.explained(key):
                try:
                    handle = self._backend()
                    # Not get_ranges: obstore 0.12 panics if a range goes beyond the end, as in a truncated chunk.
                    parts = [memoryview(obstore.get_range(handle, key, start=at, length=size)) for at, size in ranges]
                except FileNotFoundError as error:
                    self._check_bucket(error)
                    return None
                except obstore.exceptions.GenericError as error:
                    if is_unreachable(error):
                        raise
                else:
                    count_object_read(sum(map(len, parts)))
                    return parts
        data = self.find_buffer(key)  # a range begins beyond the end of the object, or its key needs escapes
        return None if data is None else [data[at : at + size] for at, size in ranges]

    def find_with_state(self, key: str, size: int | None = None) -> tuple[memoryview, str] | None:
        """Read an object, or its first bytes, and its state (see `state_of`); None if it is missing."""
        import obstore

        if self._root is not None and PLAIN_KEY.fullmatch(key):
            state = self.state_of(key)
            parts = self._find_ranges_of_file(self._root / key, key, None if size is None else [(0, size)])
            return None if parts is None else (parts[0], state)
        if self._root is None:
            with self.explained(key):
                try:
                    options: GetOptions = {} if size is None else {"range": (0, size)}
                    answer = obstore.get(self._backend(), key, options=options)
                    data = memoryview(answer.bytes())
                except FileNotFoundError as error:
                    self._check_bucket(error)
                    return None
                except obstore.exceptions.GenericError as error:
                    if is_unreachable(error):
                        raise
                else:
                    count_object_read(len(data))
                    return data, fingerprint_of(answer.meta)
        whole = self.find_buffer(key)  # the object is empty, or its key needs escapes
        return None if whole is None else (whole[:size], "")

    def state_of(self, key: str) -> str:
        """Text that changes when an object is replaced or written.

        It is empty if the object is missing, or so young that another write could go unnoticed.
        """
        if self._root is None:
            return self.fingerprint(key) or ""
        try:
            status = (self._root / key).stat()
        except OSError:
            return ""
        if time.time() - status.st_mtime_ns / 1e9 < SETTLED_SECONDS:
            return ""
        return repr((status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns))

    def state_of_container(self, uri: str) -> str:
        """The state of the file under a key, or at an absolute path, a file:// or an s3:// address."""
        if not uri.startswith(ELSEWHERE):
            return self.state_of(uri)
        store, key = Store.of_file(self.roots.resolve(uri) if self.roots else plain_address(uri))
        known: Store = self._elsewhere.setdefault(store.url, store)  # its connections are used again
        return known.state_of(key)

    def _find_ranges_of_file(self, path: Path, key: str, ranges: Ranges | None) -> list[memoryview] | None:
        with self.explained(key):
            try:
                parts = _read_regular(path, ranges) if self.roots is None else _read_below(path, self.roots, ranges)
            except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
                return None
        count_object_read(sum(map(len, parts)))
        return [memoryview(part) for part in parts]

    def pieces(self, key: str) -> Iterator[memoryview] | None:
        """Read an object in pieces of some megabytes, to limit memory; None if it is missing."""
        return self._pieces(key) if self.exists(key) else None

    def _pieces(self, key: str) -> Iterator[memoryview]:
        import obstore

        with self.explained(key):
            stream = obstore.get(self._backend(), key).stream(min_chunk_size=PIECE_BYTES)
            for piece in stream:
                count_object_read(len(piece))
                yield memoryview(piece)

    def exists(self, key: str) -> bool:
        """Whether an object exists."""
        return self._head(key) is not None

    def size(self, key: str) -> int:
        """Size of an object in bytes. CUBE_DAMAGED if it is missing."""
        size = self._head(key)
        if size is None:
            raise AcdError(ErrorCode.CUBE_DAMAGED, f"{self.address_of(key)} is missing")
        return size

    def zarr_store(self, prefix: str = "", *, read_only: bool) -> CountedStore:
        """Store for zarr below a prefix. STORE_DENIED if a folder cannot be created for writing."""
        from obstore.store import MemoryStore

        from acdtask.storage.zarr_store import CountedStore

        part = self.within(prefix)
        if read_only and part._is_absent():
            return CountedStore(MemoryStore(), read_only=True)
        with self.explained(prefix):
            store = CountedStore(part._backend(write=not read_only), read_only=read_only)
        if part._root is not None and part.roots is not None:
            store.confine(part._root, part.roots)
        return store

    def _require_no_pipe(self, key: str) -> None:
        """Raise FILE_UNFIT for a pipe, a socket or a device, since opening one may block forever."""
        if self._root is None:
            return
        path = self._root / key
        with suppress(OSError, ValueError):
            if not stat.S_ISDIR((status := path.stat()).st_mode):
                require_regular(status, str(path))

    def _head(self, key: str) -> int | None:
        import obstore

        if self._is_absent():
            return None
        self._require_no_pipe(key)
        with self.explained(key):
            try:
                return int(obstore.head(self._backend(), key)["size"])
            except FileNotFoundError as error:
                self._check_bucket(error)
                return None
            except obstore.exceptions.GenericError as error:
                if os_error(error) == errno.ENOTDIR:
                    return None
                raise


def _read_regular(path: Path, ranges: Ranges | None = None) -> list[bytes]:
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb", buffering=0) as file:
        require_regular(os.fstat(file.fileno()), str(path))
        return _parts_of(file, ranges)


def _read_below(path: Path, roots: Roots, ranges: Ranges | None = None) -> list[bytes]:
    with open_file(str(path), roots) as descriptor, open(descriptor, "rb", buffering=0, closefd=False) as file:
        return _parts_of(file, ranges)


def _parts_of(file: FileIO, ranges: Ranges | None) -> list[bytes]:
    """Ranges of an open file; None reads all of it."""
    if ranges is None:
        return [file.readall()]
    return [os.pread(file.fileno(), size, offset) for offset, size in ranges]
