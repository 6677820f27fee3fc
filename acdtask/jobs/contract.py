"""What a job is: a plan, then rounds of run and gather. The callers are in acdtask.engine."""

from __future__ import annotations

import datetime as dt
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar, Generic, TypeVar, get_args, get_origin

from pydantic import BaseModel, ConfigDict

from acdtask.cube.local.cube import LocalCube
from acdtask.cube.model import Addition, Cube, Record, RecordQuery
from acdtask.cube.shared import SharedCube, found_or_none, geocube_of_environment
from acdtask.errors import ErrorCode
from acdtask.jobs.codec import decode
from acdtask.jobs.fence import Fence, newest_number
from acdtask.jobs.plans import (
    AGAIN,
    WARNING,
    Content,
    ContentT,
    Draft,
    Estimate,
    Plan,
    PlanHead,
    Series,
    Settings,
    SettingsT,
    Shard,
    Work,
    WorkT,
    content_id_of,
)
from acdtask.jobs.quarantine import LeftOut
from acdtask.storage.store import Store

__all__ = [
    "AGAIN",
    "WARNING",
    "Content",
    "Context",
    "Draft",
    "Estimate",
    "Findings",
    "FoundImage",
    "Handouts",
    "Job",
    "LeftOutShard",
    "Nothing",
    "Plan",
    "PlanHead",
    "Results",
    "Round",
    "Series",
    "Settings",
    "Shard",
    "Site",
    "Work",
    "content_id_of",
]

HandoutT = TypeVar("HandoutT", bound=BaseModel)
ResultT = TypeVar("ResultT", bound=BaseModel)
MemoT = TypeVar("MemoT", bound=BaseModel)


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

    def commit_inputs(self, addition: Addition) -> None:
        """Make inputs visible: on the Geocube, or in the cube here, which is made now if there was none."""
        commit = self.shared.commit_inputs if self.shared else self.create_cube().commit
        commit(addition)

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

    def scratch(self, plan: PlanHead) -> Store:
        """Where a plan's shards may leave what only later rounds of the same plan read, under names of its content."""
        return self.runs.within(f"{plan.job}/{plan.plan_id}/scratch")

    def note_token(self, plan: PlanHead, token: int) -> None:
        """Let a plan have a token. It may have several; the newest counts."""
        self.runs.create(f"{plan.job}/{plan.plan_id}/tokens/{token:08d}", b"")

    def fence(self, plan: PlanHead) -> Fence:
        """What keeps the plan from replacing what a newer one has published."""
        return Fence(self.runs, newest_number(self.runs.within(f"{plan.job}/{plan.plan_id}/tokens")))


class Context(Generic[SettingsT, ContentT]):
    """Where a round works: the plan, the site, and whom to tell how far it is.

    Attributes:
        plan: with its settings and its content.
        site: where the job works.
        progress: called with the number of units of the shard that are done so far.
    """

    def __init__(
        self, plan: Plan[SettingsT, ContentT], site: Site, progress: Callable[[int], None] = lambda _done: None
    ) -> None:
        self.plan, self.site, self.progress = plan, site, progress
        self.settings, self.content = plan.settings, plan.content

    @property
    def scratch(self) -> Store:
        """Where shards may leave what only later rounds of the plan read, under names of its content."""
        return self.site.scratch(self.plan)


@dataclass(frozen=True)
class LeftOutShard(Generic[WorkT]):
    """A shard whose result a gather does not get, and its work. With `why.parts` it gets the result of the rest."""

    why: LeftOut
    work: WorkT


@dataclass(frozen=True)
class Results(Generic[WorkT, ResultT]):
    """What a gather joins: iterate it once for number and result of each shard that came through, in order.

    A result is read and decoded when it is its turn, so that a gather holds one at a time.

    Attributes:
        numbered: the results.
        left_out: the shards that did not come through, in this round or in an earlier one.
        encoded_memo: what the gather of the round before left for this one.
    """

    numbered: Iterator[tuple[int, ResultT]]
    left_out: tuple[LeftOutShard[WorkT], ...] = ()
    encoded_memo: bytes = b""

    def __iter__(self) -> Iterator[tuple[int, ResultT]]:
        return self.numbered

    def memo(self, kind: type[MemoT]) -> MemoT:
        """What the gather of the round before left for this one."""
        return decode(self.encoded_memo, kind)


@dataclass(frozen=True)
class Handouts(Generic[HandoutT]):
    """What a gather leaves for the next round: something for each shard that needs it, and a memo for its gather.

    A shard is done again when its handout changes, so a handout says everything that the shard's result depends on.
    """

    shards: Mapping[int, HandoutT] = field(default_factory=dict)
    memo: BaseModel | None = None


class Nothing(BaseModel):
    """The handout of a round that needs none."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Round(ABC, Generic[WorkT, HandoutT, ResultT]):
    """A round of a job: what is done with each shard, and what is made of all results together.

    Work, handout and result are pydantic models, arrays included (`acdtask.jobs.codec`); the engine encodes, decodes
    and checks them. A shard that no gather has left a handout for gets an empty one, so all its fields have defaults.

    Attributes:
        name: of the round.
        optional: whether there are plans that do without it; then its name is not among the rounds of the plan.
        checks: whether it looks at everything although something was found bad already, so that all is told at once.
        work_type, handout_type, result_type: what the class was declared with: `Round[Work, Handout, Result]`.
    """

    name: ClassVar[str]
    checks: ClassVar[bool] = False
    optional: ClassVar[bool] = False
    work_type: type[WorkT]
    handout_type: type[HandoutT]
    result_type: type[ResultT]

    def __init_subclass__(cls, **more: Any) -> None:
        super().__init_subclass__(**more)
        for base in cls.__dict__.get("__orig_bases__", ()):
            if get_origin(base) is Round:
                cls.work_type, cls.handout_type, cls.result_type = get_args(base)

    @abstractmethod
    def run(self, work: WorkT, handout: HandoutT, context: Context[Any, Any]) -> ResultT:
        """Do one shard. Raises PartlyFailedError if some units failed and others did not."""

    @abstractmethod
    def gather(self, results: Results[WorkT, ResultT], context: Context[Any, Any]) -> Handouts[Any]:
        """Join the results of all shards; the gather of the last round publishes.

        What is left out must not show as if it were done. A gather that joins more may publish before one that joins
        less, so publishing never takes away what is there.
        """

    def files_of(self, result: ResultT, plan: Plan[Any, Any]) -> tuple[str, ...]:
        """Of the last round: keys of the files of products that a shard wrote.

        If one of them is gone when the plan is to be published again, the shard is done again.
        """
        del result, plan
        return ()


class Job(ABC, Generic[SettingsT, ContentT]):
    """A job. It holds no state: everything that a stage needs comes with the plan.

    A job that plans only what is missing has nothing to do once all is published; others plan the same work each time.

    `algorithm` is the job's `ALGORITHM`: raise it when the same inputs and settings give other results, so that they
    get other ids. tests/jobs/test_golden.py fails when results change and it does not.
    """

    name: ClassVar[str]
    algorithm: ClassVar[int] = 1
    unit: ClassVar[str] = "tiles"
    rounds: ClassVar[tuple[Round[Any, Any, Any], ...]]
    plans_only_what_is_missing: ClassVar[bool] = True
    settings: type[SettingsT]
    content: type[ContentT]

    @abstractmethod
    def plan(self, settings: SettingsT, site: Site) -> Draft[ContentT, Any]:
        """Decide everything. Reads the catalogue, the index and file headers, and writes nothing."""

    def round(self, name: str) -> Round[Any, Any, Any]:
        """The round of that name. KeyError."""
        return {one.name: one for one in self.rounds}[name]

    @property
    def round_names(self) -> tuple[str, ...]:
        """The names of all its rounds; a plan may need fewer."""
        return tuple(one.name for one in self.rounds)

    def fenced_area(self, settings: SettingsT) -> str:
        """The AOI whose results it may replace, if there is one; its plans get tokens."""
        del settings
        return ""

    def artifacts(self, plan: Plan[SettingsT, ContentT], site: Site) -> dict[str, str]:
        """What a workflow shows of a published result: {name of a file: key in the store}."""
        del plan, site
        return {}

    def findings(self, plan: Plan[SettingsT, ContentT], site: Site) -> Findings:
        """What a gathered plan has brought."""
        del plan, site
        return Findings()

    def notes(self, plan: Plan[SettingsT, ContentT], site: Site) -> list[str]:
        """Sentences about a gathered plan, for the person who runs it."""
        del plan, site
        return []

    def is_published(self, plan: Plan[SettingsT, ContentT], site: Site) -> bool:
        """Whether what the last gather made is still there; if not, it is made again."""
        del plan, site
        return True
