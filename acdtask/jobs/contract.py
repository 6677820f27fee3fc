"""The contract of a job: a plan, then rounds of run and gather. acdtask.engine calls it."""

from __future__ import annotations

import datetime as dt
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar, Generic, TypeVar, get_args, get_origin

from pydantic import BaseModel

from acdtask.cube.local.cube import LocalCube
from acdtask.cube.model import Addition, Cube, Record, RecordQuery
from acdtask.cube.shared import SharedCube, find_or_none, geocube_of_environment
from acdtask.errors import ErrorCode
from acdtask.jobs.cautions import Caution
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
from acdtask.jobs.quarantine import Failure, LeftOut
from acdtask.storage.block_cache import BlockCache
from acdtask.storage.store import Store

__all__ = [
    "AGAIN",
    "WARNING",
    "Content",
    "Context",
    "Draft",
    "Estimate",
    "Findings",
    "Handouts",
    "ImageFindings",
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


class ImageFindings(BaseModel, frozen=True):
    """Findings about an image that a plan ingested or judged. Fields about patches and pixels are None if not judged.

    Attributes:
        area_px, judged_px: number of pixels in the area of interest, and of those that could be judged.
        z_max: highest z.
        warnings: what makes the result of the image less reliable.
    """

    label: str
    datetime: dt.datetime
    patches: int | None = None
    changed_area_m2: float | None = None
    area_px: int | None = None
    judged_px: int | None = None
    z_max: float | None = None
    warnings: tuple[Caution, ...] = ()


class Findings(BaseModel, frozen=True):
    """Findings of a gathered plan, for its user.

    `figures` are numbers by name, of this plan alone. `images` are by datetime. `files` are addresses by name; they may
    also contain results of earlier plans. `warnings` say what makes the results of this plan less reliable, each once.
    """

    figures: dict[str, float] = {}
    images: list[ImageFindings] = []
    files: dict[str, str] = {}
    warnings: tuple[Caution, ...] = ()


class Site:
    """Where a job works: a folder or bucket with the cube, the products, and the runs (plans, markers, scratch).

    If the environment names a Geocube (ACD_GEOCUBE_ADDRESS), it has the records, and the cube in the folder or bucket
    only has the products.

    `blocks` is a cache for what the site's own cube reads.
    """

    def __init__(self, address: str, blocks: BlockCache | None = None) -> None:
        self.address, self._blocks = address, blocks
        self.store = Store.at(address)
        self.runs = self.store.within("runs")

    @cached_property
    def cube(self) -> LocalCube | SharedCube:
        """The cube with the records and published products. CUBE_UNKNOWN if there is none at this address."""
        if self.shared:
            return self.shared
        cube = LocalCube.open(self.address)
        cube.blocks = self._blocks
        return cube

    @cached_property
    def shared(self) -> SharedCube | None:
        """The combined view of the Geocube and the site's own cube; None without a Geocube."""
        geocube = geocube_of_environment()
        return SharedCube(geocube, self.address) if geocube else None

    def find_cube(self) -> Cube | None:
        """The cube, or None if there is none yet."""
        return find_or_none(lambda: self.cube, ErrorCode.CUBE_UNKNOWN)

    def commit_inputs(self, addition: Addition) -> None:
        """Make inputs visible in the Geocube, or in the cube of this site, which is created if missing."""
        commit = self.shared.commit_inputs if self.shared else self.create_cube().commit
        commit(addition)

    def published(self, query: RecordQuery) -> list[Record]:
        """The published records that match a query, according to this site's cube."""
        own = self.shared.own if self.shared else self.cube
        return own.records(query) if own else []

    def create_cube(self) -> LocalCube:
        """The cube in the folder or bucket, created if missing."""
        created = LocalCube.create(self.address)
        if self.shared is None:
            self.__dict__["cube"] = created
        return created

    def scratch(self, plan: PlanHead) -> Store:
        """Store for data that only later rounds of the plan read. Keys must contain a digest of the content."""
        return self.runs.within(f"{plan.job}/{plan.plan_id}/scratch")

    def note_token(self, plan: PlanHead, token: int) -> None:
        """Record a token of a plan. It may have several; the newest counts."""
        self.runs.create(f"{plan.job}/{plan.plan_id}/tokens/{token:08d}", b"")

    def fence(self, plan: PlanHead) -> Fence:
        """The fence that keeps the plan from replacing results of a newer one."""
        return Fence(self.runs, newest_number(self.runs.within(f"{plan.job}/{plan.plan_id}/tokens")))


class Context(Generic[SettingsT, ContentT]):
    """The context of a round: plan, site and progress callback.

    `progress` is called with the number of units of the shard done so far.
    """

    def __init__(
        self, plan: Plan[SettingsT, ContentT], site: Site, progress: Callable[[int], None] = lambda _done: None
    ) -> None:
        self.plan, self.site, self.progress = plan, site, progress
        self.settings, self.content = plan.settings, plan.content

    @property
    def scratch(self) -> Store:
        """Store for data that only later rounds of the plan read; see `Site.scratch`."""
        return self.site.scratch(self.plan)


@dataclass(frozen=True)
class LeftOutShard(Generic[WorkT]):
    """A shard that failed, and its work. If `why.unusable` is not empty, the gather still gets its usable inputs."""

    why: LeftOut
    work: WorkT


@dataclass(frozen=True)
class Results(Generic[WorkT, ResultT]):
    """The results that a gather joins. Iterating, once, yields number and result of each completed shard, in order.

    Results are read and decoded one at a time.

    `left_out` are the shards that failed in this or an earlier round; `encoded_memo` is the memo of the previous
    round's gather.
    """

    numbered: Iterator[tuple[int, ResultT]]
    left_out: tuple[LeftOutShard[WorkT], ...] = ()
    encoded_memo: bytes = b""

    def __iter__(self) -> Iterator[tuple[int, ResultT]]:
        return self.numbered

    def memo(self, kind: type[MemoT]) -> MemoT:
        """Decode the memo of the previous round's gather."""
        return decode(self.encoded_memo, kind)


@dataclass(frozen=True)
class Handouts(Generic[HandoutT]):
    """What a gather leaves for the next round: handouts for its shards, and a memo for its gather.

    A changed handout makes its shard run again, so it must contain everything that the shard's result depends on.
    """

    shards: Mapping[int, HandoutT] = field(default_factory=dict)
    memo: BaseModel | None = None


class Nothing(BaseModel, frozen=True, extra="forbid"):
    """An empty handout, for rounds that need none."""


class Round(ABC, Generic[WorkT, HandoutT, ResultT]):
    """A round of a job: `run` works on each shard, `gather` joins all results.

    Work, handout and result are pydantic models that may contain arrays (`acdtask.jobs.codec`); the engine encodes,
    decodes and checks them. Shards without a handout get an empty one, so all fields of a handout have defaults.

    Attributes:
        name: name of the round.
        optional: whether some plans skip the round; it is then not among their rounds.
        checks: whether the remaining shards run although too many failed, so that all errors are reported at once.
        work_type, handout_type, result_type: type arguments of the base class `Round[Work, Handout, Result]`.
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
        """Run a shard. Raises UnusableInputsError if some of its inputs cannot be used."""

    @abstractmethod
    def gather(self, results: Results[WorkT, ResultT], context: Context[Any, Any]) -> Handouts[Any]:
        """Join the results of all shards. The last round's gather publishes.

        What is left out must not appear as done. A gather that joins more may publish before one that joins less, so
        publishing never removes anything.
        """

    def files_of(self, result: ResultT, plan: Plan[Any, Any]) -> tuple[str, ...]:
        """Keys of the product files that a shard of the last round wrote.

        If one is missing when the plan is published again, the shard runs again.
        """
        return ()


class Job(ABC, Generic[SettingsT, ContentT]):
    """A job. It has no state: everything that a stage needs is in the plan.

    Jobs with `plans_only_what_is_missing` have nothing to do once everything is published; others plan the same work
    each time.

    Jobs that `read_again` read blocks of images in several rounds, or in several tiles. They get a cache for them.

    `algorithm` is the job's `ALGORITHM`. Raise it when the same inputs and settings give different results, so that
    these get different ids; tests/jobs/test_golden.py fails if results change and it does not.
    """

    name: ClassVar[str]
    algorithm: ClassVar[int] = 1
    unit: ClassVar[str] = "tiles"
    rounds: ClassVar[tuple[Round[Any, Any, Any], ...]]
    plans_only_what_is_missing: ClassVar[bool] = True
    read_again: ClassVar[bool] = False
    settings: type[SettingsT]
    content: type[ContentT]

    @abstractmethod
    def plan(self, settings: SettingsT, site: Site) -> Draft[ContentT, Any]:
        """Decide everything: reads the catalogue, the index and file headers, and writes nothing."""

    def round(self, name: str) -> Round[Any, Any, Any]:
        """The round of that name. KeyError."""
        return {round_.name: round_ for round_ in self.rounds}[name]

    @property
    def round_names(self) -> tuple[str, ...]:
        """The names of all rounds; a plan may need fewer."""
        return tuple(round_.name for round_ in self.rounds)

    def fenced_area(self, settings: SettingsT) -> str:
        """The AOI whose results the job may replace, or empty. Its plans get tokens."""
        return ""

    def require_usable(self, plan: Plan[SettingsT, ContentT], unusable: Mapping[str, Failure], site: Site) -> None:
        """Raise an error if too many inputs of a plan are unusable. By default, none is tolerated."""
        if unusable:
            raise next(iter(unusable.values())).as_error()

    def artifacts(self, plan: Plan[SettingsT, ContentT], site: Site) -> dict[str, str]:
        """Files of a published result that a workflow shows: {file name: key in the store}."""
        return {}

    def findings(self, plan: Plan[SettingsT, ContentT], site: Site) -> Findings:
        """The findings of a gathered plan."""
        return Findings()

    def notes(self, plan: Plan[SettingsT, ContentT], site: Site) -> list[str]:
        """Sentences about a gathered plan, for its user."""
        return []

    def is_published(self, plan: Plan[SettingsT, ContentT], site: Site) -> bool:
        """Whether the results of the last gather still exist. If not, it runs again."""
        return True
