"""A Geocube server as a `Cube`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import numpy as np

from acdtask.cube.geocube.catalogue import CALLS_AT_ONCE, Catalogue
from acdtask.cube.geocube.connection import Connection
from acdtask.cube.geocube.jobs import Jobs
from acdtask.cube.geocube.link import Link, ServerError
from acdtask.cube.geocube.reading import Asked, Reader, groups_of
from acdtask.cube.geocube.stream import Received
from acdtask.cube.geocube.translate import dataset_to_wire
from acdtask.cube.grid import Grid, Layout, Tile
from acdtask.cube.model import (
    Consolidation,
    CubeRequest,
    Dataset,
    Image,
    Instance,
    JobState,
    Outcome,
    Pixels,
    Record,
    RecordQuery,
    Resampling,
    Slice,
    Variable,
)
from acdtask.cube.protocol import datasets_pb2, records_pb2
from acdtask.errors import AcdError, ErrorCode

__all__ = ["BEHIND_A_SERVER", "GeocubeCube"]

BEHIND_A_SERVER = "geocube:"
"""How the address of a dataset begins that a server reads; its id of the record follows."""

IDS_AT_ONCE = 1000


class GeocubeCube:
    """A cube behind a Geocube server; it implements `acdtask.cube.model.Cube` and `Consolidates`.

    Picklable: every process has its own channel. Besides what the contract says, every method may raise
    GEOCUBE_UNREACHABLE, GEOCUBE_DENIED, GEOCUBE_TLS, GEOCUBE_REFUSED and GEOCUBE_FAILED.
    """

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self._link = Link(connection)
        self._catalogue = Catalogue(self._link)
        self._reader = Reader(self._link)
        self._jobs = Jobs(self._link, self._catalogue)

    def __reduce__(self) -> tuple[type[GeocubeCube], tuple[Connection]]:
        return GeocubeCube, (self.connection,)

    def close(self) -> None:
        """Close this process's channel."""
        self._link.close()

    def version(self) -> str:
        """The server's version."""
        return self._catalogue.version()

    def commit(
        self,
        records: Iterable[Record] = (),
        datasets: Iterable[Dataset] = (),
        variables: Iterable[Variable] = (),
        instances: Iterable[Instance] = (),
        layouts: Iterable[Layout] = (),
    ) -> bool:
        """Make all of it, in the order that `Cube.commit` says; what is there already is left alone."""
        new = [self._catalogue.add_variable(one) for one in variables]
        new += [self._catalogue.add_instance(one) for one in instances]
        new += [self._catalogue.add_layout(one) for one in layouts]
        new.append(self._catalogue.add_records(list(records)))
        new.append(self._index(list(datasets)))
        return any(new)

    def add_variable(self, variable: Variable) -> None:
        """Make the variable; nothing happens if the same is there. VARIABLE_CONFLICT if another is."""
        self._catalogue.add_variable(variable)

    def add_instance(self, instance: Instance) -> None:
        """Make the instance; nothing happens if it is there. VARIABLE_UNKNOWN."""
        self._catalogue.add_instance(instance)

    def add_layout(self, layout: Layout) -> None:
        """Make the layout; nothing happens if the same is there. LAYOUT_CONFLICT if another is."""
        self._catalogue.add_layout(layout)

    def index(self, records: list[Record], datasets: list[Dataset]) -> None:
        """Make records, then datasets visible; what is there already is left alone. DATASET_CONFLICT."""
        self.commit(records, datasets)

    def variable(self, name: str) -> Variable:
        """The variable of that name. VARIABLE_UNKNOWN."""
        return self._catalogue.variable(name)

    def variables(self) -> list[Variable]:
        """Every variable whose format acd knows, by name."""
        return self._catalogue.variables()

    def instances(self, variable: str) -> list[Instance]:
        """The instances of a variable, by name. VARIABLE_UNKNOWN."""
        return self._catalogue.instances(variable)

    def layout(self, name: str) -> Layout:
        """The layout of that name. LAYOUT_UNKNOWN, LAYOUT_INVALID."""
        return self._catalogue.layout(name)

    def layouts(self) -> list[Layout]:
        """Every layout that is a regular grid of square cells, by name."""
        return self._catalogue.layouts()

    def records(self, query: RecordQuery) -> list[Record]:
        """The records that the query asks for, by datetime, then name, then id."""
        return self._catalogue.records(query)

    def datasets(self, variable: str, instance: str, record_ids: frozenset[str] | None = None) -> list[Dataset]:
        """A dataset for each record that has some, by record; its grid is the box of 1 px around the record's area.

        VARIABLE_UNKNOWN, INSTANCE_UNKNOWN.
        """
        found = self.variable(variable)
        having = self._having(variable, instance, record_ids)
        boxes = {one.id: one for one in self.records(RecordQuery())}
        made = [
            _behind_a_server(record_id, server_id, found, instance, _box(boxes[record_id]))
            for record_id, server_id in having.items()
            if record_id in boxes
        ]
        return sorted(made, key=lambda one: one.record_id)

    def having(self, variable: str, instance: str, record_ids: Iterable[str]) -> frozenset[str]:
        """Which of the records have a dataset of the instance. VARIABLE_UNKNOWN, INSTANCE_UNKNOWN."""
        return frozenset(self._having(variable, instance, frozenset(record_ids)))

    def where(
        self, variable: str, instance: str, record_ids: Iterable[str], tiles: Sequence[Tile]
    ) -> Iterator[list[Dataset]]:
        """For each tile, a dataset for each record that the server has pixels of there, in the records' order."""
        order = list(record_ids)
        ids = self._catalogue.server_ids(order)
        found, instance_id = self.variable(variable), self._catalogue.instance_id(variable, instance)
        groups = groups_of([(ids[one],) for one in order if one in ids])
        names = {server_id: record_id for record_id, server_id in ids.items()}

        def of_tile(tile: Tile) -> list[Dataset]:
            headers = self._reader.outlines(Asked(instance_id, tile.grid, *groups)) if groups[0] else []
            there = [record.id for header in headers for record in header.grouped_records.records]
            return [_behind_a_server(names[one], one, found, instance, tile.grid) for one in there]

        with ThreadPoolExecutor(CALLS_AT_ONCE) as pool:
            yield from pool.map(of_tile, tiles)

    def images(self, request: CubeRequest) -> Iterator[Image]:
        """Each group's image or why there is none, as `Cube.images` says."""
        variable = self.variable(request.variable)
        ids = self._catalogue.server_ids(dict.fromkeys(one for group in request.groups for one in group))
        known = [tuple(ids[one] for one in group if one in ids) for group in request.groups]
        received = self._receive(variable, request.instance, request.grid, [g for g in known if g], request.resampling)
        for group, server_ids in zip(request.groups, known, strict=True):
            if not server_ids:
                yield Image(group, Outcome.ABSENT)
                continue
            one = next(received)
            pixels = _shaped(one.pixels, variable) if one.pixels is not None else None
            yield Image(group, one.outcome, pixels, one.reason)

    def read(self, grid: Grid, slices: list[Slice], variable: Variable, resampling: Resampling | None = None) -> Pixels:
        """The pixels of each slice on the grid, as `Cube.read` says. IMAGE_FAILED."""
        shape = (len(slices), *_bands(variable), *grid.shape)
        stack: Pixels = np.full(shape, variable.dformat.nodata, variable.dformat.dtype)
        by_instance: dict[str, list[int]] = defaultdict(list)
        for place, one in enumerate(slices):
            if one.datasets:
                by_instance[one.datasets[0].instance].append(place)
        for instance, places in by_instance.items():
            groups = [_server_ids(slices[place]) for place in places]
            received = self._receive(variable, instance, grid, groups, resampling)
            for place, image in zip(places, received, strict=True):
                if image.outcome is Outcome.FAILED:
                    raise AcdError(
                        ErrorCode.IMAGE_FAILED, f"{self._link.target}, {slices[place].label}: {image.reason}"
                    )
                if image.pixels is not None:
                    stack[place] = _shaped(image.pixels, variable)
        return stack

    def consolidate(self, consolidation: Consolidation) -> str:
        """Start a job of the server and return its id, as `Consolidates.consolidate` says."""
        return self._jobs.consolidate(consolidation)

    def job(self, id_or_name: str) -> JobState:
        """The job. JOB_UNKNOWN."""
        return self._jobs.job(id_or_name)

    def jobs(self, pattern: str = "") -> list[JobState]:
        """Jobs whose names match a pattern, oldest first."""
        return self._jobs.jobs(pattern)

    def continue_job(self, job_id: str) -> None:
        """Let a job go on that waits. JOB_STATE, JOB_UNKNOWN. Not to be called twice for one pause."""
        self._jobs.continue_job(job_id)

    def retry_job(self, job_id: str, *, force: bool = False) -> None:
        """Let a job that failed try again what failed. JOB_STATE, JOB_UNKNOWN."""
        self._jobs.retry_job(job_id, force=force)

    def cancel_job(self, job_id: str, *, force: bool = False) -> None:
        """End a job and take back what it did. JOB_STATE, JOB_UNKNOWN."""
        self._jobs.cancel_job(job_id, force=force)

    def _receive(
        self,
        variable: Variable,
        instance: str,
        grid: Grid,
        groups: Sequence[Sequence[str]],
        resampling: Resampling | None,
    ) -> Iterator[Received]:
        instance_id = self._catalogue.instance_id(variable.name, instance)
        return self._reader.images(Asked(instance_id, grid, *groups_of(groups), resampling))

    def _having(self, variable: str, instance: str, record_ids: frozenset[str] | None) -> dict[str, str]:
        """The server's ids of the records that have datasets, by acd's."""
        instance_id = self._catalogue.instance_id(variable, instance)
        if record_ids is None:
            requests = [datasets_pb2.ListDatasetsRequest(instance_id=instance_id, filters=records_pb2.RecordFilters())]
        else:
            ids = sorted(self._catalogue.server_ids(sorted(record_ids)).values())
            requests = [
                datasets_pb2.ListDatasetsRequest(
                    instance_id=instance_id, records=records_pb2.RecordIdList(ids=ids[first : first + IDS_AT_ONCE])
                )
                for first in range(0, len(ids), IDS_AT_ONCE)
            ]
        found = {}
        for request in requests:
            answer = self._link.call("ListDatasets", request, seconds=self.connection.deadlines.listing)
            for record, meta in zip(answer.records, answer.dataset_metas, strict=True):
                if meta.internalsMeta:
                    found[self._catalogue.note_record(record)] = record.id
        return found

    def _index(self, datasets: list[Dataset]) -> bool:
        """Index datasets, container by container. DATASET_CONFLICT, INPUT_UNREADABLE."""
        if not datasets:
            return False
        variables = {name: self.variable(name) for name in sorted({one.variable for one in datasets})}
        instances = {
            key: self._catalogue.instance_id(*key) for key in sorted({(one.variable, one.instance) for one in datasets})
        }
        ids = self._catalogue.server_ids(sorted({one.record_id for one in datasets}))
        containers: dict[str, list[datasets_pb2.Dataset]] = defaultdict(list)
        for one in datasets:
            if not one.is_outside:
                raise AcdError(ErrorCode.ADDRESS_INVALID, f"{one.uri} is no absolute address that a server could open")
            if one.record_id not in ids:
                raise AcdError(ErrorCode.BUG, f"{one.uri} is of a record that {self._link.target} does not have")
            key = (one.variable, one.instance)
            message = dataset_to_wire(one, ids[one.record_id], instances[key], variables[one.variable])
            containers[one.uri].append(message)
        there = self._indexed(datasets, sorted(instances))
        with ThreadPoolExecutor(CALLS_AT_ONCE) as pool:
            # All are tried, so that one bad container does not hide the others.
            errors = [error for error in pool.map(self._index_container, containers, containers.values()) if error]
        if errors:
            raise errors[0]
        return any((one.variable, one.instance, one.record_id) not in there for one in datasets)

    def _indexed(self, datasets: list[Dataset], instances: list[tuple[str, str]]) -> set[tuple[str, str, str]]:
        there = set()
        for variable, instance in instances:
            wanted = [one.record_id for one in datasets if (one.variable, one.instance) == (variable, instance)]
            there |= {(variable, instance, record_id) for record_id in self.having(variable, instance, wanted)}
        return there

    def _index_container(self, uri: str, datasets: list[datasets_pb2.Dataset]) -> AcdError | None:
        container = datasets_pb2.Container(uri=uri, managed=False, datasets=datasets)
        request = datasets_pb2.IndexDatasetsRequest(container=container)
        try:
            self._link.call("IndexDatasets", request, seconds=self.connection.deadlines.index)
        except ServerError as error:
            meaning = {
                grpc.StatusCode.ALREADY_EXISTS: ErrorCode.DATASET_CONFLICT,
                grpc.StatusCode.INVALID_ARGUMENT: ErrorCode.INPUT_UNREADABLE,
            }.get(error.status)
            return AcdError(meaning, f"{uri}: {error.detail}") if meaning else error
        return None


def _bands(variable: Variable) -> tuple[int, ...]:
    return (len(variable.bands),) if len(variable.bands) > 1 else ()


def _shaped(pixels: Pixels, variable: Variable) -> Pixels:
    """(height, width, bands) as the cube has it. GEOCUBE_FAILED for other bands or another data type."""
    if pixels.shape[2] != len(variable.bands) or pixels.dtype != variable.dformat.dtype:
        raise AcdError(
            ErrorCode.GEOCUBE_FAILED,
            f"{variable.name} is {variable.dformat.dtype} with {len(variable.bands)} bands; {pixels.dtype} with"
            f" {pixels.shape[2]} came",
        )
    return pixels[:, :, 0] if len(variable.bands) == 1 else np.ascontiguousarray(np.moveaxis(pixels, 2, 0))


def _server_ids(part: Slice) -> tuple[str, ...]:
    return tuple(dict.fromkeys(one.uri.removeprefix(BEHIND_A_SERVER) for one in part.datasets))


def _behind_a_server(record_id: str, server_id: str, variable: Variable, instance: str, grid: Grid) -> Dataset:
    return Dataset(
        record_id=record_id,
        variable=variable.name,
        instance=instance,
        uri=f"{BEHIND_A_SERVER}{server_id}",
        bands=tuple(range(1, len(variable.bands) + 1)),
        dformat=variable.dformat,
        grid=grid,
    )


def _box(record: Record) -> Grid:
    numbers: list[Any] = [record.footprint.get("coordinates", [])]
    points = []
    while numbers:
        one = numbers.pop()
        if one and isinstance(one[0], int | float):
            points.append(one)
        else:
            numbers.extend(one)
    xs, ys = [p[0] for p in points] or [0.0, 1.0], [p[1] for p in points] or [0.0, 1.0]
    width, height = max(xs) - min(xs) or 1e-6, max(ys) - min(ys) or 1e-6
    return Grid(crs="EPSG:4326", transform=(width, 0, min(xs), 0, -height, max(ys)), width=1, height=1)
