"""Log events as text and as JSON."""

from __future__ import annotations

import io
import json
import logging
import sys
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from acdtask import log


@pytest.fixture(autouse=True)
def _restore_logging() -> Iterator[None]:
    yield
    log.install(log.LogSettings(), logging.NullHandler())
    logging.captureWarnings(capture=False)


def lines_of(monkeypatch: pytest.MonkeyPatch, mode: log.LogMode, **options: Any) -> io.StringIO:
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    log.configure(mode, **options)
    return stream


def test_json_has_time_level_event_run_and_fields(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = lines_of(monkeypatch, "json", run_id="r1")
    log.events("ingest").info("shard.done", shard=3, tiles=4, nodata=float("nan"), event="mine")
    line = json.loads(stream.getvalue())
    assert line.pop("time").endswith("+00:00")
    assert line == {
        "level": "info",
        "part": "ingest",
        "event": "shard.done",
        "run": "r1",
        "shard": 3,
        "tiles": 4,
        "nodata": "nan",
        "event_": "mine",
    }


@given(
    st.dictionaries(
        st.text(min_size=1, max_size=5),
        st.recursive(
            st.none() | st.booleans() | st.floats() | st.integers() | st.text() | st.binary() | st.dates(),
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
            max_leaves=5,
        ),
        max_size=4,
    )
)
def test_a_line_is_json_for_any_fields(fields: dict[str, Any]) -> None:
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    with pytest.MonkeyPatch.context() as monkeypatch:
        stream = lines_of(monkeypatch, "json")
        log.events("probe").info("fields.seen", **fields)
    [line] = stream.getvalue().splitlines()
    assert json.loads(line, parse_constant=refuse)["event"] == "fields.seen"


def test_text_quotes_ambiguous_values(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = lines_of(monkeypatch, "text")
    log.events("ingest").info("file.read", name="a b", path="x=y", count=3, empty="", plain="tile")
    assert stream.getvalue().rstrip().endswith('ingest file.read name="a b" path="x=y" count=3 empty="" plain=tile')


def test_auto_is_json_without_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = lines_of(monkeypatch, "auto")
    log.events("probe").warning("disk.low", left=3)
    assert json.loads(stream.getvalue())["level"] == "warning"


@pytest.mark.parametrize(
    ("options", "shown"),
    [
        ({}, ["info", "warning", "error"]),
        ({"verbose": True}, ["debug", "info", "warning", "error"]),
        ({"quiet": True}, ["error"]),
    ],
)
def test_verbose_and_quiet_choose_the_levels(
    monkeypatch: pytest.MonkeyPatch, options: dict[str, bool], shown: list[str]
) -> None:
    stream = lines_of(monkeypatch, "json", **options)
    events = log.events("probe")
    for write in (events.debug, events.info, events.warning, events.error):
        write("level.probed")
    assert [json.loads(line)["level"] for line in stream.getvalue().splitlines()] == shown


def test_the_run_id_is_kept_and_can_be_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACD_RUN_ID", "workflow-7")
    stream = lines_of(monkeypatch, "json")
    log.announce(["records", "--cube", "x"])
    log.events("probe").info("thing.done")
    first, second = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert first["event"] == "run.started"
    assert first["arguments"] == ["records", "--cube", "x"]
    assert first["numpy"]
    assert first["run"] == second["run"] == "workflow-7"


def test_warnings_and_messages_of_libraries_have_the_same_form(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = lines_of(monkeypatch, "json")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(capture=False)
        logging.captureWarnings(capture=True)
        warnings.warn("old thing", DeprecationWarning, stacklevel=1)
        logging.captureWarnings(capture=False)
    logging.getLogger("rasterio").warning("odd %s", "tag")
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [line["part"] for line in lines] == ["py.warnings", "rasterio"]
    assert "old thing" in lines[0]["message"]
    assert lines[1]["message"] == "odd tag"


def test_a_traceback_is_a_field(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = lines_of(monkeypatch, "json")
    try:
        int("seven")
    except ValueError:
        log.events("probe").error("thing.failed", traceback=True)
    line = json.loads(stream.getvalue())
    assert "ValueError: invalid literal" in line["traceback"]


def test_repeated_messages_are_logged_once_per_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log, "_repeats", log.Repeats())
    stream = lines_of(monkeypatch, "json")
    library = logging.getLogger("a.library")
    for _ in range(5000):
        library.error("socket.accept() out of system resource")
    library.error("something else")
    for _ in range(5000):
        log.events("serve").repeated("connection.refused", address="a")
        log.events("serve").repeated("connection.refused", key="b", address="b")
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [line.get("message", line.get("address")) for line in lines] == [
        "socket.accept() out of system resource",
        "something else",
        "a",
        "b",
    ]
