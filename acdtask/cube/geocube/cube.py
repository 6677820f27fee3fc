"""A cube on a Geocube server."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from acdtask.cube.geocube.catalogue import Catalogue, Served
from acdtask.cube.geocube.channel import Channel
from acdtask.cube.geocube.connection import Connection
from acdtask.cube.geocube.index import Containers, Indexed, IndexResult, Listed, header_of
from acdtask.cube.geocube.jobs import Jobs
from acdtask.cube.geocube.layouts import Layouts
from acdtask.cube.geocube.reader import Reader
from acdtask.cube.geocube.records import Records
from acdtask.cube.jobs import Consolidation, ConsolidationParams, JobState
from acdtask.cube.model import Addition, CubeRequest, Dataset, Image, Instance, Record, RecordQuery, Slice, Variable
from acdtask.cube.protocol.convert import DTYPES, dformat_from_wire
from acdtask.cube.protocol.services_pb2 import GetVersionRequest
from acdtask.errors import AcdError, ErrorCode
from acdtask.raster.data_format import Pixels, Resampling
from acdtask.raster.grid import Grid, Layout, Tile

__all__ = ["GeocubeCube"]


class GeocubeCube:
    """A Geocube; it implements `acdtask.cube.model.Cube` and `Consolidates`. Picklable, and safe in forked processes.

    What every method may raise beside what it says: GEOCUBE_UNREACHABLE, GEOCUBE_DENIED, GEOCUBE_TLS,
    GEOCUBE_REFUSED, GEOCUBE_FAILED.
    """

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self._channel = Channel(connection)
        self._catalogue = Catalogue(self._channel)
        self._layouts = Layouts(self._channel)
        self._records = Records(self._channel)
        self._containers = Containers(self._channel, self._catalogue, self._records)
        self._reader = Reader(self._channel, self._catalogue, self._records, self._containers)
        self._jobs = Jobs(self._channel, self._catalogue)

    def __reduce__(self) -> tuple[type[GeocubeCube], tuple[Connection]]:
        return type(self), (self.connection,)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.connection.address!r})"

    def version(self) -> str:
        """The version of the server."""
        return self._channel.call(self._channel.geocube.Version, GetVersionRequest()).Version

    # ---- what there is

    def commit(self, addition: Addition) -> bool:
        """Make all of it visible, in the order that `Cube.commit` says; what is there already is left alone.

        Returns:
            Whether anything was new.

        Raises:
            AcdError: NAME_INVALID, SETTING_INVALID for what Geocube has not (such as 64-bit integers),
                VARIABLE_CONFLICT, LAYOUT_CONFLICT, DATASET_CONFLICT, VARIABLE_UNKNOWN, INSTANCE_UNKNOWN,
                INPUT_MISSING, INPUT_UNREADABLE, INPUT_BANDS, INPUT_OUT_OF_RANGE. A container that is refused keeps no
                other from being indexed; the error says how many there were.
        """
        variables, datasets = addition.variables, addition.datasets
        for kind, dtype in [(f"variable {one.name}", one.dformat.dtype) for one in variables] + [
            (f"container {one.uri}", one.dformat.dtype) for one in datasets
        ]:
            if dtype not in DTYPES:
                raise AcdError(
                    ErrorCode.SETTING_INVALID, f"{kind} has the data type {dtype}, which Geocube does not support"
                )
        scales = {one.name: one.scale for one in variables}
        new = [self._catalogue.add_variable(one) for one in variables]
        new += [self._catalogue.add_instance(one, scales.get(one.variable)) for one in addition.instances]
        new += [self._layouts.add(one) for one in addition.layouts]
        new.append(self._records.add(addition.records))
        results = self.index_containers(datasets)
        refused = [one for one in results if one.error is not None]
        if refused and refused[0].error is not None:
            raise _with_count(refused[0].error, len(refused), len(results))
        return any(new) or any(one.outcome is Indexed.NEW for one in results)

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
        """Make records and datasets visible; what is there already is left alone. DATASET_CONFLICT, as `commit`."""
        self.commit(Addition(records, datasets))

    def index_containers(self, datasets: Iterable[Dataset], *, managed: bool = False) -> list[IndexResult]:
        """Make datasets of known records visible; what became of each container, in the order of their addresses.

        VARIABLE_UNKNOWN, INSTANCE_UNKNOWN, INPUT_MISSING for a record: before anything is done.
        """
        wanted = tuple(datasets)
        return self._containers.index(wanted, managed=managed) if wanted else []

    def variable(self, name: str) -> Variable:
        """The variable of that name. VARIABLE_UNKNOWN; SETTING_INVALID if acd has no such data type."""
        return self._catalogue.variable(name)

    def variables(self) -> list[Variable]:
        """Every variable that acd can read, by name."""
        return self._catalogue.variables()

    def instances(self, variable: str) -> list[Instance]:
        """The instances of a variable, by name. VARIABLE_UNKNOWN."""
        return self._catalogue.instances(variable)

    def layout(self, name: str) -> Layout:
        """The layout of that name. LAYOUT_UNKNOWN; LAYOUT_INVALID if acd has no such grid."""
        return self._layouts.layout(name)

    def layouts(self) -> list[Layout]:
        """Every layout that acd can use, by name."""
        return self._layouts.layouts()

    def tiles(self, area: dict[str, Any], layout: Layout) -> list[Tile]:
        """The cells of a layout that an area (GeoJSON) needs, as the server finds them, by row, then column."""
        return self._layouts.tiles(area, layout)

    def records(self, query: RecordQuery) -> list[Record]:
        """The records that the query asks for, by datetime, then name, then id. AOI_EMPTY if its area has none.

        Footprints have passed through 32 bits, and are up to a metre beside what was given.
        """
        return self._records.find(query)

    def datasets(self, variable: str, instance: str, record_ids: frozenset[str] | None = None) -> list[Dataset]:
        """The datasets of an instance (of some records), by record and address. VARIABLE_UNKNOWN, INSTANCE_UNKNOWN.

        A Geocube does not tell the grid of a container. It is read from those that can be seen from here; others have
        one pixel, in longitude and latitude, around the footprint of their record.
        """
        served = self._catalogue.served(variable, instance)
        with self._catalogue.forgetting(served):
            listed = self._containers.listed(served, record_ids)
        uris = list(dict.fromkeys(one.meta.container_uri for one in listed))
        grids = dict(zip(uris, self._channel.in_parallel(_grid_of, uris), strict=True))
        unseen = {one.server_id for one in listed if grids[one.meta.container_uri] is None}
        areas = self._records.area_of(sorted(unseen))
        found = [
            _dataset(one, served, grids[one.meta.container_uri] or _around(areas[one.server_id])) for one in listed
        ]
        return sorted(found, key=lambda one: (one.record_id, one.uri, one.subdir, one.bands))

    def having(self, variable: str, instance: str, record_ids: Iterable[str]) -> frozenset[str]:
        """Which of the records have a dataset of the instance. VARIABLE_UNKNOWN, INSTANCE_UNKNOWN."""
        served = self._catalogue.served(variable, instance)
        with self._catalogue.forgetting(served):
            return frozenset(one.record_id for one in self._containers.listed(served, record_ids))

    # ---- pixels

    def where(
        self, variable: str, instance: str, record_ids: Iterable[str], grids: Sequence[Grid], layout: str = ""
    ) -> Iterator[list[Dataset]]:
        """For each grid a dataset for each record that lies there, in the records' order.

        The server finds them by the outlines of their files, so that one which only touches a grid may be among them.
        It chooses itself which datasets to read; `layout` is ignored. VARIABLE_UNKNOWN, INSTANCE_UNKNOWN.
        """
        yield from self._reader.where(self._catalogue.served(variable, instance), record_ids, grids)

    def images(self, request: CubeRequest) -> Iterator[Image]:
        """Each group's image or why there is none, as `Cube.images` says. LAYOUT_INVALID for an unknown CRS."""
        yield from self._reader.images(request)

    def stack(self, request: CubeRequest) -> tuple[Pixels, list[Image]]:
        """All images in one array, and what became of each group.

        Returns:
            Pixels of the images that there are, in the order of the groups, shape (images, height, width) or
            (images, bands, height, width), in the variable's dtype; and every group's image, whose pixels are those.
        """
        return self._reader.stack(request)

    def read(self, grid: Grid, slices: list[Slice], variable: Variable, resampling: Resampling | None = None) -> Pixels:
        """The pixels of each slice on the grid, as `Cube.read` says. IMAGE_FAILED, LAYOUT_INVALID."""
        return self._reader.read(grid, slices, variable, resampling)

    # ---- jobs

    def config_consolidation(self, variable: str, params: ConsolidationParams) -> None:
        """Let these be the parameters of a variable's consolidations. VARIABLE_UNKNOWN, SETTING_INVALID."""
        self._jobs.configure(variable, params)

    def consolidation_params(self, variable: str) -> ConsolidationParams | None:
        """The parameters of a variable's consolidations, None if none were set. VARIABLE_UNKNOWN."""
        return self._jobs.params(variable)

    def consolidate(self, consolidation: Consolidation) -> str:
        """Start a job and return its id.

        Without parameters of the variable, those of `ConsolidationParams()` without loss are set. SETTING_INVALID,
        VARIABLE_UNKNOWN, INSTANCE_UNKNOWN, LAYOUT_UNKNOWN, INPUT_MISSING if no record has a dataset, JOB_CONFLICT,
        DATASET_LOCKED (naming the job if it can be found).
        """
        if not consolidation.name.strip():
            raise AcdError(ErrorCode.SETTING_INVALID, "a consolidation has no name")
        if not consolidation.records:
            raise AcdError(ErrorCode.SETTING_INVALID, f"the consolidation {consolidation.name} names no record")
        served = self._catalogue.served(consolidation.variable, consolidation.instance)
        self._layouts.layout(consolidation.layout)  # a Geocube finds out later, and keeps the datasets locked
        (group,) = self._reader.groups_of(served, [consolidation.records])
        if not group:
            what = f"{consolidation.variable}:{consolidation.instance}"
            raise AcdError(ErrorCode.INPUT_MISSING, f"none of the records to consolidate {what} is on the server")
        with self._catalogue.forgetting(served):
            return self._jobs.start(consolidation, served, list(dict.fromkeys(group)))

    def job(self, id_or_name: str) -> JobState:
        """The job with its whole log. JOB_UNKNOWN."""
        return self._jobs.job(id_or_name)

    def jobs(self, pattern: str = "") -> list[JobState]:
        """Jobs whose names match a pattern (`*`, `?`), oldest first; with the last lines of their logs."""
        return self._jobs.jobs(pattern)

    def continue_job(self, job_id: str) -> None:
        """Let a job go on that waits; said once for each pause. JOB_STATE if it does not wait."""
        self._jobs.go_on(job_id)

    def retry_job(self, job_id: str, *, force: bool = False) -> None:
        """Let a job that failed try again what failed. JOB_STATE if it did not fail."""
        self._jobs.retry(job_id, force=force)

    def cancel_job(self, job_id: str, *, force: bool = False) -> None:
        """End a job and take back what it did. JOB_STATE if it has ended, or cannot be stopped any more."""
        self._jobs.cancel(job_id, force=force)

    def clean_jobs(self, pattern: str = "", state: str = "") -> int:
        """Forget jobs that have ended (DONE, FAILED, DONEBUTUNTIDY, or one of them); how many."""
        return self._jobs.clean(pattern, state)


def _with_count(error: AcdError, refused: int, count: int) -> AcdError:
    """The error of the first container, with how many were refused."""
    if count == 1:
        return error
    counted = AcdError(error.code, f"{error.detail} ({refused} of {count} containers were refused)", error.fix)
    counted.__cause__ = error.__cause__
    return counted


def _dataset(one: Listed, served: Served, grid: Grid) -> Dataset:
    variable, meta = served.variable, one.meta
    real = (meta.range_min, meta.range_max)
    return Dataset(
        record_id=one.record_id,
        variable=variable.name,
        instance=served.instance.name,
        uri=meta.container_uri,
        subdir=meta.container_subdir,
        bands=tuple(meta.bands),
        dformat=dformat_from_wire(meta.dformat, variable.dformat.dtype),
        grid=grid,
        real=None if real == (variable.dformat.min, variable.dformat.max) else real,
        exponent=meta.exponent or 1.0,
    )


def _grid_of(uri: str) -> Grid | None:
    try:
        header = header_of(uri)
    except AcdError:
        return None  # whoever reads it is told
    return header.grid if header else None


def _around(area: dict[str, Any]) -> Grid:
    rings = [area["coordinates"]] if area.get("type") == "Polygon" else area.get("coordinates", [])
    points = np.array([point for polygon in rings for ring in polygon for point in ring] or [(0, 0)], np.float64)
    (west, south), (east, north) = points.min(axis=0), points.max(axis=0)
    transform = (float(east - west) or 1.0, 0.0, float(west), 0.0, -(float(north - south) or 1.0), float(north))
    return Grid(crs="EPSG:4326", transform=transform, width=1, height=1)
