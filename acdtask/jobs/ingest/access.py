"""Access to the files of a source."""

from __future__ import annotations

from dataclasses import dataclass, field

from acdtask.storage.store import Store
from acdtask.storage.web import Web
from acdtask.storage.web_address import is_web

__all__ = ["Access"]


@dataclass(frozen=True)
class Access:
    """Opens the files of a source.

    Attributes:
        folder: the source's folder. VRTs may refer only to files below it. Empty if the source has none.
        web: reads the source's files that are on the web.
    """

    folder: str = ""
    web: Web = field(default_factory=Web)

    def store_of(self, address: str) -> Store | Web:
        """The store, or web reader, that reads the file at an address."""
        return self.web if is_web(address) else Store.of_file(address)[0]
