"""Listing, fingerprinting and deleting many objects of a store."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from acdtask.storage.backend import StoreBackend

if TYPE_CHECKING:
    from obstore import ObjectMeta

__all__ = ["PAGE", "PLAIN_KEY", "Entry", "ListedStore", "fingerprint_of"]

PLAIN_KEY = re.compile(r"[\w:-][\w.:-]*(/[\w:-][\w.:-]*)*", re.ASCII)
"""A key that obstore uses unescaped as a file name."""

PAGE = 1000
"""Objects per page of a listing and per delete request."""

STAGED = re.compile(r"#\d+$")
"""Suffix of a file that is still being written in a folder; a killed process leaves such files behind."""

LISTED_TOGETHER = 3
"""Number of files from which one listing of their folder is faster than a request for each."""


@dataclass(frozen=True, slots=True)
class Entry:
    """An object in a listing; `modified` is in the store's clock."""

    key: str
    size: int
    modified: datetime


class ListedStore(StoreBackend):
    """The part of `Store` that lists, compares and deletes objects."""

    def entries(self, prefix: str = "") -> Iterator[Entry]:
        """Iterate over the objects below a prefix, page by page. On S3 they are sorted by key."""
        import obstore

        if self._is_absent():
            return
        with self.explained(prefix):
            for batch in obstore.list(self._backend(), prefix or None, chunk_size=PAGE):
                for entry in batch:
                    yield Entry(entry["path"], entry["size"], entry["last_modified"])

    def list(self, prefix: str = "") -> list[str]:
        """List the keys below a prefix, relative to the store and sorted. Prefix 'a' matches 'a/b', but not 'ab'.

        Files that are still being written are not listed.
        """
        keys = sorted(entry.key for entry in self.entries(prefix))
        self._bucket_seen = True
        return keys

    def fingerprints(self, prefix: str = "") -> dict[str, str]:
        """Fingerprints, which change with content, of the objects below a prefix or of the object with this key."""
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
        return {entry["path"]: fingerprint_of(entry) for entry in sorted(entries, key=lambda entry: entry["path"])}

    def fingerprint(self, key: str) -> str | None:
        """Fingerprint of an object, as in `fingerprints`; None if it is missing."""
        import obstore

        if self._is_absent():
            return None
        with self.explained(key):
            try:
                return fingerprint_of(obstore.head(self._backend(), key))
            except FileNotFoundError as error:
                self._check_bucket(error)
                return None

    def fingerprints_in(self, names: Collection[str]) -> dict[str, str]:
        """Fingerprints by name of the existing objects among `names`, which are directly below the store."""
        import obstore

        if len(names) < LISTED_TOGETHER:
            return {name: mark for name in names for key, mark in self.fingerprints(name).items() if key == name}
        if self._is_absent():
            return {}
        with self.explained(""):
            entries = obstore.list_with_delimiter(self._backend())["objects"]
        return {entry["path"]: fingerprint_of(entry) for entry in entries if entry["path"] in names}

    def staged(self, prefix: str = "") -> Iterator[Entry]:
        """Iterate over unfinished files below a prefix: being written, or left by a killed writer. None on S3."""
        if self._root is None:
            return
        for folder, _, names in os.walk(self._root / prefix):
            for name in filter(STAGED.search, names):
                path = Path(folder, name)
                with suppress(FileNotFoundError):  # finished meanwhile
                    status = path.stat()
                    modified = datetime.fromtimestamp(status.st_mtime, UTC)
                    yield Entry(path.relative_to(self._root).as_posix(), status.st_size, modified)

    def delete(self, key: str) -> None:
        """Delete an object if it exists."""
        import obstore

        if self._is_absent():
            return
        with self.explained(key):
            try:
                obstore.delete(self._backend(), key)
            except FileNotFoundError as error:
                self._check_bucket(error)

    def delete_all(self, keys: Sequence[str]) -> None:
        """Delete the objects with these keys, ignoring missing ones; on S3, a thousand per request.

        In a folder, directories that become empty are removed too.
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


def fingerprint_of(entry: ObjectMeta) -> str:
    """Size of an object with its ETag, or with the time of its last change."""
    return f"{entry['size']} {entry['e_tag'] or entry['last_modified'].isoformat()}"


def _remove_empty_folders(path: Path, root: Path) -> None:
    """Remove empty folders above a path; writers recreate them when needed."""
    for folder in path.parents:
        if folder == root:
            return
        try:
            folder.rmdir()
        except OSError:  # not empty, or already removed by another process
            return
