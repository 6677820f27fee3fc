"""`python -m benchmarks.serve_speed`: megabytes of pixels a second out of `acdtask serve`, on the loopback.

24 tiles of 256 x 256 px, 30 dates of int16 coherence, a GetCube for each tile, read by a plain generated stub. The
server is a process of its own. `--against HOST:PORT` asks a Geocube for the same cubes by turns; it must see the same
files, and gets an AOI, records and a variable for them.
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
from acdtask.cube.protocol.convert import RESAMPLINGS, area_to_wire, dformat_to_wire, moment_to_wire, transform_to_wire
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
    """Who is asked, for which instance and records, and how.

    Attributes:
        process: the server's, to see how long it was busy; None if it is not ours.
        clients: cubes that are asked for at once.
    """

    name: str
    stub: GeocubeStub
    instance: str
    records: Sequence[str]
    level: int = NO_COMPRESSION
    clients: int = 1
    process: int | None = None

    def request(self, tile: Tile) -> GetCubeRequest:
        """Every date of a tile."""
        return GetCubeRequest(
            records=RecordIdList(ids=self.records),
            instances_id=[self.instance],
            crs=tile.grid.crs,
            pix_to_crs=transform_to_wire(tile.grid),
            size=Size(width=TILE, height=TILE),
            compression_level=self.level,
            protocol_v11x=True,
        )

    def run(self, tiles: Iterable[Tile]) -> int:
        """Ask for every tile, and return how many images came."""
        if self.clients == 1:
            return sum(_count(self.stub.GetCube(self.request(tile))) for tile in tiles)
        with ThreadPoolExecutor(self.clients) as pool:
            return sum(pool.map(lambda tile: _count(self.stub.GetCube(self.request(tile))), tiles))

    def busy(self) -> float:
        """Seconds that the server has been on a core; NaN if it is not ours."""
        if self.process is None:
            return float("nan")
        fields = Path(f"/proc/{self.process}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS_A_SECOND


def _count(stream: Iterable[GetCubeResponse]) -> int:
    """Images with all of their bytes; they are touched as a reader does that keeps them."""
    images = 0
    for message in stream:
        if message.WhichOneof("response") == "header" and message.header.data:
            images += 1
    return images


def check(scene: Scene, way: Way) -> None:
    """The stream has the very pixels that were written."""
    for tile in scene.tiles[:: len(scene.tiles) - 1]:
        found = np.stack(list(_images(way.stub.GetCube(way.request(tile)), inflate=way.level != NO_COMPRESSION)))
        np.testing.assert_array_equal(found, scene.of(tile))


def _images(stream: Iterable[GetCubeResponse], *, inflate: bool) -> Iterator[Pixels]:
    for message in stream:
        if message.WhichOneof("response") == "header":
            data = zlib.decompress(message.header.data, -15) if inflate else message.header.data
            yield np.frombuffer(data, "int16").reshape(TILE, TILE)


@contextmanager
def serving(folder: str) -> Iterator[tuple[str, int]]:
    """The cube behind a server in a process of its own: its address and its process."""
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
    """Index the scene's COGs in a Geocube under a new name; the id of the instance and those of the records."""
    name = f"acd-benchmark-{uuid.uuid4().hex[:8]}"
    area = area_to_wire({**scene.records[0].footprint})
    area.polygons[0].linearrings[0].points[0].lon += int(name[-4:], 16) * 1e-6  # an AOI that is not there yet
    area.polygons[0].linearrings[0].points[-1].CopyFrom(area.polygons[0].linearrings[0].points[0])
    aoi = stub.CreateAOI(CreateAOIRequest(aoi=area)).id
    names = [(f"{name}/{number}", one.datetime) for number, one in enumerate(scene.records)]
    new = [NewRecord(name=label, time=moment_to_wire(moment), aoi_id=aoi) for label, moment in names]
    records = list(stub.CreateRecords(CreateRecordsRequest(records=new)).ids)
    dformat = dformat_to_wire(VARIABLE.dformat)
    resampling = RESAMPLINGS[VARIABLE.resampling]
    variable = Variable(name=name, dformat=dformat, bands=["b"], resampling_alg=resampling)
    made = stub.CreateVariable(CreateVariableRequest(variable=variable)).id
    instance = stub.InstantiateVariable(InstantiateVariableRequest(variable_id=made, instance_name="cog")).instance.id
    for record, identity in zip(scene.records, records, strict=True):
        one = Dataset(record_id=identity, instance_id=instance, bands=[1], dformat=dformat, exponent=1)
        one.real_min_value, one.real_max_value = VARIABLE.dformat.min, VARIABLE.dformat.max
        uri = scene.cube.store.address_of(f"data/{record.name}.tif")
        stub.IndexDatasets(IndexDatasetsRequest(container=Container(uri=uri, datasets=[one])))
    return instance, records


def measured(scene: Scene, ways: Sequence[Way], rounds: int) -> Section:
    """Megabytes a second of each way, by turns, and seconds that client and server were on a core in the best round."""
    size = scene.images.nbytes / 1e6
    seen: dict[str, list[tuple[float, float, float]]] = {way.name: [] for way in ways}
    for _ in range(rounds):
        for way in ways:
            before, start_busy, start = way.busy(), time.process_time(), time.perf_counter()
            if way.run(scene.tiles) != len(scene.tiles) * DATES:
                raise RuntimeError(f"{way.name}: images are missing")
            seconds = time.perf_counter() - start
            seen[way.name].append((seconds, time.process_time() - start_busy, way.busy() - before))
    rows: list[tuple[str, ...]] = []
    for name, times in seen.items():
        best, client, server = min(times)
        rates = size / best, size / statistics.median(seconds for seconds, _, _ in times)
        busy = f"{client:.2f} + {server:.2f} s"
        rows.append((name, f"{rates[0]:.0f}", f"{rates[1]:.0f}", f"{rates[0] / GEOCUBE:.1f}x", busy))
    title = f"{size:.0f} MB over gRPC: {ROWS * COLUMNS} cubes of {DATES} images of {TILE} px, int16, MB/s"
    header = ("way", "best", "median", f"best / {GEOCUBE} MB/s of Geocube", "busy in the best: client + server")
    return Section(title, header, rows)


def main() -> None:
    """Make the cube, serve it, check what comes, and print the rates."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--against", metavar="HOST:PORT", help="a Geocube to ask too, by turns")
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
    print_section(measured(scene, ways, rounds))


def _ways(scene: Scene, stub: GeocubeStub, process: int) -> list[Way]:
    records = [record.id for record in scene.records]
    zarr, cog = (instance_id(VARIABLE.name, name) for name in ("zarr", "cog"))
    how: list[tuple[str, str, int, int]] = [
        ("acd, consolidated Zarr", zarr, NO_COMPRESSION, 1),
        ("acd, consolidated Zarr, two cubes at once", zarr, NO_COMPRESSION, 2),
        ("acd, consolidated Zarr, stored DEFLATE (level 0)", zarr, 0, 1),
        ("acd, COGs", cog, NO_COMPRESSION, 1),
        ("acd, COGs, two cubes at once", cog, NO_COMPRESSION, 2),
    ]
    return [Way(name, stub, instance, records, level, clients, process) for name, instance, level, clients in how]


if __name__ == "__main__":
    main()
