"""Bytes under keys, on a folder or below s3://bucket/prefix: the same code for both."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias
from urllib.parse import unquote, urlsplit

from tenacity import Retrying, retry_if_exception, stop_after_attempt, stop_after_delay, wait_random_exponential

from acdtask.errors import AcdError, ErrorCode
from acdtask.storage.config import gdal_options, open_bucket
from acdtask.storage.errors import (
    PARENT_IS_OBJECT,
    explain_file,
    explain_object,
    is_panic,
    is_unreachable,
    os_error,
    panicked,
)
from acdtask.storage.files import SMALL_FILE_BYTES, read_small_file, require_regular
from acdtask.storage.listing import PLAIN_KEY, ListedStore
from acdtask.storage.roots import BUCKET, CONTROL, Roots, open_file, plain_address
from acdtask.storage.traffic import count_object_read, count_written

if TYPE_CHECKING:
    from obstore.store import LocalStore, S3Store

    from acdtask.storage.zarr_store import CountedStore

    Backend: TypeAlias = LocalStore | S3Store

__all__ = ["Store"]

ELSEWHERE = ("/", "s3://", "file://")
"""How addresses begin that are not keys of the store."""

PIECE_BYTES = 8 * 1024 * 1024

RETRIES = 8
RETRY_SECONDS = 60


class Store(ListedStore):
    """A folder or a prefix of a bucket. Keys are relative, with '/' between their parts.

    What is written under a key is there whole or not at all. A folder that does not exist is made by the first write.

    S3 is configured by the standard environment: AWS_ENDPOINT_URL (http is allowed), AWS_ACCESS_KEY_ID,
    AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN, AWS_REGION, or a web identity; AWS_NO_SIGN_REQUEST or AWS_SKIP_SIGNATURE
    says that a bucket is public. Transient faults are retried with jittered
    backoff for about a minute.

    Every method raises AcdError: STORE_UNREACHABLE, BUCKET_UNKNOWN, STORE_DENIED, DISK_FULL, KEY_UNFIT,
    ENDPOINT_INVALID or STORE_CONFIG_INVALID.
    """

    def __init__(self, root: Path | None, bucket: str = "", prefix: str = "", roots: Roots | None = None) -> None:
        self._root = root
        self.roots = roots
        self._bucket = bucket
        self._prefix = prefix
        self._handle: Backend | None = None
        self._bucket_seen = False

    @classmethod
    def at(cls, url: str) -> Store:
        """The store at a path, a file:// or an s3:// address. ADDRESS_INVALID.

        >>> Store.at("s3://bucket/cubes/koln/").url
        's3://bucket/cubes/koln'
        """
        if url.startswith("s3://"):
            bucket, _, prefix = url.removeprefix("s3://").partition("/")
            if not BUCKET.fullmatch(bucket) or CONTROL.search(url):
                raise AcdError(ErrorCode.ADDRESS_INVALID, f"{url!r} names no valid bucket")
            return cls(None, bucket, _clean(prefix, url))
        if url.startswith("file://"):
            parts = urlsplit(url)
            if parts.netloc not in ("", "localhost") or not parts.path:
                raise AcdError(ErrorCode.ADDRESS_INVALID, f"{url!r} is not the address of a folder here")
            return cls(_absolute(unquote(parts.path)))
        if "://" in url or not url.strip() or "\0" in url:
            raise AcdError(ErrorCode.ADDRESS_INVALID, f"{url!r} is not the address of a cube")
        return cls(_absolute(url))

    @property
    def url(self) -> str:
        """The absolute path or the s3:// address; `Store.at(url)` is this store again."""
        if self._root is not None:
            return str(self._root)
        return f"s3://{self._bucket}/{self._prefix}".rstrip("/")

    @property
    def is_folder(self) -> bool:
        """Whether the store is a folder of this machine."""
        return self._root is not None

    def within(self, prefix: str) -> Store:
        """The part of the store below a prefix."""
        prefix = _clean(prefix, prefix)
        if self._root is not None:
            return Store(self._root / prefix, roots=self.roots)
        return Store(None, self._bucket, "/".join(part for part in (self._prefix, prefix) if part), self.roots)

    def confined(self, addresses: Iterable[str] = ()) -> Store:
        """This store, which opens only files below itself and below some folders and s3:// prefixes. ADDRESS_INVALID.

        >>> Store.at("/data/cube").confined(["/data/images"]).gdal_path("/etc/passwd")
        Traceback (most recent call last):
        ...
        acdtask.errors.AcdError: ACD-406: /etc/passwd cannot be opened: it does not lie where this server may read. ...
        """
        roots = dict.fromkeys((self.url, *(Store.at(address).url for address in addresses)))
        return Store(self._root, self._bucket, self._prefix, Roots(tuple(roots)))

    def elsewhere(self, address: str) -> Store:
        """The store at another address, confined like this one. ADDRESS_INVALID, ADDRESS_OUTSIDE, ADDRESS_MALFORMED."""
        store = Store.at(self.roots.resolve(address) if self.roots else address)
        store.roots = self.roots
        return store

    def has_container(self, uri: str) -> bool:
        """Whether there is a file under a key, or at an absolute path, a file:// or an s3:// address."""
        if not uri.startswith(ELSEWHERE):
            return self.exists(uri)
        folder, _, name = (self.roots.resolve(uri) if self.roots else plain_address(uri)).rpartition("/")
        return Store.at(folder or "/").exists(name)

    def __repr__(self) -> str:
        return f"Store.at({self.url!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Store) and (self.url, self.roots) == (other.url, other.roots)

    def __hash__(self) -> int:
        return hash(self.url)

    def __reduce__(self) -> tuple[type[Store], tuple[Path | None, str, str, Roots | None]]:
        return Store, (self._root, self._bucket, self._prefix, self.roots)

    def put(self, key: str, data: bytes) -> None:
        """Write data under the key; a reader sees what was there before, or all of data."""
        import obstore

        with self.explained(key):
            obstore.put(self._backend(write=True), key, data)
        count_written(len(data))

    def create(self, key: str, data: bytes) -> bool:
        """Write data under the key unless something is there. Of several writers at once, exactly one gets True.

        Over S3, a writer whose answer was lost on the way may get False for its own object: compare the content.
        """
        if self._root is not None:
            return self._create(key, data)
        # A connection that breaks is tried again by obstore for every request but this one, which is conditional.
        attempts = Retrying(
            retry=retry_if_exception(is_unreachable),
            stop=stop_after_attempt(RETRIES) | stop_after_delay(RETRY_SECONDS),
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
        """What is under the key. CUBE_DAMAGED if nothing is."""
        data = self.find(key)
        if data is None:
            raise AcdError(ErrorCode.CUBE_DAMAGED, f"{self._where(key)} is missing")
        return data

    def find(self, key: str) -> bytes | None:
        """What is under the key, or None."""
        data = self.find_buffer(key)
        return None if data is None else bytes(data)

    def find_small(self, key: str, limit: int = SMALL_FILE_BYTES) -> bytes | None:
        """What is under the key, or None; FILE_UNFIT if it is larger than the limit."""
        if self._root is not None and (self._root / key).exists():
            with self.explained(key):
                try:
                    return read_small_file(self._root / key, limit)
                except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
                    return None
        size = self._head(key)
        if size is not None and size > limit:
            raise AcdError(ErrorCode.FILE_UNFIT, f"{self._where(key)} is larger than {limit:,} bytes")
        return self.find(key)

    def find_buffer(self, key: str) -> memoryview | None:
        """What is under the key, or None: large data without one more copy."""
        import obstore

        if self._root is not None and PLAIN_KEY.fullmatch(key):
            return self._find_file(self._root / key, key)
        if self._is_absent():
            return None
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
        """A file, read without obstore, which takes as long to hand it over as a chunk takes to decode."""
        with self.explained(key):
            try:
                data = memoryview(_read_regular(path) if self.roots is None else _read_below(path, self.roots))
            except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
                return None
        count_object_read(len(data))
        return data

    def pieces(self, key: str) -> Iterator[memoryview] | None:
        """What is under the key, some megabytes at a time, or None: files of any size in little memory."""
        return self._pieces(key) if self.exists(key) else None

    def _pieces(self, key: str) -> Iterator[memoryview]:
        import obstore

        with self.explained(key):
            stream = obstore.get(self._backend(), key).stream(min_chunk_size=PIECE_BYTES)
            for piece in stream:
                count_object_read(len(piece))
                yield memoryview(piece)

    def exists(self, key: str) -> bool:
        """Whether something is under the key."""
        return self._head(key) is not None

    def size(self, key: str) -> int:
        """How many bytes are under the key. CUBE_DAMAGED if nothing is."""
        size = self._head(key)
        if size is None:
            raise AcdError(ErrorCode.CUBE_DAMAGED, f"{self._where(key)} is missing")
        return size

    def address_of(self, key: str) -> str:
        """The absolute path or the s3:// address of a key."""
        return f"{self.url}/{key}"

    def delete(self, key: str) -> None:
        """Remove what is under the key, if anything is."""
        import obstore

        if self._is_absent():
            return
        with self.explained(key):
            try:
                obstore.delete(self._backend(), key)
            except FileNotFoundError as error:
                self._check_bucket(error)

    def gdal_path(self, key: str) -> str:
        """The key as GDAL opens it; an absolute path, a file:// or an s3:// address is taken as it is.

        A confined store resolves it, and raises ADDRESS_OUTSIDE or ADDRESS_MALFORMED.

        >>> Store.at("s3://bucket/cube").gdal_path("pixels/a.tif")
        '/vsis3/bucket/cube/pixels/a.tif'
        >>> Store.at("/data/cube").gdal_path("s3://other/b.tif")
        '/vsis3/other/b.tif'
        """
        address = key if key.startswith(ELSEWHERE) else f"{self.url}/{key}"
        if self.roots is not None:
            address = self.roots.resolve(address)
        if address.startswith("s3://"):
            return "/vsis3/" + address.removeprefix("s3://")
        return unquote(urlsplit(address).path) if address.startswith("file://") else address

    @staticmethod
    def gdal_options() -> dict[str, str | int]:
        """Options for rasterio.Env: where S3 is, no listing of folders beside a file, few decoded blocks kept."""
        return gdal_options()

    def zarr_store(self, prefix: str = "", *, read_only: bool) -> CountedStore:
        """The part of the store below a prefix, for zarr. STORE_DENIED if a folder to write to cannot be made."""
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

    def _where(self, key: str) -> str:
        return f"{self.url}/{key}" if key else self.url

    def _is_absent(self) -> bool:
        return self._root is not None and not self._root.is_dir()

    def _backend(self, *, write: bool = False) -> Backend:
        if self._handle is None or (write and self._is_absent()):
            self._handle = self._open()
        return self._handle

    def _open(self) -> Backend:
        from obstore.store import LocalStore

        if self._root is not None:
            return LocalStore(self._root, mkdir=True)
        return open_bucket(self._bucket, self._prefix, RETRIES, RETRY_SECONDS)

    def _require_no_pipe(self, key: str) -> None:
        """FILE_UNFIT for a pipe, a socket or a device in a folder: to open one may wait for ever."""
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

    def know_bucket(self) -> None:
        """Assume that the bucket exists, so that a missing key costs one request."""
        self._bucket_seen = True

    def _check_bucket(self, error: FileNotFoundError) -> None:
        """Tell a missing bucket from a missing key; the answer to HEAD has no body that would say so."""
        import obstore

        if self._root is not None or self._bucket_seen or "NoSuchKey" in str(error):
            return
        if "NoSuchBucket" in str(error):
            raise error
        next(iter(obstore.list(self._backend(), chunk_size=1)), None)
        self._bucket_seen = True

    @contextmanager
    def explained(self, key: str) -> Iterator[None]:
        """Turn what obstore raises within into the AcdError that it means, naming the key."""
        from obstore.exceptions import BaseError

        try:
            yield
        except (BaseError, OSError) as error:
            raise self._explain(error, key) from error
        except BaseException as error:
            if is_panic(error):
                raise panicked(error, self._where(key)) from error
            raise

    def _explain(self, error: Exception, key: str) -> Exception:
        """The AcdError that an obstore error means, or the error itself when it can only be a bug."""
        where = self._where(key)
        explained = explain_file(error, where) if self._root is not None else explain_object(error, where, self._bucket)
        return explained or error


def _read_regular(path: Path) -> bytes:
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
        require_regular(os.fstat(file.fileno()), str(path))
        return file.read()


def _read_below(path: Path, roots: Roots) -> bytes:
    with open_file(str(path), roots) as descriptor, open(descriptor, "rb", closefd=False) as file:
        return file.read()


def _absolute(path: str) -> Path:
    return Path(os.path.normpath(Path(path).expanduser().absolute()))


def _clean(prefix: str, address: str) -> str:
    parts = [part for part in prefix.split("/") if part]
    if any(part in (".", "..") for part in parts):
        raise AcdError(ErrorCode.ADDRESS_INVALID, f"{address!r} has '.' or '..' in it")
    return "/".join(parts)
