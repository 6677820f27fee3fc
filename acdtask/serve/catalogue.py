"""What the calls of the server share: the cube, what lies beside its index, and the finding of things by their ids."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from acdtask.cube.local.cube import LocalCube
from acdtask.cube.model import Instance, Record, RecordQuery, Variable
from acdtask.errors import AcdError, ErrorCode
from acdtask.serve.areas import Areas
from acdtask.serve.errors import not_found, uuid_of
from acdtask.serve.ids import InstanceDirectory, variable_id
from acdtask.serve.palettes import Palettes

__all__ = ["Catalogue"]


class Catalogue:
    """The cube of a server.

    Attributes:
        lock: held while something is looked up that must not be there, and made; other servers of the same cube are
            kept out by the cube itself, which then finds its own conflicts.
    """

    def __init__(self, cube: LocalCube) -> None:
        self.cube = cube
        self.areas = Areas(cube.store, lambda: cube.records(RecordQuery()))
        self.palettes = Palettes(cube.store)
        self.lock = threading.Lock()
        self._directory = InstanceDirectory(cube)

    def variable(self, identity: str) -> Variable:
        """The variable of an id. INVALID_ARGUMENT, NOT_FOUND."""
        wanted = uuid_of(identity)
        for variable in self.cube.variables():
            if variable_id(variable.name) == wanted:
                return variable
        raise not_found("Variable", "id", identity)

    def instance(self, identity: str, what: str = "Invalid uuid") -> tuple[Variable, Instance]:
        """The instance of an id, and its variable. INVALID_ARGUMENT (beginning with `what`), NOT_FOUND."""
        wanted = uuid_of(identity, what)
        try:
            return self._directory.find(wanted)
        except AcdError as error:
            if error.code is not ErrorCode.INSTANCE_UNKNOWN:
                raise
            raise not_found("Variable Instance", "id", identity) from error

    def records(self, identities: Sequence[str]) -> list[Record]:
        """The records of some ids, each once, in that order. INVALID_ARGUMENT, NOT_FOUND."""
        wanted = list(dict.fromkeys(uuid_of(one) for one in identities))
        found = self.cube.records_by_id(wanted)
        if len(found) < len(wanted):
            there = {record.id for record in found}
            raise not_found("Record", "id", next(one for one in wanted if one not in there))
        return found

    def address_of(self, uri: str) -> str:
        """The absolute address of a container, as clients know it."""
        return uri if uri.startswith(("/", "s3://", "file://")) else self.cube.store.address_of(uri)

    def key_of(self, address: str) -> str:
        """The key of a container of the cube from its absolute address; other addresses as they are."""
        return address.removeprefix(f"{self.cube.store.url}/")
