"""The outbox: whatever is killed, away or at work twice, each event arrives at least once and in order."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from acdtask.engine.stages import open_site
from acdtask.errors import AcdError, ErrorCode
from acdtask.jobs.contract import Series
from acdtask.jobs.news import Announced, News
from acdtask.notify.deliver import send_waiting
from acdtask.notify.outbox import KEPT_STUBS, Event, Outbox
from acdtask.storage.store import Store

SERIES = Series(aoi="koln", id="0" * 16, watermark=datetime(2021, 1, 1, tzinfo=UTC), watch="1" * 16)


class KilledError(BaseException):
    """Ends a process at once."""


def event(name: str, *images: str) -> Event:
    attributes = {"specversion": "1.0", "type": "t", "source": "/runs/x", "id": name}
    announced = tuple(Announced(key=image, run=name, series=SERIES.id, products=("product",)) for image in images)
    return Event(attributes=attributes, data={"images": list(images)}, announces=((SERIES, announced),))


def outbox_of(folder: Path) -> Outbox:
    return Outbox(open_site(str(folder)), "koln")


def add(outbox: Outbox, name: str) -> Event | None:
    return outbox.add(lambda known: None if ("/runs/x", name) in known else event(name))


def away(_event: Event) -> None:
    raise AcdError(ErrorCode.WEBHOOK_UNREACHABLE, "away")


@contextmanager
def dying_after(steps: int) -> Iterator[None]:
    """The process dies at its next write after so many."""
    left = iter(range(steps))
    originals = {name: getattr(Store, name) for name in ("create", "put", "delete")}

    def wrapper(original: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*args: Any) -> Any:
            if next(left, None) is None:
                raise KilledError
            return original(*args)

        return wrapped

    with pytest.MonkeyPatch.context() as patch:
        for name, original in originals.items():
            patch.setattr(Store, name, wrapper(original))
        yield


ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("run"), st.integers(0, 8)),
        st.tuples(st.just("send"), st.integers(0, 8)),
        st.tuples(st.just("away"), st.integers(0, 8)),
        st.tuples(st.just("die at the receiver"), st.integers(0, 3)),
    ),
    max_size=14,
)


@settings(max_examples=60, deadline=None)
@given(ACTIONS)
def test_each_event_arrives_at_least_once_and_in_order(actions: list[tuple[str, int]]) -> None:
    """Runs make events and bring an image; processes die at any write, or right after a post."""
    folder = Path(tempfile.mkdtemp())
    outbox, news = outbox_of(folder), News(Store.at(str(folder)), SERIES)
    received: list[Event] = []
    runs: list[str] = []
    posts: Iterator[int] = iter(())

    def post(sent: Event) -> None:
        received.append(sent)
        if next(posts, None) == 0:
            raise KilledError

    def report(name: str) -> None:
        """As a run does: its event announces the images that are pending when it is added."""

        def make(known: set[tuple[str, str]]) -> Event | None:
            pending = [image.key for image in news.pending()]
            return None if ("/runs/x", name) in known else event(name, *pending)

        outbox.add(make)

    try:
        for action, number in actions:
            # The lease of a process that died has expired by the next run.
            shutil.rmtree(folder / "events/koln/senders", ignore_errors=True)
            if action == "run":
                runs.append(f"run-{len(runs)}")
                news.add(f"2021-02/{runs[-1]}", "product")
                with suppress(KilledError), dying_after(number):
                    report(runs[-1])
                report(runs[-1])  # the pod is repeated
            elif action == "die at the receiver":
                posts = iter([1] * number + [0])
                with suppress(KilledError):
                    send_waiting(outbox, post)
                posts = iter(())
            else:
                with suppress(KilledError), dying_after(number):
                    send_waiting(outbox, post if action == "send" else away)
        shutil.rmtree(folder / "events/koln/senders", ignore_errors=True)
        send_waiting(outbox, post)
        distinct = list(dict.fromkeys(sent.id for sent in received))
        assert distinct == runs
        content = {sent.id: sent.data["images"] for sent in received}
        assert [image for name in runs for image in content[name]] == [f"2021-02/{name}" for name in runs]
        assert outbox.waiting() == []
        assert news.pending() == []
    finally:
        shutil.rmtree(folder)


def test_the_first_that_is_not_taken_keeps_the_others_back(tmp_path: Path) -> None:
    outbox = outbox_of(tmp_path)
    for name in "abc":
        add(outbox, name)
    seen: list[str] = []

    def post(sent: Event) -> None:
        if sent.id == "b" and seen.count("b") < 1:
            seen.append("b")
            raise AcdError(ErrorCode.WEBHOOK_UNREACHABLE, "busy")
        seen.append(sent.id)

    delivery = send_waiting(outbox, post)
    assert (len(delivery.sent), delivery.waiting) == (1, 2)
    send_waiting(outbox, post)
    assert seen == ["a", "b", "b", "c"]


def test_a_refused_event_is_set_aside_and_can_be_sent_again(tmp_path: Path) -> None:
    outbox = outbox_of(tmp_path)
    for name in "abc":
        add(outbox, name)
    received: list[str] = []

    def post(sent: Event) -> None:
        if sent.id == "b":
            raise AcdError(ErrorCode.EVENT_REFUSED, "HTTP 413")
        received.append(sent.id)

    (address,) = send_waiting(outbox, post).refused
    assert Path(address).is_file()
    assert received == ["a", "c"]
    assert outbox.restore_refused() == 1
    send_waiting(outbox, lambda sent: received.append(sent.id))
    assert received == ["a", "c", "b"]
    assert not Path(address).exists()


def test_a_receiver_that_refuses_everybody_keeps_the_events(tmp_path: Path) -> None:
    outbox = outbox_of(tmp_path)
    add(outbox, "a")

    def post(_event: Event) -> None:
        raise AcdError(ErrorCode.WEBHOOK_REFUSED, "HTTP 401")

    with pytest.raises(AcdError, match="ACD-602"):
        send_waiting(outbox, post)
    assert [waiting.id for _, waiting in outbox.waiting()] == ["a"]


def test_two_senders_do_not_send_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outbox = outbox_of(tmp_path)
    add(outbox, "a")
    with outbox.sending() as first:
        with pytest.raises(AcdError, match="ACD-544"), outbox.sending(wait=0.1):
            pytest.fail("both send")
        monkeypatch.setattr("acdtask.notify.outbox.LEASE_SECONDS", 0.0)
        assert first.renew()  # and does not come back in time
        with outbox.sending(wait=0.1):
            assert not first.renew()
    with outbox.sending(wait=0.1):
        pass


def test_a_sender_that_was_overtaken_leaves_the_rest_to_the_other(tmp_path: Path) -> None:
    outbox = outbox_of(tmp_path)
    for name in "ab":
        add(outbox, name)
    received: list[str] = []

    def overtaken(sent: Event) -> None:
        received.append(sent.id)
        (tmp_path / "events/koln/senders/00000002.json").write_bytes(
            (tmp_path / "events/koln/senders/00000001.json").read_bytes()
        )

    delivery = send_waiting(outbox, overtaken)
    assert received == ["a"]
    assert delivery.away is not None
    assert (delivery.away.code, delivery.waiting) == (ErrorCode.EVENTS_BEING_SENT, 1)


def test_the_outbox_stays_short_whatever_was_sent(tmp_path: Path) -> None:
    outbox, numbers = outbox_of(tmp_path), []
    for number in range(3 * KEPT_STUBS):
        added = add(outbox, f"run-{number}")
        assert added is not None
        numbers.append(added.attributes["sequence"])
        send_waiting(outbox, lambda _event: None)
    assert numbers == sorted(set(numbers))
    files = [path for path in (tmp_path / "events").rglob("*.json") if "news" not in path.parts]
    assert len(files) <= KEPT_STUBS + 6


def test_a_damaged_event_names_its_file(tmp_path: Path) -> None:
    outbox = outbox_of(tmp_path)
    add(outbox, "a")
    (path,) = (tmp_path / "events/koln/outbox").iterdir()
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(AcdError, match="ACD-542") as caught:
        outbox.waiting()
    assert path.name in caught.value.detail
