"""A server opens only files below its cube and --data, whatever clients and writers of those folders try."""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import rasterio
import zarr
from rasterio.crs import CRS

from acdtask.cube.local.cube import LocalCube
from acdtask.cube.local.stack import StackWriter, array_name
from acdtask.cube.model import Addition
from acdtask.cube.protocol import values_pb2
from acdtask.cube.protocol.convert import RESAMPLINGS, dformat_to_message, transform_to_message
from acdtask.cube.protocol.cubes_pb2 import GetCubeMetadataRequest, GetTileRequest
from acdtask.cube.protocol.datasets_pb2 import DatasetMeta, InternalMeta
from acdtask.cube.protocol.records_pb2 import GroupedRecordIds, GroupedRecords, RecordIdList
from acdtask.cube.protocol.services_pb2_grpc import GeocubeDownloaderStub, GeocubeStub
from acdtask.raster.grid import Window
from acdtask.storage.store import Store
from tests.cube.builders import COHERENCE, grid, record
from tests.serve.conftest import serving
from tests.serve.requests import create_layout, layout, refusal
from tests.serve.streaming import Received, ask, receive
from tests.serve.test_datasets import HEIGHT, WIDTH, World, tiff
from tests.serve.test_jobs import LAYOUT, configure, consolidate, delete, waited
from tests.storage.forbidden import SECRET_TEXT, SECRET_VALUE, Canary, canary_server, mosaic_vrt, raw_vrt, wms

GROUND = grid(WIDTH, HEIGHT)


@dataclass
class Place:
    """A server of a cube and of a folder `data`, a folder `outside` with secrets, and a web server."""

    cube: LocalCube
    data: Path
    outside: Path
    world: World
    downloader: GeocubeDownloaderStub
    canary: Canary

    @property
    def secret(self) -> Path:
        return self.outside / "secret.tif"

    def index(self, name: str = "a.tif", **changes: Any) -> str:
        """Create and index a valid file in `data`."""
        path = self.data / name
        path.parent.mkdir(exist_ok=True)
        uri = tiff(path)
        self.world.index(uri, self.world.dataset(**changes))
        return uri

    def get_cube(self) -> Received:
        """The image of the first record."""
        stream = self.world.stub.GetCube(ask(COHERENCE, GROUND, [[self.world.records[0]]]))
        (image,) = receive(stream, ends_early=False)[1]
        return image

    def get_tile(self) -> bytes:
        """The web map tile that contains the files, as PNG."""
        records = GroupedRecordIds(ids=self.world.records)
        request = GetTileRequest(instance_id=self.world.instance, records=records, x=133, y=86, z=8)
        return self.world.stub.GetXYZTile(request).image.data

    def download(self, uri: str) -> Received | grpc.RpcError:
        """The image that the downloader reads from a file, or its refusal."""
        meta = InternalMeta(
            container_uri=uri,
            container_subdir="0" if uri.endswith(".zarr") else "",
            bands=[1],
            dformat=dformat_to_message(COHERENCE.dformat),
            range_max=1000,
            exponent=1,
        )
        request = GetCubeMetadataRequest(
            datasets_meta=[DatasetMeta(internalsMeta=[meta])],
            grouped_records=[GroupedRecords()],
            ref_dformat=dformat_to_message(COHERENCE.dformat),
            resampling_alg=RESAMPLINGS[COHERENCE.resampling],
            pix_to_crs=transform_to_message(GROUND),
            crs=GROUND.crs,
            size=values_pb2.Size(width=WIDTH, height=HEIGHT),
        )
        try:
            (image,) = receive(self.downloader.DownloadCube(request), ends_early=False)[1]
        except grpc.RpcError as error:
            return error
        return image


def write_secrets(outside: Path) -> None:
    outside.mkdir()
    (outside / "secret.txt").write_text(SECRET_TEXT * 100)
    (outside / "secret.wkt").write_text(CRS.from_epsg(32632).to_wkt())
    profile = {"driver": "GTiff", "dtype": "int16", "width": WIDTH, "height": HEIGHT, "count": 1, "crs": GROUND.crs}
    with rasterio.open(outside / "secret.tif", "w", transform=rasterio.Affine(*GROUND.transform), **profile) as raster:
        raster.write(np.full((1, HEIGHT, WIDTH), SECRET_VALUE, "int16"))


@pytest.fixture
def place(cube: LocalCube, tmp_path: Path) -> Iterator[Place]:
    data, outside = tmp_path / "data", tmp_path / "outside"
    data.mkdir()
    write_secrets(outside)
    with (
        canary_server() as canary,
        serving(cube, data=(str(data),)) as server,
        grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel,
    ):
        yield Place(cube, data, outside, World(GeocubeStub(channel)), GeocubeDownloaderStub(channel), canary)
        assert canary.requests == []


def hostile(place: Place) -> list[str]:
    """Addresses outside of the roots, or with a special meaning for GDAL."""
    data, secret, web = place.data, place.secret, place.canary.address
    (data / "link.tif").symlink_to(secret)
    (data / "folder").symlink_to(place.outside)
    (data / "raw.tif").write_text(raw_vrt(place.outside / "secret.txt", WIDTH, HEIGHT))
    (data / "mosaic.tif").write_text(mosaic_vrt(secret, WIDTH, HEIGHT))
    (data / "web.tif").write_text(mosaic_vrt(f"/vsicurl/{web}/a.tif", WIDTH, HEIGHT))
    (data / "wms.tif").write_text(wms(web, WIDTH, HEIGHT))
    os.mkfifo(data / "pipe.tif")
    return [
        f"/vsicurl/{web}/x.tif",
        f"//vsicurl/{web}/x.tif",
        f"/./vsicurl/{web}/x.tif",
        f"/vsicurl?url={web}/x.tif",
        f"/vsicurl_streaming/{web}/x.tif",
        f"/vsizip/{place.outside}/a.zip/a.tif",
        f"/vsizip/vsicurl/{web}/a.zip/a.tif",
        f"/vsisubfile/0,{secret}",
        "/vsistdin/",
        "/vsimem/a.tif",
        f"GTIFF_DIR:1:{secret}",
        f"vrt://{secret}",
        f"{web}/x.tif",
        raw_vrt(place.outside / "secret.txt", WIDTH, HEIGHT),
        wms(web, WIDTH, HEIGHT),
        "",
        "relative.tif",
        "../outside/secret.tif",
        "\0",
        f"{data}/a.tif\0",
        f"{data}/a\n.tif",
        f"{data}/\x1b[31m.tif",
        f"{data}/{'a' * 300}.tif",
        f"/{'a/' * 5000}",
        str(data),
        str(secret),
        f"{data}/../outside/secret.tif",
        f"{data}/%2e%2e/outside/secret.tif",
        f"{data}/link.tif",
        f"{data}/folder/secret.tif",
        f"{data}/pipe.tif",
        f"{data}/raw.tif",
        f"{data}/mosaic.tif",
        f"{data}/web.tif",
        f"{data}/wms.tif",
        f"{data}-of-others/a.tif",
        f"file://{secret}",
        f"file://{data}/%2e%2e/outside/secret.tif",
        f"file://{data}/%00.tif",
        "file://other.host/a.tif",
        "file://[/a.tif",
        "/proc/self/environ",
        "/dev/stdin",
        "s3://bucket/a.tif",
        "s3://bucket/x/../a.tif",
        "s3://bucket/x/%2e%2e/a.tif",
        "s3://bucket/a.tif?versionId=1",
        "s3://bucket/a.tif#1",
        "s3:///a.tif",
        "s3://",
    ]


def test_no_hostile_address_is_indexed(place: Place, capfd: pytest.CaptureFixture[str]) -> None:
    for uri in hostile(place):
        refused = refusal(lambda uri=uri: place.world.index(uri, place.world.dataset()))  # type: ignore[misc]  # bound now
        assert refused.code == "INVALID_ARGUMENT", uri
        assert SECRET_TEXT not in refused.message
    assert place.cube.datasets("CoherenceVV", "master") == []
    assert SECRET_TEXT not in "".join(capfd.readouterr())


def test_no_hostile_address_is_downloaded(place: Place, capfd: pytest.CaptureFixture[str]) -> None:
    for uri in hostile(place):
        answer = place.download(uri)
        if isinstance(answer, grpc.RpcError):
            assert answer.code() in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.PERMISSION_DENIED), uri
            assert SECRET_TEXT not in str(answer.details())
        else:
            assert answer.header.error, uri
            assert (answer.data, SECRET_TEXT in answer.header.error) == (b"", False)
    assert SECRET_TEXT not in "".join(capfd.readouterr())


def test_without_data_only_files_of_the_cube_are_opened(cube: LocalCube, tmp_path: Path) -> None:
    with serving(cube) as server, grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        world = World(GeocubeStub(channel))
        outside, inside = tiff(tmp_path / "a.tif"), tiff(Path(cube.store.url) / "b.tif")
        refused = refusal(lambda: world.index(outside, world.dataset()))
        assert refused[:2] == (
            "INVALID_ARGUMENT",
            f"{outside} cannot be opened: this server may not read there",
        )
        world.index(inside, world.dataset())
    assert [dataset.uri for dataset in cube.datasets("CoherenceVV", "master")] == [inside]


def to_the_secret(place: Place, uri: str) -> None:
    Path(uri).unlink()
    Path(uri).symlink_to(place.secret)


def to_its_folder(place: Place, uri: str) -> None:
    folder = Path(uri).parent
    shutil.rmtree(folder)
    shutil.copy(place.secret, place.outside / Path(uri).name)
    folder.symlink_to(place.outside)


def to_a_raw_vrt(place: Place, uri: str) -> None:
    Path(uri).write_text(raw_vrt(place.outside / "secret.txt", WIDTH, HEIGHT))


def to_a_map_of_the_web(place: Place, uri: str) -> None:
    Path(uri).write_text(wms(place.canary.address, WIDTH, HEIGHT))


SWAPS = [to_the_secret, to_its_folder, to_a_raw_vrt, to_a_map_of_the_web]


@pytest.mark.parametrize("swap", SWAPS)
def test_a_file_that_is_replaced_after_indexing_leads_nowhere(place: Place, swap: Any) -> None:
    uri = place.index("sub/a.tif")
    assert place.get_cube().header.error == ""
    swap(place, uri)
    image = place.get_cube()
    assert (bool(image.header.error), image.data) == (True, b"")
    answer = place.download(uri)
    assert isinstance(answer, grpc.RpcError) or (bool(answer.header.error), answer.data) == (True, b"")
    refused = refusal(place.get_tile)
    assert refused.code in ("INVALID_ARGUMENT", "UNKNOWN")
    assert SECRET_TEXT not in refused.message + image.header.error


def test_an_index_entry_outside_of_the_roots_is_not_read(place: Place) -> None:
    place.index()
    (made,) = place.cube.datasets("CoherenceVV", "master")
    for uri in (str(place.secret), f"/vsicurl/{place.canary.address}/a.tif", "../outside/secret.tif"):
        (before,) = place.cube.datasets("CoherenceVV", "master")
        place.cube.remove(datasets=[before])
        place.cube.commit(Addition(datasets=[made.model_copy(update={"uri": uri})]))
        image = place.get_cube()
        assert (image.header.error[:7] in ("ACD-406", "ACD-407"), image.data) == (True, b"")


def test_a_constantly_swapped_link_never_exposes_the_secret(place: Place) -> None:
    uri = place.index()
    link, good = place.data / "link.new", place.data / "good.tif"
    Path(uri).rename(good)
    expected = good.read_bytes()
    stop = threading.Event()

    def swap() -> None:
        while not stop.is_set():
            for target in (place.secret, good):
                link.symlink_to(target)
                link.rename(uri)

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        outcomes: set[str] = set()
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline and len(outcomes) < 2:
            image = place.get_cube()
            outcomes.add(image.header.error[:7])
            pixels = np.frombuffer(image.data, "int16")
            assert not pixels.size or (pixels[:5] == range(5)).all()
    finally:
        stop.set()
        thread.join()
    assert good.read_bytes() == expected
    assert "" in outcomes


def test_a_consolidation_of_the_server_reads_no_secret(place: Place) -> None:
    uri = place.index()
    to_the_secret(place, uri)
    create_layout(place.world.stub, layout(parameters=LAYOUT))
    configure(place.world)
    wanted = RecordIdList(ids=place.world.records[:1])
    state = waited(place.world, consolidate(place.world, records=wanted), "CONSOLIDATIONFAILED")
    assert "ACD-406" in "".join(state.logs)
    assert not list(Path(place.cube.store.url).rglob("*.zarr/c"))


@pytest.mark.parametrize("kind", ["written by acd", "of others"])
def test_a_chunk_that_is_a_link_leads_nowhere(place: Place, kind: str) -> None:
    for number, folder in enumerate((place.outside, place.data)):
        pixels = np.full((1, HEIGHT, WIDTH), SECRET_VALUE if number == 0 else 5, "int16")
        if kind == "of others":
            array = zarr.create_array(
                str(folder / "a.zarr"), shape=pixels.shape, chunks=pixels.shape, dtype="int16", compressors=None
            )
            array[:] = pixels
            array.attrs.update(GROUND.model_dump(mode="json", include={"crs", "transform"}))
        else:
            writer = StackWriter(Store.at(str(folder)), "a.zarr", GROUND, [record(0)], COHERENCE)
            writer.write(Window(row=0, column=0, height=HEIGHT, width=WIDTH), pixels)
            writer.finish()
    uri = f"{place.data}/a.zarr"
    answer = place.download(uri)
    assert isinstance(answer, Received)
    assert set(np.frombuffer(answer.data, "int16")) == {5}
    chunk = "a.zarr/c/0/0/0" if kind == "of others" else f"a.zarr/{array_name(COHERENCE.name)}/c/0/0/0"
    (place.data / chunk).unlink()
    (place.data / chunk).symlink_to(place.outside / chunk)
    answer = place.download(uri)
    assert isinstance(answer, Received)
    assert ("ACD-406" in answer.header.error, answer.data) == (True, b"")


def test_sidecar_files_of_a_geotiff_are_not_read(place: Place) -> None:
    uri = place.index()
    for suffix in (".ovr", ".msk"):
        Path(f"{uri}{suffix}").write_text(mosaic_vrt(place.secret, WIDTH // 2, HEIGHT // 2))
    web = f'<MDI key="OVERVIEW_FILE">/vsicurl/{place.canary.address}/a.ovr</MDI>'
    Path(f"{uri}.aux.xml").write_text(f'<PAMDataset><Metadata domain="OVERVIEWS">{web}</Metadata></PAMDataset>')
    assert place.get_cube().pixels[..., 0].tolist() == (np.arange(HEIGHT * WIDTH) % 1000).reshape(HEIGHT, -1).tolist()
    assert place.get_tile()


@pytest.mark.parametrize("crs", ["{web}/crs", "{wkt}", "ESRI::{wkt}", "file://{wkt}", "+init={wkt}:1"])
def test_a_crs_is_not_opened_as_an_address(place: Place, crs: str) -> None:
    place.index()
    text = crs.format(web=place.canary.address, wkt=place.outside / "secret.wkt")
    request = ask(COHERENCE, GROUND, [place.world.records[:1]])
    request.crs = text
    assert refusal(lambda: place.world.stub.GetCube(request)).code == "INVALID_ARGUMENT"
    for name in ("crs", "proj"):
        request.crs = f"+proj=longlat +nadgrids={place.canary.address}/{name} +type=crs"
        assert refusal(lambda: place.world.stub.GetCube(request)).code == "INVALID_ARGUMENT"


def test_a_managed_file_is_deleted_only_below_data_even_through_links(place: Place) -> None:
    path = place.data / "sub/a.tif"
    path.parent.mkdir()
    uri = tiff(path)
    place.world.index(uri, place.world.dataset(), managed=True)
    to_its_folder(place, uri)
    done = delete(place.world, dataset_patterns=[uri])
    assert f"this server may not delete files at {uri}" in "".join(done.logs)
    assert (place.outside / "a.tif").exists()
    assert place.cube.datasets("CoherenceVV", "master") == []


def test_only_the_given_s3_prefixes_are_opened(cube: LocalCube, tmp_path: Path, s3_address: str) -> None:
    inside, outside = Store.at(f"{s3_address}/inside"), Store.at(f"{s3_address}/inside-not")
    for store in (inside, outside):
        store.put("a.tif", Path(tiff(tmp_path / "a.tif")).read_bytes())
    inside.put("raw.tif", raw_vrt(tmp_path / "cube/cube.json", WIDTH, HEIGHT).encode())
    inside.put("a.tif.ovr", mosaic_vrt(f"/vsis3/{outside.url[5:]}/a.tif", WIDTH // 2, HEIGHT // 2).encode())
    with serving(cube, data=(inside.url,)) as server, grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        world = World(GeocubeStub(channel))
        world.index(f"{inside.url}/a.tif", world.dataset())
        stream = world.stub.GetCube(ask(COHERENCE, GROUND, [[world.records[0]]]))
        (image,) = receive(stream, ends_early=False)[1]
        np.testing.assert_array_equal(image.pixels.ravel(), np.arange(HEIGHT * WIDTH) % 1000)
        for uri in (
            f"{outside.url}/a.tif",
            f"{inside.url}/../inside-not/a.tif",
            f"{inside.url}/%2E%2e/inside-not/a.tif",
            f"{inside.url}//a.tif",
            f"{inside.url}/a.tif?versionId=1",
            f"{inside.url}/raw.tif",
            inside.url,
            str(tmp_path / "a.tif"),
        ):
            refused = refusal(lambda uri=uri: world.index(uri, world.dataset()))  # type: ignore[misc]  # bound now
            assert refused.code == "INVALID_ARGUMENT", uri
