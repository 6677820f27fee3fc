"""The states of a consolidation, in Geocube's words, and what a person may do in each (docs/decisions/0013)."""

from __future__ import annotations

from enum import Enum

from acdtask.cube.jobs import Level
from acdtask.errors import AcdError, ErrorCode

__all__ = ["NEEDS_PERSON", "State", "after_cancel", "after_retry", "failed_state", "is_final", "waits"]


class State(Enum):
    """State of a consolidation: the step to do next, or where it ended."""

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
"""CONSOLIDATIONINDEXED is missing: once the job continues from there, the index may contain the new datasets at any
moment, and nothing is removed from it."""


NEEDS_PERSON = frozenset({State.INITIALISATIONFAILED, State.CONSOLIDATIONFAILED, State.ROLLBACKFAILED})
"""A job stays in these until a person retries or cancels it."""


def waits(state: State, level: Level) -> bool:
    """Whether a job of the level pauses when it enters the state.

    >>> waits(State.CREATED, Level.CRITICAL), waits(State.CREATED, Level.MAJOR)
    (False, True)
    """
    at = _PAUSES.get(state)
    return at is not None and level.value >= at.value


def is_final(state: State) -> bool:
    """Whether the job has ended: it holds no dataset, and never leaves the state."""
    return state in (State.DONE, State.FAILED)


def failed_state(state: State) -> State:
    """The state of a job whose step has failed."""
    if state in (State.NEW, State.CREATED):
        return State.INITIALISATIONFAILED
    if state in (State.CONSOLIDATIONCANCELLING, State.ABORTED):
        return State.ROLLBACKFAILED
    return State.CONSOLIDATIONFAILED


def after_retry(job: str, state: State, *, some_failed: bool, force: bool) -> State:
    """The state of a job after a retry. JOB_STATE if nothing failed; `force` retries any state but the final ones."""
    if state is State.CONSOLIDATIONINPROGRESS and (some_failed or force):
        return State.CONSOLIDATIONRETRYING
    if state in _RETRIES:
        return _RETRIES[state]
    if force and not is_final(state):
        return state
    raise AcdError(ErrorCode.JOB_STATE, f"job {job} is {state.value}: there is nothing to retry")


def after_cancel(job: str, state: State, *, waiting: bool, force: bool) -> State:
    """The state of a job after it was cancelled. JOB_STATE if it cannot be cancelled now."""
    if state in _CANCELS:
        return _CANCELS[state]
    if waiting and state in _CANCELLED_WHERE_IT_WAITS:
        return State.ABORTED
    if force and state in _CANCELLED_BY_FORCE:
        return _CANCELLED_BY_FORCE[state]
    if is_final(state):
        raise AcdError(ErrorCode.JOB_STATE, f"job {job} has ended: it is {state.value}")
    raise AcdError(ErrorCode.JOB_STATE, f"job {job} cannot be cancelled while it is {state.value}")
