"""`acdtask check` with sources and a cube: the plan of the first job, and nothing is written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from acdtask.cli import main
from tests.jobs.chain import digests
from tests.jobs.rasters import good_pixels, write_tiff

SQUARE = [[6.80, 51.0], [6.83, 51.0], [6.83, 51.03], [6.80, 51.03], [6.80, 51.0]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with two images and an area."""
    for name in ("S1_20210101_20210107_VV.tif", "S1_20210107_20210113_VV.tif"):
        write_tiff(tmp_path / "images" / name, good_pixels(5))
    area = {"type": "Polygon", "coordinates": [SQUARE], "name": "koln"}
    (tmp_path / "koln.json").write_text(json.dumps(area))
    return tmp_path


def monitor(folder: Path, template: str = "acd-all", **settings: str) -> str:
    given = {"ingest-source": str(folder / "images"), "layout": "utm", **settings}
    given = {name: text for name, text in given.items() if text and (template == "acd-all" or name == "layout")}
    return json.dumps({"name": "koln", "template": template, "aoi": str(folder / "koln.json"), "settings": given})


def check(folder: Path, *more: str, **settings: str) -> int:
    return main(["check", "--cube", str(folder / "cube"), "--monitor", monitor(folder, **settings), *more])


def test_a_monitor_of_a_new_cube_is_planned_and_nothing_is_written(folder: Path, capsys: Any) -> None:
    before = digests(folder)
    assert check(folder) == 0
    assert capsys.readouterr().out == "koln: 2 files to ingest\n"
    assert digests(folder) == before
    assert not (folder / "cube").exists()


def test_a_cube_is_not_changed(folder: Path, capsys: Any) -> None:
    aoi = str(folder / "koln.json")
    words = ["--source", str(folder / "images"), "--aoi", aoi, "--make-layout", "utm"]
    assert main(["ingest", "local", "--cube", str(folder / "cube"), *words]) == 0
    before = digests(folder)
    capsys.readouterr()
    assert check(folder) == 0
    assert "koln: nothing to do, all 2 records are already in the cube" in capsys.readouterr().out
    assert check(folder, template="acd-monitor") == 0
    assert "koln: not ready yet: " in capsys.readouterr().out
    assert digests(folder) == before


def test_a_fusion_is_not_ready_before_its_members_have_results(folder: Path, capsys: Any) -> None:
    aoi = str(folder / "koln.json")
    words = ["--source", str(folder / "images"), "--aoi", aoi, "--make-layout", "utm"]
    assert main(["ingest", "local", "--cube", str(folder / "cube"), *words]) == 0
    capsys.readouterr()
    members = "CoherenceVV/utm/ascending,CoherenceVV/utm/descending"
    fusion = {"name": "fused", "template": "acd-fuse", "aoi": aoi, "settings": {"members": members}}
    assert main(["check", "--cube", str(folder / "cube"), "--monitor", json.dumps(fusion)]) == 0
    assert "fused: not ready yet: the AOI koln has no monitor of CoherenceVV/utm/ascending" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"ingest-source": "/nowhere/images"}, "ACD-200"),
        ({"ingest-pattern": "S2_{date:%Y%m%d}.tif"}, "ACD-2"),
        ({"ingest-pattern": "S1_{start"}, "ACD-"),
        ({"ingest-source": ""}, "ACD-100: ingest-source must be given"),
        ({"monitor-high": "abc"}, "monitor-high is abc, and should be a valid number"),
        ({"monitor-shard-tiles": "0", "baseline-end": "2020-13-45"}, "baseline-end: '2020-13-45' is not a day"),
    ],
)
def test_what_cannot_be_right_is_an_error_with_the_monitors_name(
    settings: dict[str, str], sentence: str, folder: Path, capsys: Any
) -> None:
    assert check(folder, **settings) == 78
    told = capsys.readouterr().err
    assert "error ACD-540: 1 of 1 monitors: koln: ACD-" in told
    assert sentence in told


def test_an_area_without_images_is_an_error(folder: Path, capsys: Any) -> None:
    moved = [[longitude + 20, latitude] for longitude, latitude in SQUARE]
    (folder / "koln.json").write_text(json.dumps({"type": "Polygon", "coordinates": [moved], "name": "koln"}))
    assert check(folder) == 78
    assert "koln: ACD-113: none of 2 rasters touches the AOI koln" in capsys.readouterr().err


def test_an_image_that_cannot_be_read_is_counted(folder: Path, capsys: Any) -> None:
    (folder / "images" / "S1_20210113_20210119_VV.tif").write_bytes(b"no image")
    assert check(folder) == 0
    assert capsys.readouterr().out == "koln: 2 files to ingest, 1 unusable\n"


def test_a_missing_area_is_an_error_unless_nothing_is_contacted(folder: Path, capsys: Any) -> None:
    (folder / "koln.json").unlink()
    assert check(folder) == 78
    assert "koln: ACD-110" in capsys.readouterr().err
    assert check(folder, "--offline") == 0
    assert capsys.readouterr().out == "koln: its settings are valid; its AOI does not exist yet\n"


def test_a_server_that_does_not_respond_is_transient(
    folder: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    assert check(folder, **{"ingest-source": "s3://passes/koln"}) == 75
    assert "error ACD-541: 1 of 1 monitors: koln: ACD-400" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    [
        ["--offline", "--monitor", "{"],
        ["--offline", "--monitor", '{"name": "koln"}'],
        ["--offline", "--monitor", '{"name": "koln", "aoi": "x", "template": "acd-none"}'],
        ["--monitor", '{"name": "koln", "aoi": "x"}'],
    ],
)
def test_a_wrong_command_is_a_usage_error(words: list[str], capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ACD_CUBE", raising=False)
    assert main(["check", *words]) == 2
    assert "error ACD-100" in capsys.readouterr().err
