"""Listings, fingerprints, and deletion in bulk: the part of a store that handles many objects."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from obstore import ObjectMeta
    from obstore.store import LocalStore, S3Store

__all__ = ["PAGE", "PLAIN_KEY", "Entry", "ListedStore"]

PLAIN_KEY = re.compile(r"[\w:-][\w.:-]*(/[\w:-][\w.:-]*)*", re.ASCII)
"""A key that is the name of its file as it is."""

PAGE = 1000
"""Objects in a page of a listing, and in a request that deletes."""

STAGED = re.compile(r"#\d+$")
"""How a folder names a file until it is whole; a process that was killed leaves it behind."""


LISTED_TOGETHER = 3
"""So many files of a folder are found sooner by a listing of it than one by one."""


@dataclass(frozen=True, slots=True)
class Entry:
    """An object as a listing shows it; `modified` is by the clock of the store."""

    key: str
    size: int
    modified: datetime


class Backed(Protocol):
    """What the methods below need of a store."""

    _root: Path | None
    _bucket_seen: bool

    def _is_absent(self) -> bool: ...
    def _backend(self, *, write: bool = False) -> LocalStore | S3Store: ...
    def explained(self, key: str) -> AbstractContextManager[None]: ...
    def delete(self, key: str) -> None: ...
    def fingerprints(self, prefix: str = "") -> dict[str, str]: ...
    def _check_bucket(self, error: FileNotFoundError) -> None: ...


class ListedStore:
    """The part of a `Store` that lists, compares and deletes many objects."""

    def entries(self: Backed, prefix: str = "") -> Iterator[Entry]:
        """The objects below the prefix, page by page, however many there are. On S3 they are sorted."""
        import obstore

        if self._is_absent():
            return
        with self.explained(prefix):
            for batch in obstore.list(self._backend(), prefix or None, chunk_size=PAGE):
                for entry in batch:
                    yield Entry(entry["path"], entry["size"], entry["last_modified"])

    def list(self: Backed, prefix: str = "") -> list[str]:
        """The keys below the prefix (a whole part of a key: 'a' has 'a/b', not 'ab'), relative to the store, sorted.

        What a writer has not finished is not listed.
        """
        import obstore

        if self._is_absent():
            return []
        with self.explained(prefix):
            batches = obstore.list(self._backend(), prefix or None, chunk_size=PAGE)
            keys = sorted(entry["path"] for batch in batches for entry in batch)
        self._bucket_seen = True
        return keys

    def fingerprints(self: Backed, prefix: str = "") -> dict[str, str]:
        """The keys below the prefix (or the key itself), each with a text that changes when what is there does."""
        import obstore

        if self._is_absent():
            return {}
        with self.explained(prefix):
            entries = [
                entry for batch in obstore.list(self._backend(), prefix or None, chunk_size=PAGE) for entry in batch
            ]
            if not entries and prefix:
                try:
                    entries = [obstore.head(self._backend(), prefix)]
                except FileNotFoundError as error:
                    self._check_bucket(error)
        return {entry["path"]: _fingerprint(entry) for entry in sorted(entries, key=lambda entry: entry["path"])}

    def fingerprint(self: Backed, key: str) -> str | None:
        """The text that `fingerprints` has for a key, or None if nothing is under it."""
        import obstore

        if self._is_absent():
            return None
        with self.explained(key):
            try:
                return _fingerprint(obstore.head(self._backend(), key))
            except FileNotFoundError as error:
                self._check_bucket(error)
                return None

    def fingerprints_in(self: Backed, names: Collection[str]) -> dict[str, str]:
        """The fingerprints of those of the names that are there. Several are listed together, not asked for one by one.

        Folders below this one are not listed.
        """
        import obstore

        if len(names) < LISTED_TOGETHER:
            marks = [self.fingerprints(name) for name in names]
            return {name: found[name] for name, found in zip(names, marks, strict=True) if name in found}
        if self._is_absent():
            return {}
        with self.explained(""):
            entries = obstore.list_with_delimiter(self._backend())["objects"]
        return {entry["path"]: _fingerprint(entry) for entry in entries if entry["path"] in names}

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


def _fingerprint(entry: ObjectMeta) -> str:
    """The size of an object, and what tells its content from another one of that size."""
    return f"{entry['size']} {entry['e_tag'] or entry['last_modified'].isoformat()}"


def _remove_empty_folders(path: Path, root: Path) -> None:
    """Remove the folders above a path that are empty; a writer makes its folder again when it needs it."""
    for folder in path.parents:
        if folder == root:
            return
        try:
            folder.rmdir()
        except OSError:  # it is not empty, or another process has removed it
            return
