"""What a job is: a plan, then rounds of run and gather. The callers are in acdtask.engine."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from acdtask import __version__
from acdtask.cube.grid import Layout
from acdtask.cube.local.cube import LocalCube
from acdtask.cube.local.store import Store
from acdtask.cube.model import Cube, Dataset, Instance, Record, RecordQuery, Variable
from acdtask.cube.shared import SharedCube, found_or_none, geocube_of_environment
from acdtask.errors import ErrorCode
from acdtask.jobs.fence import Fence, newest_number
from acdtask.jobs.quarantine import Failure, LeftOut

__all__ = [
    "AGAIN",
    "WARNING",
    "Draft",
    "Estimate",
    "Findings",
    "FoundImage",
    "Handouts",
    "Job",
    "LeftOutShard",
    "Plan",
    "RoundResult",
    "Settings",
    "Shard",
    "Site",
    "content_id_of",
]

AGAIN = "again"
"""In the notes of a plan that computes nothing and makes a published result the current one: a sentence about it."""

WARNING = "warning"
"""In the notes of a plan: a sentence that its user should read before the work begins."""


class Settings(BaseModel):
    """The settings of a job. Options, workflow parameters and the reference are made from it.

    Settings that say how to run, and not what comes out, are named in `execution`: they never enter a content id.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")
    execution: ClassVar[frozenset[str]] = frozenset({"shard_tiles", "pod_start"})

    def science(self) -> dict[str, Any]:
        """The settings that decide what comes out, as JSON values."""
        return self.model_dump(mode="json", exclude=set(self.execution))


class Estimate(BaseModel):
    """What a plan will cost. `memory_bytes` is what a process holds at once that does any of its shards."""

    model_config = ConfigDict(frozen=True, ser_json_inf_nan="strings")

    tiles: int = 0
    dates: int = 0
    bytes_read: int = 0
    bytes_written: int = 0
    core_seconds: float = 0.0
    memory_bytes: int = 0


class Shard(BaseModel):
    """The work of one pod: `units` tiles or files, and what the job needs to know to do them."""

    model_config = ConfigDict(frozen=True, ser_json_inf_nan="strings")

    units: int
    work: dict[str, Any]


def content_id_of(job: str, content: dict[str, Any]) -> str:
    """Sixteen hexadecimal digits that name what a job makes: the same content, the same id."""
    canonical = json.dumps([job, __version__, content], sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Draft:
    """What `Job.plan` decides.

    Attributes:
        content: everything that decides what comes out (science settings, inputs), as JSON values.
        shards: the work; all of it serialisable as JSON.
        notes: what the caller of `plan` should see, such as the tiles as GeoJSON under "map", or WARNING. A plan that
            computes nothing, and only makes a published result the current one again, says so under AGAIN.
        nothing_to_do: a sentence that says why there is no work, or empty.
        left_out: inputs that failed for good while planning, by what people call them. `content` has to name them.
    """

    content: dict[str, Any]
    shards: list[Shard]
    estimate: Estimate
    notes: dict[str, Any] = field(default_factory=dict)
    nothing_to_do: str = ""
    left_out: Mapping[str, Failure] = field(default_factory=dict)


class Plan(BaseModel):
    """A plan as it is stored. The same inputs, settings and shards make the same plan_id.

    `content_id` leaves the sharding out: products are named by it.
    """

    model_config = ConfigDict(frozen=True, ser_json_inf_nan="strings")

    job: str
    plan_id: str
    content_id: str
    version: str
    settings: dict[str, Any]
    content: dict[str, Any]
    rounds: tuple[str, ...]
    shards: int = Field(ge=0)
    units: int = Field(ge=0)
    estimate: Estimate
    notes: dict[str, Any] = {}
    nothing_to_do: str = ""
    left_out: dict[str, Failure] = Field(default={}, exclude_if=lambda value: not value)


class FoundImage(BaseModel):
    """An image that a plan brought or compared. What is not of its label and datetime is None for nothing compared.

    Attributes:
        area_px, judged_px: pixels in the area of interest, and those that could be judged.
        z_max: the highest z.
    """

    model_config = ConfigDict(frozen=True)

    label: str
    datetime: dt.datetime
    patches: int | None = None
    changed_area_m2: float | None = None
    area_px: int | None = None
    judged_px: int | None = None
    z_max: float | None = None


class Findings(BaseModel):
    """What came out of a plan that is gathered, in words and numbers that mean something to its user.

    Attributes:
        figures: numbers by name; all of this plan alone.
        images: the images of the plan, by datetime.
        files: addresses by name; they may hold results of earlier plans too.
    """

    model_config = ConfigDict(frozen=True)

    figures: dict[str, float] = {}
    images: list[FoundImage] = []
    files: dict[str, str] = {}


@dataclass(frozen=True)
class LeftOutShard:
    """A shard whose result a gather does not get, and its work. With `why.parts` it gets the result of the rest."""

    why: LeftOut
    shard: Shard


@dataclass(frozen=True)
class RoundResult:
    """What a gather joins.

    Attributes:
        tables: number and table of each shard that came through, in the order of shards; can be read once.
        left_out: the shards that did not, in this round or in an earlier one.
        memo: what the gather of the round before left for this one.
    """

    tables: Iterator[tuple[int, bytes]]
    left_out: tuple[LeftOutShard, ...] = ()
    memo: bytes = b""


@dataclass(frozen=True)
class Handouts:
    """What a gather leaves for the next round: bytes for each shard that needs some, and a memo for its gather.

    A shard is done again when its handout changes, so a handout says everything that the shard's result depends on.
    """

    shards: dict[int, bytes] = field(default_factory=dict)
    memo: bytes = b""


class Site:
    """Where a job works: a folder or bucket with the products, the runs (plans, markers, scratch), and the cube.

    If the environment names a Geocube (ACD_GEOCUBE_ADDRESS), the records are there, and the cube in the folder or
    bucket has the products alone.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        self.store = Store.at(address)
        self.runs = self.store.within("runs")

    @cached_property
    def cube(self) -> LocalCube | SharedCube:
        """Where records are found and products become visible. CUBE_UNKNOWN if there is none at this address."""
        return self.shared or LocalCube.open(self.address)

    @cached_property
    def shared(self) -> SharedCube | None:
        """The cube, if it is a Geocube's and ours."""
        geocube = geocube_of_environment()
        return SharedCube(geocube, self.address) if geocube else None

    def find_cube(self) -> Cube | None:
        """The cube, or None where none was made yet."""
        return found_or_none(lambda: self.cube, ErrorCode.CUBE_UNKNOWN)

    def commit_inputs(
        self,
        records: Iterable[Record] = (),
        datasets: Iterable[Dataset] = (),
        variables: Iterable[Variable] = (),
        instances: Iterable[Instance] = (),
        layouts: Iterable[Layout] = (),
    ) -> None:
        """Make inputs visible: on the Geocube, or in the cube here, which is made now if there was none."""
        commit = self.shared.commit_inputs if self.shared else self.create_cube().commit
        commit(records, datasets, variables, instances, layouts)

    def published(self, query: RecordQuery) -> list[Record]:
        """The records of products that are visible, as this site knows it."""
        own = self.shared.own if self.shared else self.cube
        return own.records(query) if own else []

    def create_cube(self) -> LocalCube:
        """The cube in the folder or bucket, made now if there was none."""
        created = LocalCube.create(self.address)
        if self.shared is None:
            self.__dict__["cube"] = created
        return created

    def scratch(self, plan: Plan) -> Store:
        """Where a plan's shards may leave what only later rounds of the same plan read, under names of its content."""
        return self.runs.within(f"{plan.job}/{plan.plan_id}/scratch")

    def note_token(self, plan: Plan, token: int) -> None:
        """Let a plan have a token. It may have several; the newest counts."""
        self.runs.create(f"{plan.job}/{plan.plan_id}/tokens/{token:08d}", b"")

    def fence(self, plan: Plan) -> Fence:
        """What keeps the plan from replacing what a newer one has published."""
        return Fence(self.runs, newest_number(self.runs.within(f"{plan.job}/{plan.plan_id}/tokens")))


SettingsT = TypeVar("SettingsT", bound=Settings)


class Job(ABC, Generic[SettingsT]):
    """A job. It holds no state: everything that a stage needs comes with the plan.

    `checks` are rounds that look at everything although something was found bad already, so that all is told at once.
    A job that plans only what is missing has nothing to do once all is published; others plan the same work each time.
    """

    name: ClassVar[str]
    unit: ClassVar[str] = "tiles"
    rounds: ClassVar[tuple[str, ...]]
    checks: ClassVar[frozenset[str]] = frozenset()
    plans_only_what_is_missing: ClassVar[bool] = True
    settings: type[SettingsT]

    @abstractmethod
    def plan(self, settings: SettingsT, site: Site) -> Draft:
        """Decide everything. Reads the catalogue, the index and file headers, and writes nothing."""

    @abstractmethod
    def run(
        self, plan: Plan, round_name: str, shard: Shard, handout: bytes, site: Site, progress: Callable[[int], None]
    ) -> bytes:
        """Do one shard of a round and return its table, in an encoding of the job's own.

        `handout` is what the gather before this round left for this shard, empty in the first round. `progress` is
        called with the number of units done so far. Raises PartlyFailedError if some units failed and others did not.
        """

    @abstractmethod
    def gather(self, plan: Plan, round_name: str, result: RoundResult, site: Site) -> Handouts:
        """Join the tables of a round; the last gather publishes.

        What is left out must not show as if it were done. A gather that joins more may publish before one that joins
        less, so publishing never takes away what is there.
        """

    def fenced_area(self, settings: SettingsT) -> str:
        """The AOI whose results it may replace, if there is one; its plans get tokens."""
        del settings
        return ""

    def names(self, shard: Shard) -> tuple[str, ...]:
        """What people call the tiles or files of a shard."""
        del shard
        return ()

    def artifacts(self, plan: Plan, site: Site) -> dict[str, str]:
        """What a workflow shows of a published result: {name of a file: key in the store}."""
        del plan, site
        return {}

    def findings(self, plan: Plan, site: Site) -> Findings:
        """What a gathered plan has brought."""
        del plan, site
        return Findings()

    def notes(self, plan: Plan, site: Site) -> list[str]:
        """Sentences about a gathered plan, for the person who runs it."""
        del plan, site
        return []

    def files_of(self, plan: Plan, table: bytes) -> tuple[str, ...]:
        """Keys of the files of products that a shard wrote, from its table of the last round.

        If one of them is gone when the plan is to be published again, the shard is done again.
        """
        del plan, table
        return ()

    def is_published(self, plan: Plan, site: Site) -> bool:
        """Whether what the last gather made is still there; if not, it is made again."""
        del plan, site
        return True
