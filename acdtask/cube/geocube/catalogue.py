"""Variables, instances, layouts, areas and records of a Geocube: found, made, and compared with what is there."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc

from acdtask.cube.geocube.link import Link, ServerError
from acdtask.cube.geocube.translate import (
    instances_from_wire,
    layout_from_wire,
    layout_to_wire,
    record_from_wire,
    variable_from_wire,
    variable_to_wire,
)
from acdtask.cube.grid import Layout
from acdtask.cube.model import NAME_RULE, Instance, Record, RecordQuery, Variable
from acdtask.cube.protocol import layouts_pb2, records_pb2, services_pb2, variables_pb2
from acdtask.cube.protocol.convert import area_to_wire, moment_to_wire
from acdtask.errors import AcdError, ErrorCode

__all__ = ["Catalogue"]

RECORDS_AT_ONCE = 500
CALLS_AT_ONCE = 8
MAKING_ATTEMPTS = 5

ALREADY_EXISTS, NOT_FOUND = grpc.StatusCode.ALREADY_EXISTS, grpc.StatusCode.NOT_FOUND


class Catalogue:
    """What a server knows of itself. Every method raises what Link raises."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._variables: dict[str, variables_pb2.Variable] = {}
        self._record_ids: dict[str, str] = {}

    def version(self) -> str:
        """The server's version."""
        return str(self._link.call("Version", services_pb2.GetVersionRequest()).Version)

    def variable(self, name: str) -> Variable:
        """The variable of that name. VARIABLE_UNKNOWN."""
        return variable_from_wire(self._variable(name, fresh=True))

    def variables(self) -> list[Variable]:
        """Every variable whose format acd knows, by name."""
        found = self._link.listing("ListVariables", variables_pb2.ListVariablesRequest())
        made = []
        for item in found:
            try:
                made.append(variable_from_wire(item.variable))
            except AcdError as error:
                if error.code is not ErrorCode.SETTING_INVALID:
                    raise
        return sorted(made, key=lambda one: one.name)

    def instances(self, variable: str) -> list[Instance]:
        """The instances of a variable, by name. VARIABLE_UNKNOWN."""
        return instances_from_wire(self._variable(variable, fresh=True))

    def instance_id(self, variable: str, instance: str) -> str:
        """The server's id of an instance. VARIABLE_UNKNOWN, INSTANCE_UNKNOWN."""
        for fresh in (False, True):
            for one in self._variable(variable, fresh=fresh).instances:
                if one.name == instance:
                    return str(one.id)
        raise AcdError(ErrorCode.INSTANCE_UNKNOWN, f"the variable {variable!r} has no instance {instance!r}")

    def variable_id(self, name: str) -> str:
        """The server's id of a variable. VARIABLE_UNKNOWN."""
        return str(self._variable(name).id)

    def add_variable(self, variable: Variable) -> bool:
        """Make a variable; False if the same is there. VARIABLE_CONFLICT, which tells the difference."""
        _require_name(variable.name)
        request = variables_pb2.CreateVariableRequest(variable=variable_to_wire(variable))
        if self._made("CreateVariable", request):
            return True
        there = self.variable(variable.name)
        if differences := _differences(there, variable):
            raise AcdError(ErrorCode.VARIABLE_CONFLICT, f"the variable {variable.name!r} has {differences}")
        return False

    def add_instance(self, instance: Instance) -> bool:
        """Make an instance; False if it is there. VARIABLE_UNKNOWN."""
        _require_name(instance.name)
        request = variables_pb2.InstantiateVariableRequest(
            variable_id=self._variable(instance.variable, fresh=True).id,
            instance_name=instance.name,
            instance_metadata=instance.metadata,
        )
        made = self._made("InstantiateVariable", request)
        self._variables.pop(instance.variable, None)
        return made

    def layouts(self, pattern: str = "") -> list[Layout]:
        """Every layout that is a regular grid of square cells, by name."""
        found = []
        for message in self._layouts(pattern):
            try:
                found.append(layout_from_wire(message))
            except AcdError as error:
                if error.code is not ErrorCode.LAYOUT_INVALID:
                    raise
        return sorted(found, key=lambda one: one.name)

    def layout(self, name: str) -> Layout:
        """The layout of that name. LAYOUT_UNKNOWN, LAYOUT_INVALID."""
        if NAME_RULE.match(name):
            for message in self._layouts(name):
                if message.name == name:
                    return layout_from_wire(message)
        raise AcdError(ErrorCode.LAYOUT_UNKNOWN, f"there is no layout {name!r}")

    def add_layout(self, layout: Layout) -> bool:
        """Make a layout; False if the same is there. LAYOUT_CONFLICT."""
        _require_name(layout.name)
        if self._made("CreateLayout", layouts_pb2.CreateLayoutRequest(layout=layout_to_wire(layout))):
            return True
        there = self.layout(layout.name)
        if there != layout:
            shown = there.grid.model_dump_json()
            raise AcdError(ErrorCode.LAYOUT_CONFLICT, f"the layout {layout.name!r} is {shown}")
        return False

    def records(self, query: RecordQuery, *, with_area: bool = True) -> list[Record]:
        """The records that the query asks for, by datetime, then name, then id."""
        request = records_pb2.ListRecordsRequest(
            name=query.name,
            tags=query.tags,
            from_time=moment_to_wire(query.start),
            to_time=moment_to_wire(query.end),
            aoi=area_to_wire(query.area) if query.area is not None else None,
            limit=query.limit,
            page=query.page,
            with_aoi=with_area,
        )
        found = []
        for item in self._link.listing("ListRecords", request):
            record = record_from_wire(item.record)
            self._record_ids[record.id] = item.record.id
            found.append(record)
        return sorted(found, key=lambda one: (one.datetime, one.name, one.id))

    def note_record(self, message: records_pb2.Record) -> str:
        """Keep the server's id of a record that came along with something else, and return acd's."""
        record_id = record_from_wire(message).id
        self._record_ids[record_id] = message.id
        return record_id

    def server_ids(self, record_ids: Iterable[str]) -> dict[str, str]:
        """The server's ids of records; those that it has not are left out."""
        wanted = list(record_ids)
        if any(one not in self._record_ids for one in wanted):
            self.records(RecordQuery(), with_area=False)
        return {one: self._record_ids[one] for one in wanted if one in self._record_ids}

    def add_records(self, records: Sequence[Record]) -> bool:
        """Make the records that are not there; False if all are. AOI_EMPTY for one without an area."""
        fresh = {record.id: record for record in records}
        for record in fresh.values():
            _require_name(record.name)
        made = False
        for _ in range(MAKING_ATTEMPTS):
            missing = self._missing(list(fresh.values()))
            if not missing:
                return made
            areas = self._area_ids(missing)
            for first in range(0, len(missing), RECORDS_AT_ONCE):
                made = self._make_records(missing[first : first + RECORDS_AT_ONCE], areas) or made
        raise AcdError(ErrorCode.STORE_CONTENDED, f"others make the same records at {self._link.target}")

    def _missing(self, records: list[Record]) -> list[Record]:
        unknown = [one for one in records if one.id not in self._record_ids]
        if unknown:
            moments = [one.datetime for one in unknown]
            self.records(RecordQuery(start=min(moments), end=max(moments)), with_area=False)
        return [one for one in unknown if one.id not in self._record_ids]

    def _make_records(self, batch: Sequence[Record], areas: dict[str, str]) -> bool:
        request = records_pb2.CreateRecordsRequest(
            records=[
                records_pb2.NewRecord(
                    name=one.name, time=moment_to_wire(one.datetime), tags=one.tags, aoi_id=areas[one.id]
                )
                for one in batch
            ]
        )
        try:
            answer = self._link.call("CreateRecords", request, again=False)
        except ServerError as error:
            if error.status is ALREADY_EXISTS or error.code is ErrorCode.GEOCUBE_UNREACHABLE:
                return False  # somebody made some of them, or the answer was lost: look again
            raise
        self._record_ids.update(zip((one.id for one in batch), answer.ids, strict=True))
        return True

    def _area_ids(self, records: list[Record]) -> dict[str, str]:
        """The server's ids of the records' areas, by acd's ids of the records."""
        texts = {one.id: area_to_wire(one.footprint).SerializeToString(deterministic=True) for one in records}
        distinct = sorted(set(texts.values()))
        with ThreadPoolExecutor(CALLS_AT_ONCE) as pool:
            made = dict(zip(distinct, pool.map(self._area_id, distinct), strict=True))
        return {one: made[text] for one, text in texts.items()}

    def _area_id(self, encoded: bytes) -> str:
        request = records_pb2.CreateAOIRequest(aoi=records_pb2.AOI.FromString(encoded))
        try:
            return str(self._link.call("CreateAOI", request).id)
        except ServerError as error:
            if error.status is ALREADY_EXISTS and error.resource[1]:
                return error.resource[1]
            raise

    def _made(self, name: str, request: Any) -> bool:
        """Whether the thing was made; False if one of its name is there."""
        try:
            self._link.call(name, request)
        except ServerError as error:
            if error.status is ALREADY_EXISTS:
                return False
            raise
        return True

    def _variable(self, name: str, *, fresh: bool = False) -> variables_pb2.Variable:
        if fresh or name not in self._variables:
            _require_known_name(name)
            request = variables_pb2.GetVariableRequest(name=name)
            try:
                self._variables[name] = self._link.call("GetVariable", request).variable
            except ServerError as error:
                if error.status is NOT_FOUND:
                    raise AcdError(ErrorCode.VARIABLE_UNKNOWN, f"there is no variable {name!r}") from error
                raise
        return self._variables[name]

    def _layouts(self, pattern: str) -> list[layouts_pb2.Layout]:
        return list(self._link.call("ListLayouts", layouts_pb2.ListLayoutsRequest(name_like=pattern)).layouts)


def _require_name(name: str) -> None:
    if not NAME_RULE.match(name):
        raise AcdError(
            ErrorCode.NAME_INVALID, f"{name!r} is not a name: letters, digits, '-', ':' and '_', with '/' between parts"
        )


def _require_known_name(name: str) -> None:
    if not NAME_RULE.match(name):
        raise AcdError(ErrorCode.VARIABLE_UNKNOWN, f"there is no variable {name!r}")


def _differences(there: Variable, wanted: Variable) -> str:
    pairs: list[tuple[str, Callable[[Variable], Any]]] = [
        ("dformat", lambda one: one.dformat),
        ("bands", lambda one: one.bands),
        ("unit", lambda one: one.unit),
        ("description", lambda one: one.description),
        ("resampling", lambda one: one.resampling),
        ("scale", lambda one: one.scale),
    ]
    found = [f"{name} {get(there)!r}, not {get(wanted)!r}" for name, get in pairs if get(there) != get(wanted)]
    return "; ".join(found)
