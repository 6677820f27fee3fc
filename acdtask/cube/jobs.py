"""Jobs of a cube that consolidates on its own: requests, and states of jobs."""

from __future__ import annotations

from enum import Enum
from typing import Literal, Protocol

from pydantic import Field

from acdtask.cube.model import Moment, Name, Value, Variable
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


class Level(Enum):
    """Where a job pauses for approval. Each level adds pauses to those of the previous one."""

    ASYNCHRONOUS = 1
    CRITICAL = 2
    MAJOR = 3
    ALL = 4


class Consolidation(Value):
    """A request to consolidate datasets of records: rearrange them by the cells of a layout.

    Attributes:
        name: name of the job, unique in the cube.
        records: ids of the records.
    """

    name: str
    variable: Name
    instance: Name
    layout: Name
    records: tuple[str, ...]
    level: Level = Level.ASYNCHRONOUS


class ConsolidationParams(Value):
    """How to write the consolidated containers of a variable. The fields are Geocube's.

    acd's server uses `dformat` and `resampling`. It stores and returns the others, but they have no effect: its
    containers are Zarr arrays with lossless compression, in the store's default class, without overviews.

    Attributes:
        dformat: data format; its range maps linearly onto the variable's. Default: the variable's own.
        exponent: exponent of the mapping; only 1 is supported.
        resampling: for sources that are not on the layout's grid. Default: the variable's.
    """

    dformat: DataFormat | None = None
    exponent: float = 1.0
    resampling: Resampling | None = None
    compression: Literal["NO", "LOSSLESS", "LOSSY", "CUSTOM"] = "NO"
    creation_params: dict[str, str] = Field(default={})
    storage_class: Literal["STANDARD", "INFREQUENT", "ARCHIVE", "DEEPARCHIVE"] = "STANDARD"


def stored_as(variable: Variable, params: ConsolidationParams) -> DataFormat:
    """The data format of consolidated containers. SETTING_INVALID if the parameters are not supported."""
    if params.exponent != 1:
        raise AcdError(
            ErrorCode.SETTING_INVALID,
            f"consolidated {variable.name} cannot have the exponent {params.exponent:g}",
            "Use the exponent 1, a linear mapping.",
        )
    if params.compression == "CUSTOM" and "COMPRESS" not in params.creation_params:
        raise AcdError(
            ErrorCode.SETTING_INVALID, "compression is CUSTOM, but creation_params does not contain COMPRESS"
        )
    return params.dformat or variable.dformat


class TaskState(Enum):
    """State of a cell's task."""

    PREPARED = "prepared"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


class CellTask(Value):
    """The part of a job that consolidates one cell of a layout. Counts that the server does not report are 0."""

    cell: str
    state: TaskState
    containers: int = 0
    records: int = 0
    datasets: int = 0
    reason: str = ""


class JobState(Value):
    """The state of a job.

    In lists of a Geocube's jobs, `entries`, `cancelled`, `error` and `tasks` are not set.

    Attributes:
        kind: such as "consolidation" or "deletion".
        state: Geocube's name of the state, such as CREATED, CONSOLIDATIONINPROGRESS, DONE (see `acdtask.cube.follow`).
        waiting: whether it pauses until it is continued.
        entries: how often it has entered this state; 0 if the server does not report it.
        cancelled: whether a person has cancelled it.
        error: the latest error; empty if nothing has failed.
        tasks: the tasks of its cells.
        log: lines for people, oldest first.
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
    """A cube that consolidates on its own. All methods raise AcdError: JOB_UNKNOWN if a job does not exist, ..."""

    def consolidate(self, consolidation: Consolidation) -> str:
        """Start a job and return its id. JOB_CONFLICT, DATASET_LOCKED (naming the job), LAYOUT_UNKNOWN, ..."""

    def job(self, id_or_name: str) -> JobState:
        """The state of a job."""

    def jobs(self, pattern: str = "") -> list[JobState]:
        """Jobs whose names match a pattern (`*`, `?`), oldest first. Their logs may be omitted."""

    def continue_job(self, job_id: str) -> None:
        """Continue a paused job. JOB_STATE if it is not paused."""

    def retry_job(self, job_id: str, *, force: bool = False) -> None:
        """Retry failed tasks of a job. JOB_STATE if nothing failed."""

    def cancel_job(self, job_id: str, *, force: bool = False) -> None:
        """Cancel a job and undo its work. JOB_STATE if it has ended, or can no longer be undone."""
