"""Measure the throughput of `acdtask serve` over loopback: `python -m benchmarks.serve_speed`.

The cube has 24 tiles of 256 x 256 px and 30 dates of int16 coherence, read with one GetCube per tile through a plain
generated stub. The server runs in its own process. `--against HOST:PORT` also measures a Geocube, alternately; it must
see the same files, and an AOI, records and a variable are created in it.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
import zlib
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
import numpy as np

from acdtask.cube.protocol import services_pb2 as pb
from acdtask.cube.protocol.convert import (
    RESAMPLINGS,
    area_to_message,
    dformat_to_message,
    moment_to_message,
    transform_to_message,
)
from acdtask.cube.protocol.cubes_pb2 import GetCubeRequest, GetCubeResponse
from acdtask.cube.protocol.datasets_pb2 import Container, Dataset, IndexDatasetsRequest
from acdtask.cube.protocol.records_pb2 import CreateAOIRequest, CreateRecordsRequest, NewRecord, RecordIdList
from acdtask.cube.protocol.services_pb2_grpc import GeocubeStub
from acdtask.cube.protocol.values_pb2 import Size
from acdtask.cube.protocol.variables_pb2 import CreateVariableRequest, InstantiateVariableRequest, Variable
from acdtask.raster.data_format import Pixels
from acdtask.raster.grid import Tile
from acdtask.serve.ids import instance_id
from benchmarks.cube_speed import COLUMNS, DATES, GEOCUBE, ROWS, TILE, VARIABLE, Scene, make_scene
from benchmarks.quick import Section, machine, print_section

NO_COMPRESSION = -3
TICKS_A_SECOND = 100


@dataclass(frozen=True)
class Way:
    """A server, an instance and records to read, and the way of reading.

    Attributes:
        process: process id of the server, to measure its processor time; None if it is not acd's.
        clients: number of concurrent requests.
    """

    name: str
    stub: GeocubeStub
    instance: str
    records: Sequence[str]
    level: int = NO_COMPRESSION
    clients: int = 1
    process: int | None = None

    def request(self, tile: Tile) -> GetCubeRequest:
        """The request for all dates of a tile."""
        return GetCubeRequest(
            records=RecordIdList(ids=self.records),
            instances_id=[self.instance],
            crs=tile.grid.crs,
            pix_to_crs=transform_to_message(tile.grid),
            size=Size(width=TILE, height=TILE),
            compression_level=self.level,
            protocol_v11x=True,
        )

    def run(self, tiles: Iterable[Tile]) -> int:
        """Request every tile, and return the number of images received."""
        if self.clients == 1:
            return sum(_count(self.stub.GetCube(self.request(tile))) for tile in tiles)
        with ThreadPoolExecutor(self.clients) as pool:
            return sum(pool.map(lambda tile: _count(self.stub.GetCube(self.request(tile))), tiles))

    def processor_seconds(self) -> float:
        """Processor seconds of the server so far; NaN if unknown."""
        if self.process is None:
            return float("nan")
        fields = Path(f"/proc/{self.process}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS_A_SECOND


def _count(stream: Iterable[GetCubeResponse]) -> int:
    """Count the images of a stream."""
    images = 0
    for message in stream:
        if message.WhichOneof("response") == "header" and message.header.data:
            images += 1
    return images


def check(scene: Scene, way: Way) -> None:
    """Check that the stream has exactly the pixels that were written."""
    for tile in scene.tiles[:: len(scene.tiles) - 1]:
        pixels = np.stack(list(_images(way.stub.GetCube(way.request(tile)), inflate=way.level != NO_COMPRESSION)))
        np.testing.assert_array_equal(pixels, scene.images_of(tile))


def _images(stream: Iterable[GetCubeResponse], *, inflate: bool) -> Iterator[Pixels]:
    for message in stream:
        if message.WhichOneof("response") == "header":
            data = zlib.decompress(message.header.data, -15) if inflate else message.header.data
            yield np.frombuffer(data, "int16").reshape(TILE, TILE)


@contextmanager
def serving(folder: str) -> Iterator[tuple[str, int]]:
    """Serve a cube in another process; yields the address and the process id."""
    command = [sys.executable, "-m", "acdtask", "serve", "--cube", folder, "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        if server.stdout is None:
            raise RuntimeError("the server has no pipe")
        try:
            yield server.stdout.readline().strip().rpartition("/")[2], server.pid
        finally:
            server.terminate()
            server.wait(60)


def register(stub: GeocubeStub, scene: Scene) -> tuple[str, list[str]]:
    """Index the scene's COGs in a Geocube under a new name, and return the ids of the instance and of the records."""
    name = f"acd-benchmark-{uuid.uuid4().hex[:8]}"
    area = area_to_message({**scene.records[0].footprint})
    area.polygons[0].linearrings[0].points[0].lon += int(name[-4:], 16) * 1e-6  # an AOI that does not exist yet
    area.polygons[0].linearrings[0].points[-1].CopyFrom(area.polygons[0].linearrings[0].points[0])
    aoi = stub.CreateAOI(CreateAOIRequest(aoi=area)).id
    names = [(f"{name}/{number}", record.datetime) for number, record in enumerate(scene.records)]
    new_records = [NewRecord(name=label, time=moment_to_message(moment), aoi_id=aoi) for label, moment in names]
    records = list(stub.CreateRecords(CreateRecordsRequest(records=new_records)).ids)
    dformat = dformat_to_message(VARIABLE.dformat)
    resampling = RESAMPLINGS[VARIABLE.resampling]
    variable = Variable(name=name, dformat=dformat, bands=["b"], resampling_alg=resampling)
    variable_id = stub.CreateVariable(CreateVariableRequest(variable=variable)).id
    instance = stub.InstantiateVariable(
        InstantiateVariableRequest(variable_id=variable_id, instance_name="cog")
    ).instance.id
    for record, identity in zip(scene.records, records, strict=True):
        dataset = Dataset(record_id=identity, instance_id=instance, bands=[1], dformat=dformat, exponent=1)
        dataset.real_min_value, dataset.real_max_value = VARIABLE.dformat.min, VARIABLE.dformat.max
        uri = scene.cube.store.address_of(f"data/{record.name}.tif")
        stub.IndexDatasets(IndexDatasetsRequest(container=Container(uri=uri, datasets=[dataset])))
    return instance, records


def measure(scene: Scene, ways: Sequence[Way], rounds: int) -> Section:
    """Measure MB/s of each way alternately, and the processor seconds of client and server in the best round."""
    size = scene.images.nbytes / 1e6
    results: dict[str, list[tuple[float, float, float]]] = {way.name: [] for way in ways}
    for _ in range(rounds):
        for way in ways:
            before, start_client, start = way.processor_seconds(), time.process_time(), time.perf_counter()
            if way.run(scene.tiles) != len(scene.tiles) * DATES:
                raise RuntimeError(f"{way.name}: images are missing")
            seconds = time.perf_counter() - start
            results[way.name].append((seconds, time.process_time() - start_client, way.processor_seconds() - before))
    rows: list[tuple[str, ...]] = []
    for name, times in results.items():
        best, client, server = min(times)
        rates = size / best, size / statistics.median(seconds for seconds, _, _ in times)
        processor_time = f"{client:.2f} + {server:.2f} s"
        rows.append((name, f"{rates[0]:.0f}", f"{rates[1]:.0f}", f"{rates[0] / GEOCUBE:.1f}x", processor_time))
    title = f"{size:.0f} MB over gRPC: {ROWS * COLUMNS} cubes of {DATES} images of {TILE} px, int16, MB/s"
    header = (
        "server",
        "best",
        "median",
        f"best / {GEOCUBE} MB/s of Geocube",
        "processor time in the best: client + server",
    )
    return Section(title, header, rows)


def main() -> None:
    """Make the cube, serve it, check the pixels, and print the throughput."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--against", metavar="HOST:PORT", help="also measure this Geocube, alternately")
    arguments = parser.parse_args()
    print(machine())
    with tempfile.TemporaryDirectory() as folder:
        scene = make_scene(folder)
        with serving(folder) as (address, process), grpc.insecure_channel(address) as channel:
            ways = _ways(scene, GeocubeStub(channel), process)
            if arguments.against:
                with grpc.insecure_channel(arguments.against) as other:
                    stub = GeocubeStub(other)
                    version = stub.Version(pb.GetVersionRequest()).Version
                    ways.append(Way(f"Geocube {version}, COGs", stub, *register(stub, scene)))
                    _compare(scene, ways, arguments.rounds)
            else:
                _compare(scene, ways, arguments.rounds)


def _compare(scene: Scene, ways: Sequence[Way], rounds: int) -> None:
    for way in ways:
        check(scene, way)
    print_section(measure(scene, ways, rounds))


def _ways(scene: Scene, stub: GeocubeStub, process: int) -> list[Way]:
    records = [record.id for record in scene.records]
    zarr, cog = (instance_id(VARIABLE.name, name) for name in ("zarr", "cog"))
    how: list[tuple[str, str, int, int]] = [
        ("acd, consolidated Zarr", zarr, NO_COMPRESSION, 1),
        ("acd, consolidated Zarr, two concurrent requests", zarr, NO_COMPRESSION, 2),
        ("acd, consolidated Zarr, stored DEFLATE (level 0)", zarr, 0, 1),
        ("acd, COGs", cog, NO_COMPRESSION, 1),
        ("acd, COGs, two concurrent requests", cog, NO_COMPRESSION, 2),
    ]
    return [Way(name, stub, instance, records, level, clients, process) for name, instance, level, clients in how]


if __name__ == "__main__":
    main()
