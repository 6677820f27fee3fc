"""Turns: the order of calls, and the share of one client."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import cast

import grpc
import pytest

from acdtask.serve.errors import RefusalError
from acdtask.serve.turns import Turns

OWN, OTHER = "ipv4:10.0.0.1", "ipv4:10.0.0.2"


class Client:
    """The part of a call that `Turns` uses."""

    def __init__(self, peer: str) -> None:
        self._peer = peer
        self.active = True

    def peer(self) -> str:
        return self._peer

    def is_active(self) -> bool:
        return self.active


def call(peer: str) -> grpc.ServicerContext:
    return cast("grpc.ServicerContext", Client(peer))


@contextmanager
def waiting(turns: Turns, peer: str, order: list[str]) -> Iterator[None]:
    """A call in a separate thread, which waits for its turn, adds its peer to `order`, and runs for a moment."""

    def run() -> None:
        with turns.turn(call(peer)) as granted:
            assert granted
            order.append(peer)
            time.sleep(0.05)

    thread, before = threading.Thread(target=run), turns.waiting
    thread.start()
    while turns.waiting == before and thread.is_alive():
        time.sleep(0.005)
    yield
    thread.join(30)
    assert not thread.is_alive()


def test_one_address_leaves_a_quarter_of_the_turns_to_others() -> None:
    turns = Turns(4, 10, 30, activity="calls are running")
    order: list[str] = []
    with ExitStack() as stack, ExitStack() as working:
        for port in range(3):
            assert working.enter_context(turns.turn(call(f"{OWN}:{port}")))
        stack.enter_context(waiting(turns, f"{OWN}:9", order))
        assert (turns.running, turns.waiting) == (3, 1)
        with turns.turn(call(f"{OTHER}:1")) as granted:
            assert granted
            assert turns.waiting == 1
    assert order == [f"{OWN}:9"]


def test_the_address_with_the_fewest_turns_is_next_then_the_connection_with_the_fewest() -> None:
    turns = Turns(2, 10, 30, activity="calls are running")
    order: list[str] = []
    with ExitStack() as stack, turns.turn(call(f"{OWN}:1")):
        with turns.turn(call(f"{OWN}:2")):
            for peer in (f"{OWN}:1", f"{OWN}:3", f"{OTHER}:1"):
                stack.enter_context(waiting(turns, peer, order))
        while len(order) < 3:
            time.sleep(0.01)
    assert order == [f"{OTHER}:1", f"{OWN}:3", f"{OWN}:1"]


def test_calls_beyond_the_limits_are_refused_immediately() -> None:
    turns = Turns(1, 3, 30, activity="calls are running")
    order: list[str] = []
    with ExitStack() as stack, turns.turn(call(f"{OWN}:1")):
        for port in (2, 3):
            stack.enter_context(waiting(turns, f"{OWN}:{port}", order))
        with pytest.raises(RefusalError, match="this client has 3 calls"), turns.turn(call(f"{OWN}:4")):
            pass
        stack.enter_context(waiting(turns, f"{OTHER}:1", order))
        with pytest.raises(RefusalError, match="1 calls are running and 3 are waiting"), turns.turn(call(f"{OTHER}:2")):
            pass
        stack.callback(lambda: None)
    assert turns.running == turns.waiting == 0


def test_a_client_that_leaves_gets_no_turn() -> None:
    turns = Turns(1, 3, 30, activity="calls are running")
    with turns.turn(call(f"{OWN}:1")):
        gone = Client(f"{OWN}:2")
        gone.active = False
        with turns.turn(cast("grpc.ServicerContext", gone)) as granted:
            assert not granted
    assert turns.running == turns.waiting == 0
