"""A cube on a Geocube server."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from acdtask.cube.geocube.channel import Channel
from acdtask.cube.geocube.connection import Connection
from acdtask.cube.geocube.index import Containers, Indexed, IndexResult, ListedDataset, header_of
from acdtask.cube.geocube.jobs import ConsolidatingGeocube
from acdtask.cube.geocube.layouts import Layouts
from acdtask.cube.geocube.reader import Reader
from acdtask.cube.geocube.records import Records
from acdtask.cube.geocube.variables import ServedInstance, Variables
from acdtask.cube.jobs import Consolidation
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
from acdtask.cube.protocol.convert import DTYPES, dformat_from_message
from acdtask.cube.protocol.services_pb2 import GetVersionRequest
from acdtask.errors import AcdError, ErrorCode
from acdtask.raster.data_format import Pixels, Resampling
from acdtask.raster.grid import Grid, Layout, Tile

__all__ = ["GeocubeCube"]


class GeocubeCube(ConsolidatingGeocube, Cube):
    """A Geocube. Picklable, and safe in forked processes.

    In addition to the errors listed, every method may raise GEOCUBE_UNREACHABLE, GEOCUBE_DENIED, GEOCUBE_TLS,
    GEOCUBE_REFUSED and GEOCUBE_FAILED.
    """

    def __init__(self, connection: Connection) -> None:
        channel = Channel(connection)
        super().__init__(channel, Variables(channel))
        self.connection = connection
        self._layouts = Layouts(self._channel)
        self._records = Records(self._channel)
        self._containers = Containers(self._channel, self._variables, self._records)
        self._reader = Reader(self._channel, self._variables, self._records, self._containers)

    def __reduce__(self) -> tuple[type[GeocubeCube], tuple[Connection]]:
        return type(self), (self.connection,)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.connection.address!r})"

    def version(self) -> str:
        """The version of the server."""
        return self._channel.call(self._channel.geocube.Version, GetVersionRequest()).Version

    # ---- catalogue

    def commit(self, addition: Addition) -> bool:
        """Add everything that does not exist yet, in the order given by `Cube.commit`.

        Returns:
            Whether anything was new.

        Raises:
            AcdError: NAME_INVALID, SETTING_INVALID for what Geocube does not support (such as 64-bit integers),
                VARIABLE_CONFLICT, LAYOUT_CONFLICT, DATASET_CONFLICT, VARIABLE_UNKNOWN, INSTANCE_UNKNOWN,
                INPUT_MISSING, INPUT_UNREADABLE, INPUT_BANDS, INPUT_OUT_OF_RANGE. All other containers are indexed
                even if some are refused; the error says how many were.
        """
        variables, datasets = addition.variables, addition.datasets
        for kind, dtype in [(f"variable {variable.name}", variable.dformat.dtype) for variable in variables] + [
            (f"container {dataset.uri}", dataset.dformat.dtype) for dataset in datasets
        ]:
            if dtype not in DTYPES:
                raise AcdError(
                    ErrorCode.SETTING_INVALID, f"{kind} has the data type {dtype}, which Geocube does not support"
                )
        scales = {variable.name: variable.scale for variable in variables}
        new = [self._variables.add_variable(variable) for variable in variables]
        new += [
            self._variables.add_instance(instance, scales.get(instance.variable)) for instance in addition.instances
        ]
        new += [self._layouts.add(layout) for layout in addition.layouts]
        new.append(self._records.add(addition.records))
        results = self.index_containers(datasets)
        refused = [result for result in results if result.error is not None]
        if refused and refused[0].error is not None:
            raise _with_count(refused[0].error, len(refused), len(results))
        return any(new) or any(result.outcome is Indexed.NEW for result in results)

    def index_containers(self, datasets: Iterable[Dataset], *, managed: bool = False) -> list[IndexResult]:
        """Index datasets of existing records. Returns the result of each container, in order of first appearance.

        VARIABLE_UNKNOWN, INSTANCE_UNKNOWN, INPUT_MISSING for an unknown record, all before anything is indexed.
        """
        wanted = tuple(datasets)
        return self._containers.index(wanted, managed=managed) if wanted else []

    def variable(self, name: str) -> Variable:
        """The variable of that name. VARIABLE_UNKNOWN; SETTING_INVALID if acd does not support its data type."""
        return self._variables.variable(name)

    def variables(self) -> list[Variable]:
        """All variables that acd can read, sorted by name."""
        return self._variables.variables()

    def instances(self, variable: str) -> list[Instance]:
        """The instances of a variable, sorted by name. VARIABLE_UNKNOWN."""
        return self._variables.instances(variable)

    def layout(self, name: str) -> Layout:
        """The layout of that name. LAYOUT_UNKNOWN; LAYOUT_INVALID if acd does not support its grid."""
        return self._layouts.layout(name)

    def layouts(self) -> list[Layout]:
        """All layouts that acd can use, sorted by name."""
        return self._layouts.layouts()

    def tiles(self, area: dict[str, Any], layout: Layout) -> list[Tile]:
        """The cells of a layout that intersect a GeoJSON area according to the server, sorted by row, then column."""
        return self._layouts.tiles(area, layout)

    def records(self, query: RecordQuery) -> list[Record]:
        """The records that match a query, sorted by datetime, name and id. AOI_EMPTY if its geometry has no area.

        Geocube stores footprints as 32-bit floats, so they may be off by up to a metre.
        """
        return self._records.find(query)

    def datasets(self, variable: str, instance: str, record_ids: frozenset[str] | None = None) -> list[Dataset]:
        """The datasets of an instance (of some records), sorted by record and address.

        Geocube does not report the grid of a container, so it is read from the file. Files that cannot be accessed from
        here get a grid of one pixel in longitude and latitude around the footprint of their record. VARIABLE_UNKNOWN,
        INSTANCE_UNKNOWN.
        """
        served = self._variables.served(variable, instance)
        with self._variables.forgetting(served):
            listed = self._containers.listed(served, record_ids)
        uris = list(dict.fromkeys(item.meta.container_uri for item in listed))
        grids = dict(zip(uris, self._channel.in_parallel(_grid_of, uris), strict=True))
        without_grid = {item.server_id for item in listed if grids[item.meta.container_uri] is None}
        areas = self._records.area_of(sorted(without_grid))
        datasets = [
            _dataset(item, served, grids[item.meta.container_uri] or _around(areas[item.server_id])) for item in listed
        ]
        return sorted(datasets, key=lambda dataset: (dataset.record_id, dataset.uri, dataset.subdir, dataset.bands))

    def having(self, variable: str, instance: str, record_ids: Iterable[str]) -> frozenset[str]:
        """The records that have a dataset of the instance. VARIABLE_UNKNOWN, INSTANCE_UNKNOWN."""
        served = self._variables.served(variable, instance)
        with self._variables.forgetting(served):
            return frozenset(item.record_id for item in self._containers.listed(served, record_ids))

    # ---- pixels

    def where(
        self, variable: str, instance: str, record_ids: Iterable[str], grids: Sequence[Grid], layout: str = ""
    ) -> Iterator[list[Dataset]]:
        """For each grid, one dataset per intersecting record, in the order of the records.

        The server searches by file outlines, so datasets that only touch a grid may be included. It decides itself
        which datasets to read; `layout` is ignored. VARIABLE_UNKNOWN, INSTANCE_UNKNOWN.
        """
        yield from self._reader.where(self._variables.served(variable, instance), record_ids, grids)

    def images(self, request: CubeRequest) -> Iterator[Image]:
        """Each group's image or the reason why it has none, as in `Cube.images`. LAYOUT_INVALID for an unknown CRS."""
        yield from self._reader.images(request)

    def stack(self, request: CubeRequest) -> tuple[Pixels, list[Image]]:
        """All images in one array, and the outcome of each group.

        Returns:
            Pixels of the groups that have an image, in the order of the groups, shape (images, height, width) or
            (images, bands, height, width), in the variable's dtype and nodata; and each group's `Image`, whose pixels
            are views of that array.
        """
        return self._reader.stack(request)

    def read(self, grid: Grid, slices: list[Slice], variable: Variable, resampling: Resampling | None = None) -> Pixels:
        """The pixels of each slice on the grid, as in `Cube.read`. IMAGE_FAILED, LAYOUT_INVALID."""
        return self._reader.read(grid, slices, variable, resampling)

    # ---- jobs

    def consolidate(self, consolidation: Consolidation) -> str:
        """Start a job and return its id.

        If the variable has no parameters, the defaults of `ConsolidationParams` with lossless compression are set.
        SETTING_INVALID, VARIABLE_UNKNOWN, INSTANCE_UNKNOWN, LAYOUT_UNKNOWN, INPUT_MISSING if no record has a dataset,
        JOB_CONFLICT, DATASET_LOCKED (naming the job if it can be found).
        """
        if not consolidation.name.strip():
            raise AcdError(ErrorCode.SETTING_INVALID, "a consolidation has no name")
        if not consolidation.records:
            raise AcdError(ErrorCode.SETTING_INVALID, f"the consolidation {consolidation.name} names no record")
        served = self._variables.served(consolidation.variable, consolidation.instance)
        self._layouts.layout(consolidation.layout)  # a Geocube checks this later, and keeps the datasets locked
        (group,) = self._reader.groups_of(served, [consolidation.records])
        if not group:
            what = f"{consolidation.variable}:{consolidation.instance}"
            raise AcdError(ErrorCode.INPUT_MISSING, f"none of the records to consolidate {what} is on the server")
        with self._variables.forgetting(served):
            return self._start(consolidation, served, list(dict.fromkeys(group)))


def _with_count(error: AcdError, refused: int, count: int) -> AcdError:
    """The error of the first container, with the number of refused containers."""
    if count == 1:
        return error
    with_count = AcdError(error.code, f"{error.detail} ({refused} of {count} containers were refused)", error.fix)
    with_count.__cause__ = error.__cause__
    return with_count


def _dataset(listed: ListedDataset, served: ServedInstance, grid: Grid) -> Dataset:
    variable, meta = served.variable, listed.meta
    real = (meta.range_min, meta.range_max)
    return Dataset(
        record_id=listed.record_id,
        variable=variable.name,
        instance=served.instance.name,
        uri=meta.container_uri,
        subdir=meta.container_subdir,
        bands=tuple(meta.bands),
        dformat=dformat_from_message(meta.dformat, variable.dformat.dtype),
        grid=grid,
        real=None if real == (variable.dformat.min, variable.dformat.max) else real,
        exponent=meta.exponent or 1.0,
    )


def _grid_of(uri: str) -> Grid | None:
    try:
        header = header_of(uri)
    except AcdError:
        return None  # reading the file raises the error again
    return header.grid if header else None


def _around(area: dict[str, Any]) -> Grid:
    rings = [area["coordinates"]] if area.get("type") == "Polygon" else area.get("coordinates", [])
    points = np.array([point for polygon in rings for ring in polygon for point in ring] or [(0, 0)], np.float64)
    (west, south), (east, north) = points.min(axis=0), points.max(axis=0)
    transform = (float(east - west) or 1.0, 0.0, float(west), 0.0, -(float(north - south) or 1.0), float(north))
    return Grid(crs="EPSG:4326", transform=transform, width=1, height=1)
