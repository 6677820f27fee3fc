"""The states of a consolidation, and what a person may do in each (docs: Geocube's words, docs/decisions/0013)."""

from __future__ import annotations

from enum import Enum

from acdtask.cube.model import Level
from acdtask.errors import AcdError, ErrorCode

__all__ = ["STANDS_STILL", "State", "after_cancel", "after_retry", "holds_datasets", "is_final", "waits"]


class State(Enum):
    """Where a consolidation is. The work of a state is done in it, and leads to the next."""

    NEW = "NEW"
    CREATED = "CREATED"
    CONSOLIDATIONINPROGRESS = "CONSOLIDATIONINPROGRESS"
    CONSOLIDATIONDONE = "CONSOLIDATIONDONE"
    CONSOLIDATIONINDEXED = "CONSOLIDATIONINDEXED"
    CONSOLIDATIONEFFECTIVE = "CONSOLIDATIONEFFECTIVE"
    DONE = "DONE"
    INITIALISATIONFAILED = "INITIALISATIONFAILED"
    CONSOLIDATIONFAILED = "CONSOLIDATIONFAILED"
    CONSOLIDATIONRETRYING = "CONSOLIDATIONRETRYING"
    CONSOLIDATIONCANCELLING = "CONSOLIDATIONCANCELLING"
    ABORTED = "ABORTED"
    ROLLBACKFAILED = "ROLLBACKFAILED"
    FAILED = "FAILED"


_PAUSES = {
    State.CONSOLIDATIONINPROGRESS: Level.CRITICAL,
    State.CONSOLIDATIONEFFECTIVE: Level.CRITICAL,
    State.CREATED: Level.MAJOR,
    State.CONSOLIDATIONDONE: Level.MAJOR,
    State.CONSOLIDATIONINDEXED: Level.ALL,
}

_RETRIES = {
    State.INITIALISATIONFAILED: State.CREATED,
    State.CONSOLIDATIONFAILED: State.CONSOLIDATIONRETRYING,
    State.ROLLBACKFAILED: State.ABORTED,
}

_CANCELS = {
    State.CONSOLIDATIONINPROGRESS: State.CONSOLIDATIONCANCELLING,
    State.INITIALISATIONFAILED: State.ABORTED,
    State.CONSOLIDATIONFAILED: State.ABORTED,
}

_CANCELLED_WHERE_IT_WAITS = {State.CREATED, State.CONSOLIDATIONDONE, State.CONSOLIDATIONINDEXED}

_CANCELLED_BY_FORCE = {
    State.NEW: State.ABORTED,
    State.CREATED: State.ABORTED,
    State.CONSOLIDATIONDONE: State.ABORTED,
    State.ROLLBACKFAILED: State.FAILED,
}
"""CONSOLIDATIONINDEXED is not among them: once it goes on, the new datasets may be in the index at any moment, where
nothing is ever taken out again."""


STANDS_STILL = frozenset(
    {
        State.DONE,
        State.FAILED,
        State.INITIALISATIONFAILED,
        State.CONSOLIDATIONFAILED,
        State.ROLLBACKFAILED,
    }
)
"""A job leaves these by a person's word, or never."""


def waits(state: State, level: Level) -> bool:
    """Whether a job of the level pauses when it enters the state.

    >>> waits(State.CREATED, Level.CRITICAL), waits(State.CREATED, Level.MAJOR)
    (False, True)
    """
    at = _PAUSES.get(state)
    return at is not None and level.value >= at.value


def is_final(state: State) -> bool:
    """Whether a job stays in the state for ever."""
    return state in (State.DONE, State.FAILED)


def holds_datasets(state: State) -> bool:
    """Whether a job in this state keeps others from its datasets."""
    return not is_final(state)


def after_retry(job: str, state: State, *, some_failed: bool, force: bool) -> State:
    """Where a job goes when it is tried again; with `force`, any state but the last ones is tried again.

    JOB_STATE if nothing failed.
    """
    if state is State.CONSOLIDATIONINPROGRESS and (some_failed or force):
        return State.CONSOLIDATIONRETRYING
    if state in _RETRIES:
        return _RETRIES[state]
    if force and not is_final(state):
        return state
    raise AcdError(ErrorCode.JOB_STATE, f"job {job} is {state.value}: there is nothing to retry")


def after_cancel(job: str, state: State, *, waiting: bool, force: bool) -> State:
    """Where a job goes when it is cancelled. JOB_STATE if that cannot be now."""
    if state in _CANCELS:
        return _CANCELS[state]
    if waiting and state in _CANCELLED_WHERE_IT_WAITS:
        return State.ABORTED
    if force and state in _CANCELLED_BY_FORCE:
        return _CANCELLED_BY_FORCE[state]
    if is_final(state):
        raise AcdError(ErrorCode.JOB_STATE, f"job {job} has ended: it is {state.value}")
    raise AcdError(ErrorCode.JOB_STATE, f"job {job} cannot be cancelled while it is {state.value}")
