"""The local cube: an index, COGs and Zarr on a folder or an object store."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence

from acdtask import __version__
from acdtask.cube.local import cells
from acdtask.cube.local.index import Index
from acdtask.cube.local.state import Head, Removal
from acdtask.cube.model import Addition, CubeRequest, Dataset, Image, Instance, Record, RecordQuery, Slice, Variable
from acdtask.errors import AcdError, ErrorCode
from acdtask.raster.data_format import Pixels, Resampling
from acdtask.raster.grid import Grid, Layout, Tile
from acdtask.storage.seal import seal, unseal
from acdtask.storage.store import Store

__all__ = ["FORMAT_VERSION", "LocalCube"]

FORMAT_VERSION = 1
MARK = "cube.json"
MARK_WAY_OUT = "Delete the file and run 'acdtask ingest' again, which writes a new one; all else in the cube stays."


class LocalCube:
    """A cube without a server: a `Cube` (acdtask.cube.model).

    Picklable: every process has its own caches.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self._index = Index(store)

    def __reduce__(self) -> tuple[type[LocalCube], tuple[Store]]:
        return LocalCube, (self.store,)

    @classmethod
    def create(cls, url: str) -> LocalCube:
        """The cube at the address, made if there is none. ADDRESS_INVALID, CUBE_VERSION."""
        store = Store.at(url)
        store.create(MARK, seal(json.dumps({"acd_cube": FORMAT_VERSION, "needs_acd": __version__}).encode()))
        return cls.open(url)

    @classmethod
    def open(cls, url: str) -> LocalCube:
        """The cube at the address. CUBE_UNKNOWN, CUBE_VERSION, ADDRESS_INVALID."""
        store = Store.at(url)
        data = store.find(MARK)
        if data is None:
            raise AcdError(ErrorCode.CUBE_UNKNOWN, f"there is no cube at {store.url}")
        try:
            mark = json.loads(unseal(data, store.address_of(MARK), ErrorCode.CUBE_DAMAGED, MARK_WAY_OUT))
            version, needs = int(mark["acd_cube"]), str(mark["needs_acd"])
        except (ValueError, KeyError, TypeError) as error:
            raise AcdError(ErrorCode.CUBE_DAMAGED, f"{store.url}/{MARK} is damaged", MARK_WAY_OUT) from error
        if version > FORMAT_VERSION:
            raise AcdError(ErrorCode.CUBE_VERSION, f"{store.url} has format {version} and needs acd {needs}")
        return cls(store)

    def confined(self, addresses: Iterable[str] = ()) -> LocalCube:
        """This cube, which reads only files below itself and below some folders and s3:// prefixes. ADDRESS_INVALID."""
        store = self.store.confined(addresses)
        return self if store == self.store else LocalCube(store)

    def commit(self, addition: Addition) -> bool:
        """Make all of it visible at once; what is there already is left alone.

        Returns:
            Whether anything was new. If nothing was, nothing is written.

        Raises:
            AcdError: VARIABLE_CONFLICT, LAYOUT_CONFLICT, DATASET_CONFLICT, VARIABLE_UNKNOWN, INSTANCE_UNKNOWN,
                STORE_CONTENDED.
        """
        return self._index.commit(addition)

    def add_variable(self, variable: Variable) -> None:
        """Make the variable; nothing happens if the same is there. VARIABLE_CONFLICT if another is."""
        self.commit(Addition(variables=[variable]))

    def add_instance(self, instance: Instance) -> None:
        """Make the instance; nothing happens if it is there. VARIABLE_UNKNOWN."""
        self.commit(Addition(instances=[instance]))

    def add_layout(self, layout: Layout) -> None:
        """Make the layout; nothing happens if the same is there. LAYOUT_CONFLICT if another is."""
        self.commit(Addition(layouts=[layout]))

    def index(self, records: list[Record], datasets: list[Dataset]) -> None:
        """Make records and datasets visible, all at once; what is there already is left alone. DATASET_CONFLICT."""
        self.commit(Addition(records, datasets))

    def remove(
        self,
        records: Iterable[str] = (),
        datasets: Iterable[Dataset] = (),
        variables: Iterable[str] = (),
        instances: Iterable[tuple[str, str]] = (),
        layouts: Iterable[str] = (),
    ) -> list[str]:
        """Take all of it out of the index at once; what is not there is left alone. No pixel is deleted.

        Args:
            records: ids.
            datasets: as `datasets` gives them.
            variables: names; their instances go with them.
            instances: (variable, name).
            layouts: names.

        Returns:
            The uris that datasets referred to and nothing refers to any more, sorted.

        Raises:
            AcdError: IN_USE if a record, variable, instance or layout has datasets that are not removed with it,
                STORE_CONTENDED.
        """
        removal = Removal(
            frozenset(records), tuple(datasets), frozenset(variables), frozenset(instances), frozenset(layouts)
        )
        return self._index.remove(removal)

    def exchange(self, removed: Iterable[Dataset], added: Iterable[Dataset]) -> list[str]:
        """Put datasets in the place of others, at once, as a consolidation does. No pixel is deleted.

        The new ones are marked `exchanged`: they are read wherever they lie. The same exchange again changes nothing.

        Returns:
            The uris that removed datasets referred to and nothing refers to any more, sorted.

        Raises:
            AcdError: DATASET_CONFLICT if one to be removed is not there, or if another has the place of a new one,
                INSTANCE_UNKNOWN, VARIABLE_UNKNOWN, STORE_CONTENDED.
        """
        return self._index.exchange(tuple(removed), tuple(added))

    def replace(
        self, replaced: Iterable[Dataset], added: Iterable[Dataset], sources: Iterable[Dataset] = ()
    ) -> list[Dataset]:
        """Index copies, at once, some of them in the place of older copies of the same record and cell.

        Unlike after `exchange`, they are copies still. What others changed meanwhile stays as it is: a copy is indexed
        only if its place holds the copy that it replaces, or is empty and it replaces none, and if those `sources` are
        still there that are of its record: the images that copies were made of. The same call again changes nothing. No
        pixel is deleted.

        Returns:
            The new copies that are not in the index, since others changed their places.

        Raises:
            AcdError: INSTANCE_UNKNOWN, VARIABLE_UNKNOWN, STORE_CONTENDED.
        """
        return self._index.replace(tuple(replaced), tuple(added), tuple(sources))

    def supersede(self, addition: Addition) -> bool:
        """Commit as `commit` does, but a dataset of a record that has another takes its place.

        Copies of the old pixels, consolidated for tiles, go too. No pixel is deleted.

        Returns:
            Whether anything was new.

        Raises:
            AcdError: as `commit`.
        """
        return self._index.supersede(addition)

    def replaced(self, variable: str, instance: str, record_ids: Iterable[str]) -> dict[str, str]:
        """The containers of those records whose pixels took the place of others (`supersede`), by record id.

        VARIABLE_UNKNOWN, INSTANCE_UNKNOWN.
        """
        return self._index.replaced(variable, instance, frozenset(record_ids))

    def update_variable(
        self,
        name: str,
        unit: str | None = None,
        description: str | None = None,
        resampling: Resampling | None = None,
        palette: str | None = None,
    ) -> None:
        """Change what is given of a variable. VARIABLE_UNKNOWN, STORE_CONTENDED."""
        fields = {"unit": unit, "description": description, "resampling": resampling, "palette": palette}
        changes = {field: value for field, value in fields.items() if value is not None}
        self._index.publish(lambda head: (head.with_variable(name, changes), None))

    def update_instance(
        self, variable: str, name: str, add: Mapping[str, str] | None = None, remove_keys: Iterable[str] = ()
    ) -> None:
        """Remove keys of an instance's metadata, then set others.

        VARIABLE_UNKNOWN, INSTANCE_UNKNOWN, STORE_CONTENDED.
        """
        unwanted = frozenset(remove_keys)

        def make(head: Head) -> tuple[Head, None]:
            there = head.instance(variable, name).metadata
            kept = {key: value for key, value in there.items() if key not in unwanted}
            return head.with_metadata(variable, name, kept | dict(add or {})), None

        self._index.publish(make)

    def variable(self, name: str) -> Variable:
        """The variable of that name. VARIABLE_UNKNOWN."""
        return self._index.head().variable(name)

    def variables(self) -> list[Variable]:
        """Every variable, by name."""
        return list(self._index.head().variables)

    def instances(self, variable: str) -> list[Instance]:
        """The instances of a variable, by name. VARIABLE_UNKNOWN."""
        head = self._index.head()
        head.variable(variable)
        return [instance for instance in head.instances if instance.variable == variable]

    def layout(self, name: str) -> Layout:
        """The layout of that name. LAYOUT_UNKNOWN."""
        return self._index.head().layout(name)

    def layouts(self) -> list[Layout]:
        """Every layout, by name."""
        return list(self._index.head().layouts)

    def records(self, query: RecordQuery) -> list[Record]:
        """The records that the query asks for, by datetime, then name, then id."""
        return self._index.records(query)

    def count_records(self, query: RecordQuery) -> int:
        """How many records the query asks for, on all pages."""
        return self._index.count_records(query)

    def state(self) -> int:
        """A number that every commit makes larger: while it is the same, so is all that the index says."""
        return self._index.head().number

    def records_by_id(self, ids: Sequence[str]) -> list[Record]:
        """The records of these ids, in their order; what the cube has not is left out."""
        return self._index.records_by_id(ids)

    def datasets(self, variable: str, instance: str, record_ids: frozenset[str] | None = None) -> list[Dataset]:
        """The datasets of an instance (of some records), by record, layout, cell and uri.

        VARIABLE_UNKNOWN, INSTANCE_UNKNOWN.
        """
        return self._index.datasets(variable, instance, record_ids)

    def records_by_cell(self, variable: str, instance: str, layout: str) -> dict[str, set[str]]:
        """For each cell of a layout, the ids of the records that an instance has there.

        VARIABLE_UNKNOWN, INSTANCE_UNKNOWN.
        """
        return cells.records_by_cell(self._index.dataset_segments(variable, instance), variable, instance, layout)

    def own_datasets(self, variable: str, instance: str, record_ids: Iterable[str]) -> list[Dataset]:
        """The datasets of some records that are no tiles of a layout, as `datasets` orders them.

        VARIABLE_UNKNOWN, INSTANCE_UNKNOWN.
        """
        segments = self._index.dataset_segments(variable, instance)
        return cells.own_datasets(segments, variable, instance, frozenset(record_ids))

    def copies_with_room(
        self, variable: str, instance: str, tiles: Iterable[Tile], fewer_than: int
    ) -> dict[str, list[Dataset]]:
        """For each tile's cell, the datasets of its containers that are not full, of all records, by record and uri.

        Args:
            variable: name of the variable.
            instance: name of the instance.
            tiles: of one layout.
            fewer_than: how many datasets make a container full.

        Raises:
            AcdError: VARIABLE_UNKNOWN, INSTANCE_UNKNOWN.
        """
        chosen = {tile.grid: tile for tile in tiles}
        found: dict[str, list[Dataset]] = {tile.cell: [] for tile in chosen.values()}
        segments = self._index.dataset_segments(variable, instance)
        for dataset in cells.datasets_of_small_containers(
            segments, variable, instance, chosen.__contains__, fewer_than
        ):
            tile = chosen[dataset.grid]
            if dataset.is_copy and (dataset.layout, dataset.cell) == (tile.layout, tile.cell):
                found[tile.cell].append(dataset)
        return found

    def datasets_at(self, uris: Iterable[str]) -> list[Dataset]:
        """The datasets of some containers, of whichever instances, by container, subdir and bands."""
        return self._index.datasets_at(frozenset(uris))

    def records_in_use(self, ids: Iterable[str]) -> frozenset[str]:
        """Which of the records have a dataset of any instance."""
        return self._index.records_in_use(frozenset(ids))

    def having(self, variable: str, instance: str, record_ids: Iterable[str]) -> frozenset[str]:
        """Which of the records have a dataset of the instance. VARIABLE_UNKNOWN, INSTANCE_UNKNOWN."""
        return self._index.having(variable, instance, frozenset(record_ids))

    def where(
        self, variable: str, instance: str, record_ids: Iterable[str], grids: Sequence[Grid], layout: str = ""
    ) -> Iterator[list[Dataset]]:
        """For each grid, the datasets of the records to read there, in the records' order, as `Cube.where` says.

        VARIABLE_UNKNOWN, INSTANCE_UNKNOWN.
        """
        from acdtask.cube.local.lookup import datasets_of_grids

        order = list(record_ids)
        return datasets_of_grids(self.datasets(variable, instance, frozenset(order)), order, grids, layout)

    def images(self, request: CubeRequest) -> Iterator[Image]:
        """Each group's image or why there is none, as `Cube.images` says.

        Groups are read in batches of some 64 MB, the next one when the last was taken.
        """
        from acdtask.cube.local.images import read_images

        variable = self.variable(request.variable)
        return read_images(self.store, request, variable, self._found(request, variable))

    def picture(self, request: CubeRequest) -> Image:
        """The image of the request's only group to look at: made of overviews where its grid is as coarse.

        VARIABLE_UNKNOWN, INSTANCE_UNKNOWN.
        """
        from acdtask.cube.local.images import read_images

        variable = self.variable(request.variable)
        (image,) = read_images(self.store, request, variable, self._found(request, variable), overviews=True)
        return image

    def found(self, request: CubeRequest) -> Iterator[tuple[tuple[str, ...], list[Dataset]]]:
        """Each group and the datasets that `images` reads for it; none if its image is absent. Nothing is read.

        VARIABLE_UNKNOWN, INSTANCE_UNKNOWN.
        """
        return iter(self._found(request, self.variable(request.variable)))

    def _found(self, request: CubeRequest, variable: Variable) -> list[tuple[tuple[str, ...], list[Dataset]]]:
        from acdtask.cube.local.lookup import Surroundings

        around = Surroundings(request.grid, as_it_is=request.resampling in (None, variable.resampling))
        wanted = frozenset(record_id for group in request.groups for record_id in group)
        near: dict[str, list[Dataset]] = {}
        for one in self._index.datasets(request.variable, request.instance, wanted, around.meets):
            near.setdefault(one.record_id, []).append(one)
        chosen = {record_id: around.choose(datasets) for record_id, datasets in near.items()}
        return [(group, [d for one in group for d in chosen.get(one, ())]) for group in request.groups]

    def read(self, grid: Grid, slices: list[Slice], variable: Variable, resampling: Resampling | None = None) -> Pixels:
        """The pixels of each slice on the grid, as `Cube.read` says. CUBE_DAMAGED, INPUT_UNREADABLE."""
        from acdtask.cube.local.read import read_slices

        return read_slices(self.store, grid, slices, variable, resampling)
