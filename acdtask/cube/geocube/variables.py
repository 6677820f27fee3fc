"""Variables and instances on a Geocube."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from pydantic import ValidationError

from acdtask.cube.geocube.channel import Channel
from acdtask.cube.geocube.errors import check_name, is_taken, malformed
from acdtask.cube.model import Instance, Variable
from acdtask.cube.protocol import variables_pb2 as pb
from acdtask.cube.protocol.convert import RESAMPLING_NAMES, RESAMPLINGS, dformat_from_message, dformat_to_message
from acdtask.errors import AcdError, ErrorCode

__all__ = ["SCALE_KEY", "ServedInstance", "Variables"]

SCALE_KEY = "acd:scale"
"""Metadata key of an instance that stores its variable's scale, since Geocube has no field for it."""

SCALE_INSTANCE = "acd:scale"
"""An instance without datasets that stores the scale of a new variable."""


@dataclass(frozen=True)
class ServedInstance:
    """An instance with its variable and the server's ids of both."""

    id: str
    variable_id: str
    variable: Variable
    instance: Instance


class Variables:
    """Variables and instances. Every method raises AcdError."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._served: dict[tuple[str, str], ServedInstance] = {}
        self._lock = threading.Lock()

    def variable(self, name: str) -> Variable:
        """The variable of that name. VARIABLE_UNKNOWN; SETTING_INVALID if acd does not support its data type."""
        return self._variable_of(self._message(name))

    def variables(self) -> list[Variable]:
        """All variables that acd can read, sorted by name."""
        stub = self._channel.geocube
        variables = []
        for item in self._channel.listed(stub.ListVariables, pb.ListVariablesRequest()):
            try:
                variables.append(self._variable_of(item.variable))
            except AcdError as error:
                if error.code is not ErrorCode.SETTING_INVALID:
                    raise
        return sorted(variables, key=lambda variable: variable.name)

    def instances(self, variable: str) -> list[Instance]:
        """The instances of a variable, sorted by name. VARIABLE_UNKNOWN."""
        message = self._message(variable)
        instances = [_instance(variable, item) for item in message.instances if item.name != SCALE_INSTANCE]
        return sorted(instances, key=lambda instance: instance.name)

    def served(self, variable: str, instance: str) -> ServedInstance:
        """The instance with its id, cached. VARIABLE_UNKNOWN, INSTANCE_UNKNOWN."""
        key = variable, instance
        if key not in self._served:
            message = self._message(variable)
            definition = self._variable_of(message)
            instances = {
                (variable, item.name): ServedInstance(item.id, message.id, definition, _instance(variable, item))
                for item in message.instances
                if item.name != SCALE_INSTANCE
            }
            with self._lock:
                self._served |= instances
            if key not in instances:
                raise AcdError(ErrorCode.INSTANCE_UNKNOWN, f"variable {variable} has no instance {instance!r}")
        return self._served[key]

    @contextmanager
    def forgetting(self, served: ServedInstance) -> Iterator[None]:
        """Remove the instance from the cache if the block raises INSTANCE_UNKNOWN."""
        try:
            yield
        except AcdError as error:
            if error.code is ErrorCode.INSTANCE_UNKNOWN:
                with self._lock:
                    self._served.pop((served.variable.name, served.instance.name), None)
            raise

    def variable_id(self, name: str) -> str:
        """The server's id of a variable. VARIABLE_UNKNOWN."""
        return self._message(name).id

    def add_variable(self, variable: Variable) -> bool:
        """Create the variable if it does not exist. Returns whether it is new.

        NAME_INVALID, SETTING_INVALID for what Geocube does not support, VARIABLE_CONFLICT (naming the differences).
        """
        check_name("a variable", variable.name)
        _check_bands(variable)
        message = pb.Variable(
            name=variable.name,
            unit=variable.unit,
            description=variable.description,
            dformat=dformat_to_message(variable.dformat),
            bands=variable.bands,
            palette=variable.palette,
            resampling_alg=RESAMPLINGS[variable.resampling],
        )
        existing = self._find(variable.name)
        if existing is None:
            try:
                made = self._channel.call(
                    self._channel.geocube.CreateVariable, pb.CreateVariableRequest(variable=message)
                )
            except AcdError as error:
                if error.code is not ErrorCode.VARIABLE_CONFLICT:
                    raise
                existing = self._message(variable.name)  # another client was faster
            else:
                if variable.scale != 1:
                    self._instantiate(made.id, SCALE_INSTANCE, _scale_metadata(variable.scale))
                return True
        self._compare(variable, existing)
        return False

    def add_instance(self, instance: Instance, scale: float | None = None) -> bool:
        """Create the instance if it does not exist. Returns whether it is new.

        An existing instance keeps its metadata. NAME_INVALID, VARIABLE_UNKNOWN.
        """
        check_name(f"an instance of {instance.variable}", instance.name, parts=False)
        message = self._message(instance.variable)
        if any(item.name == instance.name for item in message.instances):
            return False
        known = self._variable_of(message).scale if scale is None else scale
        return self._instantiate(message.id, instance.name, instance.metadata | _scale_metadata(known))

    def _message(self, name: str) -> pb.Variable:
        message = self._find(name)
        if message is None:
            raise AcdError(ErrorCode.VARIABLE_UNKNOWN, f"{self._channel.endpoint.address} has no variable {name!r}")
        return message

    def _find(self, name: str) -> pb.Variable | None:
        if not name:
            return None
        try:
            answer = self._channel.call(self._channel.geocube.GetVariable, pb.GetVariableRequest(name=name))
        except AcdError as error:
            if error.code is ErrorCode.VARIABLE_UNKNOWN:
                return None
            raise
        return answer.variable

    def _instantiate(self, variable_id: str, name: str, metadata: dict[str, str]) -> bool:
        request = pb.InstantiateVariableRequest(variable_id=variable_id, instance_name=name, instance_metadata=metadata)
        try:
            self._channel.call(self._channel.geocube.InstantiateVariable, request)
        except AcdError as error:
            if not is_taken(error):
                raise
            return False  # another client was faster
        return True

    def _variable_of(self, message: pb.Variable) -> Variable:
        try:
            dformat = dformat_from_message(message.dformat)
        except AcdError as error:
            raise AcdError(error.code, f"variable {message.name}: {error.detail}") from error
        try:
            return Variable(
                name=message.name,
                dformat=dformat,
                unit=message.unit,
                description=message.description,
                bands=tuple(message.bands),
                resampling=RESAMPLING_NAMES[message.resampling_alg],
                scale=_scale(message),
                palette=message.palette,
            )
        except (ValidationError, KeyError) as error:
            raise malformed(self._channel.endpoint, f"the variable {message.name!r} is invalid") from error

    def _compare(self, wanted: Variable, message: pb.Variable) -> None:
        """VARIABLE_CONFLICT if the existing variable differs from the wanted one."""
        existing = self._variable_of(message)
        fields = ["dformat", "bands", "unit", "description", "resampling"]
        fields += ["palette"] if wanted.palette else []
        fields += ["scale"] if _scale_of(message) is not None else []
        differences = [
            f"{field} {getattr(existing, field)!s} instead of {getattr(wanted, field)!s}"
            for field in fields
            if getattr(existing, field) != getattr(wanted, field)
        ]
        if differences:
            detail = f"{self._channel.endpoint.address} has the variable {wanted.name} with {'; '.join(differences)}"
            raise AcdError(ErrorCode.VARIABLE_CONFLICT, detail)


def _check_bands(variable: Variable) -> None:
    bands = variable.bands
    if not bands or len(set(bands)) < len(bands) or (len(bands) > 1 and not all(bands)):
        detail = f"variable {variable.name} has the bands {', '.join(map(repr, bands)) or 'none'}"
        raise AcdError(ErrorCode.SETTING_INVALID, detail, "Give each band a unique name; a single band may be ''.")


def _instance(variable: str, message: pb.Instance) -> Instance:
    metadata = {key: value for key, value in message.metadata.items() if key != SCALE_KEY}
    return Instance.model_construct(variable=variable, name=message.name, metadata=metadata)


def _scale_metadata(scale: float) -> dict[str, str]:
    return {SCALE_KEY: repr(scale)} if scale != 1 else {}


def _scale(message: pb.Variable) -> float:
    scale = _scale_of(message)
    return 1.0 if scale is None else scale


def _scale_of(message: pb.Variable) -> float | None:
    """The scale stored with the variable's instances, or None."""
    for instance in sorted(message.instances, key=lambda item: item.name):
        if text := instance.metadata.get(SCALE_KEY):
            try:
                return float(text)
            except ValueError:
                continue
    return None
