"""How the files of a source are reached."""

from __future__ import annotations

from dataclasses import dataclass, field

from acdtask.storage.store import Store
from acdtask.storage.web import Web
from acdtask.storage.web_address import is_web

__all__ = ["Access"]


@dataclass(frozen=True)
class Access:
    """The way to the files of a source.

    Attributes:
        folder: of the source, below which VRTs may refer to files; empty if it has none.
        web: reads those of its files that are on the web.
    """

    folder: str = ""
    web: Web = field(default_factory=Web)

    def store_of(self, address: str) -> Store | Web:
        """What reads the file at an address."""
        return self.web if is_web(address) else Store.at(address.rpartition("/")[0] or "/")
