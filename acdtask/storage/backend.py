"""Location of a store: its address, its roots, and its obstore backend with errors converted."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeAlias
from urllib.parse import unquote, urlsplit

from acdtask.errors import AcdError, ErrorCode
from acdtask.storage.config import gdal_options, open_bucket
from acdtask.storage.errors import explain_file, explain_object, is_panic, panicked
from acdtask.storage.roots import BUCKET, CONTROL, Roots

if TYPE_CHECKING:
    from obstore.store import LocalStore, S3Store

    Backend: TypeAlias = LocalStore | S3Store

__all__ = ["ELSEWHERE", "RETRIES", "RETRY_SECONDS", "StoreBackend"]

ELSEWHERE = ("/", "s3://", "file://")
"""Prefixes of addresses, as opposed to keys of the store."""

RETRIES = 8
RETRY_SECONDS = 60


class StoreBackend:
    """The part of `Store` that knows where the store is and opens it.

    A store is a folder (`root`, an absolute path), or a prefix of a bucket on S3. Without roots, files anywhere may be
    opened.
    """

    def __init__(self, root: Path | None, bucket: str = "", prefix: str = "", roots: Roots | None = None) -> None:
        self._root = root
        self.roots = roots
        self._bucket = bucket
        self._prefix = prefix
        self._handle: Backend | None = None
        self._bucket_seen = False
        self._elsewhere: dict[str, Any] = {}

    @classmethod
    def at(cls, url: str) -> Self:
        """Create the store at a path, a file:// or an s3:// address. ADDRESS_INVALID.

        >>> StoreBackend.at("s3://bucket/cubes/koln/").url
        's3://bucket/cubes/koln'
        """
        if url.startswith("s3://"):
            bucket, _, prefix = url.removeprefix("s3://").partition("/")
            if not BUCKET.fullmatch(bucket) or CONTROL.search(url):
                raise AcdError(ErrorCode.ADDRESS_INVALID, f"{url!r} does not name a valid bucket")
            return cls(None, bucket, _clean(prefix, url))
        if url.startswith("file://"):
            parts = urlsplit(url)
            if parts.netloc not in ("", "localhost") or not parts.path:
                raise AcdError(ErrorCode.ADDRESS_INVALID, f"{url!r} is not the address of a local folder")
            return cls(_absolute(unquote(parts.path)))
        if "://" in url or not url.strip() or "\0" in url:
            raise AcdError(ErrorCode.ADDRESS_INVALID, f"{url!r} is not the address of a cube")
        return cls(_absolute(url))

    @classmethod
    def of_file(cls, address: str) -> tuple[Self, str]:
        """The store of a file's folder or prefix, and the file's key in it. ADDRESS_INVALID.

        >>> store, key = StoreBackend.of_file("/truth.geojson")
        >>> store.url, key
        ('/', 'truth.geojson')
        """
        name = address.rpartition("/")[2]
        return cls.at(address.removesuffix(name) or "."), name

    @property
    def url(self) -> str:
        """Absolute path or s3:// address; `Store.at(url)` is the same store."""
        if self._root is not None:
            return str(self._root)
        return f"s3://{self._bucket}/{self._prefix}".rstrip("/")

    @property
    def is_folder(self) -> bool:
        """Whether the store is a folder of this machine."""
        return self._root is not None

    def within(self, prefix: str) -> Self:
        """Store of the keys below a prefix."""
        prefix = _clean(prefix, prefix)
        if self._root is not None:
            return type(self)(self._root / prefix, roots=self.roots)
        return type(self)(None, self._bucket, "/".join(part for part in (self._prefix, prefix) if part), self.roots)

    def confined(self, addresses: Iterable[str] = ()) -> Self:
        """Copy of the store that opens only files below itself and below these addresses. ADDRESS_INVALID.

        >>> StoreBackend.at("/data/cube").confined(["/data/images"]).gdal_path("/etc/passwd")
        Traceback (most recent call last):
        ...
        acdtask.errors.AcdError: ACD-406: /etc/passwd cannot be opened: this server may not read there. ...
        """
        roots = dict.fromkeys((self.url, *(self.at(address).url for address in addresses)))
        return type(self)(self._root, self._bucket, self._prefix, Roots(tuple(roots)))

    def elsewhere(self, address: str) -> Self:
        """Store at another address with the same roots. ADDRESS_INVALID, ADDRESS_OUTSIDE, ADDRESS_MALFORMED."""
        store = self.at(self.roots.resolve(address) if self.roots else address)
        store.roots = self.roots
        return store

    def __repr__(self) -> str:
        return f"Store.at({self.url!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, StoreBackend) and (self.url, self.roots) == (other.url, other.roots)

    def __hash__(self) -> int:
        return hash(self.url)

    def __reduce__(self) -> tuple[type[Self], tuple[Path | None, str, str, Roots | None]]:
        return type(self), (self._root, self._bucket, self._prefix, self.roots)

    def address_of(self, key: str) -> str:
        """Absolute path or s3:// address of a key; of the store itself for an empty key."""
        return f"{self.url}/{key}" if key else self.url

    def gdal_path(self, key: str) -> str:
        """GDAL path of a key, or of an absolute path, a file:// or an s3:// address.

        A confined store resolves links, and raises ADDRESS_OUTSIDE or ADDRESS_MALFORMED.

        >>> StoreBackend.at("s3://bucket/cube").gdal_path("pixels/a.tif")
        '/vsis3/bucket/cube/pixels/a.tif'
        >>> StoreBackend.at("/data/cube").gdal_path("s3://other/b.tif")
        '/vsis3/other/b.tif'
        """
        address = key if key.startswith(ELSEWHERE) else self.address_of(key)
        if self.roots is not None:
            address = self.roots.resolve(address)
        if address.startswith("s3://"):
            return "/vsis3/" + address.removeprefix("s3://")
        return unquote(urlsplit(address).path) if address.startswith("file://") else address

    @staticmethod
    def gdal_options() -> dict[str, str | int]:
        """Options for rasterio.Env: S3 access, no search for sidecar files, a small block cache."""
        return gdal_options()

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

    def know_bucket(self) -> None:
        """Assume that the bucket exists, so that a missing key takes one request instead of two."""
        self._bucket_seen = True

    def _check_bucket(self, error: FileNotFoundError) -> None:
        """Raise an error if the bucket is missing and not just the key: the reply to a HEAD does not say which."""
        import obstore

        if self._root is not None or self._bucket_seen or "NoSuchKey" in str(error):
            return
        if "NoSuchBucket" in str(error):
            raise error
        next(iter(obstore.list(self._backend(), chunk_size=1)), None)
        self._bucket_seen = True

    @contextmanager
    def explained(self, key: str) -> Iterator[None]:
        """Convert obstore's errors within the context to AcdError, naming the key."""
        from obstore.exceptions import BaseError

        try:
            yield
        except (BaseError, OSError) as error:
            raise self._explain(error, key) from error
        except BaseException as error:
            if is_panic(error):
                raise panicked(error, self.address_of(key)) from error
            raise

    def _explain(self, error: Exception, key: str) -> Exception:
        """Convert an obstore error to AcdError; an error that can only be a bug is returned unchanged."""
        address = self.address_of(key)
        if self._root is not None:
            return explain_file(error, address) or error
        return explain_object(error, address, self._bucket) or error


def _absolute(path: str) -> Path:
    return Path(os.path.normpath(Path(path).expanduser().absolute()))


def _clean(prefix: str, address: str) -> str:
    parts = [part for part in prefix.split("/") if part]
    if any(part in (".", "..") for part in parts):
        raise AcdError(ErrorCode.ADDRESS_INVALID, f"{address!r} contains '.' or '..'")
    return "/".join(parts)
