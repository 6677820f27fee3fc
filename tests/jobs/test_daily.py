"""Consolidation day after day: it appends, and costs a day."""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from acdtask.cube.local.consolidation_cell import CellWork, write_cell
from acdtask.cube.local.cube import LocalCube
from acdtask.cube.local.stack import CHUNK_TIMES
from acdtask.engine.local import run_locally
from acdtask.engine.processes import WorkerPool
from acdtask.engine.stages import gather_round, load_plan, make_plan, open_site, run_shard
from acdtask.errors import AcdError, ErrorCode
from acdtask.jobs.baseline.job import BaselineJob
from acdtask.jobs.baseline.settings import BaselineSettings
from acdtask.jobs.consolidate.job import ConsolidateJob
from acdtask.jobs.contract import Plan
from acdtask.storage.store import Store
from tests.conftest import CHECKOUT
from tests.cube.builders import COHERENCE, dataset
from tests.jobs.chain import digests
from tests.jobs.daily import (
    GRID,
    LAYOUT,
    TILE,
    bring,
    consolidate,
    consolidation,
    copies,
    expected,
    make_area,
    record_of,
    sizes,
    slices_of,
    stack,
    write_aoi,
)

DAYS = 80


def size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def containers(address: str) -> set[Path]:
    return set(Path(address).glob("consolidated/*/*/*/*/*.zarr"))


@dataclass
class Days:
    """A cube after some days, and what each of them cost."""

    address: str
    written: list[int] = field(default_factory=list)
    objects: list[int] = field(default_factory=list)


@pytest.fixture(scope="module")
def eighty(tmp_path_factory: pytest.TempPathFactory) -> Days:
    days = Days(make_area(tmp_path_factory.mktemp("eighty")))
    for day in range(DAYS):
        bring(days.address, [day])
        before = containers(days.address)
        assert consolidate(days.address).plan.units == 1
        (new,) = containers(days.address) - before
        days.written.append(size_of(new))
        days.objects.append(sum(path.is_file() for path in new.rglob("*")))
    return days


def test_a_tile_of_eighty_days_is_read_from_two_containers(eighty: Days, monkeypatch: pytest.MonkeyPatch) -> None:
    assert sizes(eighty.address) == [64, 16]
    slices = slices_of(eighty.address, range(DAYS))
    fetched: list[str] = []
    find_buffer = Store.find_buffer

    def counted(store: Store, key: str) -> memoryview | None:
        fetched.append(key)
        return find_buffer(store, key)

    monkeypatch.setattr(Store, "find_buffer", counted)
    pixels = LocalCube.open(eighty.address).read(GRID, slices, COHERENCE)
    assert len([key for key in fetched if ".zarr/" in key]) == 4, "of each container its description and one chunk"
    np.testing.assert_array_equal(pixels, expected(range(DAYS)))


def test_a_day_writes_no_more_than_a_full_container(eighty: Days, tmp_path: Path) -> None:
    whole = make_area(tmp_path)
    bring(whole, range(CHUNK_TIMES))
    consolidate(whole)
    (full,) = containers(whole)
    assert max(eighty.written) == eighty.written[CHUNK_TIMES - 1] == size_of(full)
    assert sum(eighty.written) < 6 * size_of(Path(eighty.address) / "pixels")
    assert set(eighty.objects) == {10}, "a chunk, and what makes it a group that xarray opens"


def test_a_container_has_the_same_bytes_whatever_its_history(eighty: Days, tmp_path: Path) -> None:
    whole = make_area(tmp_path)
    bring(whole, range(DAYS))
    consolidate(whole)
    assert sizes(whole) == [64, 16]
    of_days, of_one_run = (
        {dataset.record_id: digests(Path(address, dataset.uri)) | {"at": dataset.subdir} for dataset in copies(address)}
        for address in (eighty.address, whole)
    )
    assert of_days == of_one_run


def test_a_day_with_nothing_new_writes_nothing(eighty: Days) -> None:
    everything = {path: path.stat().st_mtime_ns for path in Path(eighty.address).rglob("*")}
    assert consolidate(eighty.address).plan.nothing_to_do == "all 80 records are already in all 1 cells"
    assert {path: path.stat().st_mtime_ns for path in Path(eighty.address).rglob("*")} == everything


def test_a_reader_that_planned_before_reads_on(eighty: Days, tmp_path: Path) -> None:
    shutil.copytree(Path(eighty.address).parent, tmp_path / "later")
    address = str(tmp_path / "later/cube")
    planned = slices_of(address, range(DAYS))
    bring(address, range(DAYS, DAYS + 20))
    consolidate(address)
    assert sizes(address) == [64, 36]
    np.testing.assert_array_equal(LocalCube.open(address).read(GRID, planned, COHERENCE), expected(range(DAYS)))


def test_what_an_older_acd_left_in_containers_of_one_day_is_joined_with_the_next(tmp_path: Path) -> None:
    address = make_area(tmp_path)
    cube = LocalCube.open(address)
    bring(address, range(6))
    for day in range(5):
        key = f"consolidated/utm/CoherenceVV/master/0_0/{day}.zarr"
        cell = CellWork(tile=TILE, key=key, records=[record_of(day)], slices=slices_of(address, [day]))
        write_cell(cube, cube.store, cell, COHERENCE, "master")
        cube.index([], [dataset(record_of(day), key, subdir="0", grid=GRID, layout="utm", cell="0/0")])
    assert sizes(address) == [1] * 5
    consolidate(address)
    assert sizes(address) == [6]
    np.testing.assert_array_equal(stack(address, range(6)), expected(range(6)))


def baseline(address: str) -> dict[str, str]:
    settings = BaselineSettings(aoi=str(Path(address).parent / "aoi.json"), layout=LAYOUT.name)
    with WorkerPool(0) as pool:
        run_locally(BaselineJob(), settings, address, pool=pool, progress=False)
    made = digests(Path(address) / "products")
    return {name: digest for name, digest in made.items() if name.endswith(".tif")}


def test_products_are_the_same_bits_in_whatever_order_records_come(tmp_path: Path) -> None:
    count = 26
    shuffled = list(range(count))
    random.Random(5).shuffle(shuffled)  # noqa: S311  # the order of a test
    batches: dict[str, list[list[int]]] = {
        "at once": [list(range(count))],
        "day by day": [[day] for day in range(count)],
        "late": [shuffled[:3], *([day] for day in shuffled[3:12]), shuffled[12:]],
        "never": [],
    }
    results = {}
    for name, parts in batches.items():
        address = make_area(tmp_path / name.replace(" ", "_"))
        for part in parts:
            bring(address, part)
            consolidate(address)
        bring(address, range(count))
        results[name] = baseline(address)
        np.testing.assert_array_equal(stack(address, range(count)), expected(range(count)))
    assert len(results["at once"]) == 4
    assert results["at once"] == results["day by day"] == results["late"] == results["never"]


def test_areas_with_other_time_ranges_append_to_the_same_containers(tmp_path: Path) -> None:
    address = make_area(tmp_path)
    for day in range(8):
        write_aoi(tmp_path / "aoi.json", "daily", first=day, last=day)
        bring(address, [day])
        consolidate(address)
    assert sizes(address) == [8]
    np.testing.assert_array_equal(stack(address, range(8)), expected(range(8)))


def done(plan: Plan[Any, Any], address: str) -> None:
    """Shards and gather, as pods do them."""
    for shard in range(plan.shards):
        run_shard(ConsolidateJob(), plan, "write", shard, open_site(address))
    gather_round(ConsolidateJob(), plan, "write", open_site(address))


@pytest.mark.parametrize("first", [0, 1])
def test_two_consolidations_at_once_lose_nothing(first: int, tmp_path: Path) -> None:
    address = make_area(tmp_path)
    bring(address, range(3))
    consolidate(address)
    plans = []
    for days in ([3, 4, 5], [6]):
        bring(address, days)
        plans.append(make_plan(ConsolidateJob(), consolidation(address), open_site(address)))
    for plan in (plans[first], plans[1 - first]):
        for shard in range(plan.shards):
            run_shard(ConsolidateJob(), plan, "write", shard, open_site(address))
    for plan in (plans[first], plans[1 - first], plans[first]):
        gather_round(ConsolidateJob(), plan, "write", open_site(address))
    assert sorted(dataset.record_id for dataset in copies(address)) == sorted(record_of(day).id for day in range(7))
    assert sizes(address) == ([6, 1] if first == 0 else [7])
    np.testing.assert_array_equal(stack(address, range(7)), expected(range(7)))
    arrays = [ConsolidateJob().findings(plan, open_site(address)).figures["arrays"] for plan in plans]
    assert arrays == ([1, 1] if first == 0 else [0, 1])
    bring(address, [7])
    consolidate(address)
    assert sizes(address) == ([6, 2] if first == 0 else [7, 1])


def test_a_pod_that_comes_back_days_later_changes_nothing(tmp_path: Path) -> None:
    address = make_area(tmp_path)
    bring(address, range(2))
    consolidate(address)
    bring(address, [2, 3])
    late = make_plan(ConsolidateJob(), consolidation(address), open_site(address))
    done(late, address)
    for day in range(4, 8):
        bring(address, [day])
        consolidate(address)
    before = sorted(copies(address), key=lambda copy: copy.record_id)
    heads = sorted(Path(address, "index/heads").iterdir())
    shutil.rmtree(Path(address, "runs/consolidate", late.plan_id, "write"))
    done(load_plan(ConsolidateJob(), late.plan_id, open_site(address)), address)
    assert sorted(copies(address), key=lambda copy: copy.record_id) == before
    assert sorted(Path(address, "index/heads").iterdir()) == heads


def test_a_gather_that_breaks_off_leaves_the_old_containers_and_is_done_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = make_area(tmp_path)
    bring(address, range(2))
    consolidate(address)
    before = copies(address)
    bring(address, [2, 3])
    create = Store.create

    def away(store: Store, key: str, data: bytes) -> bool:
        if "heads" in key:
            raise AcdError(ErrorCode.STORE_UNREACHABLE, "it does not answer")
        return create(store, key, data)

    with monkeypatch.context() as patch:
        patch.setattr(Store, "create", away)
        with pytest.raises(AcdError, match="ACD-4"):
            consolidate(address)
    assert copies(address) == before
    np.testing.assert_array_equal(stack(address, range(4)), expected(range(4)))
    consolidate(address)
    assert sizes(address) == [4]


def test_days_that_are_killed_end_with_the_same_bytes(tmp_path: Path) -> None:
    def start(address: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "tests.jobs.daily", address, "7"]
        return subprocess.Popen(command, cwd=CHECKOUT, stderr=subprocess.PIPE)

    undisturbed, killed = make_area(tmp_path / "undisturbed"), make_area(tmp_path / "killed")
    process = start(undisturbed)
    assert (process.communicate(timeout=300)[1], process.returncode) == (b"", 0)
    wanted = digests(Path(undisturbed))
    moments = random.Random(8)  # noqa: S311  # moments of a test
    for _ in range(6):
        process = start(killed)
        heads = len(list(Path(killed, "index/heads").iterdir()))
        while process.poll() is None and len(list(Path(killed, "index/heads").iterdir())) == heads:
            pass
        try:
            process.wait(moments.uniform(0, 0.3))
        except subprocess.TimeoutExpired:
            process.kill()
        process.communicate()
        strange = {name for name, digest in digests(Path(killed)).items() if wanted.get(name) != digest}
        assert strange == set()
    process = start(killed)
    assert (process.communicate(timeout=300)[1], process.returncode) == (b"", 0)
    assert digests(Path(killed)) == wanted


def test_a_first_run_over_more_than_a_container_is_planned_by_tiles(tmp_path: Path) -> None:
    address = make_area(tmp_path)
    bring(address, range(130))
    outcome = consolidate(address)
    assert sizes(address) == [64, 64, 2]
    plan: Any = outcome.plan
    assert (plan.units, plan.shards, plan.estimate.tiles, plan.estimate.dates) == (1, 1, 1, 130)
    assert plan.estimate.bytes_written == plan.estimate.bytes_read == 130 * GRID.width * GRID.height * 2
    assert ConsolidateJob().findings(plan, open_site(address)).figures == {"arrays": 3}
    bring(address, [130])
    assert consolidate(address).plan.estimate.dates == 1
    bring(address, [131])
    assert consolidate(address).plan.estimate.dates == 4
    assert sizes(address) == [64, 64, 4]
