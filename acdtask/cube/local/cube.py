"""The local cube: an index, COGs and Zarr on a folder or an object store."""

from __future__ import annotations

from collections.abc import Iterable

from acdtask.cube.grid import Grid, Layout
from acdtask.cube.local.store import Store
from acdtask.cube.model import Dataset, Instance, Pixels, Record, RecordQuery, Resampling, Slice, Variable

__all__ = ["FORMAT_VERSION", "LocalCube"]

FORMAT_VERSION = 1


class LocalCube:
    """A cube without a server; it implements `acdtask.cube.model.Cube`. Picklable: every process has its own caches."""

    def __init__(self, store: Store) -> None:
        self.store = store

    @classmethod
    def create(cls, url: str) -> LocalCube:
        """The cube at the address, made if there is none. ADDRESS_INVALID, CUBE_VERSION."""
        raise NotImplementedError

    @classmethod
    def open(cls, url: str) -> LocalCube:
        """The cube at the address. CUBE_UNKNOWN, CUBE_VERSION, ADDRESS_INVALID."""
        raise NotImplementedError

    def commit(
        self,
        records: Iterable[Record] = (),
        datasets: Iterable[Dataset] = (),
        variables: Iterable[Variable] = (),
        instances: Iterable[Instance] = (),
        layouts: Iterable[Layout] = (),
    ) -> bool:
        """Make all of it visible at once; what is there already is left alone.

        Returns:
            Whether anything was new. If nothing was, nothing is written.
        """
        raise NotImplementedError

    def add_variable(self, variable: Variable) -> None:
        """Make the variable; nothing happens if the same is there. VARIABLE_CONFLICT if another is."""
        self.commit(variables=[variable])

    def add_instance(self, instance: Instance) -> None:
        """Make the instance; nothing happens if it is there. VARIABLE_UNKNOWN."""
        self.commit(instances=[instance])

    def add_layout(self, layout: Layout) -> None:
        """Make the layout; nothing happens if the same is there. LAYOUT_CONFLICT if another is."""
        self.commit(layouts=[layout])

    def index(self, records: list[Record], datasets: list[Dataset]) -> None:
        """Make records and datasets visible, all at once; what is there already is left alone. DATASET_CONFLICT."""
        self.commit(records, datasets)

    def variable(self, name: str) -> Variable:
        """The variable of that name. VARIABLE_UNKNOWN."""
        raise NotImplementedError

    def variables(self) -> list[Variable]:
        """Every variable, by name."""
        raise NotImplementedError

    def instances(self, variable: str) -> list[Instance]:
        """The instances of a variable, by name. VARIABLE_UNKNOWN."""
        raise NotImplementedError

    def layout(self, name: str) -> Layout:
        """The layout of that name. LAYOUT_UNKNOWN."""
        raise NotImplementedError

    def layouts(self) -> list[Layout]:
        """Every layout, by name."""
        raise NotImplementedError

    def records(self, query: RecordQuery) -> list[Record]:
        """The records that the query asks for, by datetime, then name, then id."""
        raise NotImplementedError

    def datasets(self, variable: str, instance: str, record_ids: frozenset[str] | None = None) -> list[Dataset]:
        """The datasets of an instance (of some records), by record, layout, cell and uri.

        VARIABLE_UNKNOWN, INSTANCE_UNKNOWN.
        """
        raise NotImplementedError

    def read(self, grid: Grid, slices: list[Slice], variable: Variable, resampling: Resampling | None = None) -> Pixels:
        """The pixels of each slice on the grid, as `Cube.read` says."""
        raise NotImplementedError
