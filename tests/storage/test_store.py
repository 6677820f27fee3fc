from __future__ import annotations

import os
import pickle
import shutil
import signal
import socket
import socketserver
import subprocess
import sys
import threading
import time
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
import rasterio
import zarr

from acdtask.errors import AcdError, ErrorCode
from acdtask.storage import backend
from acdtask.storage.store import Store
from acdtask.storage.traffic import traffic_so_far
from tests.limited import with_file_size

PUT = "import sys; from acdtask.storage.store import Store; Store.at(sys.argv[1]).put('big', bytes(int(sys.argv[2])))"


def test_an_object_is_stored_and_replaced(place: str) -> None:
    store = Store.at(place)
    store.put("a/b.bin", b"one")
    store.put("a/b.bin", b"three")
    assert (store.get("a/b.bin"), store.size("a/b.bin"), store.exists("a/b.bin")) == (b"three", 5, True)


def test_only_the_first_create_succeeds(place: str) -> None:
    store = Store.at(place)
    assert [store.create("k", b"1"), store.create("k", b"2")] == [True, False]
    assert store.get("k") == b"1"


@pytest.mark.parametrize("key", ["a/b.bin", "a/b c.bin"])
def test_ranges_are_those_of_the_object(place: str, key: str) -> None:
    """A range may end or begin beyond the object: then it has what the object has of it."""
    store = Store.at(place)
    assert store.find_ranges(key, [(0, 1)]) is None
    data = bytes(range(200))
    store.put(key, data)
    for ranges in ([(0, 200)], [(10, 5), (0, 3), (199, 1)], [(190, 50)], [(500, 10), (3, 4)], []):
        started = traffic_so_far()
        parts = store.find_ranges(key, ranges)
        assert parts is not None
        assert [bytes(part) for part in parts] == [data[start : start + size] for start, size in ranges]
        if key == "a/b.bin" and ranges and ranges[0][0] < 200:
            assert (traffic_so_far() - started).object_bytes_read == sum(map(len, parts))


def test_missing_objects_are_reported_as_missing(place: str) -> None:
    store = Store.at(place)
    assert (store.find("a"), store.exists("a"), store.list(), store.list("a")) == (None, False, [], [])
    store.put("a", b"")
    assert store.find("a/below/a/file") is None
    store.delete("b")
    for method in (store.get, store.size):
        with pytest.raises(AcdError, match="b is missing") as caught:
            method("b")
        assert caught.value.code is ErrorCode.CUBE_DAMAGED


@pytest.mark.parametrize(
    ("address", "folder"),
    [
        ("/truth.geojson", "/"),
        ("/data/truth.geojson", "/data"),
        ("truth.geojson", "."),
        ("data/truth.geojson", "data"),
        ("file:///truth.geojson", "/"),
        ("file:///data/truth.geojson", "/data"),
        ("s3://bucket/truth.geojson", "s3://bucket"),
        ("s3://bucket/data/truth.geojson", "s3://bucket/data"),
    ],
)
def test_the_address_of_a_file_is_a_store_and_a_key(address: str, folder: str) -> None:
    store, key = Store.of_file(address)
    assert (store.url, key) == (Store.at(folder).url, "truth.geojson")


def test_reading_makes_no_folder(tmp_path: Path) -> None:
    store = Store.at(str(tmp_path / "new"))
    assert store.find("a") is None
    assert store.list() == []
    store.delete("a")
    assert not (tmp_path / "new").exists()


def test_a_listing_is_sorted_and_matches_whole_parts_of_keys(place: str) -> None:
    store = Store.at(place)
    for key in ("b/2", "b/1", "a", "bb/3", "ü/ä #1 %.txt"):
        store.put(key, b"x")
    assert store.list() == ["a", "b/1", "b/2", "bb/3", "ü/ä #1 %.txt"]
    assert store.list("b") == ["b/1", "b/2"]
    assert store.within("b").list() == ["1", "2"]
    assert store.get("ü/ä #1 %.txt") == b"x"


def test_deleted_keys_are_gone(place: str) -> None:
    store = Store.at(place)
    store.put("a", b"x")
    store.delete("a")
    assert store.list() == []


def test_a_store_survives_pickling(place: str) -> None:
    store = Store.at(place).within("part")
    store.put("a", b"x")
    assert pickle.loads(pickle.dumps(store)).get("a") == b"x"  # noqa: S301 - made in this test
    assert Store.at(store.url) == store


def test_gdal_opens_what_was_put(place: str) -> None:
    store = Store.at(place)
    with rasterio.MemoryFile() as file:
        with file.open(
            driver="GTiff",
            width=2,
            height=1,
            count=1,
            dtype="uint8",
            crs="EPSG:4326",
            transform=rasterio.Affine(1, 0, 5, 0, -1, 50),
        ) as raster:
            raster.write(np.array([[[1, 2]]], dtype="uint8"))
        store.put("a b/x.tif", bytes(file.getbuffer()))
    address = f"{store.url}/a b/x.tif"
    with rasterio.Env(**store.gdal_options()):
        for key in ("a b/x.tif", address):
            with rasterio.open(store.gdal_path(key)) as raster:
                assert raster.read().tolist() == [[[1, 2]]]


def test_zarr_writes_and_reads_below_a_prefix(place: str) -> None:
    store = Store.at(place)
    zarr.create_array(store.zarr_store("z.zarr", read_only=False), shape=3, dtype="int16", fill_value=7)
    array = zarr.open_array(store.zarr_store("z.zarr", read_only=True), mode="r")
    assert np.asarray(array[:]).tolist() == [7, 7, 7]
    with pytest.raises(FileNotFoundError):
        zarr.open_array(store.zarr_store("none.zarr", read_only=True), mode="r")


@pytest.mark.parametrize("url", ["", " ", "http://x/y", "gs://b/p", "s3://", "s3:///x", "file://host/x", "s3://b/../c"])
def test_other_addresses_are_refused(url: str) -> None:
    with pytest.raises(AcdError) as caught:
        Store.at(url)
    assert caught.value.code is ErrorCode.ADDRESS_INVALID


def test_a_file_address_is_a_folder(tmp_path: Path) -> None:
    assert Store.at(f"file://{tmp_path}/a%20b").url == f"{tmp_path}/a b"


def test_a_file_in_place_of_a_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for store, key in ((Store.at(str(tmp_path)), "file/key"), (Store.at(str(tmp_path / "file/cube")), "key")):
        with pytest.raises(AcdError, match="file/") as caught:
            store.put(key, b"x")
        assert caught.value.code is ErrorCode.STORE_DENIED


@pytest.mark.skipif(not Path("/sys/kernel").is_dir(), reason="a file system that refuses even root: Linux's /sys")
def test_a_read_only_file_system_is_named() -> None:
    with pytest.raises(AcdError, match="/sys/kernel/acd") as caught:
        Store.at("/sys/kernel/acd").put("key", b"x")
    assert caught.value.code is ErrorCode.STORE_DENIED


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere; the test on /sys covers root")
def test_a_folder_without_write_permission_is_named(tmp_path: Path) -> None:
    (tmp_path / "cube").mkdir(mode=0o500)
    with pytest.raises(AcdError, match="Permission denied") as caught:
        Store.at(str(tmp_path / "cube")).put("key", b"x")
    assert caught.value.code is ErrorCode.STORE_DENIED


def explained(*command: str, **options: object) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, **options)  # type: ignore[call-overload]  # any option
    return str(done.stderr).strip().splitlines()[-1]


def test_a_full_quota_is_a_full_disk_and_leaves_nothing_behind(tmp_path: Path) -> None:
    last = explained(*with_file_size(4096, sys.executable, "-c", PUT, str(tmp_path), "100000"))
    assert "ACD-403" in last
    assert Store.at(str(tmp_path)).list() == []


@pytest.mark.skipif(
    shutil.which("unshare") is None
    or subprocess.run(["unshare", "-rm", "mount", "-t", "tmpfs", "x", "/mnt"], capture_output=True).returncode != 0,
    reason="no right to mount a small file system; the test with a quota covers it",
)
@pytest.mark.parametrize("size", [200_000, 20_000_000])
def test_a_disk_that_is_full_is_named_and_nothing_half_written_shows(size: int) -> None:
    script = 'mount -t tmpfs -o size=128k x /mnt; "$0" -c "$1" /mnt/cube "$2"; ls /mnt/cube >&2'
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", script, sys.executable, PUT, str(size)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "ACD-403: /mnt/cube/big cannot be written: No space left on device" in done.stderr
    assert "big" not in done.stderr.strip().splitlines()[-1].split()


def test_a_killed_writer_leaves_nothing_half_written(tmp_path: Path) -> None:
    size = 30_000_000
    store = Store.at(str(tmp_path / "cube"))
    for wait in (0.0, 0.01, 0.03, 0.05):
        for path in (tmp_path / "cube").glob("*"):
            path.unlink()
        writer = subprocess.Popen([sys.executable, "-c", PUT, store.url, str(size)])
        end = time.monotonic() + 10
        while not list((tmp_path / "cube").glob("big*")):
            assert time.monotonic() < end
        for _ in range(5):
            assert not store.exists("big") or store.size("big") == size
        time.sleep(wait)
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        assert store.list() in ([], ["big"])
        assert not store.exists("big") or store.size("big") == size
    (tmp_path / "cube" / "big#1").write_bytes(b"half")
    assert "big#1" not in store.list()


@pytest.mark.s3
class TestFaultsOfS3:
    @pytest.fixture(autouse=True)
    def _impatient(self, s3_address: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(backend, "RETRIES", 1)

    def check(self, url: str, code: ErrorCode, text: str) -> None:
        for method in ("find", "exists", "size", "list", "delete", "get"):
            with pytest.raises(AcdError, match=text) as caught:
                getattr(Store.at(url), method)("key")
            assert caught.value.code is code
        for method in ("put", "create"):
            with pytest.raises(AcdError, match=text) as caught:
                getattr(Store.at(url), method)("key", b"")
            assert caught.value.code is code

    def test_a_missing_bucket_is_named(self) -> None:
        self.check("s3://acd-no-such-bucket/x", ErrorCode.BUCKET_UNKNOWN, "acd-no-such-bucket")

    def test_wrong_keys_are_refused(self, s3_address: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
        self.check(s3_address, ErrorCode.STORE_DENIED, s3_address)

    def test_a_server_that_does_not_respond_is_unreachable(
        self, s3_address: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
        self.check(s3_address, ErrorCode.STORE_UNREACHABLE, s3_address)


class BreakingProxy(socketserver.ThreadingTCPServer):
    """Proxy of the S3 server that breaks the first few writes, before or after the server has received them."""

    daemon_threads = True
    breaks_after: bool
    breaks_left: int

    def __enter__(self) -> BreakingProxy:
        threading.Thread(target=self.serve_forever).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()


class Connection(socketserver.BaseRequestHandler):
    server: BreakingProxy

    def handle(self) -> None:
        request = self.request.recv(65536)
        breaks = request.startswith(b"PUT") and self.server.breaks_left > 0
        self.server.breaks_left -= breaks
        if breaks and not self.server.breaks_after:
            return
        target = urlsplit(os.environ["BEHIND"])
        with socket.create_connection((target.hostname, target.port)) as server:
            server.sendall(request)
            if breaks:
                server.recv(65536)
                return
            while answer := server.recv(65536):
                self.request.sendall(answer)


@pytest.mark.s3
@pytest.mark.parametrize("after", [False, True])
def test_a_conditional_write_is_retried_after_a_broken_connection(
    s3_address: str, monkeypatch: pytest.MonkeyPatch, after: bool
) -> None:
    monkeypatch.setenv("BEHIND", os.environ["AWS_ENDPOINT_URL"])
    with BreakingProxy(("127.0.0.1", 0), Connection) as proxy:
        proxy.breaks_after, proxy.breaks_left = after, 3
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{proxy.server_address[1]}")
        created = Store.at(s3_address).create("key", b"data")
        assert proxy.breaks_left == 0
    assert created is not after  # if the reply was lost, the writer cannot tell that the object is its own
    monkeypatch.setenv("AWS_ENDPOINT_URL", os.environ["BEHIND"])
    assert Store.at(s3_address).get("key") == b"data"
