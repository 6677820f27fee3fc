"""Whether the client of a call still waits for its answer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextvars import ContextVar
from typing import TypeVar

import grpc

__all__ = ["CALL", "GoneError", "check_wanted", "wanted"]

ItemT = TypeVar("ItemT")

CALL: ContextVar[grpc.ServicerContext | None] = ContextVar("CALL", default=None)
"""The call that this thread works on; None outside of calls."""

ITEMS_AT_ONCE = 256


class GoneError(Exception):
    """The client has left, so that nobody wants the answer."""


def check_wanted() -> None:
    """GoneError if the client has left; long loops of a call ask now and then."""
    context = CALL.get()
    if context is not None and not context.is_active():
        raise GoneError


def wanted(items: Iterable[ItemT]) -> Iterator[ItemT]:
    """The items, as long as the client is there. GoneError.

    >>> list(wanted("abc"))
    ['a', 'b', 'c']
    """
    for number, item in enumerate(items):
        if number % ITEMS_AT_ONCE == 0:
            check_wanted()
        yield item
