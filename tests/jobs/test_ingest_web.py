"""Ingest from the web: files, STAC documents and APIs, and which parts of their addresses are stored."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio

from acdtask.cube.model import RecordQuery
from acdtask.engine.stages import open_site
from acdtask.errors import AcdError, ErrorCode
from acdtask.jobs.ingest.settings import IngestSettings
from acdtask.storage import web_request
from acdtask.storage.web_address import SIGNED_SOURCE
from tests.cube.stac.test_api import Api, item, serving
from tests.jobs.rasters import good_pixels, write_tiff
from tests.jobs.test_ingest import ingest
from tests.storage.web_server import ReceivedRequest, Reply, WebServer, web_server

NAMES = [f"S1_202001{day:02}_202001{day + 12:02}_VV.tif" for day in (4, 5, 6)]
SIGNATURE = "X-Amz-Signature=5ecre7"
SECRET = b"5ecre7"


@pytest.fixture(autouse=True)
def _in_a_hurry(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(web_request, "LONGEST_WAIT", 0.01)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv(SIGNED_SOURCE, "")
    (tmp_path / "netrc").write_text("")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[WebServer]:
    files = [write_tiff(tmp_path / "x.tif", good_pixels(number)).read_bytes() for number in range(len(NAMES))]
    with web_server({f"/coh/{name}": data for name, data in zip(NAMES, files, strict=True)}) as running:
        yield running


def stored(cube: Path) -> list[Any]:
    """The pixels of the cube's images, in the order of their names."""
    images = []
    for path in sorted((cube / "data").rglob("*.tif")):
        with rasterio.open(path) as raster:
            images.append(raster.read(1))
    return images


def expected(number: int) -> Any:
    return np.rint(good_pixels(number).astype(float) * 1000)


def assert_nowhere(folder: Path, secret: bytes = SECRET) -> None:
    """Assert that no file below a folder contains a secret in its content or name."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert files
    for path in files:
        assert secret not in path.read_bytes(), path
        assert secret.decode() not in str(path)


def document(server: WebServer, tmp_path: Path, query: str = "") -> Path:
    items = [item(number, f"{server.address}/coh/{name}{query}") for number, name in enumerate(NAMES)]
    path = tmp_path / "items.json"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": items}))
    return path


def test_one_file_on_the_web_is_ingested_and_a_second_run_has_nothing_to_do(server: WebServer, tmp_path: Path) -> None:
    source = f"{server.address}/coh/{NAMES[0]}"
    ingest(tmp_path / "cube", source=source)
    (image,) = stored(tmp_path / "cube")
    np.testing.assert_array_equal(image, expected(0))
    (record,) = open_site(str(tmp_path / "cube")).cube.records(RecordQuery())
    assert record.name == NAMES[0].removesuffix(".tif")
    server.requests.clear()
    assert "already in the cube" in ingest(tmp_path / "cube", source=source).lines[0]
    assert len(server.requests) == 1, "its fingerprint was enough"


def test_a_file_that_was_replaced_on_the_web_is_noticed(server: WebServer, tmp_path: Path) -> None:
    source = f"{server.address}/coh/{NAMES[0]}"
    ingest(tmp_path / "cube", source=source)
    server.objects[f"/coh/{NAMES[0]}"] = server.objects[f"/coh/{NAMES[1]}"]
    with pytest.raises(AcdError) as caught:
        ingest(tmp_path / "cube", source=source)
    assert caught.value.code is ErrorCode.SOURCE_DIFFERS
    ingest(tmp_path / "cube", source=source, on_known="replace")
    assert any(np.array_equal(image, expected(1)) for image in stored(tmp_path / "cube"))


def test_what_an_image_is_made_of_does_not_depend_on_where_it_was_read(server: WebServer, tmp_path: Path) -> None:
    for number, name in enumerate(NAMES):
        write_tiff(tmp_path / "in" / name, good_pixels(number))
    ingest(tmp_path / "there", source=str(document(server, tmp_path)), track="A015")
    server.ranges = server.tags = False
    ingest(tmp_path / "elsewhere", source=str(document(server, tmp_path)), track="A015")
    (tmp_path / "in/items.json").write_text(
        json.dumps(
            {"type": "FeatureCollection", "features": [item(number, f"./{name}") for number, name in enumerate(NAMES)]}
        )
    )
    ingest(tmp_path / "here", source=str(tmp_path / "in/items.json"), track="A015")
    files = [
        {path.name: path.read_bytes() for path in (tmp_path / cube / "data").rglob("*") if path.suffix == ".tif"}
        for cube in ("here", "there", "elsewhere")
    ]
    assert len(files[0]) == 3
    assert files[0] == files[1] == files[2]


@pytest.mark.parametrize("kind", ["file", "document", "document on the web", "api"])
def test_a_signature_is_sent_and_kept_nowhere(kind: str, server: WebServer, tmp_path: Path) -> None:
    """Run the commands in separate processes, as a user does, and check their logs and output."""

    def signed_only(asked: ReceivedRequest) -> Reply | None:
        return None if asked.query == SIGNATURE or asked.path.endswith("items.json") else Reply(403)

    server.rule = signed_only
    path = document(server, tmp_path, f"?{SIGNATURE}")
    server.objects["/items.json"] = path.read_bytes()
    items = json.loads(path.read_text())["features"]
    with serving(Api(items)) as api:
        source = {
            "file": f"{server.address}/coh/{NAMES[0]}?{SIGNATURE}",
            "document": str(path),
            "document on the web": f"{server.address}/items.json?{SIGNATURE}",
            "api": f"{api.address}/v1/collections/coherence",
        }[kind]
        command = ["ingest", "local", "--workers", "2", "--cube", f"{tmp_path}/cube", "--source", source]
        done = subprocess.run(
            [sys.executable, "-m", "acdtask", *command],
            capture_output=True,
            timeout=100,
            check=False,
            env={name: value for name, value in os.environ.items() if name != SIGNED_SOURCE},
        )
    assert done.returncode == 0, done.stderr
    assert len(stored(tmp_path / "cube")) == (1 if kind == "file" else 3)
    assert SECRET not in done.stdout + done.stderr
    assert_nowhere(tmp_path / "cube")


def test_a_plan_without_its_signature_says_how_to_give_it(server: WebServer, tmp_path: Path) -> None:
    server.rule = lambda asked: None if asked.query == SIGNATURE else Reply(403)
    with pytest.raises(AcdError) as caught:
        ingest(tmp_path / "cube", source=f"{server.address}/coh/{NAMES[0]}")
    assert caught.value.code is ErrorCode.WEB_DENIED
    assert "signed" in caught.value.fix


def test_a_signature_in_the_environment_is_for_its_own_address_alone(
    server: WebServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(SIGNED_SOURCE, f"{server.address}/coh/{NAMES[0]}?{SIGNATURE}")
    for name in NAMES[:2]:
        ingest(tmp_path / "cube", source=f"{server.address}/coh/{name}")
    queries = {asked.path: asked.query for asked in server.requests if asked.path.endswith(".tif")}
    assert queries == {f"/coh/{NAMES[0]}": SIGNATURE, f"/coh/{NAMES[1]}": ""}


def test_settings_never_have_the_query(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SIGNED_SOURCE, "")
    settings = IngestSettings(source=f"https://x.org/a.tif?{SIGNATURE}")
    assert settings.source == "https://x.org/a.tif"
    assert "5ecre7" not in settings.model_dump_json()
    api = "https://x.org/v1/search?collections=a&bbox=1,2,3,4"
    assert IngestSettings(source=api).source == api


def test_files_that_differ_by_their_query_alone_are_refused(server: WebServer, tmp_path: Path) -> None:
    items = [item(number, f"{server.address}/get.tif?file={number}") for number in range(2)]
    (tmp_path / "items.json").write_text(json.dumps({"type": "FeatureCollection", "features": items}))
    with pytest.raises(AcdError, match="different queries") as caught:
        ingest(tmp_path / "cube", source=str(tmp_path / "items.json"))
    assert caught.value.code is ErrorCode.WEB_ADDRESS


def test_an_image_on_s3_or_here_comes_before_one_on_the_web(server: WebServer, tmp_path: Path) -> None:
    write_tiff(tmp_path / "here.tif", good_pixels(7))
    one = item(0, "./here.tif")
    one["assets"]["browse"] = {"href": f"{server.address}/coh/{NAMES[0]}"}
    (tmp_path / "items.json").write_text(json.dumps(one))
    ingest(tmp_path / "cube", source=str(tmp_path / "items.json"))
    np.testing.assert_array_equal(stored(tmp_path / "cube")[0], expected(7))
    assert server.requests == []
    ingest(tmp_path / "other", source=str(tmp_path / "items.json"), asset="browse")
    np.testing.assert_array_equal(stored(tmp_path / "other")[0], expected(0))


PAGE = Reply(200, b"<html>log in</html>", {"Content-Type": "text/html"})
REFUSED = [
    (Reply(401), ErrorCode.WEB_DENIED, 78),
    (Reply(403), ErrorCode.WEB_DENIED, 78),
    (Reply(404), ErrorCode.INPUT_MISSING, 66),
    (Reply(503), ErrorCode.WEB_UNREACHABLE, 75),
    (PAGE, ErrorCode.WEB_PAGE, 66),
]


@pytest.mark.parametrize(("reply", "code", "status"), REFUSED)
@pytest.mark.parametrize("kind", ["file", "document", "document on the web"])
def test_each_failure_has_its_number(
    kind: str, reply: Reply, code: ErrorCode, status: int, server: WebServer, tmp_path: Path
) -> None:
    source = {
        "file": f"{server.address}/coh/{NAMES[0]}",
        "document": str(document(server, tmp_path)),
        "document on the web": f"{server.address}/items.json",
    }[kind]
    server.rule = lambda asked: reply
    with pytest.raises(AcdError) as caught:
        ingest(tmp_path / "cube", source=source)
    assert caught.value.code is code
    assert caught.value.code.value.exit_status == status


def test_a_file_removed_between_plan_and_run_is_an_error(server: WebServer, tmp_path: Path) -> None:
    def gone(asked: ReceivedRequest) -> Reply | None:
        return Reply(404) if asked.first is None and asked.path.endswith(".tif") else None

    server.rule = gone
    with pytest.raises(AcdError, match="changed or removed"):
        ingest(tmp_path / "cube", source=f"{server.address}/coh/{NAMES[0]}")
    assert not (tmp_path / "cube/data").exists()


@pytest.mark.parametrize(
    ("name", "said"),
    [("a.zip", "Unpack"), ("a.nc", "gdal_translate"), ("a.vrt", "gdal_translate"), ("a.cor", "gdal_translate")],
)
def test_a_file_of_another_kind_is_told_with_the_way_to_a_geotiff(
    name: str, said: str, server: WebServer, tmp_path: Path
) -> None:
    with pytest.raises(AcdError) as caught:
        ingest(tmp_path / "cube", source=f"{server.address}/{name}")
    assert caught.value.code is ErrorCode.INPUT_MISSING
    assert said in caught.value.fix
    assert server.requests == []


def test_a_vrt_on_the_web_is_refused(server: WebServer, tmp_path: Path) -> None:
    with pytest.raises(AcdError) as caught:
        ingest(tmp_path / "cube", source=f"{server.address}/S1_20200104_20200116.vrt", pattern="*{start}_{end}.vrt")
    assert caught.value.code is ErrorCode.INPUT_REFERS_OUTSIDE
    assert server.requests == []


def test_the_mask_beside_a_file_on_the_web_counts(server: WebServer, tmp_path: Path) -> None:
    mask = np.full((32, 32), 255, np.uint8)
    mask[:, :16] = 0
    name = f"/coh/{NAMES[0]}"
    server.objects[f"{name}.msk"] = write_tiff(tmp_path / "m.tif", mask, nodata=None).read_bytes()
    ingest(tmp_path / "cube", source=f"{server.address}{name}")
    (image,) = stored(tmp_path / "cube")
    assert (image[:, :16] == -1).all()
    np.testing.assert_array_equal(image[:, 16:], expected(0)[:, 16:])


def test_init_writes_no_signature_and_says_how_to_give_it(server: WebServer, tmp_path: Path) -> None:
    source = f"{server.address}/coh/{NAMES[0]}?{SIGNATURE}"
    done = subprocess.run(
        [sys.executable, "-m", "acdtask", "init", "--source", source],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
        cwd=tmp_path,
        env={name: value for name, value in os.environ.items() if name != SIGNED_SOURCE},
    )
    assert done.returncode == 0, done.stderr
    assert "1 images in" in done.stdout
    assert SIGNED_SOURCE in done.stdout
    text = (tmp_path / "acd.toml").read_text()
    assert f'source = "{server.address}/coh/{NAMES[0]}"' in text
    assert "5ecre7" not in text + done.stdout + done.stderr
