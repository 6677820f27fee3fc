"""The windows in which a tile and its neighbours are read."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from acdtask.jobs.monitor.halo import mask_of, windows_around
from acdtask.raster.grid import Layout, RegularGrid


@given(data=st.data(), size=st.integers(1, 20), halo=st.integers(0, 25))
def test_windows_cover_the_tile_and_the_neighbours_that_are_asked_for_once_and_nothing_else(
    data: st.DataObject, size: int, halo: int
) -> None:
    layout = Layout(name="cut", grid=RegularGrid(crs="EPSG:32632", resolution=20, cell_size=size))
    tile = layout.tile(3, -2)
    reach = -(-halo // size)
    neighbours = [
        (i, j) for j in range(-2 - reach, -1 + reach) for i in range(3 - reach, 4 + reach) if (i, j) != (tile.i, tile.j)
    ]
    chosen = data.draw(st.sets(st.sampled_from(neighbours)) if neighbours else st.just(set()))
    windows = windows_around(tile, {f"{i}/{j}" for i, j in chosen}, halo)
    expected = np.zeros((size + 2 * halo, size + 2 * halo), int)
    for i, j in [*chosen, (tile.i, tile.j)]:
        row, column = (j + 2) * size + halo, (i - 3) * size + halo
        expected[max(row, 0) : max(row + size, 0), max(column, 0) : max(column + size, 0)] += 1
    covered = np.zeros_like(expected)
    for window in windows:
        covered[window.slices] += 1
    np.testing.assert_array_equal(covered, expected)
    np.testing.assert_array_equal(mask_of(windows, expected.shape), expected > 0)
    if len(chosen) == len(neighbours):
        assert len(windows) == 1
