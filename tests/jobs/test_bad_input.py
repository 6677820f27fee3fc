"""Every kind of bad input that users meet: a numbered error, its exit status, a fix, and a cube that is unchanged."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from acdtask.errors import ErrorCode
from tests.jobs.chain import digests
from tests.jobs.rasters import good_pixels, write_tiff
from tests.limited import with_file_size

SQUARE = [[6.80, 51.0], [6.83, 51.0], [6.83, 51.03], [6.80, 51.03], [6.80, 51.0]]
MESSAGE = re.compile(r"error (ACD-\d+): .+\n+ *(?:fix: )?.+", re.IGNORECASE)


@dataclass
class Room:
    """A folder with a good cube, a good AOI and room for bad input."""

    folder: Path
    limit_file_size: int = 0
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def cube(self) -> Path:
        return self.folder / "cube"

    @property
    def images(self) -> Path:
        return self.folder / "new"

    def image(self, name: str = "S1_20210201_20210207_VV.tif", pixels: Any = None, **how: Any) -> Path:
        return write_tiff(self.images / name, good_pixels(5) if pixels is None else pixels, **how)

    def aoi(self, **changes: Any) -> str:
        payload = {
            "type": "Polygon",
            "coordinates": [SQUARE],
            "name": "somewhere",
            "start_time": "2021-01-01T00:00:00Z",
            "end_time": "2021-12-31T00:00:00Z",
        }
        path = self.folder / "aoi.json"
        path.write_text(json.dumps(payload | changes))
        return str(path)

    def ingest(self, *more: str) -> list[str]:
        return ["ingest", "local", "--cube", str(self.cube), "--source", str(self.images), *more]

    def baseline(self, aoi: str, *more: str) -> list[str]:
        return ["baseline", "local", "--cube", str(self.cube), "--aoi", aoi, "--layout", "small", *more]


def acdtask(arguments: list[str], room: Room) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "acdtask", *arguments, *(["--workers", "1"] if "local" in arguments else [])]
    return subprocess.run(
        with_file_size(room.limit_file_size, *command) if room.limit_file_size else command,
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
        env={**os.environ, **room.environment},
    )


@pytest.fixture(scope="module")
def good_room(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cube with two dates of a variable and a layout."""
    room = Room(tmp_path_factory.mktemp("good"))
    for day in (7, 13):
        room.image(f"S1_20210101_202101{day:02}_VV.tif", good_pixels(day))
    for arguments in (
        room.ingest(),
        f"layout create small --cube {room.cube} --crs EPSG:32632 --resolution 20 --cell-size 32".split(),
    ):
        done = acdtask(arguments, room)
        assert done.returncode == 0, done.stderr
    shutil.rmtree(room.images)
    return room.folder


def truncated(room: Room) -> list[str]:
    path = room.image()
    path.write_bytes(path.read_bytes()[:2000])
    return room.ingest()


def not_a_raster(room: Room) -> list[str]:
    room.images.mkdir()
    (room.images / "S1_20210201_20210207_VV.tif").write_text("<html>502 Bad Gateway</html>")
    return room.ingest()


def two_crs(room: Room) -> list[str]:
    room.image()
    room.image("S1_20210207_20210213_VV.tif", crs="EPSG:4326")
    return room.ingest()


def no_crs(room: Room) -> list[str]:
    room.image(crs=None)
    return room.ingest()


def two_resolutions(room: Room) -> list[str]:
    room.image()
    room.image("S1_20210207_20210213_VV.tif", resolution=40.0)
    return room.ingest()


def all_nodata(room: Room) -> list[str]:
    room.image(pixels=np.full((32, 32), -1, np.float32))
    return room.ingest()


def infinite(room: Room) -> list[str]:
    pixels = good_pixels(5)
    pixels[3, 4] = np.inf
    room.image(pixels=pixels)
    return room.ingest()


def percent(room: Room) -> list[str]:
    room.image(pixels=good_pixels(5) * 80)
    return room.ingest()


def no_nodata(room: Room) -> list[str]:
    room.image(nodata=None)
    return room.ingest()


def duplicate(room: Room) -> list[str]:
    room.image()
    room.image("S1_20210201_20210207_VV_copy.tif")
    return room.ingest()


def duplicate_name(room: Room) -> list[str]:
    room.image()
    room.image("again/S1_20210201_20210207_VV.tif")
    return room.ingest()


def out_of_order(room: Room) -> list[str]:
    room.image("S1_20210207_20210201_VV.tif")
    return room.ingest()


def no_such_date(room: Room) -> list[str]:
    room.image("S1_20210201_20211345_VV.tif")
    return room.ingest()


def unmatched(room: Room) -> list[str]:
    room.image("dem.tif")
    return room.ingest()


def pattern_without_date(room: Room) -> list[str]:
    room.image()
    return room.ingest("--pattern", "S1_*.tif")


def nothing_there(room: Room) -> list[str]:
    room.images.mkdir()
    return room.ingest()


def missing_band(room: Room) -> list[str]:
    room.image()
    return room.ingest("--band", "2")


def other_definition(room: Room) -> list[str]:
    room.image()
    return room.ingest("--maximum", "100", "--scale", "0.01")


def other_pixels(room: Room) -> list[str]:
    room.image("S1_20210101_20210107_VV.tif", good_pixels(99))
    return room.ingest("--on-known", "verify")


def bad_name(room: Room) -> list[str]:
    room.image()
    return room.ingest("--variable", "Kohärenz VV")


def nodata_in_range(room: Room) -> list[str]:
    room.image()
    return room.ingest("--nodata", "0")


def bad_stac(room: Room) -> list[str]:
    path = room.folder / "catalogue.json"
    path.write_text('{"type": "Catalog"')
    return ["ingest", "local", "--cube", str(room.cube), "--source", str(path)]


def stac_without_asset(room: Room) -> list[str]:
    item = {
        "type": "Feature",
        "stac_version": "1.0.0",
        "id": "one",
        "geometry": {"type": "Polygon", "coordinates": [SQUARE]},
        "bbox": [6.8, 51.0, 6.83, 51.03],
        "properties": {"datetime": "2021-02-07T00:00:00Z"},
        "assets": {},
        "links": [],
    }
    path = room.folder / "items.json"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": [item]}))
    return ["ingest", "local", "--cube", str(room.cube), "--source", str(path)]


def one_date(room: Room) -> list[str]:
    return room.baseline(room.aoi(), "--end", "2021-01-08")


def empty_aoi(room: Room) -> list[str]:
    return room.baseline(room.aoi(coordinates=[]))


def aoi_outside(room: Room) -> list[str]:
    far = [[[x + 3, y] for x, y in SQUARE]]
    return room.baseline(room.aoi(coordinates=far))


def crossing_aoi(room: Room) -> list[str]:
    bow_tie = [[SQUARE[0], SQUARE[2], SQUARE[1], SQUARE[3], SQUARE[0]]]
    return room.baseline(room.aoi(coordinates=bow_tie))


def aoi_is_text(room: Room) -> list[str]:
    path = room.folder / "aoi.json"
    path.write_text("Köln")
    return room.baseline(str(path))


def aoi_times_reversed(room: Room) -> list[str]:
    return room.baseline(room.aoi(start_time="2022-01-01T00:00:00Z"))


def unknown_variable(room: Room) -> list[str]:
    return room.baseline(room.aoi(), "--variable", "CoherenceVH")


def unknown_instance(room: Room) -> list[str]:
    return room.baseline(room.aoi(), "--instance", "other")


def unknown_layout(room: Room) -> list[str]:
    return ["baseline", "local", "--cube", str(room.cube), "--aoi", room.aoi(), "--layout", "none"]


def no_baseline(room: Room) -> list[str]:
    return ["monitor", "local", "--cube", str(room.cube), "--aoi", room.aoi(), "--layout", "small"]


def no_monitoring(room: Room) -> list[str]:
    return ["report", "local", "--cube", str(room.cube), "--aoi", room.aoi(), "--layout", "small"]


def no_cube(room: Room) -> list[str]:
    return ["baseline", "local", "--cube", str(room.folder / "none"), "--aoi", room.aoi(), "--layout", "small"]


def disk_full(room: Room) -> list[str]:
    room.image(pixels=good_pixels(5, size=400))
    room.limit_file_size = 100_000
    return room.ingest()


def no_permission(room: Room) -> list[str]:
    """Nobody, not even root, makes a folder in /sys."""
    room.image()
    return ["ingest", "local", "--cube", "/sys/acd-cube", "--source", str(room.images)]


def a_file_in_the_way(room: Room) -> list[str]:
    room.image()
    (room.folder / "taken").write_text("")
    return ["ingest", "local", "--cube", str(room.folder / "taken/cube"), "--source", str(room.images)]


def bad_address(room: Room) -> list[str]:
    room.image()
    return ["ingest", "local", "--cube", "ftp://somewhere/cube", "--source", str(room.images)]


def nobody_answers(room: Room) -> list[str]:
    room.environment = {
        "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
        "AWS_ACCESS_KEY_ID": "k",
        "AWS_SECRET_ACCESS_KEY": "s",
        "AWS_REGION": "us-east-1",
    }
    return ["records", "--cube", "s3://bucket/cube"]


def unknown_plan(room: Room) -> list[str]:
    return [
        "monitor",
        "run",
        "--cube",
        str(room.cube),
        "--plan",
        "0123456789abcdef",
        "--round",
        "label",
        "--shard",
        "0",
    ]


def unknown_option(room: Room) -> list[str]:
    return room.ingest("--colour", "blue")


CASES: list[tuple[Callable[[Room], list[str]], ErrorCode]] = [
    (truncated, ErrorCode.INPUT_UNREADABLE),
    (not_a_raster, ErrorCode.INPUT_UNREADABLE),
    (two_crs, ErrorCode.INPUT_CRS_MISMATCH),
    (no_crs, ErrorCode.INPUT_CRS_MISSING),
    (two_resolutions, ErrorCode.INPUT_RESOLUTION_MISMATCH),
    (all_nodata, ErrorCode.INPUT_ALL_NODATA),
    (infinite, ErrorCode.INPUT_NOT_FINITE),
    (percent, ErrorCode.INPUT_OUT_OF_RANGE),
    (no_nodata, ErrorCode.INPUT_NODATA_UNKNOWN),
    (duplicate, ErrorCode.INPUT_DUPLICATE),
    (duplicate_name, ErrorCode.INPUT_DUPLICATE),
    (out_of_order, ErrorCode.DATES_OUT_OF_ORDER),
    (no_such_date, ErrorCode.DATE_INVALID),
    (unmatched, ErrorCode.FILENAME_UNMATCHED),
    (pattern_without_date, ErrorCode.SETTING_INVALID),
    (nothing_there, ErrorCode.INPUT_MISSING),
    (missing_band, ErrorCode.INPUT_BANDS),
    (other_definition, ErrorCode.VARIABLE_CONFLICT),
    (other_pixels, ErrorCode.DATASET_CONFLICT),
    (bad_name, ErrorCode.SETTING_INVALID),
    (nodata_in_range, ErrorCode.SETTING_INVALID),
    (bad_stac, ErrorCode.STAC_INVALID),
    (stac_without_asset, ErrorCode.STAC_INVALID),
    (one_date, ErrorCode.TOO_FEW_DATES),
    (empty_aoi, ErrorCode.AOI_EMPTY),
    (aoi_outside, ErrorCode.AOI_OUTSIDE),
    (crossing_aoi, ErrorCode.AOI_INVALID),
    (aoi_is_text, ErrorCode.AOI_UNREADABLE),
    (aoi_times_reversed, ErrorCode.DATE_INVALID),
    (unknown_variable, ErrorCode.VARIABLE_UNKNOWN),
    (unknown_instance, ErrorCode.INSTANCE_UNKNOWN),
    (unknown_layout, ErrorCode.LAYOUT_UNKNOWN),
    (no_baseline, ErrorCode.BASELINE_UNKNOWN),
    (no_monitoring, ErrorCode.MONITOR_UNKNOWN),
    (no_cube, ErrorCode.CUBE_UNKNOWN),
    (disk_full, ErrorCode.DISK_FULL),
    (no_permission, ErrorCode.STORE_DENIED),
    (a_file_in_the_way, ErrorCode.STORE_DENIED),
    (bad_address, ErrorCode.ADDRESS_INVALID),
    (nobody_answers, ErrorCode.STORE_UNREACHABLE),
    (unknown_plan, ErrorCode.PLAN_UNKNOWN),
]


@pytest.mark.parametrize(("arrange", "code"), CASES, ids=[case[0].__name__ for case in CASES])
def test_bad_input_is_named_and_changes_nothing(
    arrange: Callable[[Room], list[str]], code: ErrorCode, good_room: Path, tmp_path: Path
) -> None:
    shutil.copytree(good_room, tmp_path / "room")
    room = Room(tmp_path / "room")
    arguments = arrange(room)
    before = digests(room.cube)

    done = acdtask(arguments, room)

    assert f"error {code.label}:" in done.stderr, done.stderr
    assert done.returncode == code.value.exit_status, done.stderr
    assert "Traceback" not in done.stderr
    assert MESSAGE.search(done.stderr), done.stderr
    assert digests(room.cube) == before


@pytest.mark.s3
def test_a_missing_bucket_is_named(s3_address: str, tmp_path: Path) -> None:
    room = Room(tmp_path)
    room.image()
    arguments = ["ingest", "local", "--cube", "s3://no-such-bucket-here/cube", "--source", str(room.images)]
    done = acdtask(arguments, room)
    assert f"error {ErrorCode.BUCKET_UNKNOWN.label}:" in done.stderr, done.stderr
    assert done.returncode == ErrorCode.BUCKET_UNKNOWN.value.exit_status


def test_the_count_of_values_outside_is_told(tmp_path: Path, good_room: Path) -> None:
    shutil.copytree(good_room, tmp_path / "room")
    room = Room(tmp_path / "room")
    pixels = good_pixels(5)
    pixels[0, :7] = 80.0
    room.image(pixels=pixels)
    done = acdtask(room.ingest(), room)
    assert "7 pixels outside 0 to 1, such as 80" in done.stderr


def test_an_unknown_option_is_a_usage_error(tmp_path: Path, good_room: Path) -> None:
    shutil.copytree(good_room, tmp_path / "room")
    done = acdtask(unknown_option(Room(tmp_path / "room")), Room(tmp_path / "room"))
    assert done.returncode == 2
    assert "--colour" in done.stderr
