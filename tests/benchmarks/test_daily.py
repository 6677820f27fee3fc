"""The cost of a daily run does not grow with the history: thirty runs on a small area; `make bench-daily` does 120."""

from __future__ import annotations

from pathlib import Path

from benchmarks.daily import rows_of, run_days

DAYS = 30


def test_a_day_in_the_second_month_costs_as_much_as_one_in_the_first(tmp_path: Path) -> None:
    rows = rows_of(run_days(tmp_path, DAYS))
    assert [str(row) for row in rows if not row.is_within_bound] == []
    assert {row.name for row in rows if row.bounded} == {
        f"{figure}, overhead" for figure in ("objects written", "kB written", "objects kept", "kB kept")
    }
