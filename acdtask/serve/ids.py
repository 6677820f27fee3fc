"""Ids in Geocube's protocol: UUIDs computed from names, so that all servers of a cube use the same ids."""

from __future__ import annotations

import uuid

from acdtask.cube.local.cube import LocalCube
from acdtask.cube.model import Instance, Variable
from acdtask.errors import AcdError, ErrorCode

__all__ = ["InstanceDirectory", "instance_id", "variable_id"]


def variable_id(name: str) -> str:
    """The id of a variable.

    >>> variable_id("CoherenceVV")
    '5d4ed678-f6b2-507d-88a6-7f6a69a04377'
    """
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"acd:variable\n{name}"))


def instance_id(variable: str, name: str) -> str:
    """The id of an instance of a variable.

    >>> instance_id("CoherenceVV", "master")
    '7df1ce41-cc06-5006-abbc-7d33386d2e86'
    """
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"acd:instance\n{variable}\n{name}"))


class InstanceDirectory:
    """Finds instances by id."""

    def __init__(self, cube: LocalCube) -> None:
        self._cube = cube
        self._names: dict[str, tuple[str, str]] = {}

    def find(self, identity: str) -> tuple[Variable, Instance]:
        """The instance with an id, and its variable, in their current state. INSTANCE_UNKNOWN."""
        if identity not in self._names:
            self._names = {
                instance_id(instance.variable, instance.name): (instance.variable, instance.name)
                for variable in self._cube.variables()
                for instance in self._cube.instances(variable.name)
            }
        variable_name, name = self._names.get(identity, ("", ""))
        for variable in self._cube.variables():
            if variable.name == variable_name:
                for instance in self._cube.instances(variable_name):
                    if instance.name == name:
                        return variable, instance
        raise AcdError(ErrorCode.INSTANCE_UNKNOWN, f"there is no variable instance with the id {identity}")
