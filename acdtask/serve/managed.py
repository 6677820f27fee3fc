"""Managed containers: their files are deleted together with their last dataset."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Sequence

from acdtask.errors import AcdError, ErrorCode
from acdtask.raster.open_images import forget_image
from acdtask.storage.roots import Roots, plain_address
from acdtask.storage.store import Store

__all__ = ["Managed"]


NOT_OURS = (ErrorCode.ADDRESS_OUTSIDE, ErrorCode.ADDRESS_MALFORMED)


class Managed:
    """The list of managed containers, stored below `managed/`.

    Their files are deleted only below `data`, a list of folders and s3:// prefixes.
    """

    def __init__(self, store: Store, data: Sequence[str] = ()) -> None:
        self._store = store
        self._data = Roots(tuple(Store.at(address).url for address in data))

    def mark(self, uri: str) -> None:
        """Mark a container as managed."""
        self._store.create(_key(uri), uri.encode())

    def is_marked(self, uri: str) -> bool:
        """Whether a container is managed. CUBE_DAMAGED."""
        data = self._store.find(_key(uri))
        if data not in (None, uri.encode()):
            raise AcdError(
                ErrorCode.CUBE_DAMAGED,
                f"{self._store.address_of(_key(uri))} is damaged: it should hold {uri}",
                "Delete the file; the container's own file is then kept when its last dataset is deleted.",
            )
        return data is not None

    def release(self, uri: str) -> str:
        """Delete a managed container after its last dataset was deleted. Returns a line for the job's log.

        CUBE_DAMAGED, and errors of the store.
        """
        if not self.is_marked(uri):
            return f"{uri} is not managed: its file is kept"
        self._store.delete(_key(uri))
        try:
            forget_image(self._store.gdal_path(uri))
            self._delete(plain_address(uri))
        except AcdError as error:
            if error.code not in NOT_OURS:
                raise
            return f"this server may not delete files at {uri}: the file is kept"
        return f"{uri} was deleted"

    def _delete(self, address: str) -> None:
        if address.startswith("s3://"):
            folder, _, name = self._data.resolve(address).rpartition("/")
            Store.at(folder).delete(name)
            return
        with self._store.explained(address), contextlib.suppress(FileNotFoundError):
            self._data.remove(address)


def _key(uri: str) -> str:
    return f"managed/{hashlib.sha256(uri.encode()).hexdigest()[:32]}.txt"
