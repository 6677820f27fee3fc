"""A Geocube combined with a site: records are in the Geocube, products are stored in the site and known to both."""

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
    FOREIGN,
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

__all__ = ["ADDRESS", "ServedCube", "SharedCube", "find_or_none", "geocube_of_environment", "named_in_environment"]

ADDRESS = "ACD_GEOCUBE_ADDRESS"
"""The environment variable with the address of the Geocube."""

SITE_ONLY_TYPES: frozenset[DType] = frozenset({"int64"})
"""Data types that Geocube does not have. Variables of these types are only in the site's index."""

ResultT = TypeVar("ResultT")


class ServedCube(Cube, Consolidates, Protocol):
    """A cube on a server, which consolidates on its own."""

    def version(self) -> str:
        """Version of the server."""


class SharedCube(Cube):
    """A cube with inputs in a Geocube and products in a site.

    Records, datasets and images are those of the Geocube. Variables, instances and layouts that the site created are
    read from the site, others from the Geocube (docs/decisions/0013).
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
            self._own = find_or_none(lambda: LocalCube.open(self.address), ErrorCode.CUBE_UNKNOWN)
        return self._own

    def commit(self, addition: Addition) -> bool:
        """Make products visible in the Geocube, then in the site, so that the Geocube has everything the site has.

        The files of datasets are below the site; the Geocube gets their absolute addresses. After an interruption, the
        same commit adds the rest.
        """
        variables = (*addition.variables, *self._site_variables())
        site_only = {variable.name for variable in variables if variable.dformat.dtype in SITE_ONLY_TYPES}
        is_new_in_geocube = self.commit_inputs(
            replace(
                addition,
                datasets=[dataset for dataset in addition.datasets if dataset.variable not in site_only],
                variables=[variable for variable in addition.variables if variable.name not in site_only],
                instances=[instance for instance in addition.instances if instance.variable not in site_only],
            )
        )
        self._own = LocalCube.create(self.address)
        return self._own.commit(addition) or is_new_in_geocube

    def commit_inputs(self, addition: Addition) -> bool:
        """Make inputs visible, only in the Geocube. Their files may be below the site."""
        datasets = [self._with_address(dataset) for dataset in addition.datasets]
        return self.geocube.commit(replace(addition, datasets=datasets))

    def add_instance(self, instance: Instance) -> None:
        """Create an instance in both. VARIABLE_UNKNOWN."""
        self.commit(Addition(variables=[self.variable(instance.variable)], instances=[instance]))

    def variable(self, name: str) -> Variable:
        """The variable with a name. VARIABLE_UNKNOWN."""
        own = {variable.name: variable for variable in self._site_variables()}
        return own[name] if name in own else self.geocube.variable(name)

    def variables(self) -> list[Variable]:
        """All variables, ordered by name."""
        variables = {variable.name: variable for variable in (*self.geocube.variables(), *self._site_variables())}
        return [variables[name] for name in sorted(variables)]

    def instances(self, variable: str) -> list[Instance]:
        """The instances of a variable, ordered by name. VARIABLE_UNKNOWN."""
        own = self.own
        is_own = variable in {known.name for known in self._site_variables()}
        site_instances = own.instances(variable) if own and is_own else []
        served = find_or_none(lambda: self.geocube.instances(variable), ErrorCode.VARIABLE_UNKNOWN)
        if served is None and not is_own:
            raise AcdError(ErrorCode.VARIABLE_UNKNOWN, f"there is no variable {variable!r}")
        instances = {instance.name: instance for instance in (*(served or []), *site_instances)}
        return [instances[name] for name in sorted(instances)]

    def layout(self, name: str) -> Layout:
        """The layout with a name. LAYOUT_UNKNOWN."""
        own = self.own
        layout = find_or_none(lambda: own.layout(name), ErrorCode.LAYOUT_UNKNOWN) if own else None
        return layout or self.geocube.layout(name)

    def layouts(self) -> list[Layout]:
        """All layouts, ordered by name."""
        site_layouts = self.own.layouts() if self.own else ()
        layouts = {layout.name: layout for layout in (*self.geocube.layouts(), *site_layouts)}
        return [layouts[name] for name in sorted(layouts)]

    def records(self, query: RecordQuery) -> list[Record]:
        """The records of the Geocube that match a query, ordered by datetime, name and id."""
        return self.geocube.records(query)

    def datasets(self, variable: str, instance: str, record_ids: frozenset[str] | None = None) -> list[Dataset]:
        """The datasets of the Geocube, ordered by record, layout, cell and uri. VARIABLE_UNKNOWN, INSTANCE_UNKNOWN."""
        return self.geocube.datasets(variable, instance, record_ids)

    def having(self, variable: str, instance: str, record_ids: Iterable[str]) -> frozenset[str]:
        """Which of the records have a dataset in the Geocube. VARIABLE_UNKNOWN, INSTANCE_UNKNOWN."""
        return self.geocube.having(variable, instance, record_ids)

    def where(
        self, variable: str, instance: str, record_ids: Iterable[str], grids: Sequence[Grid], layout: str = ""
    ) -> Iterator[list[Dataset]]:
        """For each grid, the Geocube's datasets of the records to read, in the records' order."""
        return self.geocube.where(variable, instance, record_ids, grids, layout)

    def images(self, request: CubeRequest) -> Iterator[Image]:
        """The Geocube's image of each group, or why it has none."""
        return self.geocube.images(request)

    def read(self, grid: Grid, slices: list[Slice], variable: Variable, resampling: Resampling | None = None) -> Pixels:
        """Read the pixels of each slice: the Geocube reads its own datasets, acd those of the site."""
        # Consecutive slices of the same kind are read together, since each call to the server has a cost.
        parts = [
            (self.geocube if foreign else self._files).read(grid, list(run), variable, resampling)
            for foreign, run in groupby(slices, key=_is_foreign)
        ] or [self._files.read(grid, [], variable, resampling)]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _site_variables(self) -> list[Variable]:
        own = self.own
        return own.variables() if own else []

    def _with_address(self, dataset: Dataset) -> Dataset:
        """The dataset with the absolute address of its container."""
        if "://" in dataset.uri or dataset.uri.startswith("/"):
            return dataset
        return dataset.model_copy(update={"uri": self._store.address_of(dataset.uri)})


def named_in_environment() -> str:
    """The address of the Geocube according to the environment; empty if it is not set."""
    return os.environ.get(ADDRESS, "").strip()


def geocube_of_environment() -> ServedCube | None:
    """Connect to the Geocube of the environment; None if it is not set. Raises what the connection raises."""
    if not named_in_environment():
        return None
    from acdtask.cube.geocube.connection import Connection
    from acdtask.cube.geocube.cube import GeocubeCube

    connection = Connection.from_environment()
    return GeocubeCube(connection) if connection else None


def _is_foreign(part: Slice) -> bool:
    """Whether the server reads a slice."""
    kinds = {dataset.uri.startswith(FOREIGN) for dataset in part.datasets}
    if len(kinds) > 1:
        raise AcdError(ErrorCode.BUG, f"the image {part.label!r} has datasets of the Geocube and of the site")
    return True in kinds


def find_or_none(find: Callable[[], ResultT], missing: ErrorCode) -> ResultT | None:
    """Call a function, and return None if it raises an AcdError with a certain code."""
    try:
        return find()
    except AcdError as error:
        if error.code is missing:
            return None
        raise
