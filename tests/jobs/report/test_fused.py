"""A report shows what several series found together, if they were fused."""

from __future__ import annotations

import re
import shutil
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from acdtask.engine.local import LocalOutcome
from acdtask.engine.stages import open_site
from acdtask.jobs.fuse.files import FusedPatch
from acdtask.jobs.fuse.months import findings_of
from acdtask.jobs.fuse.publish import latest_fusion
from acdtask.jobs.report.drawing import Drawer
from acdtask.jobs.report.job import ReportJob, ReportSettings
from acdtask.jobs.report.model import FusedPage, FusedRow, ReportPage
from acdtask.jobs.report.page import MAX_ROWS, render
from tests.jobs.tracks_site import fuse, make_tracks, monitor_track, run

EVIL = "<script>alert(1)</script>"


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("judged")
    make_tracks(folder)
    return folder


@pytest.fixture
def cube(judged: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(judged / "cube", tmp_path / "cube"))


@pytest.fixture
def aoi(judged: Path) -> Path:
    return judged / "track0" / "aoi.json"


def report(cube: Path, aoi: Path, **more: Any) -> LocalOutcome:
    settings = {"aoi": str(aoi), "layout": "west", "name": "ascending", **more}
    return run(ReportJob(), ReportSettings.model_validate(settings), cube)


def index(cube: Path) -> str:
    (page,) = cube.glob("products/*/report/*/index.html")
    return page.read_text()


def patches(cube: Path, name: str = "fused") -> list[FusedPatch]:
    store = open_site(str(cube)).store
    return findings_of(latest_fusion(store, "koln-demo", name).months, store)


def shown(html: str) -> list[str]:
    return re.findall(r'<tr id="fused-([^"]+)"', html)


def test_patches_of_each_window_are_listed_and_outlined(cube: Path, aoi: Path) -> None:
    fuse(cube, aoi)
    report(cube, aoi)
    html, found = index(cube), patches(cube)
    assert sorted(shown(html)) == sorted(patch.id for patch in found)
    assert html.count('<path class="fused"') == len(found)
    assert "<h2>Both series</h2>" in html
    assert '<a href="#fused">Both series</a>' in html
    windows = [patch.window for name in shown(html) for patch in found if patch.id == name]
    assert windows == sorted(windows, reverse=True)
    for patch in found:
        row = html.partition(f'<tr id="fused-{patch.id}"')[2].partition("</tr>")[0]
        assert f"{patch.probability:.2f}" in row
        assert patch.reason in row
        names = ", ".join(member.rpartition("/")[2] for member in patch.members.split(","))
        assert f"<td>{names}</td>" in row


def test_without_a_fusion_of_this_series_there_is_no_section(cube: Path, aoi: Path) -> None:
    report(cube, aoi)
    before = index(cube)
    assert "fused" not in before
    fuse(cube, aoi, name="other")
    assert report(cube, aoi).plan.nothing_to_do, "a fusion of another name"
    assert not report(cube, aoi, fused="other").plan.nothing_to_do
    assert shown(index(cube))
    monitor_track(cube, aoi, "A015", "west", "alone")
    report(cube, aoi, name="alone", fused="other")
    pages = [page.read_text() for page in cube.glob("products/*/report/*/index.html")]
    assert sorted(bool(shown(page)) for page in pages) == [False, True], "not a member"


def test_a_new_fusion_rewrites_the_pages_and_draws_nothing_again(
    cube: Path, aoi: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    report(cube, aoi)

    def date(*_: object) -> None:
        raise AssertionError("drawn again")

    monkeypatch.setattr(Drawer, "date", date)
    fuse(cube, aoi)
    assert not report(cube, aoi).plan.nothing_to_do
    first = shown(index(cube))
    assert first
    assert report(cube, aoi).plan.nothing_to_do
    fuse(cube, aoi, false_per_1000km2=2000)
    assert not report(cube, aoi).plan.nothing_to_do
    assert shown(index(cube)) != first


def test_the_pages_of_months_and_the_newest_dates_have_their_windows(cube: Path, aoi: Path) -> None:
    fuse(cube, aoi)
    report(cube, aoi, dates=1)
    found = patches(cube)
    newest = max(patch.window for patch in found)
    assert set(shown(index(cube))) == {patch.id for patch in found if patch.window == newest}
    months = [page.read_text() for page in cube.glob("products/*/report/*/2*.html")]
    assert sorted(name for page in months for name in shown(page)) == sorted(patch.id for patch in found)


def fused_page(rows: int = 1, members: tuple[str, ...] = ("ascending", "descending")) -> FusedPage:
    ring = ((6.9, 50.9), (6.91, 50.9), (6.91, 50.91))
    row = FusedRow(
        id="koln_20210601_0",
        window="20210601",
        start=date(2021, 5, 30),
        end=date(2021, 6, 1),
        area_ha=2,
        probability=0.9,
        found_by=members,
        reason=EVIL,
        lon=6.9,
        lat=50.9,
        outline=(ring, ring),
    )
    return FusedPage(
        members=members,
        windows=3,
        held_back=1,
        rows=tuple(row.model_copy(update={"id": f"koln_20210601_{number}"}) for number in range(rows)),
    )


def html_of(fused: FusedPage | None) -> str:
    area = {"type": "Polygon", "coordinates": [[[6.8, 50.8], [7, 50.8], [7, 51], [6.8, 51], [6.8, 50.8]]]}
    day = date(2021, 6, 1)
    page = ReportPage(
        aoi="koln", variable="VV", geometry=area, start=day, end=day, low=1.7, high=3, inputs=1, fused=fused
    )
    return render(page).decode()


def test_names_and_reasons_are_text_and_three_series_are_all() -> None:
    html = html_of(fused_page(members=("a", EVIL, "c")))
    assert "<script" not in html
    assert "<h2>All series</h2>" in html
    assert "2021-05-30 to 2021-06-01" in html
    assert "1 patch in 3\u202fwindows" in html or "1 patch in 3 windows" in html
    assert html.count('class="fused"') == 1
    assert "fused" not in html_of(None)


def test_a_long_table_says_how_many_there_are_and_windows_without_patches_have_no_table() -> None:
    html = html_of(fused_page(MAX_ROWS + 7))
    assert len(shown(html)) == MAX_ROWS
    assert f"The table shows {MAX_ROWS} of {MAX_ROWS + 7} patches." in html
    assert "Table of patches of both series" not in html_of(fused_page(0))
    assert "0 patches in 3 windows" in html_of(fused_page(0))
