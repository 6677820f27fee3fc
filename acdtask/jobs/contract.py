"""What a job is: a plan, then rounds of run and gather. The callers are in acdtask.engine."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from acdtask.cube.local.cube import LocalCube
from acdtask.cube.local.store import Store

__all__ = ["Draft", "Estimate", "Job", "Plan", "Settings", "Shard", "Site"]


class Settings(BaseModel):
    """The settings of a job. Options, workflow parameters and the reference are made from it.

    Settings that say how to run, and not what comes out, are named in `execution`: they never enter a content id.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    execution: ClassVar[frozenset[str]] = frozenset({"shard_tiles"})

    def science(self) -> dict[str, Any]:
        """The settings that decide what comes out, as JSON values."""
        return self.model_dump(mode="json", exclude=set(self.execution))


class Estimate(BaseModel):
    """What a plan will cost."""

    model_config = ConfigDict(frozen=True)

    tiles: int = 0
    dates: int = 0
    bytes_read: int = 0
    bytes_written: int = 0
    core_seconds: float = 0.0


class Shard(BaseModel):
    """The work of one pod: `units` tiles or files, and what the job needs to know to do them."""

    model_config = ConfigDict(frozen=True)

    units: int
    work: dict[str, Any]


@dataclass(frozen=True)
class Draft:
    """What `Job.plan` decides.

    Attributes:
        content: everything that decides what comes out (science settings, inputs), as JSON values.
        shards: the work; all of it serialisable as JSON.
        notes: what the caller of `plan` should see, such as the tiles as GeoJSON under "map".
        nothing_to_do: a sentence that says why there is no work, or empty.
    """

    content: dict[str, Any]
    shards: list[Shard]
    estimate: Estimate
    notes: dict[str, Any] = field(default_factory=dict)
    nothing_to_do: str = ""


class Plan(BaseModel):
    """A plan as it is stored. The same inputs, settings and shards make the same plan_id.

    `content_id` leaves the sharding out: products are named by it.
    """

    model_config = ConfigDict(frozen=True)

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


@dataclass(frozen=True)
class Site:
    """Where a job works: the cube it reads and writes, the store of its products, the store of plans and markers."""

    cube: LocalCube
    products: Store
    runs: Store


SettingsT = TypeVar("SettingsT", bound=Settings)


class Job(ABC, Generic[SettingsT]):
    """A job. It holds no state: everything that a stage needs comes with the plan."""

    name: ClassVar[str]
    summary: ClassVar[str]
    rounds: ClassVar[tuple[str, ...]]
    settings: type[SettingsT]

    @abstractmethod
    def plan(self, settings: SettingsT, site: Site) -> Draft:
        """Decide everything. Reads the catalogue, the index and file headers, and writes nothing."""

    @abstractmethod
    def run(
        self, plan: Plan, round_name: str, shard: Shard, handout: bytes, site: Site, progress: Callable[[int], None]
    ) -> bytes:
        """Do one shard of a round and return its table, in an encoding of the job's own.

        Args:
            handout: what the gather before this round left for this shard; empty in the first round.
            progress: call it with the number of units done so far.
        """

    @abstractmethod
    def gather(self, plan: Plan, round_name: str, tables: Iterator[bytes], site: Site) -> dict[int, bytes]:
        """Join the tables of a complete round, in the order of shards; the last gather publishes.

        Returns:
            A handout for each shard of the next round that needs one.
        """
