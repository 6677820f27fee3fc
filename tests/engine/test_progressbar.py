"""The progress of a round."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from acdtask import log
from acdtask.engine.progressbar import ProgressBar


class Listener(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


@pytest.fixture
def told() -> Iterator[list[logging.LogRecord]]:
    listener = Listener()
    log.install(log.LogSettings(level=logging.INFO), listener)
    yield listener.records
    log.install(log.LogSettings(), logging.NullHandler())
    logging.captureWarnings(capture=False)


def test_without_a_terminal_a_round_is_two_log_lines(
    told: list[logging.LogRecord], capsys: pytest.CaptureFixture[str]
) -> None:
    with ProgressBar("monitor: label", total=10, done=2) as bar:
        for units in range(1, 9):
            bar.update("shard 1", units)
    assert [record.getMessage() for record in told] == ["round.started", "round.done"]
    last = told[-1].__dict__["fields"]
    assert (last["done"], last["total"], last["unit"], last["title"]) == (10, 10, "tiles", "monitor: label")
    assert last["seconds"] >= 0
    assert capsys.readouterr() == ("", "")


def test_a_round_that_fails_is_told_as_stopped(told: list[logging.LogRecord]) -> None:
    with pytest.raises(TypeError, match="unhashable"), ProgressBar("ingest: read", total=3, done=1) as bar:
        bar.update(["not an item"], 1)
    assert [record.getMessage() for record in told] == ["round.started", "round.stopped"]
    assert told[-1].__dict__["fields"]["done"] == 1


def test_progress_of_an_item_never_goes_back() -> None:
    bar = ProgressBar("ingest: read", total=9, visible=False)
    for item, units in ((0, 2), (1, 3), (0, 1), (1, 4)):
        bar.update(item, units)
    assert bar.units == 6
