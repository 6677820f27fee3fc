"""A cube of one area, and what is read of its images: bytes of containers and of COGs, from a folder or from S3."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import rasterio
from shapely.geometry import shape

from acdtask.cube.local.cube import LocalCube
from acdtask.cube.model import Addition, Record
from acdtask.engine.local import LocalOutcome, run_locally
from acdtask.engine.processes import WorkerPool
from acdtask.jobs.baseline.job import BaselineJob
from acdtask.jobs.baseline.settings import BaselineSettings
from acdtask.jobs.consolidate.job import ConsolidateJob
from acdtask.jobs.consolidate.settings import ConsolidateSettings
from acdtask.jobs.contract import Job
from acdtask.jobs.monitor.job import MonitorJob
from acdtask.jobs.monitor.settings import MonitorSettings
from acdtask.jobs.report.job import ReportJob, ReportSettings
from acdtask.raster.data_format import Pixels
from acdtask.raster.grid import Layout, RegularGrid
from acdtask.raster.open_images import close_idle_images, open_image
from acdtask.raster.tiling import footprint
from acdtask.storage.store import Store
from tests.cube.builders import COHERENCE, MASTER, dataset, geojson, grid, image, put_image, record

__all__ = ["BLOCKS", "REFERENCE", "Area", "Block", "counting_proxy", "reads_counted"]

BLOCK, SIZE = 256, 1024
GRID = grid(SIZE, SIZE)
OUTLINE = shape(footprint(GRID))
REFERENCE = 22
"""Number of images of the baseline."""

Block = tuple[int, int]
"""Column and row of a block."""

BLOCKS: list[Block] = [(column, row) for row in range(SIZE // BLOCK) for column in range(SIZE // BLOCK)]


def record_of(day: int) -> Record:
    return record(day, tags={}, footprint=geojson(OUTLINE))


def date_of(day: int) -> datetime:
    return record(day).datetime


def pixels_of(day: int) -> Pixels:
    pixels = image(GRID, seed=day, low=1)
    if day >= REFERENCE:
        pixels[100:140, 100:140] //= 3
    return pixels


class Area:
    """A cube with images of 4 x 4 blocks, consolidated or as COGs, in tiles of `cell` px."""

    def __init__(self, address: str, folder: Path, *, consolidated: bool = True, cell: int = 512) -> None:
        self.address, self.aoi, self.consolidated, self.cell = address, folder / "aoi.json", consolidated, cell
        cube = LocalCube.create(address)
        regular = RegularGrid(crs="EPSG:32632", resolution=20, cell_size=cell, ox=400000, oy=5600000)
        self.layout = Layout(name="utm", grid=regular)
        cube.commit(Addition(variables=[COHERENCE], instances=[MASTER], layouts=[self.layout]))
        start, end = (record(day).datetime.isoformat() for day in (0, 1000))
        area = {"type": "Feature", "geometry": geojson(OUTLINE.buffer(-0.001)), "properties": {}}
        self.aoi.write_text(json.dumps({"name": "reads", **area, "start_time": start, "end_time": end}))

    def bring(self, days: Iterable[int]) -> None:
        """Index images, consolidate them, and let their files be old enough for a cache."""
        cube = LocalCube.open(self.address)
        for day in days:
            stored = put_image(cube.store, f"pixels/{day}.tif", pixels_of(day), GRID)
            cube.index([record_of(day)], [dataset(record_of(day), stored.uri, grid=GRID)])
        if self.consolidated:
            self._run(ConsolidateJob(), ConsolidateSettings)
        make_old(self.address)

    def baseline(self, **settings: Any) -> LocalOutcome:
        """Make the baseline of the first images."""
        outcome = self._run(BaselineJob(), BaselineSettings, end=date_of(REFERENCE - 1), **settings)
        make_old(self.address)
        return outcome

    def monitor(self, days: int, **settings: Any) -> LocalOutcome:
        """Monitor images up to this day."""
        return self._run(MonitorJob(), MonitorSettings, end=date_of(days - 1), **settings)

    def monitor_settings(self, days: int, **settings: Any) -> MonitorSettings:
        return MonitorSettings(aoi=str(self.aoi), layout=self.layout.name, end=date_of(days - 1), **settings)

    def report(self) -> LocalOutcome:
        """Report all images that were monitored."""
        return self._run(ReportJob(), ReportSettings)

    def _run(self, job: Job[Any, Any], settings: Callable[..., Any], **given: Any) -> LocalOutcome:
        with WorkerPool(0) as pool:
            wanted = settings(aoi=str(self.aoi), layout=self.layout.name, **given)
            return run_locally(job, wanted, self.address, pool=pool, progress=False)

    def needed(self, days: Iterable[int], blocks: Iterable[Block] = BLOCKS) -> int:
        """Stored bytes of some blocks of some images."""
        wanted = list(blocks)
        sizes = self._sizes_in_containers(days) if self.consolidated else self._sizes_in_cogs(days)
        return sum(of_image[block] for of_image in sizes for block in wanted)

    def _sizes_in_containers(self, days: Iterable[int]) -> Iterator[dict[Block, int]]:
        cube, per_cell = LocalCube.open(self.address), self.cell // BLOCK
        chunks: dict[str, list[int]] = {}
        for day in days:
            sizes: dict[Block, int] = {}
            for copy in cube.datasets("CoherenceVV", "master", frozenset([record_of(day).id])):
                if copy.is_copy:
                    i, j = (int(part) for part in copy.cell.split("/"))
                    for row in range(per_cell):
                        for column in range(per_cell):
                            key = f"{copy.uri}/CoherenceVV/c/0/{row}/{column}"
                            chunks[key] = chunks.get(key) or block_sizes(cube.store.get(key))
                            sizes[i * per_cell + column, j * per_cell + row] = chunks[key][int(copy.subdir)]
            yield sizes

    def _sizes_in_cogs(self, days: Iterable[int]) -> Iterator[dict[Block, int]]:
        store = Store.at(self.address)
        for day in days:
            path = store.gdal_path(f"pixels/{day}.tif")
            with rasterio.Env(**store.gdal_options()), rasterio.open(path) as cog:
                tags = {
                    (column, row): cog.get_tag_item(f"BLOCK_SIZE_{column}_{row}", "TIFF", bidx=1)
                    for column, row in BLOCKS
                }
                yield {block: int(size) for block, size in tags.items()}


def block_sizes(chunk: bytes) -> list[int]:
    """The sizes of a chunk's blocks, as its index lists them: the first block begins where the index ends."""
    (first,) = struct.unpack_from("<Q", chunk)
    return list(struct.unpack(f"<{first // 16 * 2}Q", chunk[: first // 16 * 16])[1::2])


def make_old(address: str) -> None:
    """Date the files of a folder back by a minute: younger ones than two seconds are not kept in a cache."""
    for path in Path(address).rglob("*") if "://" not in address else ():
        if path.is_file():
            status = path.stat()
            os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns - 60 * 10**9))


class Reads:
    """Bytes read of images, and the blocks in which the baseline's images were read to judge candidates."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.judged: list[Block] = []

    @property
    def total(self) -> int:
        return sum(self.sizes)


def is_image(key: str) -> bool:
    """Whether a key or path is that of an image, and not of a product."""
    return ".zarr" in key or "pixels/" in key


@contextmanager
def reads_counted(proxy: CountingProxy | None = None) -> Iterator[Reads]:
    """Count the bytes read of images, with their metadata: through the proxy, or in a folder."""
    reads = Reads()
    close_idle_images()  # GDAL has blocks of those that the job before left open
    with pytest.MonkeyPatch.context() as patch:
        _note_judged(reads, patch)
        if proxy is None:
            _count_files(reads, patch)
        else:
            patch.setattr(proxy, "sizes", reads.sizes)
        yield reads


def _note_judged(reads: Reads, patch: pytest.MonkeyPatch) -> None:
    read_once = LocalCube.read_once

    def noted(self: LocalCube, of: Any, *arguments: Any) -> Pixels:
        column, row = (of.transform[2] - GRID.transform[2]) / 20, (GRID.transform[5] - of.transform[5]) / 20
        reads.judged.append((round(column) // BLOCK, round(row) // BLOCK))
        return read_once(self, of, *arguments)

    patch.setattr(LocalCube, "read_once", noted)


def _count_files(reads: Reads, patch: pytest.MonkeyPatch) -> None:
    """Count what Store reads of containers, and what the system reads while a COG is open."""
    find_file, find_ranges = Store._find_file, Store._find_ranges_of_file

    def whole(self: Store, path: Path, key: str) -> memoryview | None:
        data = find_file(self, path, key)
        reads.sizes.append(len(data or b"") if is_image(key) else 0)
        return data

    def ranges(self: Store, path: Path, key: str, of: Any) -> list[memoryview] | None:
        parts = find_ranges(self, path, key, of)
        reads.sizes.append(sum(map(len, parts or ())) if is_image(key) else 0)
        return parts

    @contextmanager
    def opened(path: str, *arguments: Any) -> Iterator[Any]:
        before = bytes_read()
        with open_image(path, *arguments) as cog:
            yield cog
        reads.sizes.append(bytes_read() - before if is_image(path) else 0)

    patch.setattr(Store, "_find_file", whole)
    patch.setattr(Store, "_find_ranges_of_file", ranges)
    patch.setattr("acdtask.cube.local.containers.open_image", opened)


def bytes_read() -> int:
    """Bytes that this process has read from files, according to the system."""
    return int(Path("/proc/self/io").read_text().split()[1])


class CountingProxy(ThreadingHTTPServer):
    """Passes requests on to an S3 server unchanged, and counts the bytes that it answers to GET for images."""

    daemon_threads = True

    def __init__(self, target: str) -> None:
        super().__init__(("127.0.0.1", 0), _Forward)
        self.target, self.sizes = target.removeprefix("http://"), list[int]()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Forward(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: CountingProxy

    def forward(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        connection = HTTPConnection(self.server.target)
        connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
        for name, value in self.headers.items():
            connection.putheader(name, value)
        connection.endheaders(body)
        answer = connection.getresponse()
        data = answer.read()
        connection.close()
        if self.command == "GET" and is_image(self.path):
            self.server.sizes.append(len(data))
        self.send_response_only(answer.status, answer.reason)
        for name, value in answer.getheaders():
            if name.lower() not in {"connection", "transfer-encoding", "content-length"}:
                self.send_header(name, value)
        length = answer.getheader("Content-Length", "0") if self.command == "HEAD" else str(len(data))
        self.send_header("Content-Length", length)
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = forward  # noqa: N815  # names that the server looks up

    def log_message(self, *_arguments: Any) -> None:
        """Write nothing."""


@contextmanager
def counting_proxy(monkeypatch: pytest.MonkeyPatch) -> Iterator[CountingProxy]:
    """A proxy in front of the S3 server of the environment, which the environment then names."""
    with CountingProxy(os.environ["AWS_ENDPOINT_URL"]) as proxy:
        Thread(target=proxy.serve_forever, daemon=True).start()
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        yield proxy
        proxy.shutdown()
