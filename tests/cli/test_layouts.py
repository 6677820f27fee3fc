"""Layouts: made from images, rejected, and deleted."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from rasterio import Affine

from tests.cli.scene import (
    CRS,
    NORTH,
    NORTH_UP,
    SIZE,
    SOUTH_UP,
    STEP,
    WEST,
    Run,
    coherence,
    product,
    runner,
    write_area,
    write_images,
)

COUNT = 3


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ACD_CUBE", "cube")
    return runner(capsys)


def ingest(run: Run, transform: Affine = NORTH_UP, crs: str = CRS) -> None:
    write_images(Path("images"), COUNT, transform=transform, crs=crs)
    status, _, told = run("ingest", "local", "--source", "images")
    assert status == 0, told


def mean_of_images() -> NDArray[np.float64]:
    return np.asarray(np.mean([np.round(coherence(number) * 1000) for number in range(COUNT)], axis=0), np.float64)


DEGREE = 0.00027777
SQUARES = [
    Affine(
        ((6.8123 + SIZE * DEGREE) - 6.8123) / SIZE, 0, 6.8123, 0, -((51.0017 + SIZE * DEGREE) - 51.0017) / SIZE, 51.01
    ),
    Affine(DEGREE, 0, 6.8, 0, -DEGREE * (1 + 9e-7), 51.0),
]


@pytest.mark.parametrize("transform", SQUARES)
def test_pixels_that_are_squares_but_for_rounding_make_a_layout(transform: Affine, run: Run) -> None:
    ingest(run, transform, "EPSG:4326")
    status, out, told = run("layout", "create", "l", "--like", "CoherenceVV", "--cell-size", SIZE)
    assert status == 0, told
    assert "EPSG:4326" in out
    status, _, told = run(
        "baseline", "local", "--layout", "l", "--bbox", _bbox(transform), "--aoi-name", "a", "--end", "2020-12-31"
    )
    assert status == 0, told
    (mean,) = (tile for tile in product(Path("cube"), "mean") if np.isfinite(tile).sum() > SIZE)
    np.testing.assert_allclose(mean, mean_of_images(), atol=0.5)


def _bbox(transform: Affine) -> str:
    west, north = transform @ (0.0, 0.0)
    east, south = transform @ (float(SIZE), float(SIZE))
    inset = DEGREE / 10
    return f"{west + inset},{south + inset},{east - inset},{north - inset}"


@pytest.mark.parametrize(
    "transform",
    [
        Affine(20, 0, WEST, 0, -20.001, NORTH),
        Affine(20, 0, WEST, 0, -10, NORTH),
        Affine(20, 0.5, WEST, 0.5, -20, NORTH),
    ],
)
def test_other_pixels_are_refused_and_the_advised_way_works(transform: Affine, run: Run) -> None:
    ingest(run, transform)
    status, _, told = run("layout", "create", "l", "--like", "CoherenceVV", "--cell-size", SIZE)
    assert status == 78
    assert "--crs and --resolution" in told
    assert run("layout", "create", "l", "--crs", CRS, "--resolution", STEP, "--cell-size", SIZE)[0] == 0
    write_area(Path("aoi.json"))
    status, _, told = run("baseline", "local", "--layout", "l", "--aoi", "aoi.json", "--end", "2020-12-31")
    assert status == 0, told
    values = np.concatenate([tile[np.isfinite(tile)] for tile in product(Path("cube"), "mean")])
    assert values.size > SIZE
    assert abs(values.mean() - mean_of_images().mean()) < 20


def test_images_with_south_up_give_a_layout_of_their_pixels(run: Run) -> None:
    ingest(run, SOUTH_UP)
    status, _, told = run("layout", "create", "l", "--like", "CoherenceVV", "--cell-size", SIZE)
    assert status == 0, told
    write_area(Path("aoi.json"))
    status, _, told = run("baseline", "local", "--layout", "l", "--aoi", "aoi.json", "--end", "2020-12-31")
    assert status == 0, told
    (mean,) = product(Path("cube"), "mean")
    np.testing.assert_allclose(mean, mean_of_images()[::-1], atol=1e-3)


@pytest.mark.parametrize("name", ["Köln", "a.b", "x y", "../up", "", "/a", "a/", "a//b", "x" * 201, "\n"])
def test_names_that_no_job_takes_are_refused(name: str, run: Run) -> None:
    ingest(run)
    status, _, told = run("layout", "create", "--crs", CRS, "--resolution", "20", "--", name)
    assert (status, "ACD-102" in told or "ACD-103" in told) == (78, True), told
    assert run("layout", "list")[1].strip() == "no layouts"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--crs", CRS, "--resolution", "0.0002"], "0.0002 m"),
        (["--crs", CRS, "--resolution", "500000"], "metre"),
        (["--crs", "EPSG:4326", "--resolution", "20"], "degree"),
        (["--crs", "EPSG:4326", "--resolution", "0.00000001"], "degree"),
        (["--crs", "EPSG:99999", "--resolution", "20"], "EPSG:99999"),
        (["--crs", "EPSG:4978", "--resolution", "20"], "neither a geographic nor a projected CRS"),
        (["--crs", CRS, "--resolution", "0"], "greater than 0"),
        (["--crs", CRS, "--resolution", "nan"], "resolution"),
        (["--crs", CRS, "--resolution", "20", "--cell-size", "0"], "cell size"),
        (["--zoom", "9", "--scale", "0"], "scale"),
        (["--like", "CoherenceVH"], "CoherenceVH"),
        (["--like", "CoherenceVV", "--zoom", "9"], "--like"),
    ],
)
def test_grids_that_cannot_be_meant_are_refused(options: list[str], words: str, run: Run) -> None:
    ingest(run)
    status, _, told = run("layout", "create", "l", *options)
    assert status in (2, 78)
    assert words in told
    assert "ACD-900" not in told
    assert run("layout", "list")[1].strip() == "no layouts"


def test_tiles_are_counted_before_they_are_made(run: Run) -> None:
    ingest(run)
    assert run("layout", "create", "l", "--crs", CRS, "--resolution", "0.1", "--cell-size", "1")[0] == 0
    begun = time.monotonic()
    status, _, told = run("tiles", "--layout", "l", "--bbox", "6,50,8,52", "--aoi-name", "a")
    assert (status, "ACD-340" in told) == (78, True), told
    assert "--resolution" in told
    assert time.monotonic() - begun < 5


def test_a_layout_that_nothing_uses_can_be_deleted(run: Run) -> None:
    ingest(run)
    for name in ("utm", "web"):
        assert run("layout", "create", name, "--crs", CRS, "--resolution", "20")[0] == 0
    assert run("layout", "delete", "utm")[:2] == (0, "utm: deleted\n")
    assert run("layout", "list")[1].split()[2] == "web"
    status, _, told = run("layout", "delete", "wep")
    assert (status, "there are: web; did you mean web?" in told) == (78, True), told


def test_a_layout_in_use_stays_and_its_users_are_named(run: Run) -> None:
    write_images(Path("images"), 4)
    write_area(Path("aoi.json"))
    assert run("ingest", "local", "--source", "images")[0] == 0
    where = ("--layout", "utm", "--aoi", "aoi.json")
    assert run("layout", "create", "utm", "--like", "CoherenceVV", "--cell-size", SIZE)[0] == 0
    for job, options, words in (
        ("consolidate", (), "images of CoherenceVV:master, consolidated"),
        ("baseline", ("--end", "2020-02-15"), "the baseline "),
        ("monitor", ("--min-count", "1"), "the monitoring "),
    ):
        status, _, told = run(job, "local", *where, *options)
        assert status == 0, told
        status, _, told = run("layout", "delete", "utm")
        assert (status, "ACD-313" in told, words in told) == (78, True, True), told
    assert "CoherenceVV in site" in told
    assert run("layout", "show", "utm")[0] == 0


def test_wrong_names_are_told_those_that_are_there(run: Run) -> None:
    write_images(Path("images"), 4)
    write_area(Path("aoi.json"))
    write_area(Path("other.json"), name="sight")
    assert run("ingest", "local", "--source", "images")[0] == 0
    assert run("layout", "create", "utm", "--like", "CoherenceVV", "--cell-size", SIZE)[0] == 0
    where = ("--aoi", "aoi.json", "--layout", "utm")
    assert run("baseline", "local", *where, "--end", "2020-02-15")[0] == 0
    for arguments, words in (
        (("baseline", "plan", "--aoi", "aoi.json", "--layout", "utn"), "did you mean utm?"),
        (("baseline", "plan", *where, "--variable", "CoherenceVX"), "CoherenceVV_Mean"),
        (("baseline", "plan", *where, "--instance", "mastr"), "did you mean master?"),
        (("monitor", "plan", *where, "--baseline-name", "anual"), "did you mean CoherenceVV/utm/annual?"),
        (("monitor", "plan", "--aoi", "other.json", "--layout", "utm"), "AOIs with a baseline are: site"),
        (("show", "dataset", "--variable", "Coherence"), "CoherenceVV"),
    ):
        status, _, told = run(*arguments)
        assert status in (66, 78)
        assert words in told
