"""Web map tiles of the cube."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image as Picture

from acdtask.cube.local.cube import LocalCube
from acdtask.cube.model import RecordQuery, Variable
from acdtask.cube.protocol.cubes_pb2 import GetTileRequest
from acdtask.cube.protocol.records_pb2 import GroupedRecordIds, RecordFilters
from acdtask.errors import AcdError, ErrorCode
from acdtask.raster.data_format import DataFormat
from acdtask.raster.grid import Layout, WebMercatorGrid
from acdtask.serve.ids import instance_id
from acdtask.serve.palettes import Colour, Palette, Palettes
from acdtask.serve.pictures import render_tile
from tests.cube.builders import COHERENCE, grid, image, record
from tests.serve.streaming import Served, filled, serving

Z, X, Y = 11, 1062, 690
TILE = Layout(name="web", grid=WebMercatorGrid(zoom=Z)).tile(X, Y).grid
MASTER = instance_id("CoherenceVV", "master")
IDS = [record(k).id for k in range(2)]


@pytest.fixture(scope="module")
def cube(tmp_path_factory: pytest.TempPathFactory) -> LocalCube:
    """Two records on the grid of a tile: a ramp, and a uniform square on top of its centre."""
    ramp = np.repeat(np.linspace(0, 1000, 256).astype("int16")[np.newaxis], 256, 0)
    ramp[:10] = -1
    square = np.full((256, 256), -1, "int16")
    square[100:150, 100:150] = 400
    images = [(record(0), ramp, TILE), (record(1), square, TILE)]
    variable = COHERENCE.model_copy(update={"palette": "fire"})
    cube = filled(str(tmp_path_factory.mktemp("cube") / "c"), variable, images)
    points = [(0, 0, 0, 0, 255), (0.5, 255, 0, 0, 255), (1, 255, 255, 0, 128)]
    colours = tuple(Colour(value=value, r=r, g=g, b=b, a=a) for value, r, g, b, a in points)
    Palettes(cube.store).create(Palette(name="fire", colours=colours))
    return cube


@pytest.fixture(scope="module")
def served(cube: LocalCube) -> Iterator[Served]:
    with serving(cube) as server:
        yield server


def opened(data: bytes) -> NDArray[np.uint8]:
    with Picture.open(io.BytesIO(data)) as picture:
        assert (picture.format, picture.mode, picture.size) == ("PNG", "RGBA", (256, 256))
        return np.array(picture)


def test_colours_are_interpolated_between_the_points_of_a_palette(cube: LocalCube) -> None:
    picture = opened(render_tile(cube, MASTER, IDS[:1], (X, Y, Z), (0, 1000)))
    assert not picture[:10].any()  # nodata is transparent
    values = np.linspace(0, 1000, 256).astype("int16") / 1000
    for channel, at in enumerate(((0, 255, 255), (0, 0, 255), (0, 0, 0), (255, 255, 128))):
        np.testing.assert_array_equal(picture[10], picture[200])
        np.testing.assert_allclose(picture[10, :, channel], np.interp(values, (0, 0.5, 1), at), atol=0.5)


def test_limits_stretch_the_palette_and_values_beyond_are_clamped(cube: LocalCube) -> None:
    picture = opened(render_tile(cube, MASTER, IDS[:1], (X, Y, Z), (400, 600)))
    assert picture[50, 0].tolist() == [0, 0, 0, 255]
    assert picture[50, 255].tolist() == [255, 255, 0, 128]
    middle = int(np.argmin(abs(np.linspace(0, 1000, 256) - 500)))
    assert abs(int(picture[50, middle, 0]) - 255) <= 5
    assert (
        opened(render_tile(cube, MASTER, IDS[:1], (X, Y, Z), (0, 0))).tolist()
        == opened(render_tile(cube, MASTER, IDS[:1], (X, Y, Z), (0, 1000))).tolist()
    )  # 0, 0 is the variable's range


def test_the_later_record_lies_on_top(cube: LocalCube) -> None:
    alone = opened(render_tile(cube, MASTER, IDS[:1], (X, Y, Z), (0, 1000)))
    both = opened(render_tile(cube, MASTER, IDS, (X, Y, Z), (0, 1000)))
    assert both[120, 120].tolist() == [204, 0, 0, 255]
    both[100:150, 100:150] = alone[100:150, 100:150]
    np.testing.assert_array_equal(both, alone)
    turned = opened(render_tile(cube, MASTER, IDS[::-1], (X, Y, Z), (0, 1000)))
    np.testing.assert_array_equal(turned, alone)
    by_query = render_tile(cube, MASTER, RecordQuery(tags={"orbit": "37"}), (X, Y, Z), (0, 1000))
    assert opened(by_query)[120, 120].tolist() == [204, 0, 0, 255]


def test_another_zoom_shows_the_same_ground(cube: LocalCube) -> None:
    above = opened(render_tile(cube, MASTER, IDS[:1], (X // 2, Y // 2, Z - 1), (0, 1000)))
    row, column = 128 * (Y % 2), 128 * (X % 2)
    assert (above[row + 10 : row + 128, column + 1 : column + 127, 3] > 0).all()
    above[row : row + 128, column : column + 128] = 0
    assert not above.any()
    assert not opened(render_tile(cube, MASTER, IDS[:1], (0, 0, Z), (0, 1000))).any()


def test_without_a_palette_it_is_grey_and_three_bands_are_colours(tmp_path: Path) -> None:
    dformat = DataFormat(dtype="uint8", nodata=0, min=0, max=255)
    for bands, name in ((1, "One"), (3, "Three")):
        variable = Variable(name=name, dformat=dformat, bands=tuple("rgb"[:bands]))
        pixels = np.random.default_rng(0).integers(1, 256, (bands, 256, 256)).astype("uint8")
        pixels[0, :5] = 0
        cube = filled(str(tmp_path / name), variable, [(record(0), pixels, TILE)])
        picture = opened(render_tile(cube, instance_id(name, "master"), IDS[:1], (X, Y, Z), (0, 255)))
        assert not picture[:5].any()
        np.testing.assert_array_equal(
            picture[5:, :, :3], np.broadcast_to(np.moveaxis(pixels, 0, -1)[5:], (251, 256, 3))
        )
        assert (picture[5:, :, 3] == 255).all()


def test_a_tile_is_sent_over_grpc(served: Served) -> None:
    fields: dict[str, Any] = {"instance_id": MASTER, "x": X, "y": Y, "z": Z, "min": 0.0, "max": 1000.0}
    by_ids = served.geocube.GetXYZTile(GetTileRequest(records=GroupedRecordIds(ids=IDS), **fields))
    assert by_ids.image.data == render_tile(served.cube, MASTER, IDS, (X, Y, Z), (0, 1000))
    by_filters = served.geocube.GetXYZTile(GetTileRequest(filters=RecordFilters(), **fields))
    assert by_filters.image.data == by_ids.image.data


@pytest.mark.parametrize(
    ("changes", "code", "message"),
    [
        ({"instance_id": "x"}, grpc.StatusCode.INVALID_ARGUMENT, "Invalid Instance.uuid x: invalid UUID length: 1"),
        ({"instance_id": IDS[0]}, grpc.StatusCode.NOT_FOUND, f"Variable Instance with id: {IDS[0]}"),
        ({"records": None}, grpc.StatusCode.INVALID_ARGUMENT, "either record ids or record filters must be provided"),
        ({"records": GroupedRecordIds()}, grpc.StatusCode.INVALID_ARGUMENT, "At least one record must be provided"),
        ({"x": -1}, grpc.StatusCode.INVALID_ARGUMENT, f"Invalid tile: -1/{Y}/{Z}"),
        ({"z": 25}, grpc.StatusCode.INVALID_ARGUMENT, f"Invalid tile: {X}/{Y}/25"),
        ({"y": 2**Z}, grpc.StatusCode.INVALID_ARGUMENT, f"Invalid tile: {X}/{2**Z}/{Z}"),
        ({"min": 5, "max": 5}, grpc.StatusCode.INVALID_ARGUMENT, "min 5 must be less than max 5"),
        ({"max": float("nan")}, grpc.StatusCode.INVALID_ARGUMENT, "min 0 must be less than max nan"),
        ({"max": float("inf")}, grpc.StatusCode.INVALID_ARGUMENT, "min 0 must be less than max inf"),
    ],
)
def test_an_invalid_tile_is_refused(
    served: Served, changes: dict[str, object], code: grpc.StatusCode, message: str
) -> None:
    fields: dict[str, Any] = {"instance_id": MASTER, "x": X, "y": Y, "z": Z, "records": GroupedRecordIds(ids=IDS)}
    with pytest.raises(grpc.RpcError) as caught:
        served.geocube.GetXYZTile(GetTileRequest(**(fields | changes)))
    assert (caught.value.code(), caught.value.details()) == (code, message)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    ground = grid()
    cube = filled(str(tmp_path / "c"), COHERENCE, [(record(0), image(ground), ground)])
    assert opened(render_tile(cube, MASTER, IDS[:1], (33, 21, 6), (0, 1000))).any()
    cube.store.delete("pixels/0.tif")
    with pytest.raises(AcdError) as caught:
        render_tile(cube, MASTER, IDS[:1], (33, 21, 6), (0, 1000))
    assert caught.value.code is ErrorCode.IMAGE_FAILED
    assert "pixels/0.tif is missing" in caught.value.detail
