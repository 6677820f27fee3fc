"""Ids on the wire: UUIDs made of names, so that every server of a cube gives the same ones."""

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
    """Finds instances by their ids."""

    def __init__(self, cube: LocalCube) -> None:
        self._cube = cube
        self._names: dict[str, tuple[str, str]] = {}

    def find(self, instance: str) -> tuple[Variable, Instance]:
        """The instance of that id and its variable, as they are now. INSTANCE_UNKNOWN."""
        if instance not in self._names:
            self._names = {
                instance_id(one.variable, one.name): (one.variable, one.name)
                for variable in self._cube.variables()
                for one in self._cube.instances(variable.name)
            }
        variable_name, name = self._names.get(instance, ("", ""))
        for variable in self._cube.variables():
            if variable.name == variable_name:
                for one in self._cube.instances(variable_name):
                    if one.name == name:
                        return variable, one
        raise AcdError(ErrorCode.INSTANCE_UNKNOWN, f"there is no variable instance with the id {instance}")
