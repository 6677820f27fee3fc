"""Content of a consolidate plan, and the work and results of its shards."""

from __future__ import annotations

from pydantic import BaseModel, Field

from acdtask.cube.jobs import Consolidation
from acdtask.cube.local.consolidation_cell import CellWork
from acdtask.cube.model import Dataset
from acdtask.jobs.consolidate.settings import ConsolidateSettings
from acdtask.jobs.contract import Content, Context, Plan
from acdtask.jobs.shards import TileOfWork, TilesWork

__all__ = [
    "CellOfWork",
    "CellsWork",
    "ConsolidateContent",
    "ConsolidateContext",
    "ConsolidatePlan",
    "ConsolidatedCells",
]


class ConsolidateContent(Content):
    """The keys of the containers to write; on a Geocube, the records to consolidate."""

    cells: tuple[str, ...] | None = Field(default=None, exclude_if=lambda value: value is None)
    records: tuple[str, ...] | None = Field(default=None, exclude_if=lambda value: value is None)


class CellOfWork(TileOfWork):
    """A cell, and the containers to write for it; none on a Geocube."""

    containers: list[CellWork] = Field(default=[])

    @property
    def images(self) -> int:
        """Number of images to write: the new ones, and those of containers that they are appended to."""
        return sum(len(container.slices) for container in self.containers)


class CellsWork(TilesWork[CellOfWork]):
    """The cells of a shard; on a Geocube also the job to start."""

    consolidation: Consolidation | None = None


class ConsolidatedCells(BaseModel):
    """Datasets written by a shard, copies in older containers that they replace, and the images they are made from.

    On a Geocube these are empty, and `job` and `job_id` name the job.
    """

    datasets: list[Dataset] = []
    replaced: list[Dataset] = []
    sources: list[Dataset] = []
    job: str = ""
    job_id: str = ""


ConsolidatePlan = Plan[ConsolidateSettings, ConsolidateContent]
ConsolidateContext = Context[ConsolidateSettings, ConsolidateContent]
