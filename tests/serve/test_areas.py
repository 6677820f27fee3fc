"""Areas that could exhaust a server: many points, intersections and cells, and clients that leave."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import grpc
import numpy as np
import pytest
import shapely

from acdtask.cube.protocol import layouts_pb2, records_pb2
from acdtask.cube.protocol.services_pb2_grpc import GeocubeStub
from acdtask.errors import AcdError, ErrorCode
from acdtask.raster.grid import Layout, RegularGrid
from acdtask.raster.repair import MOST_CROSSINGS, repaired
from acdtask.raster.tiling import tiles_of
from tests.serve.requests import SQUARE, area, layout, list_records, refusal
from tests.serve.test_serve_process import started

POINTS = 20_000
PATIENCE_S = 30.0

Ring = list[tuple[float, float]]


def tangle(count: int) -> Ring:
    """A ring through random points, which intersects itself everywhere."""
    points = np.random.default_rng(0).uniform([7.0, 50.0], [7.4, 50.4], (count, 2))
    return [(float(lon), float(lat)) for lon, lat in (*points, points[0])]


def comb(teeth: int) -> Ring:
    """A ring with long teeth, valid but slow to compare with anything."""
    lons, lats = np.linspace(7, 8, teeth), np.where(np.arange(teeth) % 2, 50.0, 51.0)
    return [*zip(lons.tolist(), lats.tolist(), strict=True), (8.0, 49.9), (7.0, 49.9), (7.0, lats[0])]


def tiles_asked(ring: Ring, **parameters: str) -> layouts_pb2.TileAOIRequest:
    return layouts_pb2.TileAOIRequest(aoi=area(ring), layout=layout("", parameters=parameters))


def peak_mb(process: subprocess.Popen[str]) -> float:
    lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
@pytest.mark.parametrize(
    ("ring", "parameters"), [(tangle(POINTS), {}), (comb(9000), {"resolution": "1", "cell_size": "256"})]
)
def test_a_too_complex_area_is_refused_within_time_and_memory(
    tmp_path: Path, ring: Ring, parameters: dict[str, str]
) -> None:
    with started(tmp_path) as server, grpc.insecure_channel(server.address) as channel:
        stub, began = GeocubeStub(channel), time.monotonic()
        refused = refusal(lambda: stub.TileAOI(tiles_asked(ring, **parameters), timeout=PATIENCE_S))
        assert refused.code == "INVALID_ARGUMENT", refused
        assert time.monotonic() - began < PATIENCE_S
        assert peak_mb(server.running) < 500


def test_a_search_ends_when_its_client_leaves(tmp_path: Path) -> None:
    with started(tmp_path) as server, grpc.insecure_channel(server.address) as channel:
        call = GeocubeStub(channel).TileAOI(tiles_asked(comb(9000), resolution="1", cell_size="256"))
        time.sleep(3)
        began = busy_s(server.running)
        call.cancel()
        _until(lambda: any(event["event"] == "call.done" for event in server.events()), 6)
        assert busy_s(server.running) - began < 6
        (done,) = [event for event in server.events() if event["event"] == "call.done"]
        assert done["code"] == "CANCELLED"


def busy_s(process: subprocess.Popen[str]) -> float:
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


def _until(condition: Callable[[], bool], seconds: float) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "the condition was not met in time"
        time.sleep(0.1)


def test_an_area_of_too_many_points_is_refused_by_every_call(stub: GeocubeStub) -> None:
    large = area([(7 + k * 1e-6, 50.0) for k in range(100_000)] + [(8.0, 51.0), (7.0, 50.0)])
    for call in (
        lambda: stub.CreateAOI(records_pb2.CreateAOIRequest(aoi=large)),
        lambda: list_records(stub, aoi=large),
        lambda: stub.TileAOI(layouts_pb2.TileAOIRequest(aoi=large, layout=layout(""))),
    ):
        refused = refusal(call)
        assert refused.code == "INVALID_ARGUMENT"
        assert "more than 100000" in refused.message


def test_cells_of_many_parts_are_counted_before_they_are_created(stub: GeocubeStub) -> None:
    parts = [area([(7 + k * 1e-4, 50), (8, 51), (8.00001, 51), (7 + k * 1e-4, 50)]).polygons[0] for k in range(600)]
    request = tiles_asked(list(SQUARE), resolution="20", cell_size="32")
    request.aoi.CopyFrom(records_pb2.AOI(polygons=parts))
    refused = refusal(lambda: stub.TileAOI(request, timeout=PATIENCE_S))
    assert refused.code == "INVALID_ARGUMENT"


def test_a_shape_with_few_crossings_is_repaired_and_one_with_many_refused() -> None:
    few = repaired(shapely.Polygon(tangle(12)))
    assert few.is_valid
    with pytest.raises(AcdError) as caught:
        repaired(shapely.Polygon(tangle(100)))
    assert caught.value.code is ErrorCode.AREA_TOO_COMPLEX
    assert f"more than {MOST_CROSSINGS} times" in str(caught.value)


@pytest.mark.parametrize("cell_size", [16, 100, 1024])
def test_a_search_by_blocks_finds_the_same_cells_as_a_search_by_cells(cell_size: int) -> None:
    grid = RegularGrid(crs="EPSG:4326", resolution=1e-3, cell_size=cell_size, ox=7.0, oy=51.0)
    kept, extent = Layout(name="lonlat", grid=grid), 1e-3 * cell_size
    shape = shapely.Point(7.6, 50.4).buffer(0.55).difference(shapely.Point(7.6, 50.4).buffer(0.2))
    inset = 1e-3 * extent / cell_size
    count = int(2 / extent) + 1
    expected = [
        f"{i}/{j}"
        for j in range(-count, count)
        for i in range(-count, count)
        if shape.intersects(
            shapely.box(
                7 + i * extent + inset,
                51 - (j + 1) * extent + inset,
                7 + (i + 1) * extent - inset,
                51 - j * extent - inset,
            )
        )
    ]
    assert [tile.cell for tile in tiles_of(shape, kept)] == expected
