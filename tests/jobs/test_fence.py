"""Plans that were overtaken: in every order of the store's operations, and with real processes and jobs."""

from __future__ import annotations

import json
import multiprocessing
import random
import shutil
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import rasterio

from acdtask.cube.model import RecordQuery
from acdtask.engine.local import run_locally
from acdtask.engine.processes import WorkerPool
from acdtask.engine.stages import gather_round, make_plan, open_site, run_shard
from acdtask.errors import AcdError, ErrorCode
from acdtask.jobs.baseline.job import BaselineJob
from acdtask.jobs.baseline.settings import BaselineSettings
from acdtask.jobs.contract import Draft, Plan, Site
from acdtask.jobs.fence import Fence, newest_token, take_token
from acdtask.jobs.ingest.job import IngestJob
from acdtask.jobs.ingest.settings import IngestSettings
from acdtask.jobs.manifests import (
    NumberedChain,
    find_manifest,
    point_latest,
)
from acdtask.jobs.monitor.content import MonitorContent, MonitorWork
from acdtask.jobs.monitor.job import MonitorJob
from acdtask.jobs.monitor.settings import MonitorSettings
from acdtask.jobs.products import MonitorManifest
from acdtask.raster.grid import Layout, RegularGrid
from acdtask.storage.store import Store
from tests.jobs.chain import LAYOUT, SCENE, Chain, digests, reference_end, run_chain, simulate


@dataclass
class Turns:
    """Lets threads do one operation of a store after the other, in an order that is given."""

    order: list[int]
    taken: list[tuple[int, tuple[int, ...]]] = field(default_factory=list)
    """Who went, and who could have gone."""
    waiting: dict[int, threading.Event] = field(default_factory=dict)
    lock: threading.Condition = field(default_factory=threading.Condition)
    running: int = 0

    def step(self, who: int) -> None:
        """Called before each operation; returns when it is this one's turn."""
        event = threading.Event()
        with self.lock:
            self.waiting[who] = event
            self.running -= 1
            self.lock.notify()
        event.wait(30)

    def end(self) -> None:
        with self.lock:
            self.running -= 1
            self.lock.notify()

    def drive(self, works: list[Callable[[], None]]) -> None:
        self.running = len(works)

        def body(work: Callable[[], None]) -> None:
            try:
                work()
            finally:
                self.end()

        threads = [threading.Thread(target=body, args=(work,), daemon=True) for work in works]
        for thread in threads:
            thread.start()
        while True:
            with self.lock:
                self.lock.wait_for(lambda: self.running == 0, 30)
                if not self.waiting:
                    break
                able = tuple(sorted(self.waiting))
                place = len(self.taken)
                who = self.order[place] if place < len(self.order) else able[0]
                self.taken.append((who, able))
                self.running += 1
                self.waiting.pop(who).set()
        for thread in threads:
            thread.join(30)


class SteppedStore:
    """A store in memory whose operations wait for their turn."""

    def __init__(self, turns: Turns, who: int, content: dict[str, bytes], prefix: str = "") -> None:
        self._turns, self._who, self._content, self._prefix = turns, who, content, prefix
        self.url = f"memory:{prefix}"

    def within(self, prefix: str) -> SteppedStore:
        return SteppedStore(self._turns, self._who, self._content, f"{self._prefix}{prefix}/")

    def address_of(self, key: str) -> str:
        return f"{self.url}{key}"

    def create(self, key: str, data: bytes) -> bool:
        self._turns.step(self._who)
        fresh = self._prefix + key not in self._content
        self._content.setdefault(self._prefix + key, data)
        return fresh

    def find(self, key: str) -> bytes | None:
        self._turns.step(self._who)
        return self._content.get(self._prefix + key)

    def get(self, key: str) -> bytes:
        found = self.find(key)
        assert found is not None
        return found

    def list(self, _prefix: str = "") -> list[str]:
        self._turns.step(self._who)
        keys = (key.removeprefix(self._prefix) for key in self._content if key.startswith(self._prefix))
        return sorted(keys)


@dataclass(frozen=True)
class Publisher:
    """A plan that publishes versions of images into a manifest, and itself as the latest."""

    token: int
    images: dict[str, str]

    def publish(self, store: Any) -> None:
        chain, fence = NumberedChain(store, "aoi", "monitor", "m/manifests", ".json"), Fence(store, self.token)
        chain.require(fence, self.images)

        def make(earlier: bytes | None) -> bytes:
            known = json.loads(earlier) if earlier else {}
            return json.dumps({**known, **self.images}, sort_keys=True).encode()

        chain.publish(make, fence, self.images)
        point_latest(store, "aoi", "monitor", "name", f"by-{self.token}", fence)


def every_order(publishers: list[Publisher], at_most: int) -> Iterator[tuple[dict[str, bytes], list[str]]]:
    """What is in the store, and how each publisher ended, for every order of operations (or so many random ones)."""
    chosen = random.Random(7)  # noqa: S311  # orders of a test
    pending: list[list[int]] = [[]]
    for _ in range(at_most):
        if not pending:
            return
        place = chosen.randrange(len(pending))
        pending[place], pending[-1] = pending[-1], pending[place]
        prefix = pending.pop()
        turns, content, ends = Turns(prefix), dict[str, bytes](), [""] * len(publishers)

        def work(who: int, turns: Turns = turns, content: Any = content, ends: list[str] = ends) -> None:
            try:
                publishers[who].publish(SteppedStore(turns, who, content))
            except AcdError as error:
                ends[who] = error.code.name
            else:
                ends[who] = "done"

        turns.drive([lambda who=who: work(who) for who in range(len(publishers))])  # type: ignore[misc]  # mypy: a lambda's default
        assert all(ends), "a publisher waits for ever"
        for place in range(len(prefix), len(turns.taken)):
            who, able = turns.taken[place]
            pending += [[*(one for one, _ in turns.taken[:place]), other] for other in able if other != who]
        yield content, ends


def versions(content: dict[str, bytes], folder: str) -> list[bytes]:
    return [content[key] for key in sorted(content) if key.startswith(f"products/aoi/monitor/{folder}/")]


SAME_IMAGE = [Publisher(1, {"a": "a1"}), Publisher(2, {"a": "a2"})]
OTHER_IMAGES = [Publisher(1, {"a": "a1"}), Publisher(2, {"b": "b2"})]
SAME_VERSION = [Publisher(1, {"a": "a1", "b": "b1"}), Publisher(2, {"b": "b1", "c": "c2"})]
THREE = [Publisher(1, {"a": "a1"}), Publisher(2, {"a": "a2", "b": "b2"}), Publisher(3, {"b": "b3"})]


@pytest.mark.parametrize("publishers", [SAME_IMAGE, OTHER_IMAGES, SAME_VERSION, THREE], ids=str)
def test_in_no_order_does_an_older_plan_replace_what_a_newer_one_published(publishers: list[Publisher]) -> None:
    token_of = {version: publisher.token for publisher in publishers for version in publisher.images.values()}
    outcomes = set()
    for content, ends in every_order(publishers, 4000):
        outcomes.add(tuple(ends))
        history = [json.loads(body) for body in versions(content, "m/manifests")]
        for name in ("a", "b", "c"):
            tokens = [token_of[version[name]] for version in history if name in version]
            assert tokens == sorted(tokens), (name, history)
        for publisher, end in zip(publishers, ends, strict=True):
            assert end in {"done", "PLAN_OVERTAKEN"}
            if end == "done":
                assert any(publisher.images.items() <= state.items() for state in history)
        assert ends[-1] == "done", "the newest is never refused"
        pointers = [int(json.loads(body)["latest"].removeprefix("by-")) for body in versions(content, "name.latest")]
        assert pointers == sorted(pointers)
        assert pointers[-1] == publishers[-1].token
    refused = any("PLAN_OVERTAKEN" in ends for ends in outcomes)
    assert refused == (publishers in (SAME_IMAGE, THREE))
    assert ("done",) * len(publishers) in outcomes


def publish_once(address: str, who: int) -> tuple[int, str]:
    """A process that takes a token and publishes a version of an image, and one of its own."""
    store = Store.at(address)
    runs = store.within("runs")
    while True:
        token = newest_token(runs, "aoi/monitor") + 1
        if take_token(runs, "aoi/monitor", token, f"plan-{who}"):
            break
    try:
        images = {"shared": f"{token:08d}", f"own-{token}": str(who)}
        chain, fence = NumberedChain(store, "aoi", "monitor", "m/manifests", ".json"), Fence(runs, token)

        def make(earlier: bytes | None) -> bytes:
            return json.dumps({**(json.loads(earlier) if earlier else {}), **images}, sort_keys=True).encode()

        chain.publish(make, fence, images)
        point_latest(store, "aoi", "monitor", "name", f"by-{token:08d}", fence)
    except AcdError as error:
        return token, error.code.name
    return token, "done"


def check_processes(address: str) -> None:
    with ProcessPoolExecutor(6, multiprocessing.get_context("spawn")) as pool:
        ends = [future.result() for future in [pool.submit(publish_once, address, who) for who in range(24)]]
    assert sorted(token for token, _ in ends) == list(range(1, 25))
    assert {end for _, end in ends} <= {"done", "PLAN_OVERTAKEN"}
    chain = NumberedChain(Store.at(address), "aoi", "monitor", "m/manifests", ".json")
    history = [json.loads(chain.version(number) or b"") for number in range(1, chain.newest()[0] + 1)]
    shared = [state["shared"] for state in history]
    assert shared == sorted(shared)
    assert shared[-1] == "00000024"
    published = {token for token, end in ends if end == "done"}
    assert len(history) == len(published)
    assert {int(name.removeprefix("own-")) for name in history[-1] if name != "shared"} == published


def test_processes_take_turns_in_a_folder(tmp_path: Path) -> None:
    check_processes(str(tmp_path))


def test_processes_take_turns_on_s3(s3_address: str) -> None:
    check_processes(s3_address)


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return simulate(tmp_path_factory.mktemp("scene"))


@pytest.fixture(scope="module")
def expected(scene: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Everything at once."""
    cube = tmp_path_factory.mktemp("expected") / "cube"
    with WorkerPool(0) as pool:
        run_chain(scene, str(cube), pool, Chain(consolidate=False))
    return cube


def settings_of(scene: Path, **more: Any) -> MonitorSettings:
    return MonitorSettings(aoi=str(scene / "aoi.json"), layout=LAYOUT, **more)


def shards_of(plan: Plan[Any, Any], site: Site) -> None:
    """Every shard and gather but the last gather."""
    for name in plan.rounds:
        for shard in range(plan.shards):
            run_shard(MonitorJob(), plan, name, shard, site)
        if name != plan.rounds[-1]:
            gather_round(MonitorJob(), plan, name, site)


def publish(plan: Plan[Any, Any], site: Site) -> None:
    gather_round(MonitorJob(), plan, plan.rounds[-1], site)


def manifest(cube: Path) -> MonitorManifest:
    name = f"CoherenceVV/{LAYOUT}/monitor"
    _, body = find_manifest(Store.at(str(cube)), "koln-demo", "monitor", name, "latest", ErrorCode.MONITOR_UNKNOWN)
    return MonitorManifest.model_validate_json(body)


def ingest(images: Path, cube: Path) -> None:
    with WorkerPool(0) as pool:
        run_locally(IngestJob(), IngestSettings(source=str(images)), str(cube), pool=pool, progress=False)


def monitor(scene: Path, cube: Path, **more: Any) -> Plan[Any, Any]:
    with WorkerPool(0) as pool:
        return run_locally(MonitorJob(), settings_of(scene, **more), str(cube), pool=pool, progress=False).plan


def some_images(scene: Path, folder: Path, first: int, stop: int | None = None) -> Path:
    folder.mkdir()
    for path in sorted((scene / "images").glob("*.tif"))[first:stop]:
        shutil.copy(path, folder)
    return folder


def with_baseline(scene: Path, cube: Path, images: Path | None = None) -> Path:
    """A cube with some images and the baseline."""
    ingest(images or scene / "images", cube)
    grid = RegularGrid(crs="EPSG:32632", resolution=20, cell_size=64)
    open_site(str(cube)).cube.add_layout(Layout(name=LAYOUT, grid=grid))
    settings = BaselineSettings(aoi=str(scene / "aoi.json"), layout=LAYOUT, end=reference_end())
    with WorkerPool(0) as pool:
        run_locally(BaselineJob(), settings, str(cube), pool=pool, progress=False)
    return cube


def monitored(cube: Path) -> list[str]:
    """The images that the index knows as monitored; none is there twice."""
    found = open_site(str(cube)).cube.records(RecordQuery(tags={"acd:job": "monitor"}))
    return sorted(record.name.rpartition("/")[2] for record in found)


def test_an_overtaken_plan_is_refused_with_nothing_published_and_nothing_is_lost(scene: Path, tmp_path: Path) -> None:
    """An image gets a record more while the workflow that knew the first ones is held up."""
    cube = with_baseline(scene, tmp_path / "cube")
    older = make_plan(MonitorJob(), settings_of(scene), open_site(str(cube)))
    shards_of(older, open_site(str(cube)))
    more = some_images(scene, tmp_path / "more", -1)
    (last,) = more.iterdir()
    with rasterio.open(last, "r+") as raster:  # a slice that overlaps the other one by its seam
        pixels = raster.read(1)
        pixels[raster.height // 5 :] = raster.nodata
        raster.write(pixels, 1)
    last.rename(last.with_name(last.name.replace("S1_", "S1B_")))
    ingest(more, cube)
    newer = monitor(scene, cube)
    assert newer.plan_id != older.plan_id
    before, records = digests(cube), open_site(str(cube)).cube.records(RecordQuery())
    with pytest.raises(AcdError) as raised:
        publish(older, open_site(str(cube)))
    assert raised.value.code is ErrorCode.PLAN_OVERTAKEN
    assert not raised.value.code.value.retryable
    assert digests(cube) == before
    assert open_site(str(cube)).cube.records(RecordQuery()) == records
    assert "already monitored with these settings" in monitor(scene, cube).nothing_to_do
    assert digests(cube) == before


def test_a_pod_of_an_old_plan_that_comes_back_after_it_was_published_changes_nothing(
    scene: Path, tmp_path: Path
) -> None:
    cube = with_baseline(scene, tmp_path / "cube")
    older = make_plan(MonitorJob(), settings_of(scene, end=first_monitored()), open_site(str(cube)))
    shards_of(older, open_site(str(cube)))
    publish(older, open_site(str(cube)))
    monitor(scene, cube)
    before = digests(cube)
    publish(older, open_site(str(cube)))
    shutil.rmtree(cube / "runs/monitor" / older.plan_id / "cut/gathered")  # as if it had not said that it is done
    publish(older, open_site(str(cube)))
    assert digests(cube) == before


def first_monitored() -> datetime:
    return reference_end() + timedelta(days=SCENE.pair_days)


def test_other_images_of_the_same_area_are_never_refused(scene: Path, expected: Path, tmp_path: Path) -> None:
    cube = with_baseline(scene, tmp_path / "cube")
    older = make_plan(MonitorJob(), settings_of(scene, end=first_monitored()), open_site(str(cube)))
    shards_of(older, open_site(str(cube)))
    monitor(scene, cube, start=first_monitored())
    publish(older, open_site(str(cube)))
    assert manifest(cube) == manifest(expected)
    assert monitored(cube) == monitored(expected)


def test_two_workflows_that_planned_the_same_images_publish_each_once(
    scene: Path, expected: Path, tmp_path: Path
) -> None:
    cube = with_baseline(scene, tmp_path / "cube")
    site = open_site(str(cube))
    part = make_plan(MonitorJob(), settings_of(scene, end=first_monitored()), site)
    whole, twin = (make_plan(MonitorJob(), settings_of(scene), site) for _ in range(2))
    assert whole.plan_id == twin.plan_id
    for plan in (whole, part, twin):
        shards_of(plan, open_site(str(cube)))
    for plan in (whole, part, twin):
        publish(plan, open_site(str(cube)))
    assert manifest(cube) == manifest(expected)
    assert monitored(cube) == monitored(expected)
    assert monitor(scene, cube).nothing_to_do


def test_dates_that_come_late_and_out_of_order_are_done_once_each(scene: Path, expected: Path, tmp_path: Path) -> None:
    reference = some_images(scene, tmp_path / "reference", 0, SCENE.reference_pairs)
    cube = with_baseline(scene, tmp_path / "cube", reference)
    assert "there is no image after" in monitor(scene, cube).nothing_to_do
    for place in (2, 0, 1):
        first = SCENE.reference_pairs + place
        ingest(some_images(scene, tmp_path / str(place), first, first + 1), cube)
        assert len(monitor(scene, cube).content.images) == 1
        assert monitor(scene, cube).nothing_to_do
    assert manifest(cube) == manifest(expected)
    assert monitored(cube) == monitored(expected)


def test_latest_stays_with_the_baseline_that_was_planned_last(scene: Path, tmp_path: Path) -> None:
    cube = with_baseline(scene, tmp_path / "cube")
    settings = BaselineSettings(aoi=str(scene / "aoi.json"), layout=LAYOUT, end=reference_end())
    older, newer = (
        make_plan(BaselineJob(), settings.model_copy(update={"end": reference_end() - timedelta(days=days)}), site)
        for days, site in ((30, open_site(str(cube))), (12, open_site(str(cube))))
    )
    for plan in (newer, older):
        for shard in range(plan.shards):
            run_shard(BaselineJob(), plan, "moments", shard, open_site(str(cube)))
        gather_round(BaselineJob(), plan, "moments", open_site(str(cube)))
    name, missing = f"CoherenceVV/{LAYOUT}/annual", ErrorCode.BASELINE_UNKNOWN
    store = Store.at(str(cube))
    _, body = find_manifest(store, "koln-demo", "baseline", name, "latest", missing)
    assert json.loads(body)["content_id"] == newer.content_id
    assert find_manifest(store, "koln-demo", "baseline", name, older.content_id, missing)


def test_a_plan_that_others_overtook_while_it_read_is_made_again(
    scene: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its token must not be newer than what it knows."""
    cube = with_baseline(scene, tmp_path / "cube")
    plans, original = [0], MonitorJob.plan

    def plan(self: MonitorJob, settings: MonitorSettings, site: Site) -> Draft[MonitorContent, MonitorWork]:
        plans[0] += 1
        draft = original(self, settings, site)
        if plans[0] == 1:
            make_plan(MonitorJob(), settings_of(scene, end=first_monitored()), open_site(str(cube)))
        return draft

    monkeypatch.setattr(MonitorJob, "plan", plan)
    made = make_plan(MonitorJob(), settings_of(scene), open_site(str(cube)))
    assert plans == [3]
    runs = open_site(str(cube)).runs
    assert newest_token(runs, "koln-demo/monitor") == 2
    assert json.loads(runs.get("tokens/koln-demo/monitor/00000002.json"))["plan"] == made.plan_id
    assert runs.list(f"monitor/{made.plan_id}/tokens") == [f"monitor/{made.plan_id}/tokens/00000002"]
