"""What a plan of consolidate has decided, the work of its shards, and what they have written."""

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
    """The keys of the containers to write; where a Geocube consolidates, the records that it is asked for."""

    cells: tuple[str, ...] | None = Field(default=None, exclude_if=lambda value: value is None)
    records: tuple[str, ...] | None = Field(default=None, exclude_if=lambda value: value is None)


class CellOfWork(TileOfWork):
    """A cell, and the containers to write for it; none where a Geocube consolidates."""

    containers: list[CellWork] = Field(default=[])

    @property
    def images(self) -> int:
        """Number of images to write: the new ones, and those of the containers that they are appended to."""
        return sum(len(container.slices) for container in self.containers)


class CellsWork(TilesWork[CellOfWork]):
    """The cells of a shard, and what a Geocube is asked for."""

    consolidation: Consolidation | None = None


class ConsolidatedCells(BaseModel):
    """What a shard has written, which copies in older containers it replaces, and of which images it was made.

    On a Geocube nothing of these, but name and id of its job.
    """

    datasets: list[Dataset] = []
    replaced: list[Dataset] = []
    sources: list[Dataset] = []
    job: str = ""
    job_id: str = ""


ConsolidatePlan = Plan[ConsolidateSettings, ConsolidateContent]
ConsolidateContext = Context[ConsolidateSettings, ConsolidateContent]
