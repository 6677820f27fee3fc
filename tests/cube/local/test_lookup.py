"""A pixel has the same value on every grid: that of its tile, consolidated or not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from acdtask.cube.local.cube import LocalCube
from acdtask.cube.local.lookup import datasets_of_grids
from acdtask.cube.local.stack import StackWriter
from acdtask.cube.model import Addition, Dataset, Slice
from acdtask.raster.data_format import Pixels
from acdtask.raster.grid import Grid, Layout, RegularGrid, Tile, Window
from acdtask.raster.warp import pixel_offset
from tests.conftest import new_s3_address
from tests.cube.builders import COHERENCE, MASTER, dataset, grid, image, put_image, record

OF = grid(100, 80)
NODATA = -1


def layout_of(size: int, name: str = "tiles") -> Layout:
    cells = RegularGrid(crs=OF.crs, resolution=20, cell_size=size, ox=OF.transform[2], oy=OF.transform[5])
    return Layout(name=name, grid=cells)


def tiles_of(layout: Layout) -> list[Tile]:
    return layout.cells_within(OF.bounds)


def put_copy(cube: LocalCube, number: int, tile: Tile, pixels: Pixels) -> Dataset:
    """Write a consolidated copy of a record for a tile, with pixels that may differ from those of the record."""
    key = f"{tile.layout}-{number}-{tile.i}-{tile.j}.zarr"
    writer = StackWriter(cube.store, key, tile.grid, [record(number)], COHERENCE)
    height, width = tile.grid.shape
    writer.write(Window(row=0, column=0, height=height, width=width), pixels[np.newaxis])
    writer.finish()
    return dataset(record(number), key, subdir="0", grid=tile.grid, layout=tile.layout, cell=tile.cell)


def read(cube: LocalCube, on: Grid, layout: str = "", numbers: tuple[int, ...] = (0, 1)) -> Pixels:
    """Read the mosaic of the records on a grid."""
    ids = [record(number).id for number in numbers]
    (found,) = cube.where("CoherenceVV", "master", ids, [on], layout)
    return np.asarray(cube.read(on, [Slice(label="", datasets=tuple(found))], COHERENCE)[0])


@pytest.fixture(scope="module", params=["folder", pytest.param("s3", marks=pytest.mark.s3)])
def cube(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> LocalCube:
    """Two records, some tiles of which are consolidated, with other pixels than the records, so that a reader of the
    wrong container is detected."""
    s3 = request.param == "s3"
    cube = LocalCube.create(new_s3_address() if s3 else str(tmp_path_factory.mktemp("where") / "cube"))
    datasets = []
    for number in (0, 1):
        pixels = image(OF, seed=number)
        pixels[30 * number : 30 * number + 25, 20:60] = NODATA
        datasets.append(put_image(cube.store, f"{number}.tif", pixels, OF, record_id=record(number).id))
    for number, size, name in ((0, 24, "tiles"), (1, 24, "tiles"), (1, 33, "wider")):
        for tile in tiles_of(layout_of(size, name)):
            if (tile.i + 2 * tile.j + number) % 3:
                continue
            pixels = image(tile.grid, seed=1000 * size + 10 * tile.i + tile.j)
            pixels[:9, :13] = NODATA
            datasets.append(put_copy(cube, number, tile, pixels))
    cube.commit(
        Addition([record(0), record(1)], datasets, [COHERENCE], [MASTER], [layout_of(24), layout_of(33, "wider")])
    )
    return cube


@settings(deadline=None, max_examples=60)
@given(
    place=st.tuples(st.integers(-40, 110), st.integers(-40, 90)),
    size=st.tuples(st.integers(1, 120), st.integers(1, 120)),
    name=st.sampled_from(["tiles", "wider"]),
)
def test_any_grid_has_what_the_tiles_below_it_have(
    cube: LocalCube, place: tuple[int, int], size: tuple[int, int], name: str
) -> None:
    wanted = Window(row=place[1], column=place[0], height=size[1], width=size[0])
    whole = np.full((400, 400), NODATA, np.int16)
    for tile in layout_of(24 if name == "tiles" else 33, name).cells_within(OF.grown(33).bounds):
        row, column = tile.origin
        height, width = tile.grid.shape
        whole[row + 100 :, column + 100 :][:height, :width] = read(cube, tile.grid, name)
    expected = whole[100 + wanted.row :, 100 + wanted.column :][: wanted.height, : wanted.width]
    np.testing.assert_array_equal(read(cube, OF.window(wanted), name), expected)


@settings(deadline=None, max_examples=30)
@given(row=st.integers(0, 79), column=st.integers(0, 99), margin=st.integers(1, 60))
def test_without_a_layout_a_pixel_has_one_value_too(cube: LocalCube, row: int, column: int, margin: int) -> None:
    alone = OF.window(Window(row=row, column=column, height=1, width=1))
    assert read(cube, alone.grown(margin))[margin, margin] == read(cube, alone)[0, 0]


def test_the_same_record_may_be_consolidated_in_a_tile_and_not_in_its_neighbour(cube: LocalCube) -> None:
    (found,) = cube.where("CoherenceVV", "master", [record(0).id], [layout_of(24).tile(0, 0).grid.grown(16)], "tiles")
    assert {chosen.cell for chosen in found} == {"", "0/0", "1/1"}
    (found,) = cube.where("CoherenceVV", "master", [record(0).id], [layout_of(24).tile(0, 0).grid], "tiles")
    assert [chosen.cell for chosen in found] == ["0/0"]


def test_copies_of_the_layout_replace_own_datasets() -> None:
    first, second = record(1), record(2)
    layout, other = layout_of(24), layout_of(24, "z9")
    native = [dataset(first, "1.tif"), dataset(second, "2.tif")]
    here, elsewhere = layout.tile(1, 1), layout.tile(1, 2)
    copies = [
        dataset(first, "x.zarr", layout="tiles", cell=here.cell, grid=here.grid),
        dataset(second, "y.zarr", layout="tiles", cell=elsewhere.cell, grid=elsewhere.grid),
        dataset(second, "z.zarr", layout="z9", cell=here.cell, grid=other.tile(1, 1).grid),
    ]
    order = [second.id, first.id]

    def uris_of(of: list[Dataset], on: Grid, layout: str) -> list[str]:
        (picked,) = datasets_of_grids(of, order, [on], layout)
        return [chosen.uri for chosen in picked]

    everything = native + copies
    assert uris_of(everything, here.grid, "tiles") == ["2.tif", "x.zarr"]
    assert uris_of(everything, here.grid, "z9") == ["z.zarr", "1.tif"]
    assert uris_of(everything, here.grid, "") == ["z.zarr", "x.zarr"]
    assert uris_of(everything, layout.tile(0, 0).grid, "tiles") == ["2.tif", "1.tif"]
    assert uris_of(everything, here.grid.grown(1), "tiles") == ["2.tif", "y.zarr", "1.tif", "x.zarr"]
    assert uris_of(copies[1:2], here.grid, "tiles") == []


def test_the_tiles_of_a_product_are_read_on_any_grid(tmp_path: Path) -> None:
    """A record with tiles only, such as the mean of a baseline."""
    cube, pixels = LocalCube.create(str(tmp_path / "cube")), image(OF, seed=5)
    datasets = []
    for tile in tiles_of(layout_of(7)):
        row, column = tile.origin
        part = np.full(tile.grid.shape, NODATA, np.int16)
        within = pixels[row : row + 7, column : column + 7]
        part[: within.shape[0], : within.shape[1]] = within
        key = f"{tile.i}-{tile.j}.tif"
        datasets.append(put_image(cube.store, key, part, tile.grid, layout="tiles", cell=tile.cell))
    cube.commit(Addition([record(0)], datasets, [COHERENCE], [MASTER], [layout_of(7)]))
    for on in (OF, OF.window(Window(row=11, column=20, height=7, width=30))):
        row, column = pixel_offset(on, OF) or (0, 0)
        for layout in ("", "tiles"):
            expected = pixels[row : row + on.height, column : column + on.width]
            np.testing.assert_array_equal(read(cube, on, layout, numbers=(0,)), expected)
    turned = grid(40, 30, crs="EPSG:32633", transform=(20, 0, -21000, 0, -20, 5630000))
    assert read(cube, turned, numbers=(0,)).shape == (30, 40)
