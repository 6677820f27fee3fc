"""`acdtask notify` as a user calls it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from acdtask import log
from acdtask.cli import main
from acdtask.engine.run_summary import record_plan
from acdtask.engine.stages import make_plan, open_site
from tests.engine.letters import LettersJob, LettersSettings
from tests.notify.receiver import receiving

Notify = Callable[..., tuple[int, str]]


@pytest.fixture
def notify(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Notify]:
    """Runs the command for a run that had nothing to do; its exit status and everything it said."""
    monkeypatch.setenv("ACD_RUN_ID", "run-1")
    site, settings = open_site(str(tmp_path)), LettersSettings(letters="")
    record_plan(make_plan(LettersJob(), settings, site), settings, site)

    def call(url: str, **changes: str) -> tuple[int, str]:
        options = {"cube": str(tmp_path), "run": "run-1", "status": "Succeeded", "aoi": "koln", "webhook": url}
        given = [word for name, value in (options | changes).items() for word in (f"--{name}", value)]
        status = main(["--log", "json", "notify", *given])
        return status, "".join(capsys.readouterr())

    yield call
    log.install(log.LogSettings(), logging.NullHandler())
    logging.captureWarnings(capture=False)


def test_it_posts_and_says_so(notify: Notify) -> None:
    with receiving() as receiver:
        status, said = notify(receiver.url)
    assert status == 0
    assert "io.github.acd.run.heartbeat run-1-succeeded was posted to 127.0.0.1" in said
    assert receiver.events[0]["source"] == "/runs/run-1"


@pytest.mark.parametrize(("answer", "expected"), [(503, 75), (404, 78), (302, 78)])
def test_the_exit_status_says_whether_to_try_again(notify: Notify, answer: int, expected: int) -> None:
    with receiving([answer]) as receiver:
        status, said = notify(receiver.url)
    assert status == expected
    assert f"HTTP {answer}" in said


def test_a_password_in_the_address_is_refused_and_not_logged(notify: Notify) -> None:
    status, said = notify("https://someone:a-secret@receiver.example.com/hook")
    assert status == 78
    assert "ACD-600" in said
    assert "a-secret" not in said


@pytest.mark.parametrize(
    ("changes", "expected", "number"),
    [
        ({"run": "run-2"}, 66, "ACD-510"),
        ({"run": "../run"}, 78, "ACD-101"),
        ({"status": "Running"}, 2, "ACD-100"),
        ({"cube": "ftp://x"}, 78, "ACD-405"),
    ],
)
def test_a_mistake_is_told(notify: Notify, changes: dict[str, str], expected: int, number: str) -> None:
    with receiving() as receiver:
        status, said = notify(receiver.url, **changes)
    assert (status, receiver.requests) == (expected, [])
    assert number in said
