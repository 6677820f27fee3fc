"""A Geocube that others use too, and a site of one's own: records lie there; products lie here, and are known there."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import groupby
from typing import Protocol, TypeVar

import numpy as np

from acdtask.cube.jobs import Consolidates
from acdtask.cube.local.cube import LocalCube
from acdtask.cube.model import (
    Addition,
    Cube,
    CubeRequest,
    Dataset,
    Image,
    Instance,
    Record,
    RecordQuery,
    Slice,
    Variable,
)
from acdtask.errors import AcdError, ErrorCode
from acdtask.raster.data_format import DType, Pixels, Resampling
from acdtask.raster.grid import Grid, Layout
from acdtask.storage.store import Store

__all__ = ["ADDRESS", "ServedCube", "SharedCube", "found_or_none", "geocube_of_environment", "named_in_environment"]

ADDRESS = "ACD_GEOCUBE_ADDRESS"
"""The variable of the environment that names the Geocube."""

FOREIGN = "geocube:"
"""How the address of a dataset begins that the server reads for us."""

NOT_THERE: frozenset[DType] = frozenset({"int64"})
"""Data types that Geocube has not: what has one of them is in the site's index alone."""

FoundT = TypeVar("FoundT")


class ServedCube(Cube, Consolidates, Protocol):
    """A cube that a server keeps, which rearranges records by itself."""

    def version(self) -> str:
        """The server's version."""


class SharedCube:
    """Inputs from a Geocube, products in a site; it implements `acdtask.cube.model.Cube` (docs/decisions/0013).

    Records, datasets and images are the Geocube's. A variable, instance or layout is described by the site if the site
    made it, and else by the Geocube.

    Args:
        geocube: where the records are.
        address: folder or s3:// address of the site.
    """

    def __init__(self, geocube: ServedCube, address: str) -> None:
        self.geocube, self.address = geocube, address
        self._store = Store.at(address)
        self._files = LocalCube(self._store)
        self._own: LocalCube | None = None

    @property
    def own(self) -> LocalCube | None:
        """The site's own index; None before the first product."""
        if self._own is None:
            self._own = found_or_none(lambda: LocalCube.open(self.address), ErrorCode.CUBE_UNKNOWN)
        return self._own

    def commit(self, addition: Addition) -> bool:
        """Make products known on the Geocube, then in the site: what the site has, the Geocube has too.

        Datasets are of files below the site, which the Geocube knows by absolute address. What was broken off between
        the two is made whole by the same commit again.
        """
        left = {one.name for one in (*addition.variables, *self._described()) if one.dformat.dtype in NOT_THERE}
        there = self.commit_inputs(
            replace(
                addition,
                datasets=[one for one in addition.datasets if one.variable not in left],
                variables=[one for one in addition.variables if one.name not in left],
                instances=[one for one in addition.instances if one.variable not in left],
            )
        )
        self._own = LocalCube.create(self.address)
        return self._own.commit(addition) or there

    def commit_inputs(self, addition: Addition) -> bool:
        """Make inputs visible, which are the Geocube's alone; their files may lie below the site."""
        placed = [self._placed(one) for one in addition.datasets]
        return self.geocube.commit(replace(addition, datasets=placed))

    def add_variable(self, variable: Variable) -> None:
        """Make the variable in both. VARIABLE_CONFLICT."""
        self.commit(Addition(variables=[variable]))

    def add_instance(self, instance: Instance) -> None:
        """Make the instance in both. VARIABLE_UNKNOWN."""
        self.commit(Addition(variables=[self.variable(instance.variable)], instances=[instance]))

    def add_layout(self, layout: Layout) -> None:
        """Make the layout in both. LAYOUT_CONFLICT."""
        self.commit(Addition(layouts=[layout]))

    def index(self, records: list[Record], datasets: list[Dataset]) -> None:
        """Make products visible, as `commit` says."""
        self.commit(Addition(records, datasets))

    def variable(self, name: str) -> Variable:
        """The variable of that name. VARIABLE_UNKNOWN."""
        described = {one.name: one for one in self._described()}
        return described[name] if name in described else self.geocube.variable(name)

    def variables(self) -> list[Variable]:
        """Every variable, by name."""
        found = {one.name: one for one in (*self.geocube.variables(), *self._described())}
        return [found[name] for name in sorted(found)]

    def instances(self, variable: str) -> list[Instance]:
        """The instances of a variable, by name. VARIABLE_UNKNOWN."""
        own, described = self.own, {one.name for one in self._described()}
        mine = own.instances(variable) if own and variable in described else []
        there = found_or_none(lambda: self.geocube.instances(variable), ErrorCode.VARIABLE_UNKNOWN)
        if there is None and variable not in described:
            raise AcdError(ErrorCode.VARIABLE_UNKNOWN, f"there is no variable {variable!r}")
        found = {one.name: one for one in (*(there or []), *mine)}
        return [found[name] for name in sorted(found)]

    def layout(self, name: str) -> Layout:
        """The layout of that name. LAYOUT_UNKNOWN."""
        own = self.own
        mine = found_or_none(lambda: own.layout(name), ErrorCode.LAYOUT_UNKNOWN) if own else None
        return mine or self.geocube.layout(name)

    def layouts(self) -> list[Layout]:
        """Every layout, by name."""
        found = {one.name: one for one in (*self.geocube.layouts(), *(self.own.layouts() if self.own else ()))}
        return [found[name] for name in sorted(found)]

    def records(self, query: RecordQuery) -> list[Record]:
        """The records of the Geocube that the query asks for, by datetime, then name, then id."""
        return self.geocube.records(query)

    def datasets(self, variable: str, instance: str, record_ids: frozenset[str] | None = None) -> list[Dataset]:
        """The datasets of the Geocube, by record, layout, cell and uri. VARIABLE_UNKNOWN, INSTANCE_UNKNOWN."""
        return self.geocube.datasets(variable, instance, record_ids)

    def having(self, variable: str, instance: str, record_ids: Iterable[str]) -> frozenset[str]:
        """Which of the records have a dataset on the Geocube. VARIABLE_UNKNOWN, INSTANCE_UNKNOWN."""
        return self.geocube.having(variable, instance, record_ids)

    def where(
        self, variable: str, instance: str, record_ids: Iterable[str], grids: Sequence[Grid], layout: str = ""
    ) -> Iterator[list[Dataset]]:
        """For each grid, the Geocube's datasets of the records that lie there, in the records' order."""
        return self.geocube.where(variable, instance, record_ids, grids, layout)

    def images(self, request: CubeRequest) -> Iterator[Image]:
        """Each group's image or why there is none, as the Geocube says it."""
        return self.geocube.images(request)

    def read(self, grid: Grid, slices: list[Slice], variable: Variable, resampling: Resampling | None = None) -> Pixels:
        """The pixels of each slice: the Geocube reads its own datasets, acd those of the site."""
        parts = [
            (self.geocube if foreign else self._files).read(grid, list(run), variable, resampling)
            for foreign, run in groupby(slices, key=_is_foreign)
        ] or [self._files.read(grid, [], variable, resampling)]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _described(self) -> list[Variable]:
        own = self.own
        return own.variables() if own else []

    def _placed(self, dataset: Dataset) -> Dataset:
        if "://" in dataset.uri or dataset.uri.startswith("/"):
            return dataset
        return dataset.model_copy(update={"uri": self._store.address_of(dataset.uri)})


def named_in_environment() -> str:
    """The address of the Geocube that the environment names; empty if it names none."""
    return os.environ.get(ADDRESS, "").strip()


def geocube_of_environment() -> ServedCube | None:
    """The Geocube that the environment names, or None. Whatever its client raises for an address or a key."""
    if not named_in_environment():
        return None
    from acdtask.cube.geocube.connection import Connection
    from acdtask.cube.geocube.cube import GeocubeCube

    connection = Connection.from_environment()
    return GeocubeCube(connection) if connection else None


def _is_foreign(one: Slice) -> bool:
    """Whether the server reads the slice."""
    kinds = {dataset.uri.startswith(FOREIGN) for dataset in one.datasets}
    if len(kinds) > 1:
        raise AcdError(ErrorCode.BUG, f"the image {one.label!r} has datasets of the Geocube and of the site")
    return True in kinds


def found_or_none(find: Callable[[], FoundT], missing: ErrorCode) -> FoundT | None:
    """What is found, or None where the answer is that error."""
    try:
        return find()
    except AcdError as error:
        if error.code is missing:
            return None
        raise
