"""Tokens that order plans, so that one that was overtaken replaces nothing newer (docs/decisions/0012).

Below `runs/`: `tokens/<place>/00000007.json` names the plan that has the token; `published/<place>/00000007.json` says
what its publication holds.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from acdtask.errors import AcdError, ErrorCode
from acdtask.storage.seal import seal, unseal
from acdtask.storage.store import Store

__all__ = ["Fence", "newest_number", "newest_token", "take_token"]

WAY_OUT = "Run the job again: its new plan comes after the one that wrote this file, and does not read it."


class Fence:
    """What a plan with this token may still publish.

    Args:
        runs: the store of runs.
        token: the plan's newest token; 0 is older than any.
    """

    def __init__(self, runs: Store, token: int) -> None:
        self._runs, self._token = runs, token

    def announce(self, place: str, holds: Mapping[str, str]) -> None:
        """Say what will be published at a place, before it is: what is called how, and which version of it."""
        self._runs.create(f"{_announced(place)}/{self._token:08d}.json", _body(holds))

    def is_overtaken(self, place: str, holds: Mapping[str, str]) -> bool:
        """Whether a newer plan announced another version of something. RUN_DAMAGED."""
        folder = self._runs.within(_announced(place))
        for key in folder.list():
            if "/" not in key and int(key.removesuffix(".json")) > self._token:
                data = unseal(folder.get(key), folder.address_of(key), ErrorCode.RUN_DAMAGED, WAY_OUT)
                newer: dict[str, str] = json.loads(data)
                if any(newer.get(name, version) != version for name, version in holds.items()):
                    return True
        return False

    def require(self, place: str, holds: Mapping[str, str]) -> None:
        """PLAN_OVERTAKEN if a newer plan announced another version of something."""
        if self.is_overtaken(place, holds):
            raise AcdError(ErrorCode.PLAN_OVERTAKEN, f"a plan that was made later has published into {place}")


def newest_token(runs: Store, place: str) -> int:
    """The newest token of a place; 0 if there is none."""
    return newest_number(runs.within(f"tokens/{place}"))


def take_token(runs: Store, place: str, token: int, plan_id: str) -> bool:
    """Take this token for a plan, unless another one has it."""
    body = _body({"plan": plan_id})
    key = f"tokens/{place}/{token:08d}.json"
    # A lost answer makes the store's own retry find our token.
    return runs.create(key, body) or runs.get(key) == body


def newest_number(folder: Store) -> int:
    """The highest number that a file of a folder is named by; 0 if there is none."""
    return max((int(key.partition(".")[0]) for key in folder.list() if "/" not in key), default=0)


def _body(values: Mapping[str, str]) -> bytes:
    return seal(json.dumps(dict(values), sort_keys=True).encode())


def _announced(place: str) -> str:
    return f"published/{place}"
