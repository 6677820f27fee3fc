"""A Geocube in the jobs' tests: a real cube in another folder that answers as a server does, and says no more."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

import acdtask.jobs.contract
from acdtask.cube.jobs import Consolidation, JobState
from acdtask.cube.local.cube import LocalCube
from acdtask.cube.model import (
    Addition,
    CubeRequest,
    Dataset,
    Image,
    Instance,
    Outcome,
    Record,
    RecordQuery,
    Slice,
    Variable,
)
from acdtask.cube.shared import ServedCube
from acdtask.engine.processes import WorkerPool
from acdtask.errors import AcdError, ErrorCode
from acdtask.raster.data_format import Pixels, Resampling
from acdtask.raster.grid import Grid, Layout
from acdtask.serve.consolidation.jobs import ConsolidationJobs
from tests.jobs.chain import Chain, run_chain

SERVED = "TESTS_SERVED_CUBE"
"""The variable of the environment that says in which folder the records are."""


class StandIn:
    """Reads by ids of records alone, keeps files where they are, and has no 64-bit integers."""

    def __init__(self, folder: str) -> None:
        self._cube = LocalCube.create(folder)
        self._jobs = ConsolidationJobs(self._cube)

    def version(self) -> str:
        return "stands in"

    def commit(self, addition: Addition) -> bool:
        datasets, variables = addition.datasets, addition.variables
        formats = [dataset.dformat for dataset in datasets] + [variable.dformat for variable in variables]
        if any(dformat.dtype == "int64" for dformat in formats):
            raise AcdError(ErrorCode.SETTING_INVALID, "Geocube has no data type int64")
        for dataset in datasets:
            if not Path(dataset.uri).is_file():
                raise AcdError(ErrorCode.GEOCUBE_REFUSED, f"{dataset.uri} cannot be opened")
        return self._cube.commit(addition)

    def add_variable(self, variable: Variable) -> None:
        self.commit(Addition(variables=[variable]))

    def add_instance(self, instance: Instance) -> None:
        self.commit(Addition(instances=[instance]))

    def add_layout(self, layout: Layout) -> None:
        self.commit(Addition(layouts=[layout]))

    def variable(self, name: str) -> Variable:
        return self._cube.variable(name)

    def variables(self) -> list[Variable]:
        return self._cube.variables()

    def instances(self, variable: str) -> list[Instance]:
        return self._cube.instances(variable)

    def layout(self, name: str) -> Layout:
        return self._cube.layout(name)

    def layouts(self) -> list[Layout]:
        return self._cube.layouts()

    def records(self, query: RecordQuery) -> list[Record]:
        return self._cube.records(query)

    def datasets(self, variable: str, instance: str, record_ids: frozenset[str] | None = None) -> list[Dataset]:
        return self._cube.datasets(variable, instance, record_ids)

    def index(self, records: list[Record], datasets: list[Dataset]) -> None:
        self.commit(Addition(records, datasets))

    def having(self, variable: str, instance: str, record_ids: Iterable[str]) -> frozenset[str]:
        return self._cube.having(variable, instance, record_ids)

    def where(
        self, variable: str, instance: str, record_ids: Iterable[str], grids: Sequence[Grid], layout: str = ""
    ) -> Iterator[list[Dataset]]:
        found = self._cube.where(variable, instance, record_ids, grids, layout)
        for grid, datasets in zip(grids, found, strict=True):
            yield [
                Dataset(
                    record_id=record_id,
                    variable=variable,
                    instance=instance,
                    uri=f"geocube:{record_id}",
                    dformat=self.variable(variable).dformat,
                    grid=grid,
                )
                for record_id in dict.fromkeys(dataset.record_id for dataset in datasets)
            ]

    def images(self, request: CubeRequest) -> Iterator[Image]:
        return self._cube.images(request)

    def read(self, grid: Grid, slices: list[Slice], variable: Variable, resampling: Resampling | None = None) -> Pixels:
        groups = tuple(tuple(dataset.uri.removeprefix("geocube:") for dataset in part.datasets) for part in slices)
        instance = slices[0].datasets[0].instance
        request = CubeRequest(
            variable=variable.name, instance=instance, grid=grid, groups=groups, resampling=resampling
        )
        nothing = np.full(grid.shape, variable.dformat.nodata, variable.dformat.dtype)
        return np.stack([_pixels(image, nothing) for image in self.images(request)])

    def read_once(
        self, grid: Grid, slices: list[Slice], variable: Variable, resampling: Resampling | None = None
    ) -> Pixels:
        return self.read(grid, slices, variable, resampling)

    def consolidate(self, consolidation: Consolidation) -> str:
        return self._jobs.start(consolidation)  # an unknown layout shows in the job

    def job(self, id_or_name: str) -> JobState:
        return self._jobs.job(id_or_name)

    def jobs(self, pattern: str = "") -> list[JobState]:
        return self._jobs.jobs(pattern)

    def continue_job(self, job_id: str) -> None:
        self._jobs.continue_job(job_id)

    def retry_job(self, job_id: str, *, force: bool = False) -> None:
        self._jobs.retry_job(job_id, force=force)

    def cancel_job(self, job_id: str, *, force: bool = False) -> None:
        self._jobs.cancel_job(job_id, force=force)

    def advance(self, job_id: str) -> bool:
        """There is no worker of a server, so whoever follows a job does its steps."""
        return self._jobs.advance(job_id)


def _pixels(image: Image, nothing: Pixels) -> Pixels:
    if image.outcome is Outcome.FAILED:
        raise AcdError(ErrorCode.IMAGE_FAILED, image.reason)
    return nothing if image.pixels is None else image.pixels


def served_cube() -> ServedCube | None:
    """As `geocube_of_environment`, for the folder that the environment names."""
    folder = os.environ.get(SERVED)
    return StandIn(folder) if folder else None


def main(scene: str, site: str, deadly: str) -> None:
    """The chain; killed when the site is about to say for the so-manyth time that something is there."""
    lives = int(deadly)
    create = LocalCube.create

    def create_or_die(url: str) -> LocalCube:
        nonlocal lives
        if url == site:
            lives -= 1
            if not lives:
                os._exit(9)
        return create(url)

    setattr(LocalCube, "create", create_or_die)  # noqa: B010  # a kill at this very moment
    setattr(acdtask.jobs.contract, "geocube_of_environment", served_cube)  # noqa: B010  # in place of a server
    with WorkerPool(0) as pool:
        run_chain(Path(scene), site, pool, Chain(consolidate=False))


if __name__ == "__main__":
    main(*sys.argv[1:])
