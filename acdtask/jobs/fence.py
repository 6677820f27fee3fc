"""Tokens that order plans, so that an overtaken plan never replaces newer results (docs/decisions/0012).

Below `runs/`, `tokens/<scope>/00000007.json` names the plan that has the token, and `published/<scope>/00000007.json`
lists what its publication contains.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from acdtask.errors import AcdError, ErrorCode
from acdtask.storage.seal import seal, unseal
from acdtask.storage.store import Store

__all__ = ["Fence", "newest_number", "newest_token", "take_token"]

REPAIR_HINT = "Run the job again: its new plan is later than the one that wrote this file, and does not read it."


class Fence:
    """Decides whether a plan with this token may still publish.

    `token` is the plan's newest; 0 is older than any.
    """

    def __init__(self, runs: Store, token: int) -> None:
        self._runs, self._token = runs, token

    def announce(self, scope: str, holds: Mapping[str, str]) -> None:
        """Announce what is about to be published in a scope: names and their versions."""
        self._runs.create(f"{_announced(scope)}/{self._token:08d}.json", _body(holds))

    def is_overtaken(self, scope: str, holds: Mapping[str, str]) -> bool:
        """Whether a newer plan has announced another version of something. RUN_DAMAGED."""
        folder = self._runs.within(_announced(scope))
        for key in folder.list():
            if "/" not in key and int(key.removesuffix(".json")) > self._token:
                data = unseal(folder.get(key), folder.address_of(key), ErrorCode.RUN_DAMAGED, REPAIR_HINT)
                newer: dict[str, str] = json.loads(data)
                if any(newer.get(name, version) != version for name, version in holds.items()):
                    return True
        return False

    def require(self, scope: str, holds: Mapping[str, str]) -> None:
        """Require that no newer plan has announced another version of something. PLAN_OVERTAKEN."""
        if self.is_overtaken(scope, holds):
            raise AcdError(ErrorCode.PLAN_OVERTAKEN, f"a newer plan has already published to {scope}")


def newest_token(runs: Store, scope: str) -> int:
    """The newest token of a scope; 0 if there is none."""
    return newest_number(runs.within(f"tokens/{scope}"))


def take_token(runs: Store, scope: str, token: int, plan_id: str) -> bool:
    """Take a token for a plan. False if another plan has it."""
    body = _body({"plan": plan_id})
    key = f"tokens/{scope}/{token:08d}.json"
    # If a reply is lost, the store's own retry finds our token.
    return runs.create(key, body) or runs.get(key) == body


def newest_number(folder: Store) -> int:
    """The highest number among the file names of a folder; 0 if there is none."""
    return max((int(key.partition(".")[0]) for key in folder.list() if "/" not in key), default=0)


def _body(values: Mapping[str, str]) -> bytes:
    return seal(json.dumps(dict(values), sort_keys=True).encode())


def _announced(scope: str) -> str:
    return f"published/{scope}"
