"""A series: what makes images pending, what judges them anew, what is news, and what is neither.

A patch release, another baseline version, other shards or workers make nothing pending and nothing news.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from numpy.typing import NDArray

from acdtask.cube.local.store import Store
from acdtask.cube.model import RecordQuery
from acdtask.engine.account import record_gathered, record_plan
from acdtask.engine.local import Outcome, run_locally
from acdtask.engine.processes import WorkerPool
from acdtask.engine.stages import gather_round, gathered_rounds, make_plan, open_site, run_shard
from acdtask.errors import AcdError, ErrorCode
from acdtask.jobs.contract import Plan
from acdtask.jobs.ingest.job import IngestJob
from acdtask.jobs.ingest.settings import IngestSettings
from acdtask.jobs.monitor.job import MonitorJob
from acdtask.jobs.monitor.months import images_of_month, read_images
from acdtask.jobs.monitor.settings import MonitorSettings
from acdtask.jobs.news import News
from acdtask.jobs.products import BaselineManifest, ImageProduct, MonitorManifest, find_manifest
from acdtask.notify.event import Ending, attributes_of, message_of
from tests.jobs.small import LAYOUT, baseline, ends, make_cube, monitor, run, steady, write_images

REFERENCE, MONITORED = 22, 3
COUNT = REFERENCE + MONITORED
LAST = ends(REFERENCE - 1)
EARLIER = ends(REFERENCE - 2)
"""The end of another baseline version."""
PIXELS = steady(REFERENCE)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cube whose images are judged."""
    folder = tmp_path_factory.mktemp("series")
    cube = make_cube(folder, COUNT, PIXELS)
    baseline(cube, end=LAST)
    monitor(cube)
    return folder


@pytest.fixture
def cube(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "made")) / "cube"


def version_of(outcome: Outcome) -> str:
    return outcome.plan.content_id


def manifest_of(cube: Path, kind: str, name: str) -> bytes:
    place = f"CoherenceVV/{LAYOUT}/{name}"
    return find_manifest(Store.at(str(cube)), "site", kind, place, "latest", ErrorCode.MONITOR_UNKNOWN)[1]


def result(cube: Path) -> MonitorManifest:
    return MonitorManifest.model_validate_json(manifest_of(cube, "monitor", "monitor"))


def images(cube: Path) -> list[ImageProduct]:
    return read_images(result(cube), Store.at(str(cube)))


def current_version(cube: Path) -> str:
    return BaselineManifest.model_validate_json(manifest_of(cube, "baseline", "annual")).content_id


def z_of(cube: Path, product: ImageProduct) -> NDArray[np.int16]:
    """z of an image on all tiles, as it is stored."""
    tiles = []
    for tile in product.tiles:
        with rasterio.open(cube / tile.z.uri) as raster:
            tiles.append(raster.read(1))
    return np.stack(tiles)


def planned(cube: Path, **settings: Any) -> Plan[Any, Any]:
    return make_plan(
        MonitorJob(),
        MonitorSettings(aoi=str(cube.parent / "aoi.json"), layout=LAYOUT, **settings),
        open_site(str(cube)),
    )


def bring(cube: Path, count: int) -> None:
    """Further images arrive."""
    write_images(cube.parent / "images", count, PIXELS, first=COUNT)
    run(IngestJob(), IngestSettings(source=str(cube.parent / "images")), cube)


class Nightly:
    """Monitors as a workflow does, with an event at the end of each run."""

    def __init__(self, cube: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.cube, self._patch, self._runs = cube, monkeypatch, 0

    def run(self, *, delivered: bool = True, status: str = "Succeeded", **settings: Any) -> tuple[str, list[str]]:
        """The kind of the event, and the images that it names."""
        self._runs += 1
        name, site, job = f"run-{self._runs}", open_site(str(self.cube)), MonitorJob()
        self._patch.setenv("ACD_RUN_ID", name)
        given = MonitorSettings(aoi=str(self.cube.parent / "aoi.json"), layout=LAYOUT, **settings)
        plan = make_plan(job, given, site)
        record_plan(plan, given, site)
        if not plan.nothing_to_do:
            for round_name in plan.rounds:
                for shard in range(plan.shards):
                    run_shard(job, plan, round_name, shard, site)
                gather_round(job, plan, round_name, site)
            record_gathered(job, plan, gathered_rounds(plan, site), site)
        self._patch.delenv("ACD_RUN_ID")
        ending = Ending(name, status, "site")  # type: ignore[arg-type]  # a literal, from a test's table
        message = message_of(ending, site)
        if delivered:
            message.acknowledge(ending, site)
        kind = attributes_of(ending, message.data)["type"].rpartition(".")[2]
        return kind, [image["label"] for image in message.data["images"]]


@pytest.fixture
def nightly(cube: Path, monkeypatch: pytest.MonkeyPatch) -> Nightly:
    return Nightly(cube, monkeypatch)


def a_patch_release(cube: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    for module in ("acdtask", "acdtask.engine.stages", "acdtask.jobs.provenance", "acdtask.jobs.monitor.publish"):
        monkeypatch.setattr(f"{module}.__version__", "0.1.99")
    return {}


def another_baseline(cube: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    baseline(cube, end=EARLIER)
    return {}


def a_baseline_that_ends_later(cube: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    baseline(cube, end=ends(REFERENCE))
    return {}


def other_shards(cube: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    return {"shard_tiles": 3}


CHANGES = [a_patch_release, another_baseline, a_baseline_that_ends_later, other_shards]


@pytest.mark.parametrize("change", CHANGES)
def test_nothing_is_pending_and_nothing_is_announced_after(
    change: Any, cube: Path, nightly: Nightly, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = change(cube, monkeypatch)
    before = written(cube)
    assert planned(cube, **settings).nothing_to_do
    with WorkerPool(2) as pool:
        given = MonitorSettings(aoi=str(cube.parent / "aoi.json"), layout=LAYOUT, **settings)
        assert run_locally(MonitorJob(), given, str(cube), pool=pool, progress=False).plan.nothing_to_do
    assert nightly.run(**settings) == ("heartbeat", [])
    assert written(cube) == before


def written(cube: Path) -> dict[Path, int]:
    """The files of the monitor's products, and when they were written."""
    files = (path for path in (cube / "products/site/monitor").rglob("*") if path.is_file())
    return {path: path.stat().st_mtime_ns for path in files}


def test_a_patch_release_makes_no_baseline_again(cube: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    a_patch_release(cube, monkeypatch)
    assert "is the latest" in baseline(cube, end=LAST).lines[0]
    assert "is the latest" in baseline(cube, end=LAST, shard_tiles=2).lines[0]


def test_a_patch_release_goes_on_with_an_interrupted_plan(cube: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site, job = open_site(str(cube)), MonitorJob()
    plan = planned(cube, high=4.0)
    run_shard(job, plan, "statistics", 0, site)
    tables = {path: path.stat().st_mtime_ns for path in cube.glob(f"runs/monitor/{plan.plan_id}/statistics/*.table")}
    a_patch_release(cube, monkeypatch)
    again = planned(cube, high=4.0)
    assert again.plan_id == plan.plan_id
    run_shard(job, again, "statistics", 0, site)
    assert {path: path.stat().st_mtime_ns for path in tables} == tables


def test_a_plan_of_another_algorithm_is_refused(cube: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = planned(cube, high=4.0)
    monkeypatch.setattr(MonitorJob, "algorithm", 99)
    with pytest.raises(AcdError) as caught:
        run_shard(MonitorJob(), plan, "statistics", 0, open_site(str(cube)))
    assert caught.value.code is ErrorCode.PLAN_STALE


@pytest.mark.parametrize(
    "settings",
    [
        {"high": 50.0},
        {"min_area": 3},
        {"profile": "tutorial"},
        {"name": "other"},
        {"mixed": True},
    ],
    ids=str,
)
def test_another_method_or_name_is_another_series(settings: dict[str, Any], cube: Path) -> None:
    series = planned(cube, **settings).series
    assert series is not None
    assert series.id != result(cube).content_id


@pytest.mark.parametrize(
    "settings", [{"end": ends(COUNT - 2)}, {"records": "S1_2020*"}, {"leave_out": ("*",)}], ids=str
)
def test_what_chooses_among_images_leaves_the_series_as_it_is(settings: dict[str, Any], cube: Path) -> None:
    series = planned(cube, **settings).series
    assert series is not None
    assert series.id == result(cube).content_id


def test_each_image_says_which_baseline_version_it_was_judged_against(cube: Path) -> None:
    old = current_version(cube)
    new = version_of(baseline(cube, end=EARLIER))
    bring(cube, COUNT + 1)
    lines = monitor(cube).lines
    assert [product.baseline for product in images(cube)] == [old] * MONITORED + [new]
    assert result(cube).baseline == new
    for product in images(cube):
        (item, *_) = (cube / product.folder).glob("*_0_0.json")
        assert json.loads(item.read_text())["properties"]["acd:baseline"] == product.baseline
        with rasterio.open(cube / product.tiles[0].z.uri) as raster:
            assert raster.tags()["ACD_BASELINE"] == product.baseline
    tags = {record.tags["acd:baseline"] for record in records(cube)}
    assert tags == {old, new}
    (told,) = [line for line in lines if "other versions of the baseline" in line]
    assert f"{MONITORED} images of this series were judged against" in told
    assert old in told
    assert new in told
    assert "--again" in told


def records(cube: Path) -> list[Any]:
    return open_site(str(cube)).cube.records(RecordQuery(tags={"acd:job": "monitor"}))


def test_nothing_to_do_says_which_version_the_images_were_judged_against(cube: Path) -> None:
    old, new = current_version(cube), version_of(baseline(cube, end=EARLIER))
    why = monitor(cube).lines[0]
    assert f"{MONITORED} images of this series" in why
    assert f"{old} ({MONITORED})" in why
    assert new in why
    assert "--again" in why


def test_again_judges_exactly_the_images_that_were_asked_for(cube: Path, tmp_path: Path) -> None:
    old, before = current_version(cube), images(cube)
    new = version_of(baseline(cube, end=EARLIER))
    asked = before[1].datetime
    outcome = monitor(cube, again=True, start=asked, end=asked + timedelta(hours=23))
    assert [one.label for one in outcome.plan.content.images] == [before[1].label]
    after = images(cube)
    assert [product.baseline for product in after] == [old, new, old]
    assert [after[0], after[2]] == [before[0], before[2]]
    for product in before:  # the old ones can still be read
        z_of(cube, product)
    assert sorted(record.tags["acd:baseline"] for record in records(cube)) == sorted([old, new, old])
    datasets = open_site(str(cube)).cube.datasets("CoherenceVV_Z", "monitor")
    assert {one.uri for one in datasets} == {tile.z.uri for product in after for tile in product.tiles}
    assert planned(cube).nothing_to_do
    again = planned(cube, again=True, start=asked, end=asked + timedelta(hours=23))
    assert f"against version {new}" in again.nothing_to_do

    monitor(cube, again=True)
    fresh = make_cube(tmp_path / "fresh", COUNT, PIXELS)
    baseline(fresh, end=EARLIER)
    monitor(fresh, start=before[0].datetime)
    for mine, other, earlier in zip(images(cube), images(fresh), before, strict=True):
        np.testing.assert_array_equal(z_of(cube, mine), z_of(fresh, other))
        assert (z_of(cube, mine) != z_of(cube, earlier)).any()
        assert mine.patch_count == other.patch_count


def test_again_can_go_back_to_a_named_version(cube: Path) -> None:
    old, before = current_version(cube), images(cube)
    new = version_of(baseline(cube, end=EARLIER))
    monitor(cube, again=True)
    assert {product.baseline for product in images(cube)} == {new}
    monitor(cube, again=True, baseline=old)
    assert images(cube) == before
    assert planned(cube, baseline=old).nothing_to_do


def test_an_again_that_is_killed_before_the_index_knows_goes_on(cube: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    new = version_of(baseline(cube, end=EARLIER))
    monkeypatch.setattr("acdtask.jobs.monitor.publish.write_catalogue", killed)
    with pytest.raises(KilledError):
        monitor(cube, again=True)
    monkeypatch.undo()
    assert {product.baseline for product in images(cube)} == {new}
    assert {record.tags["acd:baseline"] for record in records(cube)} != {new}
    monitor(cube)
    assert {record.tags["acd:baseline"] for record in records(cube)} == {new}
    assert planned(cube).nothing_to_do


class KilledError(BaseException):
    """What ends a process at once, in place of a signal."""


def killed(*_: Any) -> None:
    raise KilledError


def test_images_between_an_earlier_end_and_the_series_can_be_asked_for(cube: Path) -> None:
    """The advice of the line is followed."""
    baseline(cube, end=EARLIER)
    bring(cube, COUNT + 1)
    (told,) = [line for line in monitor(cube).lines if "the baseline ends on" in line]
    assert f"--start {EARLIER.date()}" in told
    monitor(cube, start=EARLIER + timedelta(hours=1))
    assert len(images(cube)) == COUNT + 1 - (REFERENCE - 1)


# News


def test_what_a_new_series_finds_is_shown_and_never_announced(cube: Path, nightly: Nightly) -> None:
    assert nightly.run() == ("heartbeat", [])
    assert nightly.run(high=4.0) == ("heartbeat", [])
    assert nightly.run(high=4.0, again=True) == ("heartbeat", [])


def test_an_image_after_the_watermark_is_announced_once(cube: Path, nightly: Nightly) -> None:
    bring(cube, COUNT + 1)
    kind, (label,) = nightly.run()
    assert (kind, label) == ("alert", images(cube)[-1].label)
    assert nightly.run() == ("heartbeat", [])
    baseline(cube, end=EARLIER)
    assert nightly.run(again=True) == ("heartbeat", [])
    assert nightly.run() == ("heartbeat", [])


def test_the_first_image_of_a_series_that_was_planned_without_one_is_news(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cube = make_cube(tmp_path, REFERENCE, PIXELS)
    baseline(cube, end=LAST)
    nightly = Nightly(cube, monkeypatch)
    assert nightly.run() == ("heartbeat", [])
    write_images(cube.parent / "images", REFERENCE + 1, PIXELS, first=REFERENCE)
    run(IngestJob(), IngestSettings(source=str(cube.parent / "images")), cube)
    kind, labels = nightly.run()
    assert (kind, len(labels)) == ("alert", 1)


def test_an_alert_that_was_not_delivered_comes_with_the_next_event(cube: Path, nightly: Nightly) -> None:
    bring(cube, COUNT + 1)
    first = nightly.run(delivered=False)
    assert first[0] == "alert"
    bring(cube, COUNT + 2)
    kind, labels = nightly.run()
    assert (kind, labels[:1], len(labels)) == ("alert", first[1], 2)
    assert nightly.run() == ("heartbeat", [])


def test_a_failure_shows_news_and_announces_nothing(cube: Path, nightly: Nightly) -> None:
    bring(cube, COUNT + 1)
    kind, labels = nightly.run(status="Failed")
    assert (kind, len(labels)) == ("failed", 1)
    assert nightly.run() == ("alert", labels)


def test_an_image_that_comes_late_is_shown_and_not_announced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cube = make_cube(tmp_path, REFERENCE + 1, PIXELS)
    bring_only(cube, REFERENCE + 2)
    baseline(cube, end=LAST)
    nightly = Nightly(cube, monkeypatch)
    nightly.run()
    bring_only(cube, REFERENCE + 1)
    assert nightly.run() == ("heartbeat", [])
    assert len(images(cube)) == MONITORED


def bring_only(cube: Path, index: int) -> None:
    """One image arrives."""
    write_images(cube.parent / "images", index + 1, PIXELS, first=index)
    run(IngestJob(), IngestSettings(source=str(cube.parent / "images")), cube)


def test_a_backfill_before_the_first_night_does_not_make_the_newest_images_news(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cube = make_cube(tmp_path, COUNT, PIXELS)
    baseline(cube, end=LAST)
    monitor(cube, end=ends(REFERENCE))
    assert len(images(cube)) == 1
    assert Nightly(cube, monkeypatch).run() == ("heartbeat", [])
    assert len(images(cube)) == MONITORED


@pytest.mark.parametrize("killed_in", ["write_catalogue", "add_news", "_publish_manifest", "_retire"])
def test_a_publication_that_is_killed_loses_no_news(
    killed_in: str, cube: Path, nightly: Nightly, monkeypatch: pytest.MonkeyPatch
) -> None:
    bring(cube, COUNT + 1)
    with monkeypatch.context() as patch:
        patch.setattr(f"acdtask.jobs.monitor.publish.{killed_in}", killed)
        with pytest.raises(KilledError):
            nightly.run()
    monkeypatch.delenv("ACD_RUN_ID", raising=False)
    kind, labels = nightly.run()
    assert (kind, len(labels)) == ("alert", 1)
    assert nightly.run() == ("heartbeat", [])


@pytest.mark.parametrize("steps", range(1, 4))
def test_a_notifier_that_is_killed_announces_at_least_once(
    steps: int, cube: Path, nightly: Nightly, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed at each of its writes after the post: two images are announced, marked and forgotten."""
    bring(cube, COUNT + 2)
    _, labels = nightly.run(delivered=False)
    with monkeypatch.context() as patch:
        dying_after(steps, patch)
        with pytest.raises(KilledError):
            nightly.run()
    kind, again = nightly.run()
    assert set(again) <= set(labels)
    assert kind == ("alert" if again else "heartbeat")
    assert nightly.run() == ("heartbeat", [])
    assert list((cube / "products/site/monitor").glob("*/news/pending/*/*")) == []


def dying_after(steps: int, patch: pytest.MonkeyPatch) -> None:
    """The store dies after so many writes below news/."""
    left: Iterator[int] = iter(range(steps))
    for name in ("create", "delete"):
        original = getattr(Store, name)

        def wrapped(me: Store, key: str, *rest: Any, original: Any = original) -> Any:
            if key.startswith(("pending/", "announced/")) and next(left, None) is None:
                raise KilledError
            return original(me, key, *rest)

        patch.setattr(Store, name, wrapped)


def test_a_damaged_watermark_says_what_to_do(cube: Path) -> None:
    (path,) = (cube / "products/site/monitor").glob("*/news/watermark.json")
    path.write_bytes(path.read_bytes()[:-3])
    bring(cube, COUNT + 1)
    with pytest.raises(AcdError) as caught:
        monitor(cube)
    assert caught.value.code is ErrorCode.PRODUCT_DAMAGED
    path.unlink()
    monitor(cube)
    series = planned(cube).series
    assert series is not None
    assert News(Store.at(str(cube)), series).pending() == []
    assert len(images(cube)) == MONITORED + 1


def test_the_months_count_the_images_of_each_version(cube: Path) -> None:
    baseline(cube, end=EARLIER)
    monitor(cube, again=True, end=images(cube)[0].datetime + timedelta(hours=1))
    store = Store.at(str(cube))
    for month in result(cube).months:
        versions = [product.baseline for product in images_of_month(month, store)]
        assert month.baselines == {version: versions.count(version) for version in versions}
        assert month.baseline == versions[-1]
