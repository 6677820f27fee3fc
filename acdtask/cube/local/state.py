"""Heads: the states of a local cube's index. Removals from it."""

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
    """Key of a segment and its number of rows."""

    model_config = ConfigDict(frozen=True)

    key: str
    rows: int


@dataclass(frozen=True)
class Removal:
    """What to remove from the index: records by id, datasets, and the rest by name; instances as (variable, name)."""

    records: frozenset[str] = frozenset()
    datasets: Sequence[Dataset] = ()
    variables: frozenset[str] = frozenset()
    instances: frozenset[tuple[str, str]] = frozenset()
    layouts: frozenset[str] = frozenset()


class Head(BaseModel):
    """A state of the cube: the segments of its records and datasets, and its catalogue.

    Attributes:
        number: number of the state, from 1; 0 for the empty state before the first commit.
    """

    model_config = ConfigDict(frozen=True)

    number: int = 0
    records: tuple[SegmentRef, ...] = ()
    datasets: tuple[SegmentRef, ...] = ()
    variables: tuple[Variable, ...] = ()
    instances: tuple[Instance, ...] = ()
    layouts: tuple[Layout, ...] = ()

    @property
    def key(self) -> str:
        """Key of the head."""
        return head_key(self.number)

    @property
    def segments(self) -> tuple[SegmentRef, ...]:
        """The segments of records and of datasets."""
        return (*self.records, *self.datasets)

    def encode(self) -> bytes:
        """Encode as sealed JSON. Equal heads give the same bytes."""
        return seal(json.dumps(self.model_dump(mode="json"), sort_keys=True, ensure_ascii=False).encode())

    def variable(self, name: str) -> Variable:
        """The variable with a name. VARIABLE_UNKNOWN."""
        for variable in self.variables:
            if variable.name == name:
                return variable
        known = known_names(name, (variable.name for variable in self.variables))
        raise AcdError(ErrorCode.VARIABLE_UNKNOWN, f"there is no variable {name!r}{known}")

    def instance(self, variable: str, name: str) -> Instance:
        """The instance of a variable with a name. VARIABLE_UNKNOWN, INSTANCE_UNKNOWN."""
        self.variable(variable)
        instances = {instance.name: instance for instance in self.instances if instance.variable == variable}
        if name in instances:
            return instances[name]
        known = known_names(name, instances, what="it has")
        raise AcdError(ErrorCode.INSTANCE_UNKNOWN, f"the variable {variable!r} has no instance {name!r}{known}")

    def layout(self, name: str) -> Layout:
        """The layout with a name. LAYOUT_UNKNOWN."""
        for layout in self.layouts:
            if layout.name == name:
                return layout
        known = known_names(name, (layout.name for layout in self.layouts))
        raise AcdError(ErrorCode.LAYOUT_UNKNOWN, f"there is no layout {name!r}{known}")

    def with_catalogue(self, addition: Addition) -> Head:
        """The head with the variables, instances and layouts of an addition.

        VARIABLE_CONFLICT, LAYOUT_CONFLICT, VARIABLE_UNKNOWN.
        """
        variables = {variable.name: variable for variable in self.variables}
        for variable in addition.variables:
            if variables.setdefault(variable.name, variable) != variable:
                current = variables[variable.name].model_dump_json()
                raise AcdError(ErrorCode.VARIABLE_CONFLICT, f"the variable {variable.name!r} is {current}")
        layouts = {layout.name: layout for layout in self.layouts}
        for layout in addition.layouts:
            if layouts.setdefault(layout.name, layout) != layout:
                current = layouts[layout.name].grid.model_dump_json()
                raise AcdError(ErrorCode.LAYOUT_CONFLICT, f"the layout {layout.name!r} is {current}")
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
        """The head without the variables (and their instances), instances and layouts of a removal."""
        return self.model_copy(
            update={
                "variables": tuple(v for v in self.variables if v.name not in removal.variables),
                "instances": tuple(
                    i
                    for i in self.instances
                    if i.variable not in removal.variables and (i.variable, i.name) not in removal.instances
                ),
                "layouts": tuple(layout for layout in self.layouts if layout.name not in removal.layouts),
            }
        )

    def with_variable(self, name: str, changes: Mapping[str, Any]) -> Head:
        """The head with changed fields of a variable. VARIABLE_UNKNOWN."""
        changed = Variable.model_validate(self.variable(name).model_dump() | dict(changes))
        return self.model_copy(update={"variables": tuple(changed if v.name == name else v for v in self.variables)})

    def with_metadata(self, variable: str, name: str, metadata: Mapping[str, str]) -> Head:
        """The head with new metadata of an instance. VARIABLE_UNKNOWN, INSTANCE_UNKNOWN."""
        current = self.instance(variable, name)
        changed = Instance(variable=variable, name=name, metadata=dict(metadata))
        return self.model_copy(update={"instances": tuple(changed if i is current else i for i in self.instances)})


def head_key(number: int) -> str:
    """Key of the head with a number."""
    return f"index/heads/{number:08d}.json"
