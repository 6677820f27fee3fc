"""The RPCs on variables, instances and palettes; each method serves the RPC of the same name."""

from __future__ import annotations

import re
from collections.abc import Iterator

from pydantic import ValidationError

from acdtask.cube.model import Instance, Variable
from acdtask.cube.patterns import matcher
from acdtask.cube.protocol import values_pb2
from acdtask.cube.protocol import variables_pb2 as pb
from acdtask.cube.protocol.convert import DTYPES, RESAMPLING_NAMES
from acdtask.raster.data_format import Resampling
from acdtask.serve.catalogue import Catalogue
from acdtask.serve.errors import already_exists, failed, invalid, not_found, not_served, still_used
from acdtask.serve.ids import instance_id
from acdtask.serve.messages import (
    dformat_of,
    instance_to_message,
    is_name,
    page_of,
    require_short,
    served_variable_to_message,
)
from acdtask.serve.palettes import Colour, Palette

__all__ = ["VariableCalls"]

INSTANCE_NAME = re.compile(r"[a-zA-Z0-9\-:_]+")


class VariableCalls:
    """The RPCs on variables, instances and palettes. Every method raises RefusalError or AcdError."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self._cube = catalogue.cube

    def create_variable(self, request: pb.CreateVariableRequest) -> pb.CreateVariableResponse:
        """Create a variable; its palette must exist."""
        variable = _variable_of(request.variable)
        with self._catalogue.lock:
            if any(existing.name == variable.name for existing in self._cube.variables()):
                raise already_exists("Variable", "name", variable.name)
            self._check_palette(variable.palette)
            self._cube.add_variable(variable)
        return pb.CreateVariableResponse(id=self._to_message(variable).id)

    def get_variable(self, request: pb.GetVariableRequest) -> pb.GetVariableResponse:
        """Return a variable with its instances, by its id, the id of an instance, or its name."""
        if request.id:
            variable = self._catalogue.variable(request.id)
        elif request.instance_id:
            variable, _ = self._catalogue.instance(request.instance_id)
        elif request.name:
            variable = self._named(request.name)
        else:
            raise invalid("GetVariable: all parameters are empty")
        return pb.GetVariableResponse(variable=self._to_message(variable))

    def list_variables(self, request: pb.ListVariablesRequest) -> Iterator[pb.ListVariablesResponseItem]:
        """Stream the variables whose names match, sorted by name, except those with a data type unknown to Geocube."""
        matches = matcher(request.name or "*")
        supported = [variable for variable in self._cube.variables() if variable.dformat.dtype in DTYPES]
        matching = [variable for variable in supported if matches(variable.name)]
        for variable in matching[page_of(request.limit, request.page)]:
            yield pb.ListVariablesResponseItem(variable=self._to_message(variable))

    def instantiate_variable(self, request: pb.InstantiateVariableRequest) -> pb.InstantiateVariableResponse:
        """Create an instance of a variable."""
        name = request.instance_name
        if not INSTANCE_NAME.fullmatch(name):
            raise invalid(f"Invalid Name: {name}")
        require_short(name)
        with self._catalogue.lock:
            variable = self._catalogue.variable(request.variable_id)
            if any(existing.name == name for existing in self._cube.instances(variable.name)):
                raise already_exists("Instance", "name", f"{variable.name}:{name}")
            instance = Instance(variable=variable.name, name=name, metadata=dict(request.instance_metadata))
            self._cube.add_instance(instance)
        return pb.InstantiateVariableResponse(instance=instance_to_message(instance))

    def update_variable(self, request: pb.UpdateVariableRequest) -> pb.UpdateVariableResponse:
        """Change the given fields of a variable. UNIMPLEMENTED for a new name."""
        variable = self._catalogue.variable(request.id)
        if request.HasField("name") and request.name.value != variable.name:
            raise not_served(
                "a variable cannot be renamed: its id and those of its instances are computed from its name"
            )
        palette = request.palette.value if request.HasField("palette") else None
        if palette and len(variable.bands) != 1:
            raise invalid("Cannot define a palette to a multi-bands variable")
        _require_palette_name(palette or "")
        self._check_palette(palette or "")
        self._cube.update_variable(
            variable.name,
            unit=request.unit.value if request.HasField("unit") else None,
            description=request.description.value if request.HasField("description") else None,
            resampling=_resampling_of(request.resampling_alg) if request.resampling_alg else None,
            palette=palette,
        )
        return pb.UpdateVariableResponse()

    def update_instance(self, request: pb.UpdateInstanceRequest) -> pb.UpdateInstanceResponse:
        """Set and remove metadata of an instance. UNIMPLEMENTED for a new name."""
        variable, instance = self._catalogue.instance(request.id)
        if request.HasField("name") and request.name.value != instance.name:
            raise not_served("an instance cannot be renamed: its id is computed from its name")
        # Geocube adds first and then removes, so a key in both is removed.
        added = {key: value for key, value in request.add_metadata.items() if key not in request.del_metadata_keys}
        self._cube.update_instance(variable.name, instance.name, added, request.del_metadata_keys)
        return pb.UpdateInstanceResponse()

    def delete_variable(self, request: pb.DeleteVariableRequest) -> pb.DeleteVariableResponse:
        """Remove a variable and its instances, unless an instance has datasets."""
        variable = self._catalogue.variable(request.id)
        for instance in self._cube.instances(variable.name):
            self._check_unused(instance)
        self._cube.remove(variables=[variable.name])
        return pb.DeleteVariableResponse()

    def delete_instance(self, request: pb.DeleteInstanceRequest) -> pb.DeleteInstanceResponse:
        """Remove an instance, unless it has datasets."""
        variable, instance = self._catalogue.instance(request.id)
        self._check_unused(instance)
        self._cube.remove(instances=[(variable.name, instance.name)])
        return pb.DeleteInstanceResponse()

    def _check_unused(self, instance: Instance) -> None:
        if self._cube.datasets(instance.variable, instance.name):
            raise still_used("variable_instances", "datasets", instance_id(instance.variable, instance.name))

    def create_palette(self, request: pb.CreatePaletteRequest) -> pb.CreatePaletteResponse:
        """Store a palette. Storing the same palette again is not a conflict."""
        if not self._catalogue.palettes.create(_palette_of(request.palette), replace=request.replace):
            raise already_exists("Palette", "name", request.palette.name)
        return pb.CreatePaletteResponse()

    def _check_palette(self, name: str) -> None:
        if name and self._catalogue.palettes.find(name) is None:
            raise failed(f"Palette with name: {name} does not exist")

    def _named(self, name: str) -> Variable:
        for variable in self._cube.variables():
            if variable.name == name:
                return variable
        raise not_found("Variable", "name", name)

    def _to_message(self, variable: Variable) -> pb.Variable:
        return served_variable_to_message(variable, self._cube.instances(variable.name))


def _variable_of(message: pb.Variable) -> Variable:
    if message.resampling_alg == values_pb2.UNDEFINED:
        raise invalid("Resampling algorithm cannot be undefined")
    if not is_name(message.name):
        raise invalid(f"Incorrect name: {message.name}")
    require_short(message.name)
    _require_palette_name(message.palette)
    if message.palette and len(message.bands) != 1:
        raise invalid("Cannot define a palette to a multi-bands variable")
    dformat = dformat_of(message.dformat)
    if not message.bands:
        raise invalid("Bands definition must have at least one band")
    if len(message.bands) > 1 and not all(message.bands):
        raise invalid("Band name cannot be empty")
    if len(set(message.bands)) < len(message.bands):
        raise invalid("Band names must be unique")
    return Variable(
        name=message.name,
        dformat=dformat,
        unit=message.unit,
        description=message.description,
        bands=tuple(message.bands),
        resampling=_resampling_of(message.resampling_alg),
        palette=message.palette,
    )


def _require_palette_name(name: str) -> None:
    """INVALID_ARGUMENT if the name is not valid for a palette; empty means no palette."""
    require_short(name)
    if name and not is_name(name):
        raise invalid(f"Incorrect palette name: {name}")


def _resampling_of(number: values_pb2.Resampling.ValueType) -> Resampling:
    if number not in RESAMPLING_NAMES:
        raise invalid(f"Resampling algorithm {number} is unknown")
    return RESAMPLING_NAMES[number]


def _palette_of(message: pb.Palette) -> Palette:
    if not is_name(message.name):
        raise invalid(f"Invalid Palette Name: {message.name}")
    require_short(message.name)
    try:
        points = [Colour(value=point.value, r=point.r, g=point.g, b=point.b, a=point.a) for point in message.colors]
        return Palette(name=message.name, colours=tuple(points))
    except ValidationError as error:
        reason = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise invalid(f"Invalid Palette Points: {reason}") from error
