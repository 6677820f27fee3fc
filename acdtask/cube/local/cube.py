"""The local cube: an index, COGs and Zarr arrays in a folder or an object store."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence

from acdtask import __version__
from acdtask.cube.local.index import Index
from acdtask.cube.local.state import Head, Removal
from acdtask.cube.model import (
    Cube,
    CubeRequest,
    Dataset,
    Image,
    Instance,
    Slice,
    Variable,
)
from acdtask.errors import AcdError, ErrorCode
from acdtask.raster.data_format import Pixels, Resampling
from acdtask.raster.grid import Grid, Layout, Tile
from acdtask.storage.block_cache import BlockCache
from acdtask.storage.seal import seal, unseal
from acdtask.storage.store import Store

__all__ = ["FORMAT_VERSION", "LocalCube"]

FORMAT_VERSION = 1
MARK = "cube.json"
MARK_FIX = "Delete the file and run 'acdtask ingest' again to write a new one. The rest of the cube stays unchanged."


class LocalCube(Index, Cube):
    """A cube without a server: its index, and how pixels are read. Picklable; each process has its own caches.

    `blocks` is the cache of the run that `read` uses, if any.
    """

    blocks: BlockCache | None = None

    def __reduce__(self) -> tuple[type[LocalCube], tuple[Store]]:
        return LocalCube, (self.store,)

    @classmethod
    def create(cls, url: str) -> LocalCube:
        """Open the cube at an address, and create it first if needed. ADDRESS_INVALID, CUBE_VERSION."""
        store = Store.at(url)
        store.create(MARK, seal(json.dumps({"acd_cube": FORMAT_VERSION, "needs_acd": __version__}).encode()))
        return cls.open(url)

    @classmethod
    def open(cls, url: str) -> LocalCube:
        """Open the cube at an address. CUBE_UNKNOWN, CUBE_VERSION, CUBE_DAMAGED, ADDRESS_INVALID."""
        store = Store.at(url)
        data = store.find(MARK)
        if data is None:
            raise AcdError(ErrorCode.CUBE_UNKNOWN, f"there is no cube at {store.url}")
        try:
            mark = json.loads(unseal(data, store.address_of(MARK), ErrorCode.CUBE_DAMAGED, MARK_FIX))
            version, needs = int(mark["acd_cube"]), str(mark["needs_acd"])
        except (ValueError, KeyError, TypeError) as error:
            raise AcdError(ErrorCode.CUBE_DAMAGED, f"{store.url}/{MARK} is damaged", MARK_FIX) from error
        if version > FORMAT_VERSION:
            raise AcdError(ErrorCode.CUBE_VERSION, f"{store.url} has format {version} and needs acd {needs}")
        return cls(store)

    def confined(self, addresses: Iterable[str] = ()) -> LocalCube:
        """This cube, restricted to files below itself and below some folders and s3:// prefixes. ADDRESS_INVALID."""
        store = self.store.confined(addresses)
        return self if store == self.store else LocalCube(store)

    def remove(
        self,
        records: Iterable[str] = (),
        datasets: Iterable[Dataset] = (),
        variables: Iterable[str] = (),
        instances: Iterable[tuple[str, str]] = (),
        layouts: Iterable[str] = (),
    ) -> list[str]:
        """Remove records by id, datasets, and others by name, all at once. Unknown ones are ignored.

        With a variable, its instances are removed too. No pixel is deleted. IN_USE if a record, variable, instance or
        layout has datasets that stay; STORE_CONTENDED.

        Returns:
            Addresses of removed containers to which nothing refers any more, sorted.
        """
        removal = Removal(
            frozenset(records), tuple(datasets), frozenset(variables), frozenset(instances), frozenset(layouts)
        )
        return self.publish(lambda head: self._editor.removed(head, removal))

    def update_variable(
        self,
        name: str,
        unit: str | None = None,
        description: str | None = None,
        resampling: Resampling | None = None,
        palette: str | None = None,
    ) -> None:
        """Change fields of a variable; None keeps a field. VARIABLE_UNKNOWN, STORE_CONTENDED."""
        fields = {"unit": unit, "description": description, "resampling": resampling, "palette": palette}
        changes = {field: value for field, value in fields.items() if value is not None}
        self.publish(lambda head: (head.with_variable(name, changes), None))

    def update_instance(
        self, variable: str, name: str, add: Mapping[str, str] | None = None, remove_keys: Iterable[str] = ()
    ) -> None:
        """Remove keys from an instance's metadata, then set others.

        VARIABLE_UNKNOWN, INSTANCE_UNKNOWN, STORE_CONTENDED.
        """
        unwanted = frozenset(remove_keys)

        def make(head: Head) -> tuple[Head, None]:
            metadata = head.instance(variable, name).metadata
            kept = {key: value for key, value in metadata.items() if key not in unwanted}
            return head.with_metadata(variable, name, kept | dict(add or {})), None

        self.publish(make)

    def variable(self, name: str) -> Variable:
        """The variable with a name. VARIABLE_UNKNOWN."""
        return self.head().variable(name)

    def variables(self) -> list[Variable]:
        """All variables, ordered by name."""
        return list(self.head().variables)

    def instances(self, variable: str) -> list[Instance]:
        """The instances of a variable, ordered by name. VARIABLE_UNKNOWN."""
        head = self.head()
        head.variable(variable)
        return [instance for instance in head.instances if instance.variable == variable]

    def layout(self, name: str) -> Layout:
        """The layout with a name. LAYOUT_UNKNOWN."""
        return self.head().layout(name)

    def layouts(self) -> list[Layout]:
        """All layouts, ordered by name."""
        return list(self.head().layouts)

    def state(self) -> int:
        """The number of the current state. Every commit increases it; an equal number means an unchanged index."""
        return self.head().number

    def copies_with_room(
        self, variable: str, instance: str, tiles: Iterable[Tile], fewer_than: int
    ) -> dict[str, list[Dataset]]:
        """For each cell of tiles of one layout, the datasets of containers with fewer than a number of them.

        VARIABLE_UNKNOWN, INSTANCE_UNKNOWN.
        """
        chosen = {tile.grid: tile for tile in tiles}
        copies: dict[str, list[Dataset]] = {tile.cell: [] for tile in chosen.values()}
        small = self.datasets_of_small_containers(variable, instance, chosen.__contains__, fewer_than)
        for dataset in small:
            tile = chosen[dataset.grid]
            if dataset.is_copy and (dataset.layout, dataset.cell) == (tile.layout, tile.cell):
                copies[tile.cell].append(dataset)
        return copies

    def where(
        self, variable: str, instance: str, record_ids: Iterable[str], grids: Sequence[Grid], layout: str = ""
    ) -> Iterator[list[Dataset]]:
        """For each grid, the datasets of the records to read, in the records' order; see `Cube.where`.

        VARIABLE_UNKNOWN, INSTANCE_UNKNOWN.
        """
        from acdtask.cube.local.lookup import datasets_of_grids

        order = list(record_ids)
        return datasets_of_grids(self.datasets(variable, instance, frozenset(order)), order, grids, layout)

    def images(self, request: CubeRequest) -> Iterator[Image]:
        """The image of each group, or why it has none; see `Cube.images`.

        Groups are read in batches of about 64 MiB. A batch is read when its first image is requested.
        """
        from acdtask.cube.local.images import read_images

        variable = self.variable(request.variable)
        return read_images(self.store, request, variable, self._groups(request, variable))

    def picture(self, request: CubeRequest) -> Image:
        """The image of the request's only group, for viewing: read from overviews if the grid is coarse enough.

        VARIABLE_UNKNOWN, INSTANCE_UNKNOWN.
        """
        from acdtask.cube.local.images import read_images

        variable = self.variable(request.variable)
        (image,) = read_images(self.store, request, variable, self._groups(request, variable), overviews=True)
        return image

    def groups(self, request: CubeRequest) -> Iterator[tuple[tuple[str, ...], list[Dataset]]]:
        """Each group with the datasets that `images` reads for it. No pixel is read.

        VARIABLE_UNKNOWN, INSTANCE_UNKNOWN.
        """
        return iter(self._groups(request, self.variable(request.variable)))

    def _groups(self, request: CubeRequest, variable: Variable) -> list[tuple[tuple[str, ...], list[Dataset]]]:
        from acdtask.cube.local.lookup import DatasetChoice

        default_resampling = request.resampling in (None, variable.resampling)
        choice = DatasetChoice(request.grid, default_resampling=default_resampling)
        wanted = frozenset(record_id for group in request.groups for record_id in group)
        candidates: dict[str, list[Dataset]] = {}
        for dataset in self.datasets(request.variable, request.instance, wanted, choice.intersects):
            candidates.setdefault(dataset.record_id, []).append(dataset)
        chosen = {record_id: choice.choose(datasets) for record_id, datasets in candidates.items()}
        return [
            (group, [dataset for record_id in group for dataset in chosen.get(record_id, ())])
            for group in request.groups
        ]

    def read(self, grid: Grid, slices: list[Slice], variable: Variable, resampling: Resampling | None = None) -> Pixels:
        """The pixels of each slice on a grid; see `Cube.read`. CUBE_DAMAGED, INPUT_UNREADABLE."""
        return self._read(grid, slices, variable, resampling, self.blocks)

    def read_once(
        self, grid: Grid, slices: list[Slice], variable: Variable, resampling: Resampling | None = None
    ) -> Pixels:
        """Like `read`, but without `blocks`."""
        return self._read(grid, slices, variable, resampling, None)

    def _read(
        self,
        grid: Grid,
        slices: list[Slice],
        variable: Variable,
        resampling: Resampling | None,
        blocks: BlockCache | None,
    ) -> Pixels:
        from acdtask.cube.local.read import read_mosaics

        mosaics = [part.datasets for part in slices]
        return read_mosaics(self.store, grid, mosaics, variable, resampling, cache=blocks)
