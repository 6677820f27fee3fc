"""Two tracks are fused to the same bytes however the work is cut, and each counts alone where the other is missing."""

from __future__ import annotations

import json
import os
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import shapely
from shapely.geometry import shape
from typer.testing import CliRunner

import acdtask
from acdtask.change.patches import geodesic_area
from acdtask.cli.app import app
from acdtask.cube.aoi import load_aoi
from acdtask.engine.local import LocalOutcome
from acdtask.engine.stages import gather_round, make_plan, open_site, run_shard
from acdtask.errors import AcdError, ErrorCode
from acdtask.jobs.fuse.content import FusedWindow, FusionManifest
from acdtask.jobs.fuse.files import FusedPatch, read_fused
from acdtask.jobs.fuse.job import FuseJob
from acdtask.jobs.fuse.months import findings_of_windows, keys_of, windows_since
from acdtask.jobs.fuse.publish import newest_fusion
from acdtask.jobs.fuse.seen import area_points
from acdtask.jobs.fuse.settings import FuseSettings
from acdtask.maintenance.tidy.clean import tidy
from acdtask.maintenance.tidy.retention import Retention
from tests.jobs.chain import simulate
from tests.jobs.tracks_site import ASCENDING, DESCENDING, SCENES, fuse, make_tracks, monitor_track, run

WINDOWS = SCENES[0].monitored_pairs


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scenes")
    for scene in SCENES:
        simulate(folder / f"track{scene.track}", scene)
    return folder


@pytest.fixture(scope="module")
def judged(scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cube with both tracks judged and nothing fused."""
    return make_tracks(tmp_path_factory.mktemp("judged"), scenes=scenes)


@pytest.fixture
def cube(judged: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(judged, tmp_path / "cube"))


@pytest.fixture
def aoi(scenes: Path) -> Path:
    return scenes / "track0" / "aoi.json"


def manifest_of(cube: Path, outcome: LocalOutcome) -> FusionManifest:
    content = outcome.plan.content
    manifest = newest_fusion(open_site(str(cube)).store, content.aoi, content.fusion)
    assert manifest is not None
    return manifest


def windows_of(cube: Path, outcome: LocalOutcome) -> list[FusedWindow]:
    return windows_since(manifest_of(cube, outcome), "", open_site(str(cube)).store)


def findings_of(cube: Path, outcome: LocalOutcome) -> list[FusedPatch]:
    return findings_of_windows(windows_of(cube, outcome), open_site(str(cube)).store)


def products(cube: Path) -> dict[str, bytes]:
    """All files of fusions."""
    (folder,) = (cube / "products").glob("*/fuse")
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()
    }


def said(findings: list[FusedPatch]) -> list[tuple[Any, ...]]:
    return [
        (f.window, f.geometry.wkb, f.probability, f.kept, f.area_m2, f.datetime, f.start_datetime) for f in findings
    ]


def code_of(error: pytest.ExceptionInfo[AcdError]) -> ErrorCode:
    return error.value.code


def test_what_both_tracks_find_is_more_probable_than_what_either_says(cube: Path, aoi: Path) -> None:
    findings = findings_of(cube, fuse(cube, aoi))
    both = [finding for finding in findings if "," in finding.members]
    sure = [finding for finding in both if finding.kept]
    assert len(sure) >= 3
    assert all(finding.probability > 0.9 for finding in sure)
    assert all(not finding.absent and not finding.unseen for finding in both)
    alone = [finding for finding in findings if finding.members == ASCENDING and not finding.unseen]
    assert alone
    assert all(finding.absent == DESCENDING for finding in alone)
    assert "saw the place and has no candidate" in alone[0].reason


def test_patches_lie_where_events_are(cube: Path, aoi: Path, scenes: Path) -> None:
    truth = json.loads((scenes / "track0" / "truth.geojson").read_text())
    events = shapely.union_all([shape(feature["geometry"]) for feature in truth["features"]])
    patches = [finding for finding in findings_of(cube, fuse(cube, aoi)) if finding.kept]
    assert patches
    inside = [patch.geometry.intersection(events).area / patch.geometry.area for patch in patches]
    assert np.mean([share > 0.3 for share in inside]) >= 0.75


def test_the_order_of_members_and_the_size_of_shards_change_no_byte(cube: Path, aoi: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(cube, tmp_path / "other"))
    fuse(cube, aoi)
    fuse(other, aoi, members=(DESCENDING, ASCENDING), shard_windows=1)
    assert products(cube) == products(other)


@pytest.mark.parametrize("cells", [{"west": 32, "east": 64}, {"west": 256, "east": 40}])
def test_the_tiling_of_members_changes_no_finding(
    cube: Path, aoi: Path, scenes: Path, tmp_path: Path, cells: dict[str, int]
) -> None:
    other = make_tracks(tmp_path / "other", cells, scenes)
    assert said(findings_of(other, fuse(other, aoi))) == said(findings_of(cube, fuse(cube, aoi)))


def test_days_one_by_one_give_what_all_together_give(cube: Path, aoi: Path, scenes: Path, tmp_path: Path) -> None:
    last = SCENES[0].pair_dates(SCENES[0].pairs - 1)[1]
    other = make_tracks(tmp_path / "daily", scenes=scenes, end=f"{last.replace(day=last.day - 4)}")
    first = fuse(other, aoi)
    assert len(windows_of(other, first)) < WINDOWS
    for track, layout, name in (("A015", "west", "ascending"), ("D066", "east", "descending")):
        monitor_track(other, aoi, track, layout, name)
    again = fuse(other, aoi)
    assert 0 < len(again.plan.content.pending) < WINDOWS
    assert said(findings_of(other, again)) == said(findings_of(cube, fuse(cube, aoi)))


def test_a_second_run_has_nothing_to_do(cube: Path, aoi: Path) -> None:
    fuse(cube, aoi)
    before = products(cube)
    assert fuse(cube, aoi).plan.nothing_to_do
    assert products(cube) == before


def test_an_interrupted_run_continues(cube: Path, aoi: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(cube, tmp_path / "other"))
    given = FuseSettings(aoi=str(aoi), members=(ASCENDING, DESCENDING), shard_windows=1)
    job, site = FuseJob(), open_site(str(other))
    plan = make_plan(job, given, site)
    run_shard(job, plan, "fuse", 1, site)
    with pytest.raises(AcdError) as error:
        gather_round(job, plan, "fuse", site)
    assert code_of(error) is ErrorCode.SHARDS_MISSING
    assert not list((other / "products").glob("*/fuse/*/manifests/*"))
    run(job, given, other)
    fuse(cube, aoi)
    assert products(other) == products(cube)


def test_a_window_without_the_other_track_has_its_patches_alone(cube: Path, aoi: Path) -> None:
    outcome = fuse(cube, aoi, window_days=0.5)
    assert [len(window.images) for window in windows_of(cube, outcome)] == [1] * 2 * WINDOWS
    findings = findings_of(cube, outcome)
    assert all("," not in finding.members and finding.unseen for finding in findings)
    assert "has no image in the window" in findings[0].reason
    assert any(f"{2 * WINDOWS} of {2 * WINDOWS} windows lack an image" in line for line in outcome.lines)


def test_where_one_track_has_no_data_the_other_counts_alone(scenes: Path, aoi: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(scenes, tmp_path / "scenes"))
    for path in sorted((folder / "track1" / "images").glob("*.tif"))[-WINDOWS:]:
        with rasterio.open(path, "r+") as raster:
            pixels = raster.read(1)
            pixels[:, 64:] = raster.nodata
            raster.write(pixels, 1)
    cube = make_tracks(tmp_path / "half", scenes=folder)
    findings = findings_of(cube, fuse(cube, aoi))
    middle = float(np.mean(load_aoi(str(aoi)).geometry.bounds[::2]))
    east = [finding for finding in findings if finding.geometry.bounds[0] > middle + 0.003]
    west = [finding for finding in findings if finding.geometry.bounds[2] < middle - 0.003]
    assert east
    assert west
    assert all((finding.members, finding.unseen) == (ASCENDING, DESCENDING) for finding in east)
    assert all("has no data there" in finding.reason for finding in east)
    assert not any(finding.unseen for finding in west)


def test_the_judged_area_counts_no_ground_twice(cube: Path, aoi: Path) -> None:
    area_km2 = geodesic_area(load_aoi(str(aoi)).geometry) / 1e6
    for window in windows_of(cube, fuse(cube, aoi)):
        assert 0.8 * area_km2 < window.judged_km2 <= area_km2


def test_the_lattice_of_a_thin_area_has_points() -> None:
    assert len(area_points(shapely.box(7, 50, 8, 51))) == 64**2
    assert len(area_points(shapely.Polygon([(7, 50), (8, 51), (8, 51.01), (7, 50.01)]))) >= 1000


def test_more_accepted_false_patches_keep_more(cube: Path, aoi: Path) -> None:
    few = findings_of(cube, fuse(cube, aoi, false_per_1000km2=1, name="few"))
    many = findings_of(cube, fuse(cube, aoi, false_per_1000km2=2000, name="many"))
    assert sum(finding.kept for finding in few) < sum(finding.kept for finding in many)
    assert {finding.geometry.wkb for finding in few if finding.kept} < {f.geometry.wkb for f in many if f.kept}
    assert all(finding.reason.startswith("held back (probability") for finding in few if not finding.kept)


def test_the_tables_of_a_month_and_of_the_run_have_the_kept_findings(cube: Path, aoi: Path) -> None:
    outcome = fuse(cube, aoi)
    manifest, findings = manifest_of(cube, outcome), findings_of(cube, outcome)
    kept = [finding.id for finding in findings if finding.kept]
    assert [f.id for month in manifest.months for f in read_fused((cube / month.parquet).read_bytes())] == kept
    assert {f.id for month in manifest.months for f in read_fused((cube / month.rejected).read_bytes())} == {
        finding.id for finding in findings if not finding.kept
    }
    (table,) = (cube / "runs" / "fuse").glob("*/patches.geojson")
    assert [feature["id"] for feature in json.loads(table.read_text())["features"]] == kept


def test_python_reads_what_was_fused(cube: Path, aoi: Path) -> None:
    with pytest.raises(AcdError) as error:
        acdtask.open(cube).fused(str(aoi))
    assert code_of(error) is ErrorCode.FUSION_UNKNOWN
    findings = findings_of(cube, fuse(cube, aoi))
    for held_back in (False, True):
        features = acdtask.open(cube).fused(str(aoi), held_back=held_back)["features"]
        assert [feature["id"] for feature in features] == [f.id for f in findings if f.kept is not held_back]


def test_the_command_line_shows_and_saves_what_was_fused(cube: Path, aoi: Path, tmp_path: Path) -> None:
    command = ["show", "fused", "--cube", str(cube), "--aoi", str(aoi)]
    unknown = CliRunner().invoke(app, command)
    assert isinstance(unknown.exception, AcdError)
    assert unknown.exception.code is ErrorCode.FUSION_UNKNOWN
    findings = findings_of(cube, fuse(cube, aoi))
    kept = [finding for finding in findings if finding.kept]
    assert CliRunner().invoke(app, command).stdout.endswith(f"{len(kept)} fused patches\n")
    rest = CliRunner().invoke(app, [*command, "--held-back", "--json", "--limit", "0"])
    assert len(json.loads(rest.stdout)["features"]) == len(findings) - len(kept)
    for name in ("fused.parquet", "fused.geojson"):
        assert CliRunner().invoke(app, [*command, "--out", str(tmp_path / name)]).exit_code == 0
    assert read_fused((tmp_path / "fused.parquet").read_bytes()) == kept


def test_tidy_keeps_what_the_newest_version_names(cube: Path, aoi: Path) -> None:
    outcome = fuse(cube, aoi)
    before = products(cube)
    tidy(open_site(str(cube)), Retention(keep_days=2), apply=True)
    assert products(cube) == before
    assert findings_of(cube, outcome)


def test_tidy_removes_what_a_later_day_has_replaced_and_nothing_else(aoi: Path, scenes: Path, tmp_path: Path) -> None:
    last = SCENES[0].pair_dates(SCENES[0].pairs - 1)[1]
    cube = make_tracks(tmp_path / "daily", scenes=scenes, end=f"{last.replace(day=last.day - 4)}")
    fuse(cube, aoi)
    for track, layout, name in (("A015", "west", "ascending"), ("D066", "east", "descending")):
        monitor_track(cube, aoi, track, layout, name)
    outcome = fuse(cube, aoi)
    for path in cube.rglob("*"):
        os.utime(path, (0, 0))
    before, findings = products(cube), findings_of(cube, outcome)
    held_back = {path: path.read_bytes() for path in cube.rglob("rejected.*")}
    store = open_site(str(cube)).store
    named = {key.partition("/fuse/")[2] for key in keys_of(manifest_of(cube, outcome), store)}
    retention = Retention(keep_days=2, keep_versions=1, keep_runs=1)
    done = tidy(open_site(str(cube)), retention, apply=True, now=datetime.now(UTC))
    assert not done.broom.unknown
    parts = {name for name in before if "/manifests/" not in name and ".latest/" not in name}
    assert named < parts, "the first day's parts of the month are superseded"
    assert {name for name in products(cube) if name in parts} == named
    assert findings_of(cube, outcome) == findings
    assert held_back
    assert {path: path.read_bytes() for path in cube.rglob("rejected.*")} == held_back
    assert fuse(cube, aoi).plan.nothing_to_do


@pytest.mark.parametrize(
    ("members", "code", "words"),
    [
        ((ASCENDING,), ErrorCode.MEMBERS_UNFIT, "members has 1 result"),
        ((ASCENDING, ASCENDING), ErrorCode.MEMBERS_UNFIT, f"members has {ASCENDING} 2 times"),
        ((ASCENDING, "CoherenceVV/east/other"), ErrorCode.MONITOR_UNKNOWN, "CoherenceVV/east/other"),
    ],
)
def test_mistakes_in_members_are_named(
    cube: Path, aoi: Path, members: tuple[str, ...], code: ErrorCode, words: str
) -> None:
    with pytest.raises(AcdError, match=words) as error:
        fuse(cube, aoi, members=members)
    assert code_of(error) is code
    assert not list((cube / "products").glob("*/fuse"))


def test_a_member_whose_candidates_have_no_probability_is_refused(cube: Path, aoi: Path) -> None:
    monitor_track(cube, aoi, "A015", "west", "ascending", profile="standard")
    with pytest.raises(AcdError, match=rf"the candidates of {ASCENDING} have no probability") as error:
        fuse(cube, aoi)
    assert code_of(error) is ErrorCode.MEMBERS_UNFIT


def test_members_that_are_judged_differently_are_refused(cube: Path, aoi: Path) -> None:
    monitor_track(cube, aoi, "A015", "west", "ascending", judged_by="rule")
    with pytest.raises(AcdError, match=r"judged differently") as error:
        fuse(cube, aoi)
    assert code_of(error) is ErrorCode.MEMBERS_UNFIT


def test_members_of_another_area_are_refused(cube: Path, aoi: Path, tmp_path: Path) -> None:
    document = json.loads(aoi.read_text())
    area = shapely.affinity.scale(load_aoi(str(aoi)).geometry, 0.9, 0.9)
    smaller = {
        key: value for key, value in document.items() if key not in {"geometry", "coordinates", "type", "geojson"}
    }
    smaller |= shapely.geometry.mapping(area)
    (tmp_path / "smaller.json").write_text(json.dumps({**smaller, "name": load_aoi(str(aoi)).name}))
    with pytest.raises(AcdError, match="was monitored in another area") as error:
        fuse(cube, tmp_path / "smaller.json")
    assert code_of(error) is ErrorCode.MEMBERS_UNFIT
