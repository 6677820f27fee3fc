"""A day costs the day, whatever the history: thirty daily runs on a small area, as `make bench-daily` does 120."""

from __future__ import annotations

from pathlib import Path

from benchmarks.daily import rows_of, run_days

DAYS = 30


def test_a_day_in_the_second_month_costs_what_one_in_the_first_does(tmp_path: Path) -> None:
    rows = rows_of(run_days(tmp_path, DAYS))
    assert [str(row) for row in rows if not row.is_kept] == []
    assert {row.name for row in rows if row.bounded} == {
        f"{figure}, beside the days' own" for figure in ("objects written", "kB written", "objects kept", "kB kept")
    }
