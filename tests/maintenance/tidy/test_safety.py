"""Tidy with concurrent writers, readers and other tidies, killed at any point, and with unknown files."""

from __future__ import annotations

import json
import os
import random
import shutil
import threading
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest

from acdtask.cli import main
from acdtask.cube.local import index as index_module
from acdtask.cube.local.cube import LocalCube
from acdtask.cube.local.index import Index
from acdtask.cube.model import Addition, RecordQuery
from acdtask.engine.stages import open_site
from acdtask.errors import AcdError, ErrorCode
from acdtask.jobs.codec import encode
from acdtask.jobs.contract import Site
from acdtask.jobs.fence import Fence
from acdtask.jobs.ingest.rounds import WrittenFile, WrittenFiles
from acdtask.jobs.manifests import manifest_chain
from acdtask.maintenance.tidy.clean import tidy
from acdtask.maintenance.tidy.retention import Retention
from acdtask.serve.managed import Managed
from acdtask.storage.seal import seal
from acdtask.storage.store import Store
from tests.cube.builders import COHERENCE, MASTER, dataset, grid, put_image, record
from tests.maintenance.tidy.completeness import missing_names
from tests.serve.consolidation.small_cube import consolidation, jobs_of, make_cube, work

NOW = datetime(2026, 6, 1, tzinfo=UTC)
DAY = timedelta(days=1)
LEAST = Retention(keep_days=0, keep_runs=1, keep_versions=1, keep_heads=1)
GRID = grid(16, 16)
PIXELS = np.full((16, 16), 500, np.int16)


class Clocked:
    """A cube on a folder whose files get the time of a simulated clock."""

    def __init__(self, root: Path) -> None:
        self.root, self.now = root, NOW
        self._stamped: dict[Path, int] = {}
        LocalCube.create(str(root)).commit(Addition(variables=[COHERENCE], instances=[MASTER]))
        self.stamp()

    @property
    def site(self) -> Site:
        return open_site(str(self.root))

    def stamp(self) -> None:
        """Set the clock's time on files written since the last call."""
        seconds = self.now.timestamp()
        for path in self.root.rglob("*"):
            if path.is_file() and self._stamped.get(path) != path.stat().st_mtime_ns:
                os.utime(path, (seconds, seconds))
                self._stamped[path] = path.stat().st_mtime_ns

    def put(self, key: str, body: bytes = b"x", age: float = 0.0) -> None:
        """Write a file of the given age in days."""
        self.site.store.put(key, body)
        seconds = (self.now - timedelta(days=age)).timestamp()
        os.utime(self.root / key, (seconds, seconds))
        self._stamped[self.root / key] = (self.root / key).stat().st_mtime_ns

    def write_image(self, number: int) -> str:
        """Write the pixels of a record, as an ingest does before it commits."""
        key = f"data/CoherenceVV/master/S1/{number:03d}-{number:016x}.tif"
        put_image(self.site.store, key, PIXELS, GRID)
        self.stamp()
        return key

    def commit(self, number: int) -> None:
        """Name the pixels of a record."""
        key = f"data/CoherenceVV/master/S1/{number:03d}-{number:016x}.tif"
        new = record(number)
        LocalCube.open(str(self.root)).commit(Addition([new], [dataset(new, key, grid=GRID)]))
        self.stamp()

    def tidy(self, retention: Retention, *, apply: bool = True) -> dict[str, Any]:
        """Tidy by the simulated clock."""
        return tidy(self.site, retention, apply=apply, now=self.now).as_json()

    @property
    def keys(self) -> set[str]:
        """Every key of the cube."""
        return set(self.site.store.list())


def read_all(cube: LocalCube) -> int:
    """Read all records and their pixels, and return their number."""
    records = cube.records(RecordQuery())
    for found in cube.datasets("CoherenceVV", "master"):
        assert Store.at(cube.store.url).exists(found.uri), found.uri
    return len(records)


@pytest.mark.parametrize("seed", range(6))
def test_whatever_comes_between_a_reader_never_sees_a_damaged_cube(tmp_path: Path, seed: int) -> None:
    """Writers that pause for up to a day between pixels and head, readers with heads up to a day old, and tidies."""
    chance = random.Random(seed)  # noqa: S311  # a schedule, not a secret
    cube = Clocked(tmp_path / "cube")
    retention = Retention(keep_days=2, keep_runs=1, keep_versions=1, keep_heads=1)
    written: list[tuple[datetime, int]] = []
    readers: list[tuple[datetime, LocalCube, int]] = []
    committed = number = 0
    for _ in range(120):
        cube.now += chance.random() * DAY / 2
        action = chance.choice(("write", "commit", "commit", "remove", "open", "read", "tidy"))
        if action == "write":
            cube.write_image(number)
            written.append((cube.now, number))
            number += 1
        elif action == "commit" and written:
            since, pending = written.pop(0)
            if cube.now - since > DAY:
                cube.write_image(pending)  # a job that takes longer than a workflow may is begun again
            cube.commit(pending)
            committed += 1
        elif action == "remove" and committed:
            local = LocalCube.open(str(cube.root))
            oldest = local.records(RecordQuery())[0]
            datasets = local.datasets("CoherenceVV", "master", frozenset([oldest.id]))
            local.remove(records=[oldest.id], datasets=datasets)
            cube.stamp()
            committed -= 1
        elif action == "open":
            local = LocalCube.open(str(cube.root))
            readers.append((cube.now, local, read_all(local)))
        elif action == "tidy":
            cube.tidy(retention)
        readers = [(since, local, count) for since, local, count in readers if cube.now - since < DAY]
        for _, local, _ in readers:
            read_all(local)
        assert read_all(LocalCube.open(str(cube.root))) == committed
        assert missing_names(cube.site.store) == []
    cube.write_image(number)
    cube.commit(number)
    cube.now += 10 * DAY
    assert cube.tidy(retention)["objects"] > 0
    named = {found.uri for found in LocalCube.open(str(cube.root)).datasets("CoherenceVV", "master")}
    assert {key for key in cube.keys if key.endswith(".tif")} == named
    assert len(cube.site.store.list("index/heads")) == 1


def _only(body: bytes, _earlier: bytes | None) -> bytes:
    return body


def build_varied(root: Path) -> Clocked:
    """A cube with old objects of every kind that tidy removes."""
    cube = Clocked(root)
    for number in range(4):
        cube.write_image(number)
        cube.commit(number)
    cube.write_image(90)
    for key in ("zarr.json", "CoherenceVV/zarr.json", "CoherenceVV/c/0/0/0"):
        cube.put(f"consolidated/utm/CoherenceVV/master/0_0/{'a' * 16}.zarr/{key}")
    plan = {"content": {"aoi": "koln"}, "rounds": ["draw"], "content_id": "c" * 16}
    for number in range(3):
        folder = f"runs/report/{number:016x}"
        cube.put(f"{folder}/plan.json", seal(json.dumps(plan).encode()), age=3 - number)
        for name in ("shards/0000.json", "draw/0000.json", "draw/0000.table", "draw/gathered/first/000000-ab.json"):
            cube.put(f"{folder}/{name}", b"{}", age=3 - number)
    site = cube.site
    store = site.store
    monitor = f"products/koln/monitor/{'d' * 16}"
    for number in range(3):
        named = f"{monitor}/2018-07-0{number}-{'e' * 12}/patches.parquet"
        cube.put(named)
        body = seal(json.dumps({"a": [{"b": named}]}).encode())
        chain = manifest_chain(store, "koln", "monitor", "d" * 16)
        chain.publish(partial(_only, body), Fence(site.runs, number), {})
        cube.stamp()
    cube.put("runs/workflows/some-uid/monitor.json")
    cube.now += 20 * DAY
    return cube


def test_it_removes_what_nothing_names_and_nothing_else(tmp_path: Path) -> None:
    cube = build_varied(tmp_path / "cube")
    before = cube.keys
    kinds = {row["kind"]: row["objects"] for row in cube.tidy(LEAST)["removed"] if row["objects"]}
    assert kinds == {
        "plans": 10,
        "accounts of workflows": 1,
        "announcements": 3,
        "heads of the index": 4,
        "segments of the index": 6,
        "ingested images": 1,
        "consolidated containers": 3,
        "versions of results": 2,
        "files of monitors": 2,
    }
    left = cube.keys
    assert len(before) - len(left) == sum(kinds.values())
    assert {key.split("/")[2] for key in left if key.startswith("runs/report/")} == {f"{2:016x}"}
    assert {key for key in left if "/monitor/" in key} == {
        f"products/koln/monitor/{'d' * 16}/manifests/000003.json",
        f"products/koln/monitor/{'d' * 16}/2018-07-02-{'e' * 12}/patches.parquet",
    }
    assert missing_names(cube.site.store) == []


def test_a_tidy_that_is_killed_anywhere_leaves_a_whole_cube_and_the_next_one_ends_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = build_varied(tmp_path / "made")
    (reference := tmp_path / "reference").mkdir()
    shutil.copytree(made.root, reference, dirs_exist_ok=True)
    tidy(open_site(str(reference)), LEAST, apply=True, now=made.now)
    expected = set(Store.at(str(reference)).list())
    original = Store.delete_all
    killed = 0
    for limit in range(1000):
        root = tmp_path / f"killed-{limit}"
        shutil.copytree(made.root, root)
        left = [limit]

        def delete(store: Store, keys: Sequence[str], left: list[int] = left) -> None:
            for key in keys:
                left[0] -= 1
                if left[0] < 0:
                    raise KeyboardInterrupt
                original(store, [key])

        monkeypatch.setattr(Store, "delete_all", delete)
        try:
            tidy(open_site(str(root)), LEAST, apply=True, now=made.now)
        except KeyboardInterrupt:
            killed += 1
        else:
            break
        monkeypatch.setattr(Store, "delete_all", original)
        assert missing_names(Store.at(str(root))) == []
        assert read_all(LocalCube.open(str(root))) == 4
        tidy(open_site(str(root)), LEAST, apply=True, now=made.now)
        assert set(Store.at(str(root)).list()) == expected
        shutil.rmtree(root)
    assert killed == len(made.keys) - len(expected)


def test_two_tidies_at_once_remove_the_same(tmp_path: Path) -> None:
    cube = build_varied(tmp_path / "cube")
    errors: list[BaseException] = []

    def run() -> None:
        try:
            cube.tidy(LEAST)
        except BaseException as error:  # noqa: BLE001  # told by the test's own thread
            errors.append(error)

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert missing_names(cube.site.store) == []
    assert cube.tidy(LEAST)["objects"] == 0


def test_files_that_acd_did_not_make_stay_and_are_counted(tmp_path: Path) -> None:
    cube = build_varied(tmp_path / "cube")
    mine = [
        "data/notes.txt",
        "data/CoherenceVV/master/mine.tif",
        "runs/README",
        "runs/report/not-a-plan/plan.json",
        "index/records/mine.parquet",
        "jobs/mine",
        "deletions/mine.json",
        f"products/koln/monitor/{'d' * 16}/notes.txt",
        "products/koln/photo.jpg",
        "consolidated/mine.zarr/zarr.json",
        "elsewhere/data/x.tif",
        "aois/first.json",
    ]
    for key in mine:
        cube.put(key, age=100)
    document = cube.tidy(LEAST)
    assert set(mine) <= cube.keys
    (unknown,) = [row for row in document["kept"] if row["kind"] == "unknown files"]
    assert unknown["objects"] == 10
    assert set(document["unknown"]) == set(mine[:10])


def test_containers_of_clients_stay(tmp_path: Path) -> None:
    cube = build_varied(tmp_path / "cube")
    key = cube.write_image(91)
    Managed(cube.site.store).mark(f"{cube.root}/{key}")
    cube.now += 30 * DAY
    cube.tidy(LEAST)
    assert key in cube.keys


def test_images_of_a_geocube_stay_although_no_head_names_them(tmp_path: Path) -> None:
    cube = Clocked(tmp_path / "cube")
    key = cube.write_image(1)
    cube.now += 30 * DAY
    document = cube.tidy(LEAST)
    assert key in cube.keys
    assert "a Geocube may have indexed them" in {row["why"] for row in document["kept"]}


def test_datasets_with_absolute_addresses_below_the_cube_keep_their_files(tmp_path: Path) -> None:
    """Clients of a server name files by path, through a symlink, or by an address with escaped letters."""
    cube = Clocked(tmp_path / "my cube")
    (tmp_path / "link").symlink_to(cube.root)
    roots = ["", f"{cube.root}/", f"{tmp_path}/link/", f"file://{quote(str(cube.root))}/"]
    keys = [cube.write_image(number) for number in range(len(roots))]
    for number, root in enumerate(roots):
        new = record(number)
        LocalCube.open(str(cube.root)).commit(Addition([new], [dataset(new, f"{root}{keys[number]}", grid=GRID)]))
    cube.stamp()
    unused = cube.write_image(90)
    cube.now += 30 * DAY
    cube.tidy(LEAST)
    assert set(keys) <= cube.keys
    assert unused not in cube.keys


def test_unfinished_files_of_a_folder_go_when_they_are_old(tmp_path: Path) -> None:
    cube = build_varied(tmp_path / "cube")
    old, new = cube.root / "data" / "old.tif#1", cube.root / "data" / "new.tif#2"
    for path, age in ((old, 30), (new, 1)):
        path.write_bytes(b"half")
        seconds = (cube.now - age * DAY).timestamp()
        os.utime(path, (seconds, seconds))
    cube.tidy(Retention(keep_days=14))
    assert (old.exists(), new.exists()) == (False, True)


def test_a_damaged_manifest_stops_tidy_before_it_deletes_what_that_may_name(tmp_path: Path) -> None:
    cube = build_varied(tmp_path / "cube")
    monitor = f"products/koln/monitor/{'d' * 16}"
    cube.put(f"{monitor}/manifests/000003.json", b'{"a": ', age=20)
    before = {key for key in cube.keys if key.startswith(("products/", "data/", "consolidated/"))}
    with pytest.raises(AcdError) as caught:
        cube.tidy(Retention(keep_days=1, keep_versions=3))
    assert caught.value.code is ErrorCode.TIDY_UNSURE
    assert f"{monitor}/manifests/000003.json" in caught.value.detail
    assert before <= cube.keys


def test_a_damaged_head_stops_tidy(tmp_path: Path) -> None:
    cube = build_varied(tmp_path / "cube")
    cube.put(cube.site.store.list("index/heads")[-1], b"{", age=20)
    before = {key for key in cube.keys if not key.startswith("runs/")}
    with pytest.raises(AcdError) as caught:
        cube.tidy(LEAST)
    assert caught.value.code is ErrorCode.TIDY_UNSURE
    assert before <= cube.keys


def plan_of(cube: Clocked, number: int, token: int, age: float, aoi: str = "koln") -> str:
    """A finished plan of the monitor, with a token."""
    folder = f"runs/monitor/{number:016x}"
    plan = {"content": {"method": {"aoi": aoi}}, "rounds": ["cut"], "content_id": f"{number:016x}"}
    cube.put(f"{folder}/plan.json", seal(json.dumps(plan).encode()), age=age)
    cube.put(f"{folder}/tokens/{token:08d}", b"", age=age)
    cube.put(f"{folder}/cut/gathered/first/000000-ab.json", b"{}", age=age)
    cube.put(f"runs/tokens/{aoi}/monitor/{token:08d}.json", b"{}", age=age)
    cube.put(f"runs/published/{aoi}/monitor/x/manifests/{token:08d}.json", b"{}", age=age)
    return folder


def test_an_announcement_stays_as_long_as_an_older_plan_could_publish(tmp_path: Path) -> None:
    cube = Clocked(tmp_path / "cube")
    for token, age in ((1, 50), (2, 40), (3, 1), (4, 30), (5, 20)):
        plan_of(cube, token, token, age)
    for token in (1, 2):
        plan_of(cube, 10 + token, token, 40, aoi="bonn")
    cube.tidy(Retention(keep_days=14, keep_runs=1))
    announced = {key for key in cube.keys if key.startswith("runs/published/")}
    place = "runs/published/koln/monitor/x/manifests"
    assert announced == {f"{place}/0000000{token}.json" for token in (3, 4, 5)}
    tokens = {key for key in cube.keys if key.startswith("runs/tokens/koln")}
    assert f"runs/tokens/koln/monitor/{5:08d}.json" in tokens


def test_the_newest_finished_runs_of_each_aoi_and_job_stay(tmp_path: Path) -> None:
    cube = Clocked(tmp_path / "cube")
    koln = [plan_of(cube, number, number, 100 - number) for number in range(1, 6)]
    bonn = [plan_of(cube, 20 + number, number, 200 - number, aoi="bonn") for number in range(1, 4)]
    cube.tidy(Retention(keep_days=14, keep_runs=2))
    left = {"/".join(key.split("/")[:3]) for key in cube.keys if key.startswith("runs/monitor/")}
    assert left == {*koln[-2:], *bonn[-2:]}


def test_what_a_plan_makes_stays_while_the_plan_is_young(tmp_path: Path) -> None:
    """A plan interrupted three weeks ago is resumed: its pixels are old, and nothing names them yet."""
    cube = Clocked(tmp_path / "cube")
    image = f"products/koln/monitor/{'d' * 16}/2018-07-01-{'e' * 12}"
    mean = f"products/koln/baseline/{'f' * 16}/0_0/mean.tif"
    old = [f"{image}/0_0_z.tif", mean]
    for key in old:
        cube.put(key, age=21)
    plans = {
        "monitor": {"content": {"images": [{"folder": image}]}, "rounds": ["cut"], "content_id": "a" * 16},
        "baseline": {"content": {"settings": {"aoi": "koln"}}, "rounds": ["moments"], "content_id": "f" * 16},
    }
    for job, plan in plans.items():
        cube.put(f"runs/{job}/{'9' * 16}/plan.json", seal(json.dumps(plan).encode()))
    cube.tidy(Retention(keep_days=14))
    assert set(old) <= cube.keys
    cube.now += 30 * DAY
    cube.tidy(Retention(keep_days=14))
    assert not set(old) & cube.keys


def test_old_images_that_an_ingest_has_written_stay_until_it_ends(tmp_path: Path) -> None:
    cube = Clocked(tmp_path / "cube")
    cube.write_image(0)
    cube.commit(0)
    key = cube.write_image(1)
    folder = f"runs/ingest/{'9' * 16}"
    table = WrittenFiles(files=[WrittenFile(record=record(1), dataset=dataset(record(1), key, grid=GRID), state="new")])
    cube.put(f"{folder}/write/0000.table", encode(table, WrittenFiles))
    cube.now += 30 * DAY
    cube.put(f"{folder}/plan.json", seal(json.dumps({"content": {}, "rounds": ["write"]}).encode()))
    cube.tidy(Retention(keep_days=14))
    assert key in cube.keys


def test_a_plan_that_is_made_again_is_young_again(tmp_path: Path) -> None:
    from acdtask.engine.stages import make_plan
    from acdtask.jobs.simulate.job import SimulateJob, SimulateSettings

    site = open_site(str(tmp_path / "site"))
    settings = SimulateSettings(out=str(tmp_path / "site"), size=64, reference_pairs=3, monitored_pairs=1, events=1)
    plan = make_plan(SimulateJob(), settings, site)
    path = tmp_path / "site" / "runs" / "simulate" / plan.plan_id / "plan.json"
    body = path.read_bytes()
    os.utime(path, (0, 0))
    assert make_plan(SimulateJob(), settings, site) == plan
    assert path.stat().st_mtime > 0
    assert path.read_bytes() == body


def test_a_segment_that_is_used_again_is_young_again(tmp_path: Path) -> None:
    cube = Clocked(tmp_path / "cube")
    cube.write_image(0)
    cube.commit(0)
    (segment,) = [key for key in cube.keys if key.startswith("index/datasets/")]
    local = LocalCube.open(str(cube.root))
    local.remove(records=[record(0).id], datasets=local.datasets("CoherenceVV", "master"))
    os.utime(cube.root / segment, (0, 0))
    cube.commit(0)
    assert (cube.root / segment).stat().st_mtime > 0


def test_a_segment_that_tidy_removes_while_a_commit_takes_it_up_again_is_restored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cube = Clocked(tmp_path / "cube")
    cube.write_image(0)
    cube.commit(0)
    (segment,) = [key for key in cube.keys if key.startswith("index/datasets/")]
    local = LocalCube.open(str(cube.root))
    local.remove(records=[record(0).id], datasets=local.datasets("CoherenceVV", "master"))
    original = Store.create

    def create(store: Store, key: str, data: bytes) -> bool:
        if key.startswith("index/heads/"):
            store.delete(segment)
        return original(store, key, data)

    monkeypatch.setattr(Store, "create", create)
    cube.commit(0)
    assert read_all(LocalCube.open(str(cube.root))) == 1
    assert missing_names(cube.site.store) == []


def test_a_process_that_slept_while_its_head_was_removed_finds_the_newest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cube = Clocked(tmp_path / "cube")
    sleeper = Index(cube.site.store)
    assert sleeper.head().number == 1
    for number in range(5):
        cube.write_image(number)
        cube.commit(number)
    cube.now += 30 * DAY
    cube.tidy(LEAST)
    assert sleeper.head().number == 1
    monkeypatch.setattr(index_module, "TRUSTED_SECONDS", 0)
    assert sleeper.head().number == 6


def test_a_hint_that_names_a_removed_head_is_renewed(tmp_path: Path) -> None:
    cube = Clocked(tmp_path / "cube")
    for number in range(3):
        cube.write_image(number)
        cube.commit(number)
    cube.put("index/hint", b"2")
    cube.now += 30 * DAY
    cube.tidy(LEAST)
    assert cube.site.store.get("index/hint") == b"4"
    assert read_all(LocalCube.open(str(cube.root))) == 3


def test_heads_of_the_last_days_stay_with_all_that_they_name(tmp_path: Path) -> None:
    cube = Clocked(tmp_path / "cube")
    cube.now += DAY
    key = cube.write_image(0)
    cube.commit(0)
    cube.now += 30 * DAY
    local = LocalCube.open(str(cube.root))
    reader = LocalCube.open(str(cube.root))
    assert read_all(reader) == 1
    local.remove(records=[record(0).id], datasets=local.datasets("CoherenceVV", "master"))
    cube.stamp()
    cube.now += DAY
    cube.tidy(Retention(keep_days=2, keep_heads=1))
    assert key in cube.keys
    assert missing_names(cube.site.store) == []
    cube.now += 2 * DAY
    cube.write_image(7)
    cube.commit(7)
    cube.now += 3 * DAY
    cube.tidy(Retention(keep_days=2, keep_heads=1))
    assert key not in cube.keys


def test_jobs_of_a_server_go_when_they_have_ended_and_containers_of_others_stay(tmp_path: Path) -> None:
    local = make_cube(str(tmp_path / "cube"))
    done = jobs_of(local).consolidate(consolidation(name="done"))
    assert work(local, done).state == "DONE"
    waiting = jobs_of(local).consolidate(consolidation(name="second", layout="utm", instance="master"))
    before = set(local.store.list("jobs"))
    local.store.put("deletions/00000000-0000-0000-0000-000000000001.json", seal(b'{"job": {"state": "DONE"}}'))
    local.store.put("deletions/00000000-0000-0000-0000-000000000002.json", seal(b'{"job": {"state": "CREATED"}}'))
    document = tidy(open_site(local.store.url), LEAST, apply=True, now=datetime.now(UTC) + DAY).as_json()
    assert document["unknown"] == []
    names = [job.name for job in jobs_of(LocalCube.open(local.store.url)).jobs()]
    assert names == ["second"]
    assert before - set(local.store.list("jobs"))
    assert [key[-6] for key in local.store.list("deletions")] == ["2"]
    assert work(LocalCube.open(local.store.url), waiting).state == "DONE"
    assert missing_names(local.store) == []


def test_containers_of_a_consolidation_that_has_not_ended_stay(tmp_path: Path) -> None:
    local = make_cube(str(tmp_path / "cube"))
    job_id = jobs_of(local).consolidate(consolidation(name="half"))
    while not local.store.list("consolidated"):
        assert jobs_of(local).advance(job_id)
    written = set(local.store.list("consolidated"))
    tidy(open_site(local.store.url), LEAST, apply=True, now=datetime.now(UTC) + 30 * DAY)
    assert set(local.store.list("consolidated")) == written
    assert work(LocalCube.open(local.store.url), job_id).state == "DONE"
    assert missing_names(local.store) == []


def test_a_retention_that_is_shorter_than_a_workflow_is_refused(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    cube = build_varied(tmp_path / "cube")
    cube.put("runs/workflows/today/monitor.json")
    before = cube.keys
    place = ["-q", "tidy", "--cube", str(cube.root), "--keep-days", "1", "--keep-heads", "1"]
    assert main([*place, "--apply"]) == 78
    assert "ACD-520" in capfd.readouterr().err
    assert cube.keys == before
    assert main(place) == 0
    assert cube.keys == before
    assert main([*place, "--apply", "--unsafe-short-retention"]) == 0
    assert cube.keys != before


def test_the_command_prints_tables_or_json(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    cube = build_varied(tmp_path / "cube")
    cube.put("data/mine.txt")
    cube.put("runs/workflows/today/monitor.json")
    place = ["-q", "tidy", "--cube", str(cube.root), "--keep-heads", "1", "--keep-runs", "1"]
    assert main([*place, "--json"]) == 0
    document = json.loads(capfd.readouterr().out)
    assert document["applied"] is False
    assert {row["kind"] for row in document["removed"]} >= {"plans", "consolidated containers"}
    assert {tuple(row) for row in document["removed"]} == {("kind", "objects", "bytes", "oldest", "newest")}
    assert main(place) == 0
    text = capfd.readouterr().out
    assert "to delete" in text
    assert "data/mine.txt" in text
    assert f"{document['objects']} objects" in text
    assert "add --apply" in text


def test_no_cube_is_an_error_unless_it_need_not_exist(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    place = ["-q", "tidy", "--cube", str(tmp_path / "none"), "--apply"]
    assert main(place) == 66 or "ACD-3" in capfd.readouterr().err
    capfd.readouterr()
    assert main([*place, "--if-any", "--json"]) == 0
    assert json.loads(capfd.readouterr().out) is None
    assert not (tmp_path / "none").exists()
