"""Roots: the folders and s3:// prefixes below which a server may open files, checked when a file is opened."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from acdtask.errors import AcdError, ErrorCode

__all__ = ["BUCKET", "CONTROL", "Roots", "open_file", "plain_address"]

LONGEST_ADDRESS = 4096
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
GDAL_PREFIX = re.compile(r"/+(\./+)*vsi")
BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
URL_SYNTAX = re.compile(r"[?#\\]")


@dataclass(frozen=True)
class Roots:
    """Folders (absolute paths) and s3:// prefixes. Only files below them are opened.

    A path is resolved at the moment of opening: links and '..' count for where they lead then. Hard links and mounts
    cannot be told from files of the folder; only who may write there can make them.
    """

    addresses: tuple[str, ...]

    def resolve(self, address: str) -> str:
        """The path without links, or the s3:// address. ADDRESS_MALFORMED, ADDRESS_OUTSIDE.

        >>> Roots(("s3://bucket/images",)).resolve("s3://bucket/images/a.tif")
        's3://bucket/images/a.tif'
        """
        plain = plain_address(address)
        if plain.startswith("s3://"):
            if not any(_is_below(plain, root) for root in self.addresses):
                raise _outside(address)
            return plain
        path = _real_path(plain)
        if not self._holds(path):
            raise _outside(address)
        return path

    def check(self, descriptor: int, path: str) -> None:
        """Raise ADDRESS_OUTSIDE if an open file is not below the roots, wherever its path leads by now."""
        if not self._holds(_place_of(descriptor, path)):
            raise _outside(path)

    def remove(self, path: str) -> None:
        """Remove a file by its absolute path. ADDRESS_OUTSIDE, OSError.

        Its folder is opened, checked and used, so that no link swapped meanwhile leads elsewhere.
        """
        folder, _, name = path.rpartition("/")
        descriptor = os.open(folder or "/", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            if not self._holds(f"{_place_of(descriptor, folder or '/')}/"):
                raise _outside(path)
            os.unlink(name, dir_fd=descriptor)
        finally:
            os.close(descriptor)

    def _holds(self, path: str) -> bool:
        return any(_is_below(path, _real_path(root)) for root in self.addresses if root.startswith("/"))


def plain_address(address: str) -> str:
    """An absolute path or an s3:// address, free of GDAL's and URLs' syntax. ADDRESS_MALFORMED for anything else.

    >>> plain_address("file:///data/a%20b.tif")
    '/data/a b.tif'
    """
    if len(address) > LONGEST_ADDRESS or CONTROL.search(address):
        raise _malformed(address)
    if address.startswith("s3://"):
        if not _is_object(address):
            raise _malformed(address)
        return address
    path = _path_of_url(address) if address.startswith("file://") else address
    if not path.startswith("/") or GDAL_PREFIX.match(path) or CONTROL.search(path):
        raise _malformed(address)
    return path


@contextmanager
def open_file(path: str, roots: Roots | None = None) -> Iterator[int]:
    """The descriptor of a regular file, open for reading, that lies below the roots. OSError, ADDRESS_OUTSIDE.

    The file is opened first and checked then, so that a link swapped in between is noticed.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    try:
        if roots is not None:
            roots.check(descriptor, path)
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(f"{path} is a folder")
        if not stat.S_ISREG(mode):
            raise FileNotFoundError(f"{path} is not a regular file")
        yield descriptor
    finally:
        os.close(descriptor)


def _place_of(descriptor: int, path: str) -> str:
    try:
        return os.readlink(f"/proc/self/fd/{descriptor}")  # noqa: PTH115 - a Path takes three times as long
    except OSError:  # no /proc, as on macOS: a link swapped at this very moment goes unnoticed
        return os.path.realpath(path)


def _real_path(path: str) -> str:
    """The path without links, as the kernel resolves it where there is a file: quicker than os.path.realpath."""
    if not hasattr(os, "O_PATH"):
        return os.path.realpath(path)
    try:
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return os.path.realpath(path)
    try:
        return _place_of(descriptor, path)
    finally:
        os.close(descriptor)


def _is_below(place: str, root: str) -> bool:
    return place.startswith(f"{root.rstrip('/')}/")


def _is_object(address: str) -> bool:
    bucket, _, key = address.removeprefix("s3://").partition("/")
    parts = [unquote(part) for part in key.split("/")]
    is_plain = not any(part in ("", ".", "..") or "/" in part or CONTROL.search(part) for part in parts)
    return is_plain and BUCKET.fullmatch(bucket) is not None and URL_SYNTAX.search(address) is None


def _path_of_url(address: str) -> str:
    try:
        url = urlsplit(address)
    except ValueError:
        return ""
    return "" if url.netloc not in ("", "localhost") or url.query or url.fragment else unquote(url.path)


def _shown(address: str) -> str:
    short = address if len(address) <= 200 else f"{address[:200]}..."
    return short if short.isprintable() else ascii(short)


def _outside(address: str) -> AcdError:
    return AcdError(
        ErrorCode.ADDRESS_OUTSIDE, f"{_shown(address)} cannot be opened: it does not lie where this server may read"
    )


def _malformed(address: str) -> AcdError:
    return AcdError(
        ErrorCode.ADDRESS_MALFORMED,
        f"{_shown(address)} cannot be opened: it is neither an absolute path nor an s3:// address",
    )
