"""Listings of any length, and deletion in bulk: what a store needs to be tidied."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from obstore.store import LocalStore, S3Store

__all__ = ["PAGE", "PLAIN_KEY", "Entry", "ListedStore"]

PLAIN_KEY = re.compile(r"[\w:-][\w.:-]*(/[\w:-][\w.:-]*)*", re.ASCII)
"""A key that is the name of its file as it is."""

PAGE = 1000
"""Objects in a page of a listing, and in a request that deletes."""

STAGED = re.compile(r"#\d+$")
"""How a folder names a file until it is whole; a process that was killed leaves it behind."""


@dataclass(frozen=True, slots=True)
class Entry:
    """An object as a listing shows it; `modified` is by the clock of the store."""

    key: str
    size: int
    modified: datetime


class Backed(Protocol):
    """What the methods below need of a store."""

    _root: Path | None

    def _is_absent(self) -> bool: ...
    def _backend(self, *, write: bool = False) -> LocalStore | S3Store: ...
    def explained(self, key: str) -> AbstractContextManager[None]: ...
    def delete(self, key: str) -> None: ...


class ListedStore:
    """The part of a `Store` that lists and deletes many objects."""

    def entries(self: Backed, prefix: str = "") -> Iterator[Entry]:
        """The objects below the prefix, page by page, however many there are. On S3 they are sorted."""
        import obstore

        if self._is_absent():
            return
        with self.explained(prefix):
            for batch in obstore.list(self._backend(), prefix or None, chunk_size=PAGE):
                for entry in batch:
                    yield Entry(entry["path"], entry["size"], entry["last_modified"])

    def staged(self: Backed, prefix: str = "") -> Iterator[Entry]:
        """Files below the prefix that no writer has finished yet. On S3 there are none."""
        if self._root is None:
            return
        for folder, _, names in os.walk(self._root / prefix):
            for name in filter(STAGED.search, names):
                path = Path(folder, name)
                with suppress(FileNotFoundError):  # its writer has just finished it
                    status = path.stat()
                    modified = datetime.fromtimestamp(status.st_mtime, UTC)
                    yield Entry(path.relative_to(self._root).as_posix(), status.st_size, modified)

    def delete_all(self: Backed, keys: Sequence[str]) -> None:
        """Remove what is under the keys, as far as anything is; on S3, a thousand in a request.

        A folder loses the directories that become empty.
        """
        import obstore

        if self._root is None:
            with self.explained(keys[0] if keys else ""):
                obstore.delete(self._backend(), list(keys))
            return
        for key in keys:
            if PLAIN_KEY.fullmatch(key) or STAGED.search(key):
                with self.explained(key), suppress(FileNotFoundError):
                    (self._root / key).unlink()
                _remove_empty_folders(self._root / key, self._root)
            else:
                self.delete(key)


def _remove_empty_folders(path: Path, root: Path) -> None:
    """Remove the folders above a path that are empty; a writer makes its folder again when it needs it."""
    for folder in path.parents:
        if folder == root:
            return
        try:
            folder.rmdir()
        except OSError:  # it is not empty, or another process has removed it
            return
