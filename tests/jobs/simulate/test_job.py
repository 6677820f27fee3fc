from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio

from acdtask.engine.stages import gather_round, make_plan, missing_shards, run_shard
from acdtask.errors import AcdError, ErrorCode
from acdtask.jobs.contract import Plan, Site
from acdtask.jobs.simulate.job import SimulateJob, SimulateSettings, geotiff, image_key
from acdtask.jobs.simulate.scene import Scene, SceneSettings
from acdtask.jobs.simulate.truth import aoi_payload, truth_geojson
from acdtask.storage.store import Store

SCENE = {"size": 96, "events": 2, "reference_pairs": 5, "monitored_pairs": 3}
JOB = SimulateJob()


def settings_for(out: Path | str, **others: object) -> SimulateSettings:
    return SimulateSettings.model_validate({**SCENE, "out": str(out), **others})


def run_all(settings: SimulateSettings, site: Site, *, backwards: bool = False) -> Plan[Any, Any]:
    plan = make_plan(JOB, settings, site)
    for index in reversed(range(plan.shards)) if backwards else range(plan.shards):
        run_shard(JOB, plan, "images", index, site)
    gather_round(JOB, plan, "images", site)
    return plan


def contents(store: Store) -> dict[str, bytes]:
    return {key: store.get(key) for key in store.list()}


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(str(tmp_path / "site"))


def test_a_scene_is_written_with_its_aoi_and_its_truth(site: Site, tmp_path: Path) -> None:
    settings = settings_for(tmp_path / "out")
    run_all(settings, site)
    scene = Scene(settings.scene())
    written = contents(Store.at(settings.out))
    images = [image_key(settings, pair) for pair in range(8)]
    assert sorted(written) == sorted([*images, "aoi.json", "scene.json", "truth.geojson"])
    assert images[0] == "images/S1_20200801_20200807_VV_coherence.tif"
    assert json.loads(written["aoi.json"]) == aoi_payload(settings.scene())
    assert json.loads(written["truth.geojson"]) == json.loads(json.dumps(truth_geojson(scene)))
    assert SceneSettings.model_validate_json(written["scene.json"]) == settings.scene()
    for pair in (0, 6):
        with rasterio.open(tmp_path / "out" / image_key(settings, pair)) as raster:
            assert (raster.read(1) == scene.image(pair)).all()


def test_an_image_is_a_tiled_geotiff_on_the_grid_of_the_scene(tmp_path: Path) -> None:
    settings = SceneSettings(size=300, events=0)
    pixels = np.random.default_rng(1).integers(-1, 1001, settings.shape, dtype=np.int16)
    path = tmp_path / "image.tif"
    path.write_bytes(geotiff(pixels, settings))
    with rasterio.open(path) as raster:
        assert (raster.read(1) == pixels).all()
        assert raster.dtypes == ("int16",)
        assert raster.nodata == -1
        assert raster.crs.to_epsg() == 32632
        assert tuple(raster.transform)[:6] == settings.transform
        assert raster.block_shapes == [(256, 256)]
        assert raster.compression.name == "zstd"
    assert geotiff(pixels, settings) == path.read_bytes()


def test_shards_and_their_order_do_not_change_a_byte(site: Site, tmp_path: Path) -> None:
    run_all(settings_for(tmp_path / "a", shard_images=3), site)
    plan = run_all(settings_for(tmp_path / "b", shard_images=1), site, backwards=True)
    assert plan.shards == 8
    assert contents(Store.at(str(tmp_path / "a"))) == contents(Store.at(str(tmp_path / "b")))


def test_a_rerun_writes_nothing(site: Site, tmp_path: Path) -> None:
    settings = settings_for(tmp_path / "out")
    first = run_all(settings, site)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")}
    assert run_all(settings, site).plan_id == first.plan_id
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")} == before


def test_a_run_that_was_stopped_goes_on_with_what_is_missing(site: Site, tmp_path: Path) -> None:
    settings = settings_for(tmp_path / "out", shard_images=3)
    plan = make_plan(JOB, settings, site)
    run_shard(JOB, plan, "images", 1, site)
    with pytest.raises(AcdError) as caught:
        gather_round(JOB, plan, "images", site)
    assert caught.value.code is ErrorCode.SHARDS_MISSING
    assert not (tmp_path / "out" / "truth.geojson").exists()
    again = make_plan(JOB, settings, site)
    assert missing_shards(again, "images", site) == [0, 2]
    run_all(settings, site)
    assert (tmp_path / "out" / "truth.geojson").exists()


def test_progress_counts_images(site: Site, tmp_path: Path) -> None:
    plan = make_plan(JOB, settings_for(tmp_path / "out", shard_images=4), site)
    seen: list[int] = []
    run_shard(JOB, plan, "images", 0, site, seen.append)
    assert seen == [1, 2, 3, 4]
    assert plan.units == 8
    assert plan.notes == {"images": 8, "events": 2}


def test_another_scene_does_not_go_into_the_same_folder(site: Site, tmp_path: Path) -> None:
    run_all(settings_for(tmp_path / "out"), site)
    with pytest.raises(AcdError, match="other settings") as caught:
        make_plan(JOB, settings_for(tmp_path / "out", seed=8), site)
    assert caught.value.code is ErrorCode.SETTING_INVALID


def test_the_same_relative_folder_elsewhere_is_another_plan(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plans = []
    for place in ("here", "there"):
        (tmp_path / place).mkdir()
        monkeypatch.chdir(tmp_path / place)
        plans.append(make_plan(JOB, settings_for("out"), site).plan_id)
    assert plans[0] != plans[1]


@pytest.mark.parametrize("crs", ["EPSG:4326", "EPSG:2263", "nonsense"])
def test_only_a_projection_in_metres_is_taken(site: Site, tmp_path: Path, crs: str) -> None:
    with pytest.raises(AcdError, match="crs") as caught:
        make_plan(JOB, settings_for(tmp_path / "out", crs=crs), site)
    assert caught.value.code is ErrorCode.SETTING_INVALID


def test_events_without_room_are_refused_by_the_plan(site: Site, tmp_path: Path) -> None:
    with pytest.raises(AcdError, match="do not fit") as caught:
        make_plan(JOB, settings_for(tmp_path / "out", events=300), site)
    assert caught.value.code is ErrorCode.SETTING_INVALID
    assert not (tmp_path / "out").exists()


def test_a_plan_never_has_more_shards_than_argo_takes(site: Site, tmp_path: Path) -> None:
    plan = make_plan(JOB, settings_for(tmp_path / "out", size=64, events=0, reference_pairs=900, shard_images=1), site)
    assert plan.shards <= 400
    assert plan.units == 903


@pytest.mark.s3
def test_a_bucket_holds_the_same_bytes_as_a_folder(site: Site, tmp_path: Path, s3_address: str) -> None:
    run_all(settings_for(tmp_path / "out"), site)
    run_all(settings_for(s3_address), site)
    assert contents(Store.at(s3_address)) == contents(Store.at(str(tmp_path / "out")))
