"""Jobs that are not converted yet: removed with the last of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from acdtask.jobs.codec import ArrayOf
from acdtask.jobs.contract import Context, Handouts, Results, Round
from acdtask.jobs.plans import Content, Settings, Shard, Work


class Raw(BaseModel):
    data: Annotated[NDArray[np.uint8], ArrayOf(np.uint8)] = np.zeros(0, np.uint8)

    @classmethod
    def of(cls, data: bytes) -> Raw:
        return cls(data=np.frombuffer(data, np.uint8))


class RawContent(Content):
    data: dict[str, Any]

    def identity(self, settings: Settings) -> dict[str, Any]:
        return self.data

    def __getitem__(self, name: str) -> Any:
        return self.data[name]

    def get(self, name: str, default: Any) -> Any:
        return self.data.get(name, default)


class RawWork(Work):
    tiles: list[dict[str, Any]]

    def __getitem__(self, name: str) -> Any:
        return getattr(self, name)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(f"{raw['tile']['i']}/{raw['tile']['j']}" for raw in self.tiles)


@dataclass(frozen=True)
class LegacyShard:
    why: Any
    shard: Shard[Any]


@dataclass(frozen=True)
class LegacyResult:
    tables: Iterator[tuple[int, bytes]]
    left_out: tuple[LegacyShard, ...] = ()
    memo: bytes = b""


@dataclass(frozen=True)
class LegacyHandouts:
    shards: dict[int, bytes] = field(default_factory=dict)
    memo: bytes = b""


class LegacyRound(Round[RawWork, Raw, Raw]):
    def __init__(self, name: str, job: Callable[[], Any]) -> None:
        self.name = name  # type: ignore[misc]  # legacy
        self._job = job

    def run(self, work: RawWork, handout: Raw, context: Context[Any, Any]) -> Raw:
        shard = Shard(units=0, work=work)
        done = self._job().run(context.plan, self.name, shard, handout.data.tobytes(), context.site, context.progress)
        return Raw.of(done)

    def gather(self, results: Results[RawWork, Raw], context: Context[Any, Any]) -> Handouts[Raw]:
        legacy = LegacyResult(
            ((index, raw.data.tobytes()) for index, raw in results),
            tuple(LegacyShard(one.why, Shard(units=0, work=one.work)) for one in results.left_out),
            results.memo(Raw).data.tobytes() if results.encoded_memo else b"",
        )
        handouts = self._job().gather(context.plan, self.name, legacy, context.site)
        return Handouts(
            {index: Raw.of(data) for index, data in handouts.shards.items()},
            Raw.of(handouts.memo) if handouts.memo else None,
        )

    def files_of(self, result: Raw, plan: Any) -> tuple[str, ...]:
        return self._job().files_of(plan, result.data.tobytes())  # type: ignore[no-any-return]  # legacy
