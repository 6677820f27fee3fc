"""What jobs read of images, compared with the stored blocks that they need."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from acdtask.change.methods import PROFILES
from acdtask.change.steps.step import halo_of
from acdtask.cube.local.cube import LocalCube
from acdtask.engine.stages import blocks_of, gather_round, load_shard, make_plan, open_site, run_shard
from acdtask.jobs.monitor.job import MonitorJob
from acdtask.raster.data_format import Pixels
from tests.jobs.counted_reads import BLOCKS, REFERENCE, Area, Block, CountingProxy, counting_proxy, reads_counted

MOST = 1.5
"""Maximum of bytes read per byte needed."""
METADATA = 20_000
"""More than the bytes of a container's zarr.json, and fewer than those of a block."""


@pytest.fixture
def proxy(place: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[CountingProxy | None]:
    """The proxy that counts what is read of a cube on S3; None for a folder."""
    if "://" not in place:
        yield None
        return
    with counting_proxy(monkeypatch) as counting:
        yield counting


@pytest.mark.parametrize("consolidated", [True, False], ids=["containers", "cogs"])
@pytest.mark.parametrize(("profile", "first"), [("standard", 8), ("robust", 2)])
def test_all_rounds_read_little_more_than_the_blocks_that_they_need(
    place: str, proxy: CountingProxy | None, tmp_path: Path, profile: str, first: int, consolidated: bool
) -> None:
    """Both methods measure the image first. `robust` also looks around, and judges by the images of the baseline."""
    area = Area(place, tmp_path, consolidated=consolidated)
    end = REFERENCE + first
    area.bring(range(end))
    with reads_counted(proxy) as reads:
        area.baseline(profile=profile)
    ratios = {"baseline": reads.total / area.needed(range(REFERENCE))}

    def monitored(days: range, name: str = "monitor") -> float:
        with reads_counted(proxy) as reads:
            area.monitor(days.stop, profile=profile, name=name)
        assert len(reads.judged) == len(set(reads.judged)) < len(BLOCKS)
        assert bool(reads.judged) == (profile == "robust")
        return reads.total / (area.needed(days) + area.needed(range(REFERENCE), reads.judged))

    def reported(days: range) -> float:
        with reads_counted(proxy) as reads:
            area.report()
        return reads.total / area.needed(days)

    ratios["first run"], ratios["its report"] = monitored(range(REFERENCE, end)), reported(range(REFERENCE, end))
    area.bring([end])
    ratios["day"], ratios["report of a day"] = monitored(range(end, end + 1)), reported(range(end, end + 1))
    ratios["backfill"] = monitored(range(REFERENCE, end + 1), "backfill")
    assert all(1 <= ratio <= MOST for ratio in ratios.values()), ratios


@pytest.mark.parametrize("tiles", [1, 4, 16])
def test_the_tiles_of_a_pod_share_the_blocks_around_them(tmp_path: Path, tiles: int) -> None:
    """Each shard of a round is a pod of its own. The shards are squares, and each block around one is read once."""
    area = Area(str(tmp_path / "cube"), tmp_path, cell=256)
    days = range(REFERENCE, REFERENCE + 2)
    area.bring(range(days.stop))
    area.baseline(profile="robust")
    job, site = MonitorJob(), open_site(area.address)
    plan = make_plan(job, area.monitor_settings(days.stop, profile="robust", shard_tiles=tiles), site)
    totals: dict[str, int] = {}
    for round_name in plan.rounds[:2]:
        with reads_counted() as reads:
            for shard in range(plan.shards):
                with blocks_of(job, one_unit=tiles == 1) as blocks:
                    run_shard(job, plan, round_name, shard, open_site(area.address, blocks))
        totals[round_name] = sum(size for size in reads.sizes if size > METADATA)
        gather_round(job, plan, round_name, site)
    shards = [load_shard(job, plan, shard, site).work.names for shard in range(plan.shards)]
    around = [block for names in shards for block in blocks_around(names)]
    side = int(tiles**0.5)
    assert all(len(blocks_around(names)) <= (side + 2) ** 2 for names in shards)
    assert totals == {"statistics": area.needed(days), "label": area.needed(days, around)}
    assert 0 < halo_of(PROFILES["robust"].steps) < 256


def blocks_around(cells: tuple[str, ...]) -> set[Block]:
    """The blocks of tiles of one block each, and those next to them."""
    places = [(int(cell.split("/")[0]), int(cell.split("/")[1])) for cell in cells]
    return {(i + across, j + down) for i, j in places for across in (-1, 0, 1) for down in (-1, 0, 1)} & set(BLOCKS)


def test_the_images_of_a_tile_are_not_all_in_memory_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    area = Area(str(tmp_path / "cube"), tmp_path)
    area.bring(range(REFERENCE + 20))
    area.baseline(profile="standard")
    shapes: list[tuple[int, ...]] = []
    read = LocalCube.read

    def noted(self: LocalCube, *arguments: Any) -> Pixels:
        pixels = read(self, *arguments)
        if pixels.dtype == np.int16:
            shapes.append(pixels.shape)
        return pixels

    monkeypatch.setattr(LocalCube, "read", noted)
    area.monitor(REFERENCE + 20, profile="standard")
    assert sorted({images for images, *_ in shapes}) == [4, 8]
