"""Content of an ingest plan, and the work of its shards."""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple

from pydantic import Field

from acdtask.cube.model import Record
from acdtask.jobs.contract import Content, Context, Plan, Settings, Work
from acdtask.jobs.ingest.pixels import Input
from acdtask.jobs.ingest.settings import IngestSettings
from acdtask.raster.grid import Layout

__all__ = ["FilesWork", "IngestContent", "IngestContext", "IngestPlan", "PlannedFile", "UnusableInput"]


class PlannedFile(NamedTuple):
    """A file to ingest, and the record that it becomes."""

    record_id: str
    address: str
    fingerprint: str


class UnusableInput(NamedTuple):
    """A file that cannot be used, and the record that it would become, if that is known."""

    address: str
    record: Record | None


class IngestContent(Content):
    """The decisions of an ingest plan.

    Attributes:
        inputs: files to ingest.
        layout: layout to create if it is missing.
        unusable: files that cannot be used.
        files: number of the source's files, known and unusable ones included.
        verification: number of this verification of these files; None if nothing is verified.
        compared: version and address of the cube's pixels to compare files with, by record id.
        given: on a Geocube, addresses of pixels ingested from this site whose files changed, by record id.
    """

    described: ClassVar[frozenset[str]] = frozenset({"files"})

    inputs: tuple[PlannedFile, ...] = ()
    layout: Layout | None = None
    unusable: tuple[UnusableInput, ...] = Field(default=(), exclude_if=lambda value: not value)
    files: int = 0
    verification: int | None = Field(default=None, exclude_if=lambda value: value is None)
    compared: dict[str, tuple[int, str]] = Field(default={}, exclude_if=lambda value: not value)

    given: dict[str, str] = Field(default={}, exclude_if=lambda value: not value)

    @property
    def record_ids(self) -> list[str]:
        """The records of the files."""
        return [file.record_id for file in self.inputs]

    def to_verify(self, settings: Settings) -> dict[str, Any]:
        """Identity of the verified files as JSON values, the same for every verification of them."""
        return self.model_copy(update={"verification": None, "compared": {}, "given": {}}).identity(settings)


class FilesWork(Work):
    """The files of a shard; empty if only a layout is to be created."""

    inputs: list[Input]

    @property
    def names(self) -> tuple[str, ...]:
        """The files' addresses."""
        return tuple(file.address for file in self.inputs)


IngestPlan = Plan[IngestSettings, IngestContent]
IngestContext = Context[IngestSettings, IngestContent]
