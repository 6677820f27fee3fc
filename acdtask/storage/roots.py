"""Roots: the folders and s3:// prefixes below which a server may open files."""

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
    """Folders (absolute paths) and s3:// prefixes below which files may be opened.

    Paths are checked when a file is opened, after resolving symbolic links and '..'. Hard links and mounts cannot be
    detected; creating them requires write access to the folder.
    """

    addresses: tuple[str, ...]

    def resolve(self, address: str) -> str:
        """Resolve an address to a path without links, or an s3:// address. ADDRESS_MALFORMED, ADDRESS_OUTSIDE.

        >>> Roots(("s3://bucket/images",)).resolve("s3://bucket/images/a.tif")
        's3://bucket/images/a.tif'
        """
        plain = plain_address(address)
        if plain.startswith("s3://"):
            if not any(_is_below(plain, root) for root in self.addresses):
                raise _outside(address)
            return plain
        path = _real_path(plain)
        if not self._contain(path):
            raise _outside(address)
        return path

    def check(self, descriptor: int, path: str) -> None:
        """Raise ADDRESS_OUTSIDE if an open file is not below the roots, even if its path has been changed since."""
        if not self._contain(_path_of(descriptor, path)):
            raise _outside(path)

    def remove(self, path: str) -> None:
        """Remove a file by its absolute path. ADDRESS_OUTSIDE, OSError.

        The file is removed relative to its checked, open folder, so that swapping a link meanwhile has no effect.
        """
        folder, _, name = path.rpartition("/")
        descriptor = os.open(folder or "/", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            if not self._contain(f"{_path_of(descriptor, folder or '/')}/"):
                raise _outside(path)
            os.unlink(name, dir_fd=descriptor)
        finally:
            os.close(descriptor)

    def _contain(self, path: str) -> bool:
        return any(_is_below(path, _real_path(root)) for root in self.addresses if root.startswith("/"))


def plain_address(address: str) -> str:
    """Normalise an address to an absolute path or an s3:// address. ADDRESS_MALFORMED for any other syntax.

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
    """Open a regular file below the roots for reading, as a descriptor. OSError, ADDRESS_OUTSIDE.

    The open descriptor is checked, not the path, so that swapping a link in between is detected.
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


def _path_of(descriptor: int, path: str) -> str:
    try:
        return os.readlink(f"/proc/self/fd/{descriptor}")  # noqa: PTH115 - pathlib takes three times as long
    except OSError:  # no /proc, as on macOS: a link swapped at this moment is not detected
        return os.path.realpath(path)


def _real_path(path: str) -> str:
    """Resolve symbolic links. For existing files the kernel does it, faster than os.path.realpath."""
    if not hasattr(os, "O_PATH"):
        return os.path.realpath(path)
    try:
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return os.path.realpath(path)
    try:
        return _path_of(descriptor, path)
    finally:
        os.close(descriptor)


def _is_below(path: str, root: str) -> bool:
    return path.startswith(f"{root.rstrip('/')}/")


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
    return AcdError(ErrorCode.ADDRESS_OUTSIDE, f"{_shown(address)} cannot be opened: this server may not read there")


def _malformed(address: str) -> AcdError:
    return AcdError(
        ErrorCode.ADDRESS_MALFORMED,
        f"{_shown(address)} cannot be opened: it is neither an absolute path nor an s3:// address",
    )
