"""Fusing day by day: what a day reads and writes, and that it gives what all days together give."""

from __future__ import annotations

import datetime as dt
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from acdtask.engine.stages import open_site
from acdtask.jobs.fuse.content import FuseContent, FusedImage, FusedWindow, FusionManifest, Member
from acdtask.jobs.fuse.files import fused_to_parquet
from acdtask.jobs.fuse.publish import next_manifest
from acdtask.jobs.fuse.settings import FuseSettings
from acdtask.jobs.fuse.windows import WindowsToPlan, planned_windows
from acdtask.jobs.ingest.job import IngestJob
from acdtask.jobs.ingest.settings import IngestSettings
from acdtask.jobs.parts import month_of, write_part
from acdtask.jobs.products import ImageProduct, MonitorManifest, MonitorMonth, MonthImage, MonthOfImages
from acdtask.jobs.simulate.settings import SceneSettings
from acdtask.raster.grid import Layout, RegularGrid
from acdtask.storage.store import Store
from acdtask.storage.traffic import traffic_so_far
from tests.jobs.chain import reference_end, simulate
from tests.jobs.tracks_site import GRIDS, TRACKS, fuse, monitor_track, run

NAMES = ("CoherenceVV/utm/a", "CoherenceVV/utm/b", "CoherenceVV/utm/c")
START = dt.datetime(2021, 1, 20, tzinfo=dt.UTC)
SCENES = [
    SceneSettings(size=64, reference_pairs=24, monitored_pairs=34, events=6, seed=5, pair_days=6, track=track)
    for track in (0, 1)
]


Image = tuple[float, bool]
"""Days after START, and whether it is the second image of this moment, such as a pair of another length."""


def monitored(member: int, images_of_member: list[Image], store: Store) -> MonitorManifest:
    """The manifest of a monitor with some images, with all documents that a plan reads."""
    products: dict[str, list[MonthImage]] = {}
    for day, is_second in sorted(images_of_member):
        moment = START + dt.timedelta(days=day)
        image = ImageProduct(
            label=f"{moment:%Y%m%dT%H%M%S}{'_long' if is_second else ''}",
            datetime=moment,
            start=None,
            records=[],
            tiles=[],
            patches="",
            patches_geojson="",
            patch_count=0,
            changed_px=0,
            quality_px={},
            checksums={},
        )
        document = write_part(store, f"monitor{member}/{image.label}", ".json", image.model_dump_json().encode())
        products.setdefault(month_of(moment), []).append(MonthImage(label=image.label, document=document))
    months = [
        MonitorMonth(
            month=month,
            images=len(images),
            partial=0,
            changed=0,
            patches=0,
            changed_area_m2=0,
            document=write_part(
                store, f"monitor{member}/{month}", ".json", MonthOfImages(images=images).model_dump_json().encode()
            ),
            table="",
        )
        for month, images in sorted(products.items())
    ]
    return MonitorManifest(
        content_id=f"{member}",
        aoi="area",
        aoi_geometry={},
        variable="CoherenceVV",
        instance="master",
        layout="utm",
        baseline="",
        settings={},
        version="",
        months=months,
    )


def fused_windows(planned: WindowsToPlan, store: Store, leave_out: int) -> list[FusedWindow]:
    """The windows of a plan that are not fused yet, without the n-th if `leave_out` is n, each with an empty table."""
    done = {(window.label, window.inputs) for window in planned.fused}
    pending = [window for window in planned.windows if (window.label, window.inputs) not in done]
    return [
        FusedWindow(
            label=window.label,
            start=window.start,
            datetime=window.datetime,
            inputs=window.inputs,
            images={
                NAMES[image.member]: FusedImage(label=image.label, datetime=image.datetime) for image in window.images
            },
            table=write_part(store, f"fused/{window.label}", ".parquet", fused_to_parquet([])),
            patches=0,
            held_back=0,
            changed_area_m2=0,
            judged_km2=1,
        )
        for number, window in enumerate(pending)
        if number != leave_out
    ]


def fused_again(
    known: FusionManifest | None, days: list[list[Image]], window_days: float, store: Store, leave_out: int = -1
) -> FusionManifest:
    """The manifest after a plan for members with images at some days."""
    members = tuple(Member(name=name, series="0") for name in NAMES[: len(days)])
    manifests = [monitored(number, moments, store) for number, moments in enumerate(days)]
    planned = planned_windows(members, manifests, window_days, known, store)
    assert planned.earlier + len(planned.fused) == (sum(month.windows for month in known.months) if known else 0)
    content = FuseContent(
        aoi="area",
        area={},
        fusion="0123456789abcdef",
        members=members,
        judged_by="model",
        since=planned.since,
        windows={window.label: window.inputs for window in planned.windows},
        sources=planned.sources,
        pending=(),
    )
    given_settings = FuseSettings(aoi="area.json", members=NAMES[: len(days)])
    return next_manifest(known, fused_windows(planned, store, leave_out), content, given_settings, store)


moments = st.lists(
    st.tuples(st.integers(0, 600).map(lambda eighths: eighths / 8), st.booleans()), max_size=12, unique=True
)


@given(
    days=st.lists(moments, min_size=2, max_size=3),
    window_days=st.sampled_from([0.0, 0.25, 3.0, 40.0]),
    order=st.randoms(use_true_random=False),
    left_out=st.lists(st.integers(-1, 2), min_size=4, max_size=4),
)
@settings(max_examples=60, deadline=None)
def test_images_that_come_in_any_order_give_the_windows_of_all_together(
    days: list[list[Image]], window_days: float, order: Any, left_out: list[int]
) -> None:
    """Also if windows are left out on the way, since their shards failed, and images come late."""
    images = [(member, day) for member, moments in enumerate(days) for day in moments]
    order.shuffle(images)
    with tempfile.TemporaryDirectory() as folder:
        store = Store.at(folder)
        known: FusionManifest | None = None
        for step, leave_out in enumerate([*left_out, -1], start=1):
            so_far = images[: len(images) * step // 5]
            arrived = [[day for other, day in so_far if other == member] for member in range(len(days))]
            known = fused_again(known, arrived, window_days, store, leave_out)
        whole = fused_again(None, days, window_days, store)
        assert known == whole
        again = planned_windows(
            whole.members, [monitored(n, moments, store) for n, moments in enumerate(days)], window_days, whole, store
        )
        assert {(window.label, window.inputs) for window in again.windows} == {
            (window.label, window.inputs) for window in again.fused
        }
        starts = {window.start for window in again.windows}
        assert len(starts) <= 1, "with nothing new, only the last window is looked at"


@pytest.fixture(scope="module")
def days(tmp_path_factory: pytest.TempPathFactory) -> dict[int, dict[str, Any]]:
    """Two days of a year, both the third of their months: what fusing them read and wrote."""
    folder = tmp_path_factory.mktemp("days")
    cube, aoi = folder / "cube", folder / "track0" / "aoi.json"
    for scene, (track, layout, _) in zip(SCENES, TRACKS, strict=True):
        simulate(folder / f"track{scene.track}", scene)
        run(IngestJob(), IngestSettings(source=str(folder / f"track{scene.track}/images"), track=track), cube)
        crs, cell = GRIDS[layout]
        grid = RegularGrid(crs=crs, resolution=20, cell_size=cell)
        open_site(str(cube)).cube.add_layout(Layout(name=layout, grid=grid))
    ends = [SCENES[0].pair_dates(SCENES[0].reference_pairs + day)[1] for day in range(SCENES[0].monitored_pairs)]
    months = [f"{end:%Y-%m}" for end in ends]
    third = [at for at, month in enumerate(months) if months[: at + 1].count(month) == 3]
    early, late = third[1], third[-1]
    assert late - early > 15
    measured: dict[int, dict[str, Any]] = {}
    for day in (early - 1, early, late - 1, late):
        end = reference_end(SCENES[0]).replace(year=ends[day].year, month=ends[day].month, day=ends[day].day)
        for track, layout, name in TRACKS:
            monitor_track(cube, aoi, track, layout, name, baseline_end=reference_end(SCENES[0]), end=end)
        before, started = files(cube / "products"), traffic_so_far()
        plan = fuse(cube, aoi).plan
        read, after = traffic_so_far() - started, files(cube / "products")
        measured[day] = {
            "pending": plan.content.pending,
            "read": read.object_bytes_read + read.pixel_bytes_read,
            "written": {name: len(body) for name, body in after.items() if before.get(name) != body},
            "months": len({*months[: day + 1]}),
            "plan": len(plan.model_dump_json()),
        }
    return {day: measured[day] for day in (early, late)}


def size_of(day: dict[str, Any], *, manifests: bool) -> int:
    """The bytes of the parts that a day wrote, or of the manifest."""
    return sum(size for name, size in day["written"].items() if ("/manifests/" in name) is manifests)


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_day_reads_and_writes_its_own_windows_however_many_there_were_before(days: dict[int, dict[str, Any]]) -> None:
    early, late = days.values()
    assert len(early["pending"]) == len(late["pending"]) == 1
    assert abs(late["read"] - early["read"]) <= 0.25 * early["read"], days
    assert len(late["written"]) == len(early["written"])
    parts, manifests = ([size_of(day, manifests=which) for day in (early, late)] for which in (False, True))
    assert abs(parts[1] - parts[0]) <= 0.25 * parts[0]
    assert manifests[1] - manifests[0] <= 1000 * (late["months"] - early["months"]), "a manifest has a line a month"
    assert abs(late["plan"] - early["plan"]) <= 0.1 * early["plan"]
