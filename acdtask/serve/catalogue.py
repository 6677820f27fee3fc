"""State shared by the calls of the server: the cube, its areas and palettes, and lookups by id."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from acdtask.cube.local.cube import LocalCube
from acdtask.cube.model import OUTSIDE, Instance, Record, RecordQuery, Variable
from acdtask.serve.areas import Areas
from acdtask.serve.errors import not_found, uuid_of
from acdtask.serve.ids import instance_id, variable_id
from acdtask.serve.palettes import Palettes

__all__ = ["Catalogue"]


class Catalogue:
    """The cube of a server, with its areas and palettes.

    Attributes:
        lock: held while a call checks that an item does not exist and creates it. Conflicts with other servers of the
            same cube are detected by the cube itself.
    """

    def __init__(self, cube: LocalCube) -> None:
        self.cube = cube
        self.areas = Areas(cube.store, lambda: cube.records(RecordQuery()))
        self.palettes = Palettes(cube.store)
        self.lock = threading.Lock()
        self._instance_names: dict[str, tuple[str, str]] = {}

    def variable(self, identity: str) -> Variable:
        """The variable with an id. INVALID_ARGUMENT, NOT_FOUND."""
        wanted = uuid_of(identity)
        for variable in self.cube.variables():
            if variable_id(variable.name) == wanted:
                return variable
        raise not_found("Variable", "id", identity)

    def instance(self, identity: str, what: str = "Invalid uuid") -> tuple[Variable, Instance]:
        """The instance with an id, and its variable. INVALID_ARGUMENT (message beginning with `what`), NOT_FOUND."""
        wanted = uuid_of(identity, what)
        if wanted not in self._instance_names:
            self._instance_names = {
                instance_id(instance.variable, instance.name): (instance.variable, instance.name)
                for variable in self.cube.variables()
                for instance in self.cube.instances(variable.name)
            }
        variable_name, name = self._instance_names.get(wanted, ("", ""))
        for variable in self.cube.variables():
            for instance in self.cube.instances(variable_name) if variable.name == variable_name else ():
                if instance.name == name:
                    return variable, instance
        raise not_found("Variable Instance", "id", identity)

    def records(self, identities: Sequence[str]) -> list[Record]:
        """The records with these ids, each once, in that order. INVALID_ARGUMENT, NOT_FOUND."""
        wanted = list(dict.fromkeys(uuid_of(record_id) for record_id in identities))
        records = self.cube.records_by_id(wanted)
        if len(records) < len(wanted):
            known = {record.id for record in records}
            raise not_found("Record", "id", next(record_id for record_id in wanted if record_id not in known))
        return records

    def address_of(self, uri: str) -> str:
        """The absolute address of a container, as sent to clients."""
        return uri if uri.startswith(OUTSIDE) else self.cube.store.address_of(uri)

    def key_of(self, address: str) -> str:
        """The key of a container of the cube from its absolute address; other addresses unchanged."""
        return address.removeprefix(f"{self.cube.store.url}/")
