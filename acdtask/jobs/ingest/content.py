"""What a plan of ingest has decided, and the work of its shards."""

from __future__ import annotations

from typing import Any, NamedTuple

from pydantic import Field

from acdtask.cube.model import Record
from acdtask.jobs.contract import Content, Context, Plan, Settings, Work
from acdtask.jobs.ingest.pixels import Input
from acdtask.jobs.ingest.settings import IngestSettings
from acdtask.raster.grid import Layout

__all__ = ["FilesWork", "IngestContent", "IngestContext", "IngestPlan", "PlannedFile", "UnfitFile"]


class PlannedFile(NamedTuple):
    """A file that is to be ingested, and the record that it becomes."""

    record_id: str
    address: str
    fingerprint: str


class UnfitFile(NamedTuple):
    """A file that cannot be used, and the record that it would be."""

    address: str
    record: Record


class IngestContent(Content):
    """What an ingest brings in.

    Attributes:
        inputs: the files.
        layout: the layout to make, if it is not there.
        left_out: files that cannot be used.
        verification: the number of this verification of these files, if it is one.
        compared: version and address of the cube's pixels that files are compared with, by record id.
        given: on a Geocube, address of the pixels that this site brought, of records whose files changed, by record id.
    """

    inputs: tuple[PlannedFile, ...] = ()
    layout: Layout | None = None
    left_out: tuple[UnfitFile, ...] = Field(default=(), exclude_if=lambda value: not value)
    verification: int | None = Field(default=None, exclude_if=lambda value: value is None)
    compared: dict[str, tuple[int, str]] = Field(default={}, exclude_if=lambda value: not value)

    given: dict[str, str] = Field(default={}, exclude_if=lambda value: not value)

    @property
    def record_ids(self) -> list[str]:
        """The records of the files."""
        return [file.record_id for file in self.inputs]

    def to_verify(self, settings: Settings) -> dict[str, Any]:
        """What a verification verifies, as JSON values: the same for every verification of the same files."""
        return self.model_copy(update={"verification": None, "compared": {}, "given": {}}).identity(settings)


class FilesWork(Work):
    """The files of a shard; none, if only a layout is to be made."""

    inputs: list[Input]

    @property
    def names(self) -> tuple[str, ...]:
        """Their addresses."""
        return tuple(file.address for file in self.inputs)


IngestPlan = Plan[IngestSettings, IngestContent]
IngestContext = Context[IngestSettings, IngestContent]
