"""Stops work on calls whose client has left."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextvars import ContextVar
from typing import TypeVar

import grpc

__all__ = ["CALL", "GoneError", "check_wanted", "wanted"]

ItemT = TypeVar("ItemT")

CALL: ContextVar[grpc.ServicerContext | None] = ContextVar("CALL", default=None)
"""The current call of this thread; None outside of calls."""

ITEMS_AT_ONCE = 256


class GoneError(Exception):
    """The client of the call has left."""


def check_wanted() -> None:
    """Raise GoneError if the client has left; called now and then by long loops."""
    context = CALL.get()
    if context is not None and not context.is_active():
        raise GoneError


def wanted(items: Iterable[ItemT]) -> Iterator[ItemT]:
    """The items, until the client leaves. GoneError.

    >>> list(wanted("abc"))
    ['a', 'b', 'c']
    """
    for number, item in enumerate(items):
        if number % ITEMS_AT_ONCE == 0:
            check_wanted()
        yield item
