"""There is one date parser, and everything that takes a date uses it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from datetime import UTC, date, datetime, time, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from acdtask.cli.options import options_of, settings_from
from acdtask.cli.records import moment
from acdtask.dates import end_of_period, parse_day, parse_last_moment, parse_moment, period_prefix
from acdtask.errors import AcdError, ErrorCode
from acdtask.jobs.baseline.settings import BaselineSettings
from acdtask.jobs.consolidate.settings import ConsolidateSettings
from acdtask.jobs.contract import Settings
from acdtask.jobs.monitor.settings import MonitorSettings
from acdtask.jobs.registry import JOBS, load_job
from acdtask.jobs.simulate.settings import SceneSettings

FIRST = datetime(2020, 2, 1, tzinfo=UTC)
PASS = datetime(2020, 2, 1, 5, 26, 40, tzinfo=UTC)

VALID: list[tuple[Any, datetime]] = [
    ("2020-02-01", FIRST),
    ("20200201", FIRST),
    (" 2020-02-01 ", FIRST),
    ("2020-02", FIRST),
    (20200201, FIRST),
    (date(2020, 2, 1), FIRST),
    (datetime(2020, 2, 1), FIRST),
    (datetime(2020, 2, 1, 1, tzinfo=timezone(timedelta(hours=1))), FIRST),
    ("2020-02-01T05:26:40Z", PASS),
    ("2020-02-01t05:26:40z", PASS),
    ("2020-02-01T05:26:40", PASS),
    ("2020-02-01 05:26:40", PASS),
    ("20200201T052640", PASS),
    ("20200201T052640Z", PASS),
    ("2020-02-01T06:26:40+01:00", PASS),
    ("2020-02-01T06:26:40+01", PASS),
    ("2020-02-01T00:56:40-0430", PASS),
    ("2020-02-01T05:26:40.000Z", PASS),
    ("2020-02-01T05:26:40.123456789Z", PASS.replace(microsecond=123456)),
    ("2020-02-01T05:26:40.5Z", PASS.replace(microsecond=500000)),
    ("2020-02-01T05:26", PASS.replace(second=0)),
    ("2020-02-29", datetime(2020, 2, 29, tzinfo=UTC)),
    ("2020-02-01T00:30:00+02:00", datetime(2020, 1, 31, 22, 30, tzinfo=UTC)),
]

INVALID: list[Any] = [
    "",
    "2020",
    2020,
    202002,
    "202002",
    0,
    1580515200,
    1580515200.0,
    20200201.0,
    "1580515200",
    "1580515200000",
    -20200201,
    20200230,
    True,
    None,
    [],
    time(5, 26),
    "2020-13-01",
    "2019-02-29",
    "20201301",
    "0000-01-01",
    "2020-2-1",
    "01/02/2020",
    "01.02.2020",
    "2020/02/01",
    "2020-032",
    "2020-W05-6",
    "yesterday",
    "2020-02-01T24:00:00Z",
    "2020-02-01T05:60",
    "2020-02-01T05:26:60Z",
    "2020-02-01T05:26:40 CET",
    "0001-01-01T00:00:00+05:00",
    "9999-12-31T23:59:59-05:00",
    "\uff12\uff10\uff12\uff10-02-01",
    "2020-02-01T",
    "20200201Z",
]


@pytest.mark.parametrize(("value", "expected"), VALID, ids=repr)
def test_valid_dates(value: Any, expected: datetime) -> None:
    parsed = parse_moment(value)
    assert parsed == expected
    assert parsed.utcoffset() == timedelta(0)


@pytest.mark.parametrize("value", INVALID, ids=repr)
def test_invalid_dates(value: Any) -> None:
    with pytest.raises(ValueError, match=r"is not a (date|day of the calendar)"):
        parse_moment(value)


@given(st.datetimes(min_value=datetime(1900, 1, 1), max_value=datetime(2500, 1, 1)))
def test_every_form_of_a_moment_is_that_moment(naive: datetime) -> None:
    aware = naive.replace(tzinfo=UTC)
    assert parse_moment(naive.isoformat()) == parse_moment(aware.isoformat()) == aware
    assert parse_moment(aware.astimezone(timezone(timedelta(hours=9))).isoformat()) == aware
    assert parse_day(f"{naive:%Y%m%d}") == parse_day(int(f"{naive:%Y%m%d}")) == naive.date()


@pytest.mark.parametrize(
    ("text", "last"),
    [
        ("2020-02", "2020-02-29T23:59:59.999999+00:00"),
        ("2020-12", "2020-12-31T23:59:59.999999+00:00"),
        ("20200201", "2020-02-01T23:59:59.999999+00:00"),
        ("2020-02-01", "2020-02-01T23:59:59.999999+00:00"),
        ("2020-02-01T05:26Z", "2020-02-01T05:26:00+00:00"),
    ],
)
def test_the_last_moment_of_a_day_or_month(text: str, last: str) -> None:
    assert end_of_period(text).isoformat() == last
    assert moment(text, "--to", end_of_day=True).isoformat() == last


def test_a_month_is_no_end_and_a_day_has_no_time() -> None:
    with pytest.raises(ValueError, match="write the last day"):
        parse_last_moment("2020-02")
    with pytest.raises(ValueError, match="is a time"):
        parse_day("2020-02-01T05:26Z")
    with pytest.raises(ValueError, match="is not a date"):
        period_prefix("202")


MODELS: list[tuple[type[Settings], dict[str, str]]] = [
    (BaselineSettings, {"aoi": "a.json", "layout": "l"}),
    (MonitorSettings, {"aoi": "a.json", "layout": "l"}),
    (ConsolidateSettings, {"aoi": "a.json", "layout": "l"}),
]


@pytest.mark.parametrize(("model", "needed"), MODELS, ids=[model.__name__ for model, _ in MODELS])
@pytest.mark.parametrize("field", ["start", "end"])
@pytest.mark.parametrize("text", ["20200201", "2020-02-01", "2020-02-01T00:00:00", "2020-02-01T01:00:00+01:00"])
def test_options_and_settings_files_take_the_same_dates(
    model: type[Settings], needed: dict[str, str], field: str, text: str, tmp_path: Path
) -> None:
    (tmp_path / "s.json").write_text(json.dumps(needed | {field: text}))
    toml = "".join(f'{key} = "{value}"\n' for key, value in needed.items())
    (tmp_path / "s.toml").write_text(f'{toml}{field} = "{text}"\n')
    bare = text if "-" in text else "20200201"
    (tmp_path / "bare.toml").write_text(f"{toml}{field} = {bare}\n")
    assert field in tomllib.loads((tmp_path / "bare.toml").read_text())
    for options, file in (
        (needed | {field: text}, None),
        ({}, tmp_path / "s.json"),
        ({}, tmp_path / "s.toml"),
        ({}, tmp_path / "bare.toml"),
    ):
        assert getattr(settings_from(model, options, file), field) == FIRST


@pytest.mark.parametrize(("model", "needed"), MODELS, ids=[model.__name__ for model, _ in MODELS])
@pytest.mark.parametrize("value", [2020, 1580515200, 1580515200.5, True, "1580515200", [2020, 2, 1]], ids=repr)
def test_numbers_that_are_not_days_are_refused_with_the_option(
    model: type[Settings], needed: dict[str, str], value: Any, tmp_path: Path
) -> None:
    file = tmp_path / "s.json"
    for field in ("start", "end"):
        file.write_text(json.dumps(needed | {field: value}))
        with pytest.raises(AcdError, match=f"--{field}: .* is not a date") as caught:
            settings_from(model, {}, file)
        assert caught.value.code is ErrorCode.SETTING_INVALID


def test_the_first_date_of_a_scene_is_a_day_in_any_form(tmp_path: Path) -> None:
    for text in ("20200801", "2020-08-01"):
        assert settings_from(SceneSettings, {"first_date": text}).first_date == date(2020, 8, 1)
    (tmp_path / "s.toml").write_text("first_date = 20200801\n")
    assert settings_from(SceneSettings, {}, tmp_path / "s.toml").first_date == date(2020, 8, 1)
    with pytest.raises(AcdError, match="--first-date"):
        settings_from(SceneSettings, {"first_date": "1596240000"})


def test_no_setting_accepts_seconds_since_1970(tmp_path: Path) -> None:
    dates = [
        (name, option) for name in JOBS for option in options_of(load_job(name).settings) if "DATE" in option.metavar
    ]
    assert {option.field for _, option in dates} >= {"start", "end", "first_date"}
    for name, option in dates:
        (tmp_path / "s.json").write_text(json.dumps({option.field: 1580515200}))
        with pytest.raises(AcdError, match=f"{option.flag}: 1580515200 is not a date"):
            settings_from(load_job(name).settings, {}, tmp_path / "s.json")


@pytest.mark.parametrize("zone", ["UTC", "Asia/Tokyo", "America/Los_Angeles"])
def test_a_text_without_a_zone_is_utc_on_every_machine(zone: str) -> None:
    code = "from acdtask.dates import parse_moment; print(parse_moment('2020-02-01T05:26:40').isoformat())"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={**os.environ, "TZ": zone}
    )
    assert done.stdout.strip() == PASS.isoformat()
