"""What a plan keeps of its rounds. All of it but an error is made once and never changed (docs/decisions/0011).

Below `<round>/`: `0003.table` and its marker `0003.json`, or `0003.error.json`; `handouts/0003-<digest>`;
`gathered/<gathering before>/<units left out>-<id>.json`. In later rounds `0003` is `0003-<digest of its handout>`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from acdtask.cube.local.store import Store
from acdtask.engine.account import Meter, Work
from acdtask.errors import AcdError, ErrorCode
from acdtask.jobs.contract import Handouts, Plan, Site
from acdtask.jobs.quarantine import Failure, LeftOut, PartlyFailedError

__all__ = ["Gathering", "Round", "ShardError", "digest_of", "find_gathering"]

FIRST = "first"
"""The gathering before the first one."""
MEMO = "memo"


class Gathering(BaseModel):
    """What a gather joined, and what it left for the next round.

    Attributes:
        joined: the digest of each shard's table.
        left_out: shards that came through neither this round nor an earlier one, or not with all their units.
        handouts: the digest of each handout.
        memo: the digest of the memo, or empty.
        run: the run that the first gather was part of that made this.
        work: what the joined shards have cost.
    """

    model_config = ConfigDict(frozen=True)

    plan: str
    round: str
    joined: dict[int, str]
    left_out: tuple[LeftOut, ...] = ()
    handouts: dict[int, str] = {}
    memo: str = ""
    run: str = ""
    work: Work = Work()

    @property
    def id(self) -> str:
        """What tells it from other gatherings of the round. It says nothing of why a shard is left out."""
        parts = [sorted(self.joined.items()), sorted(self.handouts.items()), self.memo]
        return digest_of(json.dumps([*parts, [one.shard for one in self.left_out]]).encode())


class ShardError(Failure):
    """How a shard failed for good; `table` is the digest of the table of its good units, if it has some."""

    shard: int
    parts: dict[str, Failure] = Field(default_factory=dict)
    table: str = ""


class Round:
    """A round of a plan that the gathering before it, as it was when this was made, has prepared.

    Attributes:
        before: that gathering.
        stems: what the files of each shard are called that takes part.
    """

    def __init__(self, plan: Plan, name: str, before: Gathering, site: Site) -> None:
        self.plan, self.name, self.before = plan, name, before
        self._folder = _folder(plan, site)
        self.stems = {index: self._stem(index) for index in sorted(before.joined)}

    @classmethod
    def find(cls, plan: Plan, name: str, site: Site) -> Round | None:
        """The round, or None if the one before it is not gathered."""
        before = _gathering_before(plan, name, site)
        return None if before is None else cls(plan, name, before, site)

    def gathering(self) -> Gathering | None:
        """The gathering of this round that counts."""
        return _newest(self._folder, self.name, self.before)

    def missing(self) -> list[int]:
        """The shards that have no marker for the handout that is there now."""
        there = set(self._folder.list(self.name))
        return [index for index, stem in self.stems.items() if f"{self.name}/{stem}.json" not in there]

    def errors(self, missing: list[int]) -> dict[int, ShardError]:
        """Why shards failed for good, as far as they said it."""
        found = {index: self._folder.find(self._key(index, "error.json")) for index in missing}
        return {index: ShardError.model_validate_json(body) for index, body in found.items() if body is not None}

    def is_done(self, index: int) -> bool:
        """Whether the shard has its marker."""
        return self._folder.exists(self._key(index, "json"))

    def handout(self, index: int) -> bytes:
        """What the gather before left for the shard."""
        return self._folder.get(self._handout(self.name, index, self.before)) if index in self.before.handouts else b""

    def memo(self) -> bytes:
        """What the gather before left for this one."""
        return self._folder.get(f"{self.name}/handouts/{MEMO}-{self.before.memo}") if self.before.memo else b""

    def keep_table(self, index: int, units: int, table: bytes, meter: Meter) -> None:
        """Store a table, then its marker with what it has cost."""
        self._folder.put(self._key(index, "table"), table)
        marker = {"plan": self.plan.plan_id, "round": self.name, "shard": index, "units": units}
        marker["sha256"] = hashlib.sha256(table).hexdigest()
        self._folder.create(self._key(index, "json"), json.dumps(marker | meter.figures()).encode())

    def keep_error(self, index: int, error: Exception) -> None:
        """Store why a shard failed for good, the last time it was tried."""
        parts, digest = {}, ""
        if isinstance(error, PartlyFailedError):
            parts, digest = error.parts, hashlib.sha256(error.table).hexdigest()
            self._folder.create(self._part(index, digest), error.table)
        kept = ShardError(**Failure.of(error).model_dump(), shard=index, parts=parts, table=digest)
        self._folder.put(self._key(index, "error.json"), kept.model_dump_json(indent=1).encode())

    def markers(self, missing: list[int]) -> dict[int, dict[str, Any]]:
        """The markers of the shards that are done."""
        done = [index for index in self.stems if index not in missing]
        return {index: json.loads(self._folder.get(self._key(index, "json"))) for index in done}

    def digests(self, markers: dict[int, dict[str, Any]], errors: dict[int, ShardError]) -> dict[int, str]:
        """The digest of each table that there is: of a shard that is done, or of the good units of one that failed."""
        found = {index: str(marker["sha256"]) for index, marker in markers.items()}
        found |= {index: error.table for index, error in errors.items() if error.table}
        return dict(sorted(found.items()))

    def tables(self, digests: dict[int, str], missing: list[int]) -> Iterator[tuple[int, bytes]]:
        """The tables with these digests. CUBE_DAMAGED if one is not what it was."""
        for index, digest in digests.items():
            table = self._folder.get(self._part(index, digest) if index in missing else self._key(index, "table"))
            if hashlib.sha256(table).hexdigest() != digest:
                raise AcdError(
                    ErrorCode.CUBE_DAMAGED, f"the table of shard {index} of round {self.name} is not what it was"
                )
            yield index, table

    def keep_gathering(self, gathering: Gathering, handouts: Handouts) -> None:
        """Store the handouts, then make the gathering known; it counts if no other left out less."""
        after = self.plan.rounds[self.plan.rounds.index(self.name) + 1 :][:1]
        for index, handout in handouts.shards.items():
            self._folder.create(self._handout(after[0], index, gathering), handout)
        if handouts.memo:
            self._folder.create(f"{after[0]}/handouts/{MEMO}-{gathering.memo}", handouts.memo)
        units = sum(one.units for one in gathering.left_out)
        key = f"{_gatherings(self.name, self.before)}/{units:06d}-{gathering.id}.json"
        self._folder.create(key, gathering.model_dump_json().encode())

    def _stem(self, index: int) -> str:
        digest = self.before.handouts.get(index)
        return f"{index:04d}-{digest}" if digest else f"{index:04d}"

    def _key(self, index: int, ending: str) -> str:
        return f"{self.name}/{self.stems[index]}.{ending}"

    def _part(self, index: int, digest: str) -> str:
        return self._key(index, f"part-{digest[:16]}.table")

    @staticmethod
    def _handout(round_name: str, index: int, before: Gathering) -> str:
        return f"{round_name}/handouts/{index:04d}-{before.handouts[index]}"


def find_gathering(plan: Plan, round_name: str, site: Site) -> Gathering | None:
    """The gathering that counts: of those that build on the one that counts before, the one that left out least."""
    before = _gathering_before(plan, round_name, site)
    return None if before is None else _newest(_folder(plan, site), round_name, before)


def digest_of(data: bytes) -> str:
    """Sixteen hexadecimal digits that name some bytes."""
    return hashlib.sha256(data).hexdigest()[:16]


def _gathering_before(plan: Plan, round_name: str, site: Site) -> Gathering | None:
    """That of the round before; before the first round one in which every shard takes part."""
    place = plan.rounds.index(round_name)
    if place:
        return find_gathering(plan, plan.rounds[place - 1], site)
    return Gathering(plan=plan.plan_id, round="", joined=dict.fromkeys(range(plan.shards), ""))


def _newest(folder: Store, round_name: str, before: Gathering) -> Gathering | None:
    keys = folder.list(_gatherings(round_name, before))
    return Gathering.model_validate_json(folder.get(keys[0])) if keys else None


def _gatherings(round_name: str, before: Gathering) -> str:
    return f"{round_name}/gathered/{before.id if before.round else FIRST}"


def _folder(plan: Plan, site: Site) -> Store:
    return site.runs.within(f"{plan.job}/{plan.plan_id}")
