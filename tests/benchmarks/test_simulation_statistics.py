"""The simulator's statistics, and the table of them on the page of the simulator."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from benchmarks.simulation_statistics import (
    BEFORE,
    BEGIN,
    END,
    PAGE,
    TITLES,
    Statistics,
    mean_of,
    read_real,
    simulated,
    statistics_of,
)

COLUMNS = ("real", "simulated", "simulated before")


def column(name: str) -> Statistics:
    """A column of the table on the page."""
    table = PAGE.read_text(encoding="utf-8").partition(BEGIN)[2].partition(END)[0].strip().splitlines()
    titles = [cell.strip() for cell in table[0].strip("|").split("|")]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table[2:]]
    assert [row[0] for row in rows] == list(TITLES.values())
    return Statistics(*(float(row[titles.index(name)]) for row in rows))


def test_every_figure_has_a_title() -> None:
    assert list(TITLES) == [field.name for field in fields(Statistics)]


def test_a_series_without_anything_in_common_has_no_common_share() -> None:
    rng = np.random.default_rng(1)
    got = statistics_of(rng.normal(600, 50, (60, 80, 80)).astype(np.int16), -1)
    assert abs(got.common) < 0.01
    assert got.above == pytest.approx(0.0446, abs=0.006)  # normal theory
    assert got.above_worst < 0.07
    assert max(abs(got.next_pair), abs(got.neighbours), abs(got.neighbours_own)) < 0.03
    assert got.spread == pytest.approx(0.05, rel=0.05)


def test_nodata_changes_nothing_but_its_own_pixels() -> None:
    rng = np.random.default_rng(2)
    images = (600 + rng.normal(0, 40, (40, 1, 1)) + rng.normal(0, 40, (40, 40, 40))).astype(np.int16)
    holes = images.copy()
    holes[::3, :10] = -1
    whole, with_holes = statistics_of(images[:, 10:], -1), statistics_of(holes, -1)
    for field in fields(Statistics):
        assert getattr(with_holes, field.name) == pytest.approx(getattr(whole, field.name), abs=0.05)


def test_consecutive_images_that_share_noise_are_correlated() -> None:
    rng = np.random.default_rng(3)
    noise = rng.normal(0, 40, (41, 60, 60))
    got = statistics_of((600 + noise[:-1] + noise[1:]).astype(np.int16), -1)
    assert got.next_pair == pytest.approx(0.5, abs=0.05)


def test_the_simulator_is_as_hard_as_the_page_says_and_harder_than_it_was() -> None:
    page = column("simulated")
    got = mean_of([simulated(seed, 96) for seed in (3, 7)])
    assert got.common > BEFORE.common + 0.08
    assert got.above_worst > BEFORE.above_worst
    assert got.common == pytest.approx(page.common, abs=0.12)
    assert column("simulated before") == BEFORE


def test_the_page_has_figures_near_the_real_ones() -> None:
    real, ours = column("real"), column("simulated")
    assert ours.common == pytest.approx(real.common, abs=0.06)
    assert ours.above_worst == pytest.approx(real.above_worst, abs=0.08)
    assert ours.next_pair == pytest.approx(real.next_pair, abs=0.08)
    assert ours.neighbours == pytest.approx(real.neighbours, abs=0.08)
    assert ours.neighbours_own == pytest.approx(real.neighbours_own, abs=0.08)


@pytest.mark.realdata
def test_the_real_column_is_that_of_the_real_images(real_data: Path) -> None:
    got = statistics_of(read_real(real_data / "pyrate_cropA/geotiffs"), -1)
    for field in fields(Statistics):
        assert getattr(column("real"), field.name) == pytest.approx(getattr(got, field.name), abs=0.0006), field.name


def test_the_table_has_the_columns_that_the_page_explains() -> None:
    header = re.search(rf"{re.escape(BEGIN)}\n\| \| (.*) \|", PAGE.read_text(encoding="utf-8"))
    assert header is not None
    assert tuple(header.group(1).split(" | ")) == COLUMNS
