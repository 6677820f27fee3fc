"""The stored state of a plan's rounds. All files except errors are immutable (docs/decisions/0011).

Files below `<round>/`: `0003.table` and its marker `0003.json`, or `0003.error.json`; `handouts/0003-<digest>`;
`gathered/<previous gathering>/<units left out>-<id>.json`. In later rounds `0003` is `0003-<digest of its handout>`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, TypeVar

from pydantic import BaseModel, Field

from acdtask import log
from acdtask.engine.run_summary import Meter, WorkDone
from acdtask.errors import AcdError, ErrorCode
from acdtask.jobs.contract import PlanHead, Site
from acdtask.jobs.quarantine import Failure, LeftOut, UnusableInputsError
from acdtask.storage.seal import parse_sealed, seal
from acdtask.storage.store import Store

__all__ = [
    "EncodedHandouts",
    "Gathering",
    "RoundState",
    "ShardError",
    "digest_of",
    "find_gathering",
    "folder_of",
    "repair_hint",
]

_events = log.events("engine")

ModelT = TypeVar("ModelT", bound=BaseModel)

READERS = 16
"""Number of markers read concurrently."""

FIRST = "first"
"""Stands for the gathering before the first round."""
MEMO = "memo"


class Gathering(BaseModel, frozen=True):
    """A completed gather: what it joined, and what it left for the next round.

    Attributes:
        joined: digest of the table of each joined shard.
        left_out: shards that failed, or could not use some inputs, in this or an earlier round.
        handouts: digest of each handout.
        memo: digest of the memo, or empty.
        run: id of the run whose gather made this first.
        work: cost of the joined shards.
    """

    plan: str
    round: str
    joined: dict[int, str]
    left_out: tuple[LeftOut, ...] = ()
    handouts: dict[int, str] = {}
    memo: str = ""
    run: str = ""
    work: WorkDone = WorkDone()

    @property
    def id(self) -> str:
        """Digest that identifies the gathering within its round, whatever the reasons for leaving shards out."""
        parts = [sorted(self.joined.items()), sorted(self.handouts.items()), self.memo]
        return digest_of(json.dumps([*parts, [shard.shard for shard in self.left_out]]).encode())


@dataclass(frozen=True)
class EncodedHandouts:
    """Encoded handouts for the shards of the next round, and the memo for its gather."""

    shards: Mapping[int, bytes] = field(default_factory=dict)
    memo: bytes = b""

    @property
    def digests(self) -> dict[int, str]:
        """The digest of each handout."""
        return {index: digest_of(handout) for index, handout in self.shards.items()}


class Marker(BaseModel, frozen=True, extra="allow"):
    """The marker of a completed shard: the digest of its table, and its cost."""

    plan: str
    round: str
    shard: int
    units: int
    sha256: str


class ShardError(Failure):
    """Permanent failure of a shard, or its unusable inputs; `table` is then the digest of the table of the others."""

    shard: int
    unusable: dict[str, Failure] = Field(default_factory=dict)
    table: str = ""


class RoundState:
    """The stored state of a round, based on the previous round's gathering at the time of construction.

    `before` is the gathering of the previous round; `stems` has the file name stem of each shard that takes part.
    """

    def __init__(self, plan: PlanHead, name: str, before: Gathering, site: Site) -> None:
        self.plan, self.name, self.before = plan, name, before
        self._folder = folder_of(plan.job, plan.plan_id, site)
        self._markers: dict[int, Marker] = {}
        self.stems = {index: self._stem(index) for index in sorted(before.joined)}

    @classmethod
    def find(cls, plan: PlanHead, name: str, site: Site) -> RoundState | None:
        """The state of a round, or None if the previous round has not been gathered."""
        before = _gathering_before(plan, name, site)
        return None if before is None else cls(plan, name, before, site)

    def gathering(self) -> Gathering | None:
        """The gathering of this round in effect, or None."""
        return _newest(self._folder, self.name, self.before)

    def missing(self) -> list[int]:
        """The shards without an intact marker for their current handout."""
        keys = set(self._folder.list(self.name))
        marked = [index for index, stem in self.stems.items() if f"{self.name}/{stem}.json" in keys]
        with ThreadPoolExecutor(READERS) as pool:
            done = {index for index, marker in zip(marked, pool.map(self._marker, marked), strict=True) if marker}
        return [index for index in self.stems if index not in done]

    def errors(self, missing: list[int]) -> dict[int, ShardError]:
        """The permanent failures of missing shards, as far as recorded."""
        errors = {index: _find_intact(ShardError, self._folder, self._key(index, "error.json")) for index in missing}
        return {index: error for index, error in errors.items() if error is not None}

    def is_done(self, index: int) -> bool:
        """Whether the shard has an intact marker."""
        return self._marker(index) is not None

    def handout(self, index: int) -> bytes:
        """The shard's handout from the previous gather; empty if there is none. RUN_DAMAGED."""
        if index not in self.before.handouts:
            return b""
        return self._read_by_digest(self._handout(self.name, index, self.before), self.before.handouts[index])

    def memo(self) -> bytes:
        """The memo of the previous gather; empty if there is none. RUN_DAMAGED."""
        return self._read_by_digest(f"{self.name}/handouts/{MEMO}-{self.before.memo}", self.before.memo)

    def store_table(self, index: int, units: int, table: bytes, meter: Meter) -> None:
        """Store a table, then its marker with its cost. A damaged marker is replaced."""
        # The marker comes last: a pod that is killed in between has done nothing. Two pods that do the same shard write
        # the same bytes, so the second changes nothing; hence `create`, and `put` only over a damaged marker.
        self._folder.put(self._key(index, "table"), table)
        marker = {"plan": self.plan.plan_id, "round": self.name, "shard": index, "units": units}
        marker["sha256"] = hashlib.sha256(table).hexdigest()
        body = seal(json.dumps(marker | meter.figures()).encode())
        if not self._folder.create(self._key(index, "json"), body) and self._marker(index) is None:
            self._folder.put(self._key(index, "json"), body)

    def store_error(self, index: int, error: Exception, encoded: Callable[[BaseModel], bytes]) -> None:
        """Store the permanent failure of a shard's latest attempt, or its unusable inputs and the others' result."""
        unusable, digest = {}, ""
        if isinstance(error, UnusableInputsError):
            unusable, table = error.unusable, encoded(error.result)
            digest = hashlib.sha256(table).hexdigest()
            # Under a name of its own: `<stem>.table` is the complete one, which a later attempt may still write.
            self._folder.create(self._part(index, digest), table)
        failure = ShardError(**Failure.of(error).model_dump(), shard=index, unusable=unusable, table=digest)
        self._folder.put(self._key(index, "error.json"), seal(failure.model_dump_json(indent=1).encode()))

    def markers(self, missing: list[int]) -> dict[int, dict[str, Any]]:
        """The markers of the completed shards."""
        done = {index: self._marker(index) for index in self.stems if index not in missing}
        return {index: marker.model_dump() for index, marker in done.items() if marker is not None}

    def digests(self, markers: dict[int, dict[str, Any]], errors: dict[int, ShardError]) -> dict[int, str]:
        """Digests of all tables: of completed shards, and of those with unusable inputs."""
        digests = {index: str(marker["sha256"]) for index, marker in markers.items()}
        digests |= {index: error.table for index, error in errors.items() if error.table}
        return dict(sorted(digests.items()))

    def tables(self, digests: dict[int, str], missing: list[int]) -> Iterator[tuple[int, bytes]]:
        """Read the tables with these digests. SHARDS_MISSING if one is damaged; its shard is then reopened."""
        for index, digest in digests.items():
            key = self._part(index, digest) if index in missing else self._key(index, "table")
            table = self._folder.find(key)
            if table is None or hashlib.sha256(table).hexdigest() != digest:
                self._discard(index, key)
                raise AcdError(
                    ErrorCode.SHARDS_MISSING,
                    f"{self._folder.address_of(key)} is {'missing' if table is None else 'damaged'}",
                    "Run the job again; it repeats only this shard.",
                )
            yield index, table

    def store_gathering(self, gathering: Gathering, handouts: EncodedHandouts) -> None:
        """Store the handouts, then the gathering. It takes effect if no other left out less."""
        after = self.plan.rounds[self.plan.rounds.index(self.name) + 1 :][:1]
        for index, handout in handouts.shards.items():
            self._store_by_digest(self._handout(after[0], index, gathering), handout)
        if handouts.memo:
            self._store_by_digest(f"{after[0]}/handouts/{MEMO}-{gathering.memo}", handouts.memo)
        # Keys sort by the units left out, so that the first key of a listing is the best gathering. Example: gathering
        # without shard 3 is 000004-<id>.json; when shard 3 is done later, 000000-<id>.json takes its place.
        units = sum(shard.units for shard in gathering.left_out)
        key = f"{_gatherings(self.name, self.before)}/{units:06d}-{gathering.id}.json"
        body = seal(gathering.model_dump_json().encode())
        if not self._folder.create(key, body) and _find_intact(Gathering, self._folder, key) is None:
            self._folder.put(key, body)

    def _marker(self, index: int) -> Marker | None:
        """The marker of a shard, or None. An intact one never changes, so it is cached."""
        # None is not remembered: another pod may write the marker at any time.
        marker = self._markers.get(index) or _find_intact(Marker, self._folder, self._key(index, "json"))
        if marker is not None:
            self._markers[index] = marker
        return marker

    def _discard(self, index: int, table: str) -> None:
        """Reopen a shard whose table is damaged."""
        _events.warning("table.damaged", file=self._folder.address_of(table))
        # The marker goes before the table, or a marker without a table would be left by a kill in between.
        for ending in ("json", "error.json"):
            self._folder.delete(self._key(index, ending))
        self._folder.delete(table)
        self._markers.pop(index, None)

    def _read_by_digest(self, key: str, digest: str) -> bytes:
        """Read data and check it against the digest in its key. RUN_DAMAGED."""
        if not digest:
            return b""
        data = self._folder.find(key)
        if data is None or digest_of(data) != digest:
            detail = f"{self._folder.address_of(key)} is {'missing' if data is None else 'damaged'}"
            raise AcdError(ErrorCode.RUN_DAMAGED, detail, repair_hint(self._folder))
        return data

    def _store_by_digest(self, key: str, data: bytes) -> None:
        """Store data under a key with its digest. Existing data that differs is damaged and is replaced."""
        if not self._folder.create(key, data) and self._folder.get(key) != data:
            self._folder.put(key, data)

    def _stem(self, index: int) -> str:
        # With another handout a shard has other files: a table made from an older handout is never taken for its own.
        digest = self.before.handouts.get(index)
        return f"{index:04d}-{digest}" if digest else f"{index:04d}"

    def _key(self, index: int, ending: str) -> str:
        return f"{self.name}/{self.stems[index]}.{ending}"

    def _part(self, index: int, digest: str) -> str:
        return self._key(index, f"part-{digest[:16]}.table")

    @staticmethod
    def _handout(round_name: str, index: int, before: Gathering) -> str:
        return f"{round_name}/handouts/{index:04d}-{before.handouts[index]}"


def find_gathering(plan: PlanHead, round_name: str, site: Site) -> Gathering | None:
    """The gathering of a round in effect: of those based on the previous round's, the one that left out least."""
    before = _gathering_before(plan, round_name, site)
    return None if before is None else _newest(folder_of(plan.job, plan.plan_id, site), round_name, before)


def digest_of(data: bytes) -> str:
    """A digest of 16 hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()[:16]


def _gathering_before(plan: PlanHead, round_name: str, site: Site) -> Gathering | None:
    """The gathering of the previous round, or None; for the first round, one in which every shard takes part."""
    position = plan.rounds.index(round_name)
    if position:
        return find_gathering(plan, plan.rounds[position - 1], site)
    return Gathering(plan=plan.plan_id, round="", joined=dict.fromkeys(range(plan.shards), ""))


def _newest(folder: Store, round_name: str, before: Gathering) -> Gathering | None:
    keys = folder.list(_gatherings(round_name, before))
    return _find_intact(Gathering, folder, keys[0]) if keys else None


def _find_intact(kind: type[ModelT], folder: Store, key: str) -> ModelT | None:
    """The document under a key; None if it is missing, or damaged and thus to be made again."""
    data = folder.find(key)
    if data is None:
        return None
    try:
        return parse_sealed(kind, data, folder.address_of(key))
    except AcdError as error:
        _events.warning("document.damaged", file=folder.address_of(key), detail=error.detail)
        return None


def repair_hint(folder: Store) -> str:
    """Advice for damage to a plan that does not repair itself; `folder` is the plan's."""
    return f"Delete the folder {folder.url} and run the job again; it makes and runs the same plan."


def _gatherings(round_name: str, before: Gathering) -> str:
    return f"{round_name}/gathered/{before.id if before.round else FIRST}"


def folder_of(job_name: str, plan_id: str, site: Site) -> Store:
    """The folder of a plan and of the files of its rounds."""
    return site.runs.within(f"{job_name}/{plan_id}")
