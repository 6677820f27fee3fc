"""A state of a local cube, and what changes it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict

from acdtask.cube.model import Addition, Dataset, Instance, Variable
from acdtask.errors import AcdError, ErrorCode
from acdtask.raster.grid import Layout
from acdtask.storage.seal import seal
from acdtask.wording import known_names

__all__ = ["Head", "Removal", "SegmentRef", "head_key"]


class SegmentRef(BaseModel):
    """A segment's key and how many rows it has."""

    model_config = ConfigDict(frozen=True)

    key: str
    rows: int


@dataclass(frozen=True)
class Removal:
    """What is taken out of the index: datasets first, then what they are of, by id or by name."""

    records: frozenset[str] = frozenset()
    datasets: Sequence[Dataset] = ()
    variables: frozenset[str] = frozenset()
    instances: frozenset[tuple[str, str]] = frozenset()
    layouts: frozenset[str] = frozenset()


class Head(BaseModel):
    """A state of the cube: the segments that make up records and datasets, and the catalogue."""

    model_config = ConfigDict(frozen=True)

    number: int = 0
    records: tuple[SegmentRef, ...] = ()
    datasets: tuple[SegmentRef, ...] = ()
    variables: tuple[Variable, ...] = ()
    instances: tuple[Instance, ...] = ()
    layouts: tuple[Layout, ...] = ()

    @property
    def key(self) -> str:
        """Where the head is kept."""
        return head_key(self.number)

    @property
    def segments(self) -> tuple[SegmentRef, ...]:
        """Its segments of records and of datasets."""
        return (*self.records, *self.datasets)

    def encode(self) -> bytes:
        """The head as sealed JSON, the same bytes for the same head."""
        return seal(json.dumps(self.model_dump(mode="json"), sort_keys=True, ensure_ascii=False).encode())

    def variable(self, name: str) -> Variable:
        """The variable of that name. VARIABLE_UNKNOWN."""
        for variable in self.variables:
            if variable.name == name:
                return variable
        known = known_names(name, (one.name for one in self.variables))
        raise AcdError(ErrorCode.VARIABLE_UNKNOWN, f"there is no variable {name!r}{known}")

    def instance(self, variable: str, name: str) -> Instance:
        """An instance of a variable. VARIABLE_UNKNOWN, INSTANCE_UNKNOWN."""
        self.variable(variable)
        for instance in self.instances:
            if (instance.variable, instance.name) == (variable, name):
                return instance
        known = known_names(name, (one.name for one in self.instances if one.variable == variable), what="it has")
        raise AcdError(ErrorCode.INSTANCE_UNKNOWN, f"the variable {variable!r} has no instance {name!r}{known}")

    def layout(self, name: str) -> Layout:
        """The layout of that name. LAYOUT_UNKNOWN."""
        for layout in self.layouts:
            if layout.name == name:
                return layout
        known = known_names(name, (one.name for one in self.layouts))
        raise AcdError(ErrorCode.LAYOUT_UNKNOWN, f"there is no layout {name!r}{known}")

    def with_catalogue(self, addition: Addition) -> Head:
        """The head with the addition's variables, instances and layouts. VARIABLE_CONFLICT, LAYOUT_CONFLICT."""
        variables = {variable.name: variable for variable in self.variables}
        for variable in addition.variables:
            if variables.setdefault(variable.name, variable) != variable:
                there = variables[variable.name].model_dump_json()
                raise AcdError(ErrorCode.VARIABLE_CONFLICT, f"the variable {variable.name!r} is {there}")
        layouts = {layout.name: layout for layout in self.layouts}
        for layout in addition.layouts:
            if layouts.setdefault(layout.name, layout) != layout:
                there = layouts[layout.name].grid.model_dump_json()
                raise AcdError(ErrorCode.LAYOUT_CONFLICT, f"the layout {layout.name!r} is {there}")
        instances = {(instance.variable, instance.name): instance for instance in self.instances}
        for instance in addition.instances:
            if instance.variable not in variables:
                raise AcdError(ErrorCode.VARIABLE_UNKNOWN, f"there is no variable {instance.variable!r}")
            instances.setdefault((instance.variable, instance.name), instance)
        return self.model_copy(
            update={
                "variables": tuple(variables[name] for name in sorted(variables)),
                "instances": tuple(instances[name] for name in sorted(instances)),
                "layouts": tuple(layouts[name] for name in sorted(layouts)),
            }
        )

    def without_catalogue(self, removal: Removal) -> Head:
        """The head without the removal's variables (and their instances), instances and layouts."""
        return self.model_copy(
            update={
                "variables": tuple(one for one in self.variables if one.name not in removal.variables),
                "instances": tuple(
                    one
                    for one in self.instances
                    if one.variable not in removal.variables and (one.variable, one.name) not in removal.instances
                ),
                "layouts": tuple(one for one in self.layouts if one.name not in removal.layouts),
            }
        )

    def with_variable(self, name: str, changes: Mapping[str, Any]) -> Head:
        """The head with other fields of a variable. VARIABLE_UNKNOWN."""
        changed = Variable.model_validate(self.variable(name).model_dump() | dict(changes))
        return self.model_copy(
            update={"variables": tuple(changed if one.name == name else one for one in self.variables)}
        )

    def with_metadata(self, variable: str, name: str, metadata: Mapping[str, str]) -> Head:
        """The head with other metadata of an instance. VARIABLE_UNKNOWN, INSTANCE_UNKNOWN."""
        there = self.instance(variable, name)
        changed = Instance(variable=variable, name=name, metadata=dict(metadata))
        return self.model_copy(update={"instances": tuple(changed if one is there else one for one in self.instances)})


def head_key(number: int) -> str:
    """Where the head of a number is kept."""
    return f"index/heads/{number:08d}.json"
