"""However an image is cut, what came closest to a patch is what plain numpy sees on the whole."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from acdtask.change.fragments import FIXED, find_fragments
from acdtask.change.near_misses import NO_SCORE, Near
from acdtask.change.seams import join_near
from tests.change.round_trip import crossed
from tests.change.scenes import Scene, Tile, evidence_of, scenes, tilings

LOW, HIGH = 1.7, 3.0
ALL_NEIGHBOURS = np.ones((3, 3), bool)


def joined(scene: Scene, tiles: list[Tile]) -> Near:
    fragments = [
        find_fragments(
            evidence_of(scene, tile),
            low=LOW,
            high=HIGH,
            min_area=scene.min_area,
            origin=(tile[0], tile[1]),
        )
        for tile in tiles
    ]
    tables = [crossed(part.table) for part in fragments]
    return join_near(tables, [part.near for part in fragments])


def plain(scene: Scene) -> Near:
    z = scene.z.astype(np.float64)
    above = z > LOW
    regions, number = ndimage.label(above)
    area = np.bincount(regions.ravel(), minlength=number + 1)
    highest = [z[regions == k].max() for k in range(1, number + 1)]
    seeded = [k for k in range(1, number + 1) if highest[k - 1] > HIGH]
    wide = [z_max for k, z_max in enumerate(highest, 1) if k not in seeded and area[k] > scene.min_area]
    groups, _ = ndimage.label(np.isin(regions, seeded) & above, structure=ALL_NEIGHBOURS)
    return Near(
        z_max=NO_SCORE if np.isnan(z).all() else fixed(np.nanmax(z)),
        low_px=int(above.sum()),
        high_px=int((z > HIGH).sum()),
        region_px=int(area[1:].max(initial=0)),
        group_px=int(np.bincount(groups.ravel())[1:].max(initial=0)),
        wide_z_max=fixed(max(wide)) if wide else NO_SCORE,
    )


def fixed(score: float) -> int:
    return int(np.rint(score * FIXED))


@settings(deadline=None, max_examples=150)
@given(data=st.data(), scene=scenes())
def test_any_tiling_says_what_came_closest_on_the_whole_image(data: st.DataObject, scene: Scene) -> None:
    tiles = data.draw(tilings(*scene.z.shape))
    assert joined(scene, tiles) == plain(scene)
