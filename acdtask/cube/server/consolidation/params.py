"""Stored consolidation parameters of a variable, beside the index."""

from __future__ import annotations

from acdtask.cube.jobs import ConsolidationParams, stored_as
from acdtask.cube.local.seal import parse_sealed, seal
from acdtask.cube.local.store import Store
from acdtask.cube.model import Variable
from acdtask.errors import ErrorCode

__all__ = ["find_params", "keep_params"]


def keep_params(store: Store, variable: Variable, params: ConsolidationParams) -> None:
    """Store the parameters of a variable for jobs that start from now on. SETTING_INVALID."""
    stored_as(variable, params)
    store.put(_key(variable.name), seal(params.model_dump_json().encode()))


def find_params(store: Store, variable: str) -> ConsolidationParams | None:
    """The parameters of a variable, or None if none were stored. CUBE_DAMAGED."""
    data = store.find(_key(variable))
    if data is None:
        return None
    fix = "Delete the file and set the parameters again."
    return parse_sealed(ConsolidationParams, data, store.address_of(_key(variable)), ErrorCode.CUBE_DAMAGED, fix)


def _key(variable: str) -> str:
    return f"consolidation/{variable}.json"
