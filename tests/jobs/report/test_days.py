"""Daily reports: what a day costs, what its pages link to, and the result of concurrent runs."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from acdtask.engine.local import run_locally
from acdtask.engine.pod import write_artifacts
from acdtask.engine.processes import WorkerPool
from acdtask.engine.stages import gather_round, make_plan, open_site, run_shard
from acdtask.errors import AcdError, ErrorCode
from acdtask.jobs.baseline.job import BaselineJob
from acdtask.jobs.baseline.settings import BaselineSettings
from acdtask.jobs.contract import Plan
from acdtask.jobs.ingest.job import IngestJob
from acdtask.jobs.ingest.settings import IngestSettings
from acdtask.jobs.monitor.job import MonitorJob
from acdtask.jobs.monitor.settings import MonitorSettings
from acdtask.jobs.patch_files import read_patches
from acdtask.jobs.report.drawing import Drawer
from acdtask.jobs.report.edition import edition_chain, keys_of, newest_edition, show_edition
from acdtask.jobs.report.job import ReportJob, ReportSettings
from acdtask.jobs.simulate.settings import SceneSettings
from acdtask.jobs.styles import patch_style
from acdtask.raster.grid import Layout, RegularGrid
from acdtask.storage.store import Store
from acdtask.storage.traffic import traffic_so_far
from tests.jobs.chain import LAYOUT, reference_end, simulate

SCENE = SceneSettings(size=64, reference_pairs=24, monitored_pairs=40, events=6, seed=5, pair_days=6)
DATES = 5
LINK = re.compile(r'(?:href|src)="([^"]*)"')


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return simulate(tmp_path_factory.mktemp("scene"), SCENE)


@pytest.fixture(scope="module")
def baseline(scene: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cube with all images and a baseline."""
    cube = tmp_path_factory.mktemp("baseline") / "cube"
    with WorkerPool(0) as pool:
        run_locally(IngestJob(), IngestSettings(source=str(scene / "images")), str(cube), pool=pool, progress=False)
        grid = RegularGrid(crs="EPSG:32632", resolution=20, cell_size=64)
        open_site(str(cube)).cube.add_layout(Layout(name=LAYOUT, grid=grid))
        settings = BaselineSettings(aoi=str(scene / "aoi.json"), layout=LAYOUT, end=reference_end(SCENE))
        run_locally(BaselineJob(), settings, str(cube), pool=pool, progress=False)
    return cube


@pytest.fixture
def cube(baseline: Path, tmp_path: Path) -> Path:
    shutil.copytree(baseline, tmp_path / "cube")
    return tmp_path / "cube"


def monitor(scene: Path, cube: Path, days: int, **more: Any) -> None:
    """Monitor the images of the first days."""
    last = SCENE.pair_dates(SCENE.reference_pairs + days - 1)[1]
    end = reference_end(SCENE).replace(year=last.year, month=last.month, day=last.day)
    settings = MonitorSettings(aoi=str(scene / "aoi.json"), layout=LAYOUT, end=end, **more)
    with WorkerPool(0) as pool:
        run_locally(MonitorJob(), settings, str(cube), pool=pool, progress=False)


def settings_of(scene: Path, **more: Any) -> ReportSettings:
    return ReportSettings(**{"aoi": str(scene / "aoi.json"), "layout": LAYOUT, "dates": DATES, **more})


def report(scene: Path, cube: Path, **more: Any) -> Plan[Any, Any]:
    with WorkerPool(0) as pool:
        return run_locally(ReportJob(), settings_of(scene, **more), str(cube), pool=pool, progress=False).plan


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def folder_of(cube: Path) -> Path:
    (folder,) = cube.glob("products/*/report/*")
    return folder


def broken_links(folder: Path) -> list[str]:
    """Broken links of the pages in a folder."""
    broken = []
    for page in folder.glob("*.html"):
        html = page.read_text()
        for link in LINK.findall(html):
            if link.startswith("https://www.openstreetmap.org/"):
                continue
            target, _, anchor = link.partition("#")
            inside = (folder / target).read_text() if target.endswith(".html") else html
            if (target and not (folder / target).is_file()) or (anchor and f'id="{anchor}"' not in inside):
                broken.append(f"{page.name}: {link}")
    return broken


def artifact(plan: Plan[Any, Any], cube: Path, folder: Path) -> Path:
    """What a workflow shows of the report."""
    site = open_site(str(cube))
    write_artifacts(ReportJob().artifacts(plan, site), site, folder)
    return folder / "report"


@pytest.fixture(scope="module")
def days(scene: Path, baseline: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Forty days: for each one the files that it wrote in `products` and in a copy, and the dates that it drew."""
    folder = tmp_path_factory.mktemp("days")
    cube, copy = folder / "cube", folder / "copy"
    shutil.copytree(baseline, cube)
    drawn: list[str] = []
    original = Drawer.date
    with pytest.MonkeyPatch.context() as patch:

        def date(self: Drawer, product: Any, place: str) -> Any:
            drawn.append(product.label)
            return original(self, product, place)

        patch.setattr(Drawer, "date", date)
        seen: list[dict[str, Any]] = []
        for day in range(1, SCENE.monitored_pairs + 1):
            before, copied = files(cube / "products"), files(copy)
            drawn.clear()
            monitor(scene, cube, day)
            started = traffic_so_far()
            plan = report(scene, cube, out=str(copy))
            read = traffic_so_far() - started
            after, now = files(cube / "products"), files(copy)
            written = {name: body for name, body in after.items() if before.get(name) != body}
            seen.append(
                {
                    "drawn": list(drawn),
                    "written": written,
                    "copied": {name: body for name, body in now.items() if copied.get(name) != body},
                    "plan": plan,
                    "read": read.object_bytes_read + read.pixel_bytes_read,
                }
            )
    return {"cube": cube, "copy": copy, "seen": seen, "plan": plan}


def test_pictures_of_a_date_are_drawn_once(days: dict[str, Any]) -> None:
    drawn = [day["drawn"] for day in days["seen"]]
    assert [len(labels) for labels in drawn] == [1] * SCENE.monitored_pairs
    assert len({labels[0] for labels in drawn}) == SCENE.monitored_pairs
    assert {day["plan"].shards for day in days["seen"]} == {1}


def test_a_day_reads_and_writes_its_own_files_however_many_there_were_before(days: dict[str, Any]) -> None:
    """Both days are the third of their months, so that the months are as long."""
    seen = days["seen"]
    months = [day["drawn"][0][-10:-3] for day in seen]
    third = [at for at, month in enumerate(months) if months[: at + 1].count(month) == 3]
    early, late = next(at for at in third if at > DATES + 1), third[-1]
    assert late - early > 20
    count = [len(seen[day]["written"]) for day in (early, late)]
    size = [sum(map(len, seen[day]["written"].values())) for day in (early, late)]
    read = [seen[day]["read"] for day in (early, late)]
    assert abs(read[1] - read[0]) <= 0.25 * read[0], read
    assert abs(count[1] - count[0]) <= 0.25 * count[0], count
    assert abs(size[1] - size[0]) <= 0.25 * size[0], size


def test_a_day_rewrites_the_first_page_and_the_page_of_its_month(days: dict[str, Any]) -> None:
    for day in days["seen"][DATES + 1 :]:
        pages = {name.rpartition("/")[2] for name in day["written"] if name.endswith(".html") and "/pages/" not in name}
        assert pages == {"index.html", f"{day['drawn'][0][-10:-3]}.html"}
        copied = {name for name in day["copied"] if name.endswith((".html", ".png")) and "/" not in name}
        assert copied - {"quicklook.png"} == pages
        pictures = {name.split("/")[2] for name in day["copied"] if name.startswith("dates/")}
        assert {name.rpartition("-")[0] for name in pictures} == set(day["drawn"])


def test_every_link_leads_somewhere(days: dict[str, Any], tmp_path: Path) -> None:
    pages = sorted(path.name for path in folder_of(days["cube"]).glob("*.html"))
    assert len(pages) > 6
    assert pages == sorted(path.name for path in days["copy"].glob("*.html"))
    assert broken_links(folder_of(days["cube"])) == []
    assert broken_links(days["copy"]) == []
    shown = artifact(days["plan"], days["cube"], tmp_path)
    assert [path.name for path in shown.glob("*.html")] == ["index.html"]
    assert broken_links(shown) == []
    assert len(list(shown.glob("dates/*/*/*.png"))) == 3 * DATES
    assert f"<code>{folder_of(days['cube']).relative_to(days['cube'])}/</code>" in (shown / "index.html").read_text()


def numbers_in(page: str) -> dict[str, int]:
    """The number of each patch in the table of a page, by id."""
    rows = re.findall(r'<th scope="row" class="n" title="([^"]+)">(\d+)</th>', page)
    return {name: int(number) for name, number in rows}


def test_a_patch_has_the_same_number_on_every_page_in_every_file_and_on_every_day(days: dict[str, Any]) -> None:
    folder = folder_of(days["cube"])
    numbers: dict[str, int] = {}
    for month in sorted(folder.glob("2*.html")):
        numbers |= numbers_in(month.read_text())
        document = json.loads(month.with_suffix(".geojson").read_text())
        written = {feature["id"]: feature["properties"]["number"] for feature in document["features"]}
        assert written == numbers_in(month.read_text())
        table = read_patches(month.with_suffix(".parquet").read_bytes())
        assert {patch.patch.id: patch.number for patch in table} == written
        assert month.with_suffix(".qml").read_bytes() == patch_style()
    assert len(numbers) > 3
    assert sorted(numbers.values()) == list(range(1, len(numbers) + 1))
    first_page = numbers_in((folder / "index.html").read_text())
    assert first_page.items() <= numbers.items()
    for day in days["seen"]:
        for name, body in day["written"].items():
            if name.endswith("/index.html"):
                assert numbers_in(body.decode()).items() <= numbers.items()
    features = json.loads((folder / "patches.geojson").read_text())["features"]
    assert {feature["id"]: feature["properties"]["number"] for feature in features} == first_page
    table = read_patches((folder / "patches.parquet").read_bytes())
    assert {patch.patch.id: patch.number for patch in table} == first_page
    assert (folder / "patches.qml").read_bytes() == patch_style()
    by_date: dict[str, list[tuple[int, int]]] = {}
    documents = [json.loads(path.read_text()) for path in folder.glob("2*.geojson")]
    for feature in (feature for document in documents for feature in document["features"]):
        properties = feature["properties"]
        by_date.setdefault(properties["datetime"], []).append((properties["number"], -properties["area_px"]))
    ordered = [sorted(by_date[date]) for date in sorted(by_date)]
    assert [number for patches in ordered for number, _ in patches] == list(range(1, len(numbers) + 1))
    assert all([area for _, area in patches] == sorted(area for _, area in patches) for patches in ordered)


def test_the_first_page_shows_the_newest_dates_and_counts_them_all(days: dict[str, Any]) -> None:
    html = (folder_of(days["cube"]) / "index.html").read_text()
    assert len(re.findall(r'<div class="inside" id="date-', html)) == DATES
    assert f"of {SCENE.monitored_pairs} dates" in html
    months = sorted({day["drawn"][0][-10:-3] for day in days["seen"]})
    assert re.findall(r'<a href="(\d{4}-\d\d)\.html">', html) == months[::-1]
    dates = sum(
        page.read_text().count('<div class="inside" id="date-') for page in folder_of(days["cube"]).glob("2*.html")
    )
    assert dates == SCENE.monitored_pairs


def test_day_by_day_gives_the_pages_of_one_run(days: dict[str, Any], scene: Path, cube: Path) -> None:
    monitor(scene, cube, SCENE.monitored_pairs)
    report(scene, cube, shard_images=1)
    ours, theirs = files(folder_of(cube)), files(folder_of(days["cube"]))
    numbered = ("editions/", "pages/", "drawn/")
    assert {name: body for name, body in ours.items() if not name.startswith(numbered)} == {
        name: body for name, body in theirs.items() if not name.startswith(numbered)
    }
    assert {name for name in ours if name.startswith("pages/")} <= set(theirs)


def test_the_keys_of_an_edition_are_all_that_a_first_run_published(scene: Path, cube: Path) -> None:
    monitor(scene, cube, 8)
    plan = report(scene, cube)
    store = open_site(str(cube)).store
    _, edition = newest_edition(edition_chain(store, "koln-demo", plan.content.report))
    assert edition is not None
    folder = folder_of(cube)
    published = {path.relative_to(cube).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert keys_of(edition, store) == {name for name in published if "/editions/" not in name}


def test_a_report_of_the_same_result_has_nothing_to_do(days: dict[str, Any], scene: Path, tmp_path: Path) -> None:
    cube = tmp_path / "cube"
    shutil.copytree(days["cube"], cube)
    before = files(cube)
    assert "is up to date" in report(scene, cube).nothing_to_do
    assert files(cube) == before


@pytest.mark.parametrize("change", ["more dates", "index lost", "new copy"])
def test_what_changed_is_made_up_for_without_drawing_again(
    change: str, days: dict[str, Any], scene: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cube, copy = tmp_path / "cube", tmp_path / "copy"
    shutil.copytree(days["cube"], cube)
    index = folder_of(cube) / "index.html"
    before = index.read_bytes()
    if change == "index lost":
        index.unlink()

    def date(*_: object) -> None:
        raise AssertionError("drawn again")

    monkeypatch.setattr(Drawer, "date", date)
    settings: dict[str, dict[str, Any]] = {"more dates": {"dates": 12}, "new copy": {"out": str(copy)}}
    more = settings.get(change, {})
    assert not report(scene, cube, **more).nothing_to_do
    assert (index.read_bytes() == before) == (change != "more dates")
    assert broken_links(folder_of(cube)) == []
    if change == "new copy":
        assert broken_links(copy) == []
    assert report(scene, cube, **more).nothing_to_do


class Killed(BaseException):
    """Stands for the process being killed."""


def stop_after(writes: int, patch: pytest.MonkeyPatch) -> list[str]:
    """Kill the process after a number of writes, and return the keys that it tried to write."""
    keys: list[str] = []
    put, create = Store.put, Store.create

    def note(key: str) -> None:
        if len(keys) >= writes:
            raise Killed(key)
        keys.append(key)

    def stopping_put(self: Store, key: str, data: bytes) -> None:
        note(key)
        put(self, key, data)

    def stopping_create(self: Store, key: str, data: bytes) -> bool:
        note(key)
        return create(self, key, data)

    patch.setattr(Store, "put", stopping_put)
    patch.setattr(Store, "create", stopping_create)
    return keys


def test_a_run_that_is_killed_at_any_write_leaves_pages_that_work(scene: Path, cube: Path, tmp_path: Path) -> None:
    """The next run gives the same result as without the killed run."""
    monitor(scene, cube, 7)
    report(scene, cube)
    monitor(scene, cube, 8)
    plan = make_plan(ReportJob(), settings_of(scene), open_site(str(cube)))
    run_shard(ReportJob(), plan, "draw", 0, open_site(str(cube)))
    expected = tmp_path / "expected"
    shutil.copytree(cube, expected)
    with pytest.MonkeyPatch.context() as patch:
        keys = stop_after(1000, patch)
        gather_round(ReportJob(), plan, "draw", open_site(str(expected)))
    assert "index.html" in keys
    for writes in range(len(keys)):
        killed = tmp_path / "killed"
        shutil.copytree(cube, killed)
        with pytest.MonkeyPatch.context() as patch:
            stop_after(writes, patch)
            with pytest.raises(Killed):
                gather_round(ReportJob(), plan, "draw", open_site(str(killed)))
        assert broken_links(folder_of(killed)) == []
        report(scene, killed)
        assert files(folder_of(killed)) == files(folder_of(expected)), keys[writes]
        assert report(scene, killed).nothing_to_do
        shutil.rmtree(killed)


def test_a_late_date_redraws_nothing_and_rewrites_the_page_of_its_month(scene: Path, cube: Path) -> None:
    late = f"S1_*_{SCENE.pair_dates(SCENE.reference_pairs + 1)[1]:%Y%m%d}_*"
    monitor(scene, cube, 14, leave_out=(late,))
    report(scene, cube)
    before = files(folder_of(cube))
    monitor(scene, cube, 14)
    plan = report(scene, cube)
    (month,) = plan.content.months
    after = files(folder_of(cube))
    written = {name for name in after if after[name] != before.get(name)}
    assert {name for name in written if "/" not in name and name.endswith(".html")} == {"index.html", f"{month}.html"}
    assert len({name for name in written if name.endswith(".png") and name.startswith("dates/")}) == 3
    assert month < max(path.stem for path in folder_of(cube).glob("2*.html"))
    assert broken_links(folder_of(cube)) == []


def test_an_older_plan_does_not_replace_the_page_of_a_newer_one(scene: Path, cube: Path) -> None:
    monitor(scene, cube, 6)
    older = make_plan(ReportJob(), settings_of(scene), open_site(str(cube)))
    run_shard(ReportJob(), older, "draw", 0, open_site(str(cube)))
    monitor(scene, cube, 7)
    report(scene, cube)
    before = files(folder_of(cube))
    gather_round(ReportJob(), older, "draw", open_site(str(cube)))
    assert files(folder_of(cube)) == before
    assert broken_links(folder_of(cube)) == []
    assert report(scene, cube).nothing_to_do


def test_a_slow_writer_of_an_older_edition_leaves_the_newest(
    scene: Path, cube: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It publishes its edition before the newer one, but copies its pages after it."""
    monitor(scene, cube, 6)
    plan = report(scene, cube)
    store = open_site(str(cube)).store
    chain = edition_chain(store, "koln-demo", plan.content.report)
    original, done = Store.put, [False]

    def put(self: Store, key: str, data: bytes) -> None:
        if key == "index.html" and not done[0]:
            done[0] = True
            monitor(scene, cube, 7)
            report(scene, cube)
        original(self, key, data)

    monkeypatch.setattr(Store, "put", put)
    show_edition(chain, None, store)
    monkeypatch.undo()
    _, edition = newest_edition(chain)
    assert edition is not None
    assert (folder_of(cube) / "index.html").read_bytes() == store.get(edition.files["index.html"])
    assert report(scene, cube).nothing_to_do


@pytest.mark.parametrize("part", ["editions", "drawn", "pages"])
def test_a_damaged_part_of_a_report_is_noticed(part: str, scene: Path, cube: Path) -> None:
    monitor(scene, cube, 6)
    report(scene, cube)
    for path in (folder_of(cube) / part).iterdir():
        path.write_bytes(path.read_bytes()[:-2])
    monitor(scene, cube, 7)
    with pytest.raises(AcdError) as raised:
        report(scene, cube)
    assert raised.value.code is (ErrorCode.PRODUCT_DAMAGED if part == "editions" else ErrorCode.CUBE_DAMAGED)
