"""A run that judges nothing is an error with a way out, and a run that finds nothing says what came closest.

Each way out is tried, and the pixels are looked at afterwards.
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio

from acdtask.cli import main
from acdtask.cli.options import options_of, settings_from
from acdtask.engine.stages import open_site
from acdtask.errors import AcdError, ErrorCode, ExitStatus
from acdtask.jobs.baseline.job import BaselineJob
from acdtask.jobs.contract import Plan
from acdtask.jobs.ingest.job import IngestJob
from acdtask.jobs.ingest.settings import IngestSettings
from acdtask.jobs.monitor.job import MonitorJob
from acdtask.jobs.monitor.months import read_images
from acdtask.jobs.monitor.settings import MonitorSettings
from acdtask.jobs.near_misses import Closest, option_for
from acdtask.jobs.products import BaselineManifest, MonitorManifest
from acdtask.storage.store import Store
from tests.jobs.small_site import LAYOUT, SIZE, baseline, ends, make_cube, monitor, run, steady, write_aoi, write_images

FEW = 12
"""Images of a baseline of which no method judges anything by default."""
ENOUGH = 22
WHOLE = SIZE * SIZE


@pytest.fixture(scope="module")
def made_few(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("few")
    cube = make_cube(folder, FEW + 2, steady(FEW))
    baseline(cube, end=ends(FEW - 1))
    return folder


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("enough")
    cube = make_cube(folder, ENOUGH + 2, steady(ENOUGH))
    baseline(cube, end=ends(ENOUGH - 1))
    return folder


@pytest.fixture
def few(made_few: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made_few, tmp_path / "few")) / "cube"


@pytest.fixture
def cube(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "made")) / "cube"


def settings_in(text: str) -> dict[str, Any]:
    """The options of the monitor that a sentence names with a value."""
    known = {option.flag: option.field for option in options_of(MonitorSettings)}
    words = shlex.split(text.replace("'", ""))
    pairs = zip(words, (word.rstrip(".;,") for word in words[1:]), strict=False)
    given = {known[word]: value for word, value in pairs if word in known and value.replace(".", "").isdigit()}
    assert given, text
    chosen = settings_from(MonitorSettings, {"aoi": "x", "layout": "y", **given})
    return {name: getattr(chosen, name) for name in given}


def refused(cube: Path, **settings: Any) -> AcdError:
    """The error of a monitor that judges nothing; nothing of it is published."""
    before = published(cube)
    with pytest.raises(AcdError) as caught:
        monitor(cube, **settings)
    assert caught.value.code is ErrorCode.NOTHING_JUDGED
    assert caught.value.code.value.exit_status is ExitStatus.CONFIG
    assert not caught.value.code.value.retryable
    assert published(cube) == before
    return caught.value


def published(cube: Path) -> set[Path]:
    """Everything by which a result is found: the index, manifests and pointers."""
    return {*cube.glob("index/**/*"), *cube.glob("products/**/manifests/*"), *cube.glob("products/**/*.latest/*")}


def judged_pixels(cube: Path) -> int:
    """Pixels with a z in all change masks of the cube."""
    total = 0
    for path in (cube / "products").rglob("change_*.tif"):
        with rasterio.open(path) as raster:
            total += int(np.count_nonzero(raster.read(1) != 255))
    return total


def newest_manifest(cube: Path, name: str = "monitor") -> MonitorManifest:
    pointers = cube / f"products/site/monitor/CoherenceVV/{LAYOUT}/{name}.latest"
    content = json.loads(max(pointers.iterdir()).read_bytes())["latest"]
    body = max((cube / f"products/site/monitor/{content}/manifests").iterdir()).read_bytes()
    return MonitorManifest.model_validate_json(body)


def test_too_few_images_are_an_error_whose_advice_judges_every_pixel(few: Path) -> None:
    error = refused(few)
    assert f"{FEW} images" in error.detail
    assert "min_count" in error.detail
    outcome = monitor(few, **settings_in(error.fix))
    assert judged_pixels(few) == 2 * WHOLE
    assert f"judged 100% of the area ({2 * WHOLE} of {2 * WHOLE} px)" in outcome.lines
    assert not any("warning" in line for line in outcome.lines if "season" not in line)


def test_the_default_method_leaves_no_value_out_of_few_so_its_advice_judges_every_pixel_too(few: Path) -> None:
    baseline(few, end=ends(FEW - 1), profile=None)
    error = refused(few)
    outcome = monitor(few, **settings_in(error.fix))
    assert outcome.plan.content.method.profile == "robust"
    assert judged_pixels(few) == 2 * WHOLE


def test_the_baseline_warns_at_once_and_says_how_much_can_be_judged(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cube = make_cube(tmp_path, FEW, steady(FEW))
    given = ("--cube", str(cube), "--aoi", str(tmp_path / "aoi.json"), "--layout", LAYOUT)
    assert main(["baseline", "plan", *given]) == 0
    assert f"--min-count {FEW}" in capsys.readouterr().out
    assert main(["baseline", "local", *given, "--workers", "0"]) == 0
    said = capsys.readouterr()
    assert re.search("plan.warned.*no pixel can have more than 12 images", said.err)
    assert f"mean and std of 100% of the area ({WHOLE} of {WHOLE} px)" in said.out
    assert f"warning: only 0% of the area can be judged (0 of {WHOLE} px)" in said.out
    assert f"--min-count {FEW}" in said.out


def test_a_baseline_that_is_thin_somewhere_is_judged_where_it_is_not_with_a_warning(tmp_path: Path) -> None:
    quiet = steady(ENOUGH)

    def pixels(index: int) -> Any:
        image = quiet(index)
        if index < 6:
            image[:, : SIZE * 3 // 4] = -1  # nodata
        return image

    cube = make_cube(tmp_path, ENOUGH + 1, pixels)
    done = baseline(cube, end=ends(ENOUGH - 1))
    assert any("warning: only 25% of the area can be judged" in line for line in done.lines)
    (warning,) = [line for line in monitor(cube).lines if "judged" in line]
    assert warning == (
        f"warning: judged only 25% of the area ({WHOLE // 4} of {WHOLE} px); "
        f"without z: {WHOLE * 3 // 4} px too few images in the baseline"
    )
    assert judged_pixels(cube) == WHOLE // 4


@pytest.mark.parametrize("scale", [0.001, 0.0001])
def test_a_std_that_is_too_small_is_an_error_whose_advice_is_in_the_unit(scale: float, tmp_path: Path) -> None:
    maximum = round(1 / scale)
    quiet = steady(ENOUGH, noise=0.001)
    cube = make_cube(tmp_path, ENOUGH + 1, quiet, maximum=maximum, scale=scale)
    baseline(cube, end=ends(ENOUGH - 1))
    error = refused(cube)
    assert "std too small" in error.detail
    advised = settings_in(error.fix)
    assert 0 < advised["min_std"] < 0.0015
    monitor(cube, **advised)
    assert judged_pixels(cube) >= WHOLE // 2


def test_equal_images_are_an_error_that_blames_no_threshold(tmp_path: Path) -> None:
    cube = make_cube(tmp_path, ENOUGH + 1, steady(99, noise=0.0))
    baseline(cube, end=ends(ENOUGH - 1))
    error = refused(cube)
    assert "All baseline images are equal" in error.fix
    assert "--min-std" not in error.fix


def test_an_image_without_data_is_an_error_until_it_is_left_out_or_another_comes(made: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(made, tmp_path / "made"))
    cube, quiet = folder / "cube", steady(99)

    def pixels(index: int) -> Any:
        image = quiet(index)
        image[:24] = -1
        return image

    write_images(folder / "empty", ENOUGH + 3, pixels, first=ENOUGH + 2)
    run(IngestJob(), IngestSettings(source=str(folder / "empty")), cube)
    write_aoi(folder / "aoi.json", south=20)
    baseline(cube, end=ends(ENOUGH - 1))
    error = refused(cube, start=ends(ENOUGH + 1))
    assert "no data in the image" in error.detail
    assert "--leave-out" in error.fix
    nothing = monitor(cube, start=ends(ENOUGH + 1), leave_out=("S1_*",))
    assert "there is no image after" in nothing.lines[0]
    found = figures(cube, MonitorJob(), monitor(cube).plan)
    assert found["judged_px"] == judged_pixels(cube) == 2 * found["no_data_px"] >= 2 * 20 * SIZE


def test_an_area_that_holds_no_pixel_is_an_error(cube: Path) -> None:
    write_aoi(cube.parent / "aoi.json", west=10.1, north=10.1, east=10.3, south=10.3)
    with pytest.raises(AcdError) as caught:
        baseline(cube, end=ends(ENOUGH - 1))
    assert caught.value.code is ErrorCode.BASELINE_EMPTY


def test_images_beside_the_baseline_are_an_error_whose_advice_judges_them(cube: Path) -> None:
    """The AOI was drawn anew, and its baseline is of the old place."""
    baseline_of_a_corner(cube)
    error = refused(cube)
    assert "'acdtask baseline local'" in error.fix
    baseline(cube, end=ends(ENOUGH - 1))
    outcome = monitor(cube)
    (line,) = [line for line in outcome.lines if line.startswith("judged 100%")]
    assert f"{judged_pixels(cube)} of {judged_pixels(cube)} px" in line
    assert judged_pixels(cube) >= 2 * 22**2


def baseline_of_a_corner(cube: Path) -> None:
    write_aoi(cube.parent / "aoi.json", east=20, south=20)
    baseline(cube, end=ends(ENOUGH - 1))
    write_aoi(cube.parent / "aoi.json", west=26, north=26)


def figures(cube: Path, job: Any, plan: Plan[Any, Any]) -> dict[str, float]:
    return dict(job.findings(plan, open_site(str(cube))).figures)


def test_figures_count_what_the_masks_hold(cube: Path) -> None:
    outcome = monitor(cube)
    found = figures(cube, MonitorJob(), outcome.plan)
    assert (found["area_px"], found["judged_px"]) == (2 * WHOLE, judged_pixels(cube))
    assert (
        found["judged_px"]
        + sum(found[f"{reason}_px"] for reason in ("no_data", "too_few_images", "steady", "no_baseline"))
        == found["area_px"]
    )
    manifest = max((cube / "products").glob("site/baseline/*/manifests/*")).read_bytes()
    pixels = [tile.pixels for tile in BaselineManifest.model_validate_json(manifest).tiles]
    assert sum(tile.mean_px for tile in pixels if tile) == sum(tile.scored_px for tile in pixels if tile) == WHOLE
    again = baseline(cube, end=ends(ENOUGH - 2))
    assert figures(cube, BaselineJob(), again.plan)["mean_px"] == WHOLE


SEARCHED: list[dict[str, Any]] = [
    {"high": 60.0},
    {"min_area": 2000},
    {"high": 60.0, "min_area": 2000},
    {"low": 60.0, "high": 80.0},
]


@pytest.mark.parametrize("method", [{"centred": False}, {"centred": True}, {"centred": True, "smooth": 1.2}])
@pytest.mark.parametrize("settings", SEARCHED)
def test_what_came_closest_names_the_setting_that_shows_it(
    cube: Path, settings: dict[str, Any], method: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    outcome = monitor(cube, **method, **settings)
    (line,) = [line for line in outcome.lines if line.startswith("closest, in ")]
    assert ("highest smoothed z" in line) == ("smooth" in method)
    assert main(["show", "patches", *shown(cube)]) == 0
    assert capsys.readouterr().out.splitlines()[:2] == ["0 patches", line]
    assert main(["show", "patches", *shown(cube), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["notes"][0] == line
    advised = settings_in(line.rpartition("; ")[2])
    assert monitor(cube, **method, **{**settings, **advised}).lines[1] != "0 patches in 2 images"
    assert main(["show", "patches", *shown(cube), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["features"]


def shown(cube: Path) -> list[str]:
    return ["--cube", str(cube), "--aoi", str(cube.parent / "aoi.json"), "--layout", LAYOUT]


def test_what_came_closest_is_what_the_pixels_say_whatever_the_tiles(made: Path, tmp_path: Path) -> None:
    seen = []
    for cell in (13, 24, 64):
        cube = make_cube(tmp_path / str(cell), ENOUGH + 2, steady(ENOUGH), cell=cell)
        baseline(cube, end=ends(ENOUGH - 1))
        monitor(cube, high=60.0, centred=False)
        images = read_images(newest_manifest(cube), Store.at(str(cube)))
        seen.append([image.closest for image in images])
        for image in images:
            z = z_of(cube, [tile.z.uri for tile in image.tiles])
            assert image.closest is not None
            assert image.closest.z_max == pytest.approx(float(np.nanmax(z)), abs=0.006)
    assert seen[0] == seen[1] == seen[2]


def z_of(cube: Path, keys: list[str]) -> Any:
    values = []
    for key in keys:
        with rasterio.open(cube / key) as raster:
            pixels = raster.read(1).astype(float)
            values.append(np.where(pixels == raster.nodata, np.nan, pixels * 0.01).ravel())
    return np.concatenate(values)


def test_a_month_knows_what_came_closest_and_old_documents_say_nothing(cube: Path) -> None:
    monitor(cube, high=60.0)
    manifest = newest_manifest(cube)
    assert all(month.closest is not None and month.closest_image for month in manifest.months)
    assert sum(month.quality_px["VALID"] for month in manifest.months) == judged_pixels(cube)
    raw = json.loads(manifest.model_dump_json())
    for month in raw["months"]:
        for name in ("closest", "closest_image", "quality_px"):
            del month[name]
    old = MonitorManifest.model_validate(raw)
    assert all(month.closest is None and not month.quality_px for month in old.months)


DETECTION = {"low": 1.7, "high": 3.0, "min_area": 100}


@pytest.mark.parametrize(
    ("closest", "option"),
    [
        (Closest(z_max=9.0, low_px=90, high_px=40, region_px=80, group_px=80), "--min-area 79"),
        (Closest(z_max=2.8, low_px=190, region_px=180, wide_z_max=2.8), "--high 2.7"),
        (Closest(z_max=1.72, low_px=190, region_px=180, wide_z_max=1.701), "--high 1.7"),
        (Closest(z_max=1.7004, low_px=190, region_px=180, wide_z_max=1.7), "--low 1.6 --high 1.6"),
        (Closest(z_max=2.8, low_px=5, region_px=5), "--high 2.7 --min-area 0"),
        (Closest(z_max=1.2), "--low 1.1 --high 1.1 --min-area 0"),
        (Closest(z_max=0.05), "--low 0 --high 0 --min-area 0"),
        (Closest(z_max=-0.3), ""),
        (Closest(), ""),
    ],
)
def test_the_option_is_the_smallest_step_that_shows_a_patch(closest: Closest, option: str) -> None:
    assert option_for(closest, DETECTION) == option


def test_min_std_is_the_same_whatever_the_scale(tmp_path: Path) -> None:
    """Coherence stored in thousandths and in ten-thousandths, judged with the same options, gives the same masks."""
    masks: list[list[bytes]] = []
    for scale in (0.001, 0.0001):
        cube = make_cube(
            tmp_path / str(scale),
            ENOUGH + 1,
            in_thousandths(steady(ENOUGH, noise=0.006)),
            maximum=1 / scale,
            scale=scale,
        )
        baseline(cube, end=ends(ENOUGH - 1))
        for number, settings in enumerate(({}, {"min_std": 0.006})):
            monitor(cube, name=f"m{number}", centred=False, **settings)
        masks.append([quality_of(cube, name) for name in ("m0", "m1")])
    assert masks[0] == masks[1]
    assert masks[0][0] != masks[0][1]


def in_thousandths(pixels: Callable[[int], Any]) -> Callable[[int], Any]:
    return lambda index: np.round(pixels(index).astype(np.float64), 3).astype(np.float32)


def quality_of(cube: Path, name: str) -> bytes:
    parts = []
    for image in read_images(newest_manifest(cube, name), Store.at(str(cube))):
        for tile in image.tiles:
            with rasterio.open(cube / tile.change.uri) as raster:
                parts.append(raster.read(2).tobytes())
    return b"".join(parts)
