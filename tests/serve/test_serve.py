"""The complete server, in this process: keys, TLS, health, HTTP, bugs, ports."""

from __future__ import annotations

import json
import logging
import shutil
import socket
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

import grpc
import numpy as np
import pytest
import shapely
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from PIL import Image

from acdtask.cube.local.cube import LocalCube
from acdtask.cube.protocol import datasets_pb2, layouts_pb2, records_pb2, services_pb2
from acdtask.cube.protocol.services_pb2_grpc import (
    AdminStub,
    GeocubeDownloaderStub,
    GeocubeServicer,
    GeocubeStub,
    add_GeocubeServicer_to_server,
)
from acdtask.errors import AcdError, ErrorCode
from acdtask.raster.grid import Layout, WebMercatorGrid
from acdtask.raster.tiling import footprint, tiles_of
from acdtask.serve.call_interceptor import CallInterceptor
from acdtask.serve.keys import Keys
from acdtask.serve.lanes import Lanes
from acdtask.serve.serve import ServeSettings, Serving
from acdtask.serve.service import servicer
from acdtask.serve.stalls import StallGuard
from acdtask.serve.streams import StreamLimits
from tests.cube.builders import COHERENCE
from tests.serve.conftest import serving
from tests.serve.requests import TILES, Refused, list_records, many_tiles, refusal
from tests.serve.test_datasets import World, tiff

SERVING = health_pb2.HealthCheckResponse.SERVING
PATIENCE = 120.0
KEYS = Keys(user="user-key", admin="admin-key")


def plain(server: Serving) -> grpc.Channel:
    return grpc.insecure_channel(f"127.0.0.1:{server.port}")


def ask(channel: grpc.Channel, *headers: str) -> str:
    """Status and message of a call with these values of authorization."""
    return _ask(GeocubeStub(channel).ListLayouts, layouts_pb2.ListLayoutsRequest(), headers)


def ask_admin(channel: grpc.Channel, *headers: str) -> str:
    return _ask(AdminStub(channel).DeleteDatasets, datasets_pb2.DeleteDatasetsRequest(), headers)


def _ask(call: Any, request: Any, headers: tuple[str, ...]) -> str:
    try:
        call(request, metadata=[("authorization", header) for header in headers])
    except grpc.RpcError as error:
        refused: Any = error
        return f"{refused.code().name}: {refused.details()}"
    return "OK"


def test_a_key_authorises_the_cube_and_the_admin_key_also_admin(cube: LocalCube) -> None:
    bad, nothing = (
        "UNAUTHENTICATED: invalid token",
        "NOT_FOUND: No dataset found for these records, instances and/or pattern",
    )
    with serving(cube, KEYS) as server, plain(server) as channel:
        assert ask(channel) == ask(channel, "Bearer other") == ask(channel, "Bearer ") == bad
        assert (
            ask(channel, "user-key") == ask(channel, "bearer user-key") == 'UNAUTHENTICATED: missing "Bearer " prefix'
        )
        assert ask(channel, "Bearer user-key") == ask(channel, "Bearer admin-key") == "OK"
        assert ask_admin(channel, "Bearer user-key") == ask_admin(channel) == bad
        assert ask_admin(channel, "Bearer admin-key") == nothing
        request = services_pb2.GetVersionRequest()
        assert _ask(GeocubeDownloaderStub(channel).Version, request, ()) == bad
        assert _ask(GeocubeDownloaderStub(channel).Version, request, ("Bearer user-key",)) == "OK"


def test_with_only_a_user_key_admin_is_disabled(cube: LocalCube) -> None:
    with serving(cube, Keys(user="user-key")) as server, plain(server) as channel:
        assert (
            ask_admin(channel, "Bearer user-key") == ask_admin(channel, "Bearer ") == "UNAUTHENTICATED: invalid token"
        )


def test_a_stream_needs_the_key_too(cube: LocalCube) -> None:
    with serving(cube, KEYS) as server, plain(server) as channel:
        assert refusal(lambda: list_records(GeocubeStub(channel))) == Refused("UNAUTHENTICATED", "invalid token")


def test_health_and_reflection_need_no_key(cube: LocalCube) -> None:
    with serving(cube, KEYS) as server, plain(server) as channel:
        for name in ("", "geocube.Geocube", "geocube.GeocubeDownloader", "geocube.Admin"):
            request = health_pb2.HealthCheckRequest(service=name)
            stub: Any = health_pb2_grpc.HealthStub(channel)
            assert stub.Check(request).status == SERVING
        services = set(ProtoReflectionDescriptorDatabase(channel).get_services())
    assert services >= {"geocube.Geocube", "geocube.GeocubeDownloader", "geocube.Admin", "grpc.health.v1.Health"}


def test_watchers_of_health_neither_block_others_nor_delay_the_stop(cube: LocalCube) -> None:
    channels = []
    with serving(cube, grace=600.0) as server:
        for _ in range(12):
            channels.append(plain(server))
            watching: Any = health_pb2_grpc.HealthStub(channels[-1])
            assert next(watching.Watch(health_pb2.HealthCheckRequest())).status == SERVING
        asking: Any = health_pb2_grpc.HealthStub(channels[0])
        assert asking.Check(health_pb2.HealthCheckRequest(), timeout=PATIENCE).status == SERVING
        began = time.monotonic()
    assert time.monotonic() - began < PATIENCE
    for channel in channels:
        channel.close()


def test_health_and_version_respond_while_every_worker_is_busy(cube: LocalCube) -> None:
    with serving(cube, workers=1) as server, plain(server) as channel, plain(server) as other:
        tiles = many_tiles(GeocubeStub(channel))
        next(tiles)
        with pytest.raises(grpc.RpcError) as caught:
            list(GeocubeStub(other).ListRecords(records_pb2.ListRecordsRequest(), timeout=0.5))
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        asking: Any = health_pb2_grpc.HealthStub(other)
        assert asking.Check(health_pb2.HealthCheckRequest(), timeout=PATIENCE).status == SERVING
        assert GeocubeStub(other).Version(services_pb2.GetVersionRequest(), timeout=5).Version
        assert sum(len(message.tiles) for message in tiles) > TILES - 1000
        assert GeocubeStub(other).Version(services_pb2.GetVersionRequest(), timeout=PATIENCE).Version


def test_keys_are_not_shown() -> None:
    assert "key" not in repr(KEYS)


@pytest.mark.parametrize("key", ["two words", "Schlüssel", "a\nb"])
def test_a_key_not_allowed_in_a_header_is_refused(monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    monkeypatch.setenv("ACD_SERVE_KEY", key)
    with pytest.raises(AcdError) as caught:
        Keys.from_environment()
    assert caught.value.code is ErrorCode.SETTING_INVALID
    assert key not in str(caught.value)
    monkeypatch.setenv("ACD_SERVE_KEY", "good\n")
    assert Keys.from_environment() == Keys(user="good")


def test_without_a_key_other_machines_need_allow_open(cube: LocalCube) -> None:
    for settings in (ServeSettings(host="0.0.0.0", port=0), ServeSettings(host="::", port=0)):  # noqa: S104  # on purpose
        with pytest.raises(AcdError) as caught:
            Serving(cube, settings, Keys(admin="admin-key"))
        assert caught.value.code is ErrorCode.SERVE_FAILED
    with serving(cube, host="0.0.0.0", allow_open=True) as server, plain(server) as channel:  # noqa: S104  # on purpose
        assert ask(channel) == "OK"


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as other:
        yield int(other.getsockname()[1])


def test_a_port_that_is_taken_is_an_error(cube: LocalCube, taken: int) -> None:
    for settings in (ServeSettings(port=taken), ServeSettings(port=0, http_port=taken)):
        with pytest.raises(AcdError) as caught:
            Serving(cube, settings, Keys()).start()
        assert caught.value.code is ErrorCode.SERVE_FAILED
        assert f"127.0.0.1:{taken}" in str(caught.value)


class Broken:
    """Calls with a bug."""

    def list_layouts(self, request: object) -> object:
        raise ZeroDivisionError(f"in /secret/path of {request}")

    def list_records(self, request: object) -> Iterator[object]:
        yield records_pb2.ListRecordsResponseItem()
        raise ZeroDivisionError(f"in /secret/path of {request}")


def test_a_bug_is_reported_by_an_incident_number_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    lanes = Lanes(2, StreamLimits())
    with ThreadPoolExecutor(2) as pool:
        server = grpc.server(pool, interceptors=[CallInterceptor(Keys(), lanes, StallGuard(10, 10))])
        add_GeocubeServicer_to_server(cast("GeocubeServicer", servicer("Geocube", Broken())), server)
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        with caplog.at_level(logging.INFO, "acd.serve"), grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            stub = GeocubeStub(channel)
            for call in (lambda: stub.ListLayouts(layouts_pb2.ListLayoutsRequest()), lambda: list_records(stub)):
                refused = refusal(call)
                assert refused.code == "INTERNAL"
                assert "secret" not in refused.message
                number = refused.message.split()[-1]
                failed = [entry for entry in caplog.records if getattr(entry, "fields", {}).get("incident") == number]
                assert len(failed) == 1
                assert failed[0].exc_info
            assert refusal(lambda: stub.ListGrids(layouts_pb2.ListGridsRequest())).code == "UNIMPLEMENTED"
        server.stop(None).wait()
        lanes.shut_down()
    ended = [entry.fields for entry in caplog.records if entry.getMessage() == "call.done"]  # type: ignore[attr-defined]  # ours
    assert [(fields["rpc"].rpartition("/")[2], fields["code"], fields["messages"]) for fields in ended] == [
        ("ListLayouts", "INTERNAL", 0),
        ("ListRecords", "INTERNAL", 1),
        ("ListGrids", "UNIMPLEMENTED", 0),
    ]


def test_a_damaged_cube_is_reported_without_a_traceback(cube: LocalCube) -> None:
    cube.add_variable(COHERENCE)
    with serving(LocalCube.open(cube.store.url)) as server, plain(server) as channel:
        cube.store.put("index/heads/00000001.json", b"{}")
        cube.store.put("index/hint", b"1")
        refused = refusal(lambda: GeocubeStub(channel).ListLayouts(layouts_pb2.ListLayoutsRequest()))
    assert refused.code == "UNKNOWN"
    assert "damaged" in refused.message or "is head" in refused.message


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A self-signed certificate for this machine, and its key."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not on PATH: no certificate to test with")
    folder = tmp_path_factory.mktemp("tls")
    files = folder / "cert.pem", folder / "key.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"),
            *("-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-out", str(files[0]), "-keyout", str(files[1])),
        ],
        check=True,
        capture_output=True,
    )
    return files


def test_tls_on_both_ports(cube: LocalCube, certificate: tuple[Path, Path]) -> None:
    files: dict[str, Any] = {"tls_cert": certificate[0], "tls_key": certificate[1]}
    trusted = grpc.ssl_channel_credentials(certificate[0].read_bytes())
    with serving(cube, KEYS, http_port=0, **files) as server:
        assert server.address == f"geocubes://127.0.0.1:{server.port}"
        with grpc.secure_channel(f"127.0.0.1:{server.port}", trusted) as channel:
            assert ask(channel, "Bearer user-key") == "OK"
        with grpc.secure_channel(f"127.0.0.1:{server.port}", grpc.ssl_channel_credentials()) as stranger:
            assert ask(stranger).startswith("UNAVAILABLE")
        with plain(server) as channel:
            assert ask(channel).startswith("UNAVAILABLE")
        context = ssl.create_default_context(cafile=str(certificate[0]))
        with urllib.request.urlopen(f"{server.http_address}/health", context=context, timeout=10) as answer:  # noqa: S310  # https
            assert json.load(answer) == {"status": "SERVING"}


def test_a_certificate_needs_its_own_key(cube: LocalCube, certificate: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "text.pem").write_text("no key")
    for cert, key in (
        (certificate[0], None),
        (None, certificate[1]),
        (certificate[0], tmp_path / "text.pem"),
        (certificate[0], tmp_path / "nope.pem"),
    ):
        with pytest.raises(AcdError) as caught:
            Serving(cube, ServeSettings(port=0, tls_cert=cert, tls_key=key), Keys())
        assert caught.value.code is ErrorCode.SERVE_FAILED


def fetch(server: Serving, path: str, key: str = "") -> tuple[int, str, bytes]:
    """Status, content type and body of a response."""
    request = urllib.request.Request(f"{server.http_address}{path}", headers={"Origin": "http://map.example"})  # noqa: S310  # http
    if key:
        request.add_header("authorization", f"Bearer {key}")
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310  # http
            assert answer.headers["access-control-allow-origin"] == "*"
            return answer.status, answer.headers["content-type"], answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.headers["content-type"], error.read()


def test_http_serves_health_and_tiles(cube: LocalCube, tmp_path: Path) -> None:
    with serving(cube, http_port=0, data=(str(tmp_path),)) as server, plain(server) as channel:
        assert fetch(server, "/")[::2] == (200, b"ok")
        assert fetch(server, "/health")[::2] == (200, b'{"status":"SERVING"}')
        world = World(GeocubeStub(channel))
        world.index(tiff(tmp_path / "a.tif"), world.dataset())
        (kept,) = cube.datasets("CoherenceVV", "master")
        zoom = Layout(name="web", grid=WebMercatorGrid(zoom=14))
        tile = tiles_of(shapely.geometry.shape(footprint(kept.grid)), zoom)[0]
        path = f"/v1/catalog/mosaic/{world.instance}/{tile.i}/{tile.j}/14/png"
        by_id = fetch(server, f"{path}?records.ids={world.records[0]}&records.ids={world.records[1]}&min=0&max=1000")
        assert by_id[:2] == (200, "image/png")
        (tmp_path / "tile.png").write_bytes(by_id[2])
        with Image.open(tmp_path / "tile.png") as picture:
            assert picture.size == (256, 256)
            assert 0 < np.count_nonzero(np.asarray(picture)[..., 3]) < 256 * 256
        for query in (
            "filters.tags[k]=v",
            "filters.tags%5Bk%5D=v&filters.from_time=2021-01-01&filters.to_time=2021-01-01T00:00:00Z",
        ):
            assert fetch(server, f"{path}?{query}&min=0&max=1000") == by_id
        for query, status, message in (
            ("", 400, "At least one record must be provided"),
            ("?records.ids=x", 400, "Invalid Record.uuid x: invalid UUID length: 1"),
            (f"?records.ids={world.records[0]}&min=low", 400, "min is 'low', which is not a number"),
            ("?filters.from_time=soon", 400, "filters.from_time: 'soon' is not a date"),
        ):
            response = fetch(server, f"{path}{query}")
            assert response[0] == status
            assert message in json.loads(response[2])["message"]
        unknown = path.replace(world.instance, world.variable)
        assert fetch(server, f"{unknown}?records.ids={world.records[0]}")[0] == 404
        assert fetch(server, f"{path}/more")[0] == 404


def test_http_tiles_need_the_key(cube: LocalCube) -> None:
    path = "/v1/catalog/mosaic/7df1ce41-cc06-5006-abbc-7d33386d2e86/0/0/0/png?filters.tags[a]=b"
    with serving(cube, KEYS, http_port=0) as server:
        assert fetch(server, path)[0] == fetch(server, path, "other")[0] == 401
        assert fetch(server, path, "user-key")[0] == fetch(server, path, "admin-key")[0] == 404
        assert fetch(server, "/health")[0] == 200
