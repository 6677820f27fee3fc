"""Jobs of a cube that consolidates by itself: what is asked for, and the state of a job."""

from __future__ import annotations

from enum import Enum
from typing import Literal, Protocol

from pydantic import BaseModel, ConfigDict

from acdtask.cube.model import Moment, Name, Variable
from acdtask.errors import AcdError, ErrorCode
from acdtask.raster.data_format import DataFormat, Resampling

__all__ = [
    "CellTask",
    "Consolidates",
    "Consolidation",
    "ConsolidationParams",
    "JobState",
    "Level",
    "TaskState",
    "stored_as",
]


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")


class Level(Enum):
    """Where a job pauses for a person. Each level adds pauses to those of the one before."""

    ASYNCHRONOUS = 1
    CRITICAL = 2
    MAJOR = 3
    ALL = 4


class Consolidation(_Value):
    """What to consolidate: the datasets of the records, rearranged by the cells of a layout.

    Attributes:
        name: name of the job, unique in the cube.
        records: ids.
    """

    name: str
    variable: Name
    instance: Name
    layout: Name
    records: tuple[str, ...]
    level: Level = Level.ASYNCHRONOUS


class ConsolidationParams(_Value):
    """How consolidated containers of a variable are written; the fields are Geocube's.

    acd's own server uses `dformat` and `resampling`. It stores and returns the others, but they have no effect: its
    containers are Zarr arrays with lossless compression, in the store's default class, without overviews.

    Attributes:
        dformat: number format; its range maps linearly onto the variable's. Default: the variable's own.
        exponent: of the mapping; only 1 is supported.
        resampling: for sources that are not on the layout's grid. Default: the variable's.
    """

    dformat: DataFormat | None = None
    exponent: float = 1.0
    resampling: Resampling | None = None
    compression: Literal["NO", "LOSSLESS", "LOSSY", "CUSTOM"] = "NO"
    creation_params: dict[str, str] = {}
    storage_class: Literal["STANDARD", "INFREQUENT", "ARCHIVE", "DEEPARCHIVE"] = "STANDARD"
    create_overviews: bool = False
    bands_interleave: bool = False


def stored_as(variable: Variable, params: ConsolidationParams) -> DataFormat:
    """The number format of consolidated containers. SETTING_INVALID if the parameters are not supported."""
    if params.exponent != 1:
        raise AcdError(
            ErrorCode.SETTING_INVALID,
            f"consolidated {variable.name} cannot have the exponent {params.exponent:g}",
            "Use the exponent 1: numbers of a container map linearly onto those of the variable.",
        )
    if params.compression == "CUSTOM" and "COMPRESS" not in params.creation_params:
        raise AcdError(
            ErrorCode.SETTING_INVALID, "the compression CUSTOM of a consolidation has no COMPRESS in creation_params"
        )
    return params.dformat or variable.dformat


class TaskState(Enum):
    """State of the task that fills a cell."""

    PREPARED = "prepared"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


class CellTask(_Value):
    """The part of a job that fills one cell of a layout. A count is 0 if the server does not report it."""

    cell: str
    state: TaskState
    containers: int = 0
    records: int = 0
    datasets: int = 0
    reason: str = ""


class JobState(_Value):
    """A job of a cube at a moment.

    Attributes:
        kind: such as "consolidation" or "deletion".
        state: in Geocube's words, such as CREATED, CONSOLIDATIONINPROGRESS, DONE (see `acdtask.cube.follow`).
        waiting: it pauses until it is continued.
        entries: how often it has entered this state; 0 if the server does not report it.
        cancelled: a person has cancelled it.
        error: what failed last; empty if nothing has failed.
        tasks: its cells. `entries`, `cancelled`, `error` and `tasks` are not filled in lists of a Geocube's jobs.
        log: for people, oldest line first.
    """

    id: str
    name: str
    kind: str
    state: str
    waiting: bool = False
    level: Level = Level.ASYNCHRONOUS
    created: Moment
    updated: Moment
    active_tasks: int = 0
    failed_tasks: int = 0
    entries: int = 0
    cancelled: bool = False
    error: str = ""
    tasks: tuple[CellTask, ...] = ()
    log: tuple[str, ...] = ()

    def count(self, state: TaskState) -> int:
        """Number of cells in a state."""
        return sum(task.state is state for task in self.tasks)


class Consolidates(Protocol):
    """A cube that consolidates by itself. Every method raises AcdError; JOB_UNKNOWN if there is no such job."""

    def consolidate(self, consolidation: Consolidation) -> str:
        """Start a job and return its id. JOB_CONFLICT, DATASET_LOCKED (naming the job), LAYOUT_UNKNOWN, ..."""

    def job(self, id_or_name: str) -> JobState:
        """The job."""

    def jobs(self, pattern: str = "") -> list[JobState]:
        """Jobs whose names match a pattern (`*`, `?`), oldest first; their logs may be left out."""

    def continue_job(self, job_id: str) -> None:
        """Continue a job that pauses. JOB_STATE if it does not pause."""

    def retry_job(self, job_id: str, *, force: bool = False) -> None:
        """Retry what failed. JOB_STATE if nothing failed."""

    def cancel_job(self, job_id: str, *, force: bool = False) -> None:
        """End a job and undo its work. JOB_STATE if it has ended, or is past the point of return."""
