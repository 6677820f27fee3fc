"""What cannot be compared is not stacked: tracks, polarisations, series of pairs, images over one another."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pystac
import pytest
import rasterio
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from rasterio import Affine
from rasterio.warp import transform_bounds

from acdtask.cli import main
from acdtask.cube.local.cube import LocalCube
from acdtask.cube.model import Addition, Record, RecordQuery
from acdtask.engine.local import LocalOutcome, run_locally
from acdtask.engine.processes import WorkerPool
from acdtask.engine.stages import make_plan, open_site
from acdtask.errors import AcdError, ErrorCode
from acdtask.jobs.baseline.job import BaselineJob
from acdtask.jobs.baseline.settings import BaselineSettings
from acdtask.jobs.comparable import Pair, require_one_series
from acdtask.jobs.consolidate.job import ConsolidateJob
from acdtask.jobs.consolidate.settings import ConsolidateSettings
from acdtask.jobs.contract import Job, Settings
from acdtask.jobs.ingest.job import IngestJob
from acdtask.jobs.ingest.settings import IngestSettings
from acdtask.jobs.monitor.job import MonitorJob
from acdtask.jobs.monitor.settings import MonitorSettings
from acdtask.raster.grid import Layout, RegularGrid
from tests.jobs.chain import digests

SIZE, LEFT, TOP, RESOLUTION = 48, 400000.0, 5600000.0, 20.0
FIRST = date(2020, 1, 4)
CYCLE = 12

Float = NDArray[np.float32]


def pixels_of(mean: float, seed: int) -> Float:
    return (mean + np.random.default_rng(seed).uniform(-0.02, 0.02, (SIZE, SIZE))).astype(np.float32)


def write(path: Path, pixels: Float, top: float = TOP) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    profile = {"driver": "GTiff", "count": 1, "dtype": "float32", "nodata": 0, "crs": "EPSG:32632"}
    transform = Affine(RESOLUTION, 0, LEFT, 0, -RESOLUTION, top)
    height, width = pixels.shape
    with rasterio.open(path, "w", height=height, width=width, transform=transform, **profile) as raster:
        raster.write(pixels, 1)
    return path


def days(count: int, first: date = FIRST, step: int = CYCLE) -> list[tuple[date, date]]:
    return [(first + timedelta(step * k), first + timedelta(step * (k + 1))) for k in range(count)]


def write_series(folder: Path, name: str, count: int, mean: float, first: date = FIRST, step: int = CYCLE) -> None:
    """Pairs of a steady scene; `name` has {a} and {b} for the dates."""
    for number, (a, b) in enumerate(days(count, first, step)):
        write(folder / name.format(a=f"{a:%Y%m%d}", b=f"{b:%Y%m%d}"), pixels_of(mean, number))


class Area:
    """A cube over one tile, and the jobs on it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.cube = folder, folder / "cube"
        bounds = (LEFT, TOP - SIZE * RESOLUTION, LEFT + SIZE * RESOLUTION, TOP)
        west, south, east, north = transform_bounds("EPSG:32632", "EPSG:4326", *bounds)
        ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
        body = {"type": "Polygon", "coordinates": [ring], "name": "site"}
        times = {"start_time": "2020-01-01T00:00:00Z", "end_time": "2022-12-31T00:00:00Z"}
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "aoi.json").write_text(json.dumps(body | times))

    def ingest(self, source: Path | None = None, **more: Any) -> LocalOutcome:
        given = {"pattern": "*{start}_{end}*.tif", "source": str(source or self.folder / "images")}
        outcome = self.run(IngestJob(), IngestSettings(**(given | more)))
        grid = RegularGrid(crs="EPSG:32632", resolution=RESOLUTION, cell_size=SIZE, ox=LEFT, oy=TOP)
        open_site(str(self.cube)).cube.add_layout(Layout(name="utm", grid=grid))
        return outcome

    def baseline(self, **more: Any) -> LocalOutcome:
        return self.run(BaselineJob(), self.of(BaselineSettings, **more))

    def monitor(self, **more: Any) -> LocalOutcome:
        return self.run(MonitorJob(), self.of(MonitorSettings, **more))

    def of(self, kind: Callable[..., Any], **more: Any) -> Any:
        return kind(aoi=str(self.folder / "aoi.json"), layout="utm", **more)

    def run(self, job: Job[Any, Any], chosen: Settings) -> LocalOutcome:
        with WorkerPool(0) as pool:
            return run_locally(job, chosen, str(self.cube), pool=pool, progress=False)

    def mean(self, outcome: LocalOutcome) -> NDArray[np.float64]:
        """The mean of the baseline that a run has made, in units of coherence."""
        folder = self.cube / "products/site/baseline" / outcome.plan.content_id
        (path,) = folder.rglob("mean_*.tif")
        with rasterio.open(path) as raster:
            return np.asarray(raster.read(1), np.float64) / 1000

    def records(self) -> list[Record]:
        return LocalCube.open(str(self.cube)).records(RecordQuery())


@pytest.fixture
def area(tmp_path: Path) -> Area:
    return Area(tmp_path)


def refusal(call: Callable[[], object]) -> AcdError:
    with pytest.raises(AcdError) as raised:
        call()
    return raised.value


# --- tracks


TWO_TRACKS = {
    "in the name": ("S1_A015_{a}_{b}_VV.tif", "S1_D066_{a}_{b}_VV.tif"),
    "in the folder": ("A015/{a}_{b}.coh.tif", "D066/{a}_{b}.coh.tif"),
    "a frame of LiCSAR": ("015A_04904_121313/{a}_{b}.geo.cc.tif", "066D_04904_131313/{a}_{b}.geo.cc.tif"),
    "a product of ARIA": ("S1-GUNW-A-R-015-tops-{a}_{b}-VV.tif", "S1-GUNW-D-R-066-tops-{a}_{b}-VV.tif"),
}


@pytest.mark.parametrize("names", TWO_TRACKS.values(), ids=TWO_TRACKS)
def test_two_tracks_are_told_and_refused_until_one_is_chosen(area: Area, names: tuple[str, str]) -> None:
    write_series(area.folder / "images", names[0], 5, mean=0.7)
    write_series(area.folder / "images", names[1], 4, mean=0.3, first=FIRST + timedelta(5))
    assert "tracks: A015: 5, D066: 4" in area.ingest().lines
    assert {record.tags["track"] for record in area.records()} == {"A015", "D066"}
    refused = refusal(area.baseline)
    assert refused.code is ErrorCode.TRACKS_MIXED
    assert "A015: 5, D066: 4" in refused.detail
    assert "--track A015" in refused.fix
    for track, mean in (("A015", 0.7), ("D066", 0.3)):
        chosen = area.baseline(track=track, name=track)
        assert chosen.plan.notes["tracks"] == f"{track}: {5 if track == 'A015' else 4}"
        np.testing.assert_allclose(area.mean(chosen), mean, atol=0.02)


def test_on_purpose_tracks_make_one_stack_with_images_of_their_own(area: Area) -> None:
    write_series(area.folder / "images", "A015_{a}_{b}.tif", 3, mean=0.7)
    write_series(area.folder / "images", "D066_{a}_{b}.tif", 3, mean=0.3)
    area.ingest()
    mixed = area.baseline(mixed=True)
    assert len(mixed.plan.content.images) == 6
    np.testing.assert_allclose(area.mean(mixed), 0.5, atol=0.02)


def test_a_cube_without_track_tags_is_read_by_the_names_of_its_records_and_ingested_no_second_time(area: Area) -> None:
    write_series(area.folder / "images", "S1_A015_{a}_{b}_VV.tif", 4, mean=0.7)
    area.ingest()
    cube = LocalCube.open(str(area.cube))
    tagged = cube.records(RecordQuery())
    datasets = cube.datasets("CoherenceVV", "master")
    plain = {
        record.id: record.model_copy(update={"tags": {k: v for k, v in record.tags.items() if k != "track"}})
        for record in tagged
    }
    moved = [dataset.model_copy(update={"record_id": plain[dataset.record_id].id}) for dataset in datasets]
    cube.remove(records=plain, datasets=datasets)
    cube.commit(Addition([*plain.values()], moved))
    write_series(area.folder / "images", "S1_D066_{a}_{b}_VV.tif", 1, mean=0.3, first=FIRST + timedelta(5))
    assert area.ingest().plan.units == 1
    assert len(area.records()) == 5
    assert refusal(area.baseline).code is ErrorCode.TRACKS_MIXED
    np.testing.assert_allclose(area.mean(area.baseline(track="A015")), 0.7, atol=0.02)


def test_the_track_is_given_by_a_pattern_an_option_or_stac(area: Area) -> None:
    write_series(area.folder / "pattern", "x_a15_{a}_{b}.tif", 1, mean=0.7)
    area.ingest(area.folder / "pattern", pattern="x_{track}_{start}_{end}.tif")
    write_series(area.folder / "option", "{a}_{b}.tif", 1, mean=0.7, first=FIRST + timedelta(12))
    area.ingest(area.folder / "option", track="a15")
    file = write(area.folder / "stac/item.tif", pixels_of(0.7, 1))
    write_catalogue(
        area.folder / "stac", {"item": {"data": file}}, {"sat:orbit_state": "ascending", "sat:relative_orbit": 15}
    )
    area.ingest(area.folder / "stac/catalog.json")
    assert len(area.records()) == 3
    assert area.baseline(track="A015").plan.notes["tracks"] == "A015: 3"


def test_records_lists_track_and_pair_length_and_chooses_as_a_baseline_does(
    area: Area, capsys: pytest.CaptureFixture[str]
) -> None:
    write_series(area.folder / "images", "S1_A015_{a}_{b}_VV.tif", 3, mean=0.7)
    write_series(area.folder / "images", "S1_D066_{a}_{b}_VV.tif", 2, mean=0.3, step=24)
    area.ingest()

    def listed(*options: str) -> str:
        assert main(["records", "--cube", str(area.cube), *options]) == 0
        return capsys.readouterr().out

    everything = listed()
    assert "5 records" in everything
    assert re.search(r"S1_A015_20200104_20200116_VV .* 12 +A015", everything)
    assert re.search(r"S1_D066_20200104_20200128_VV .* 24 +D066", everything)
    for options, count in (
        (["--track", "D066"], 2),
        (["--tag", "track=A*"], 3),
        (["--tag", "polarisation=VV", "--leave-out", "*_A015_*"], 2),
        (["--tag", "polarisation=VH"], 0),
        (["--tag", "start_datetime=2020-01-04*", "--limit", "1"], 2),
    ):
        assert f"{count} record" in listed(*options)


def test_a_file_of_another_track_than_the_option_says_is_refused(area: Area) -> None:
    write_series(area.folder / "images", "S1_D066_{a}_{b}_VV.tif", 2, mean=0.7)
    refused = refusal(lambda: area.ingest(track="A015"))
    assert refused.code is ErrorCode.TRACK_CONFLICT
    area.ingest()
    assert {record.tags["track"] for record in area.records()} == {"D066"}


def test_a_track_that_no_record_has_is_refused_with_those_that_there_are(area: Area) -> None:
    write_series(area.folder / "images", "S1_A015_{a}_{b}_VV.tif", 3, mean=0.7)
    area.ingest()
    area.baseline()
    for call in (lambda: area.baseline(track="D066"), lambda: area.monitor(track="D066", start="2020-01-01")):
        refused = refusal(call)
        assert refused.code is ErrorCode.NOTHING_CHOSEN
        assert "A015" in refused.detail


def test_images_of_another_track_are_not_judged_with_a_baseline(area: Area) -> None:
    write_series(area.folder / "images", "S1_A015_{a}_{b}_VV.tif", 6, mean=0.7)
    write_series(area.folder / "images", "S1_D066_{a}_{b}_VV.tif", 6, mean=0.3, first=FIRST + timedelta(5))
    area.ingest()
    area.baseline(track="A015", end="2020-02-25")
    assert refusal(area.monitor).code is ErrorCode.TRACKS_MIXED
    refused = refusal(lambda: area.monitor(track="D066"))
    assert refused.code is ErrorCode.BASELINE_OF_ANOTHER_TRACK
    assert "A015" in refused.detail
    judged = area.monitor(track="A015", min_count=2, min_std=0.001)
    assert [image.label for image in judged.plan.content.images] == [
        "2020-02-21_2020-03-04",
        "2020-03-04_2020-03-16",
    ]


@settings(max_examples=4, deadline=None)
@given(data=st.data(), consolidated=st.booleans())
def test_one_track_of_several_gives_the_bits_of_a_cube_that_has_that_track_alone(
    data: st.DataObject, consolidated: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("tracks")
    shifts = {"A015": 0, "D066": data.draw(st.integers(0, 11)), "A117": data.draw(st.integers(0, 11))}
    for track, shift in shifts.items():
        for some in ("images", f"only {track}"):
            name = f"S1_{track}_{{a}}_{{b}}_VV.tif"
            write_series(
                folder / some, name, 5, mean=0.2 + len(track + str(shift)) / 20, first=FIRST + timedelta(shift)
            )
    track = data.draw(st.sampled_from(sorted(shifts)))
    products = []
    for name, source in (("all", "images"), ("one", f"only {track}")):
        area = Area(folder / name)
        area.ingest(folder / source)
        if consolidated:
            area.run(ConsolidateJob(), area.of(ConsolidateSettings, track=track))
        area.baseline(track=track, end="2020-02-16")
        area.monitor(track=track, min_count=1, min_std=0)
        found = digests(area.cube)
        products.append(
            {key: digest for key, digest in found.items() if key.startswith(("products/", "consolidated/"))}
        )
    assert products[0]
    assert products[0] == products[1]


# --- polarisations


@pytest.mark.parametrize(("wanted", "other"), [("VV", "VH"), ("HH", "HV")])
@pytest.mark.parametrize("name", ["S1_{a}_{b}_%s.tif", "%s/{a}_{b}.tif"], ids=["names", "folders"])
@pytest.mark.parametrize("pattern", ["*{start}_{end}*.tif", "tagged"])
def test_a_variable_takes_the_polarisation_in_its_name(
    area: Area, wanted: str, other: str, name: str, pattern: str
) -> None:
    write_series(area.folder / "images", name % wanted, 3, mean=0.75)
    write_series(area.folder / "images", name % other, 3, mean=0.2)
    tagged = "{polarisation}/{start}_{end}.tif" if "/" in name else "S1_{start}_{end}_{polarisation}.tif"
    variable = f"Coherence{wanted}"
    ingested = area.ingest(variable=variable, pattern=tagged if pattern == "tagged" else pattern)
    assert f"excluded, other polarisation: {other}: 3" in ingested.lines
    np.testing.assert_allclose(area.mean(area.baseline(variable=variable)), 0.75, atol=0.02)


def test_the_other_polarisation_goes_into_a_variable_of_its_own(area: Area) -> None:
    for name, mean in (("VV", 0.75), ("VH", 0.2)):
        write_series(area.folder / "images", f"S1_{{a}}_{{b}}_{name}.tif", 3, mean=mean)
    for name, mean in (("CoherenceVV", 0.75), ("CoherenceVH", 0.2)):
        area.ingest(variable=name)
        np.testing.assert_allclose(area.mean(area.baseline(variable=name)), mean, atol=0.02)


def test_files_without_the_variables_polarisation_are_refused_and_the_advice_works(area: Area) -> None:
    for name, mean in (("HH", 0.75), ("HV", 0.2)):
        write_series(area.folder / "images", f"S1_{{a}}_{{b}}_{name}.tif", 3, mean=mean)
    refused = refusal(area.ingest)
    assert refused.code is ErrorCode.POLARISATION_MISMATCH
    assert "HH (3), HV (3)" in refused.detail
    assert "--variable CoherenceHH" in refused.fix
    area.ingest(variable="CoherenceHH")
    np.testing.assert_allclose(area.mean(area.baseline(variable="CoherenceHH")), 0.75, atol=0.02)


def test_a_variable_that_says_no_polarisation_asks_for_one(area: Area) -> None:
    for name, mean in (("VV", 0.75), ("VH", 0.2)):
        write_series(area.folder / "images", f"S1_{{a}}_{{b}}_{name}.tif", 3, mean=mean)
    refused = refusal(lambda: area.ingest(variable="Coherence"))
    assert refused.code is ErrorCode.POLARISATION_MISMATCH
    assert "--polarisation VV" in refused.fix
    area.ingest(variable="Coherence", polarisation="VV")
    np.testing.assert_allclose(area.mean(area.baseline(variable="Coherence")), 0.75, atol=0.02)


def test_polarisations_that_were_ingested_on_purpose_are_still_no_one_stack(area: Area) -> None:
    for name, mean in (("VV", 0.75), ("VH", 0.2)):
        write_series(area.folder / "images", f"S1_{{a}}_{{b}}_{name}.tif", 3, mean=mean)
    area.ingest(polarisation="any", pattern="S1_{start}_{end}_{polarisation}.tif")
    refused = refusal(area.baseline)
    assert refused.code is ErrorCode.POLARISATIONS_MIXED
    assert "VH: 3, VV: 3" in refused.detail
    np.testing.assert_allclose(area.mean(area.baseline(tags={"polarisation": "VH"})), 0.2, atol=0.02)


@pytest.mark.parametrize(
    ("name", "pattern", "producer"),
    [
        ("%s/{a}_{b}.tif", "*{start}_{end}*.tif", None),
        ("%s/{a}_{b}/coh.tif", "{start}_{end}/coh.tif", None),
        ("%s/{a}_{b}/filt_fine.cor.tif", "", "isce2"),
        ("coh_%s/interferograms/{a}_{b}.int.cor.tif", "", "dolphin"),
    ],
)
def test_the_polarisation_of_a_folder_is_kept_so_that_two_are_not_stacked(
    area: Area, name: str, pattern: str, producer: str | None
) -> None:
    for polarisation, mean in (("VV", 0.75), ("VH", 0.2)):
        write_series(area.folder / "images", name % polarisation, 3, mean=mean)
    how: dict[str, Any] = {"producer": producer} if producer else {"pattern": pattern}
    if producer:
        how["pattern"] = IngestSettings(source="x", producer=producer).pattern
    assert "excluded, other polarisation: VH: 3" in area.ingest(**how).lines
    area.ingest(polarisation="any", **how)
    assert sorted(record.tags["polarisation"] for record in area.records()) == ["VH"] * 3 + ["VV"] * 3
    refused = refusal(area.baseline)
    assert refused.code is ErrorCode.POLARISATIONS_MIXED
    assert "VH: 3, VV: 3" in refused.detail
    assert "--tags polarisation=VH" in refused.fix
    for polarisation, mean in (("VV", 0.75), ("VH", 0.2)):
        chosen = area.baseline(tags={"polarisation": polarisation}, name=polarisation)
        np.testing.assert_allclose(area.mean(chosen), mean, atol=0.02)


def test_two_sources_of_two_polarisations_do_not_become_one_stack(area: Area) -> None:
    for polarisation, mean in (("VV", 0.75), ("VH", 0.2)):
        write_series(area.folder / f"images_{polarisation}", "{a}_{b}.tif", 3, mean=mean)
    refused = refusal(lambda: area.ingest(area.folder / "images_VH"))
    assert refused.code is ErrorCode.POLARISATION_MISMATCH
    for polarisation in ("VV", "VH"):
        area.ingest(area.folder / f"images_{polarisation}", variable="Coherence")
    assert refusal(lambda: area.baseline(variable="Coherence")).code is ErrorCode.POLARISATIONS_MIXED
    chosen = area.baseline(variable="Coherence", tags={"polarisation": "VV"})
    np.testing.assert_allclose(area.mean(chosen), 0.75, atol=0.02)


def test_a_record_that_was_ingested_without_its_polarisation_stays_the_same_record(
    area: Area, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_series(area.folder / "images", "A015/VV/{a}_{b}.tif", 3, mean=0.75)
    with monkeypatch.context() as older:
        older.setattr("acdtask.jobs.ingest.source_listing.polarisation_in", lambda text: "")
        older.setattr("acdtask.jobs.ingest.source_listing.track_in", lambda text: "")
        area.ingest()
    before = area.records()
    assert {"polarisation", "track"} & before[0].tags.keys() == set()
    assert area.ingest().plan.nothing_to_do
    write_series(area.folder / "images", "A015/VV/{a}_{b}.tif", 4, mean=0.75)
    area.ingest(on_known="keep")
    after = area.records()
    assert [record.id for record in after][:3] == [record.id for record in before]
    assert (after[3].tags["polarisation"], after[3].tags["track"]) == ("VV", "A015")


def write_catalogue(folder: Path, items: dict[str, dict[str, Path]], properties: dict[str, Any]) -> None:
    """A STAC catalogue; the asset's name is the key."""
    catalogue = pystac.Catalog("catalogue", "of a test")
    for number, (name, assets) in enumerate(items.items()):
        a, b = days(len(items) + 2)[number + 2]
        item = pystac.Item(name, None, None, None, dict(properties), start_datetime=utc(a), end_datetime=utc(b))
        for key, path in assets.items():
            item.add_asset(key, pystac.Asset(str(path)))
        catalogue.add_item(item)
    catalogue.normalize_hrefs(str(folder))
    catalogue.save(pystac.CatalogType.ABSOLUTE_PUBLISHED)


def utc(day: date) -> Any:
    from datetime import UTC, datetime

    return datetime(day.year, day.month, day.day, tzinfo=UTC)


@pytest.mark.parametrize(("wanted", "other"), [("VV", "VH"), ("HH", "HV")])
def test_of_the_assets_of_an_item_that_of_the_variables_polarisation_is_read(
    area: Area, wanted: str, other: str
) -> None:
    items = {
        f"item{number}": {
            key: write(area.folder / f"stac/{key}-{number}.tif", pixels_of(mean, number))
            for key, mean in ((wanted.lower(), 0.75), (other.lower(), 0.2))
        }
        for number in range(3)
    }
    write_catalogue(area.folder / "stac", items, {"sar:polarizations": [wanted, other]})
    variable = f"Coherence{wanted}"
    said = area.ingest(area.folder / "stac/catalog.json", variable=variable).lines
    assert f"excluded, other polarisation: {other}: 3" in said
    assert {record.tags["polarisation"] for record in area.records()} == {wanted}
    np.testing.assert_allclose(area.mean(area.baseline(variable=variable)), 0.75, atol=0.02)
    if wanted == "HH":
        refused = refusal(lambda: area.ingest(area.folder / "stac/catalog.json"))
        assert refused.code is ErrorCode.POLARISATION_MISMATCH


# --- series and same-day images without a track


def test_interleaved_pairs_without_a_track_are_refused_naming_both_until_one_series_is_chosen(area: Area) -> None:
    write_series(area.folder / "images", "up_{a}_{b}.tif", 5, mean=0.7)
    write_series(area.folder / "images", "down_{a}_{b}.tif", 4, mean=0.3, first=FIRST + timedelta(5))
    area.ingest()
    refused = refusal(area.baseline)
    assert refused.code is ErrorCode.PAIRS_INTERLEAVED
    assert "5 pairs such as up_" in refused.detail
    assert "4 such as down_" in refused.detail
    np.testing.assert_allclose(area.mean(area.baseline(records="down_*")), 0.3, atol=0.02)
    assert area.baseline(mixed=True, name="mixed").plan.estimate.dates == 9


def test_a_new_pair_that_interleaves_with_the_baseline_is_not_judged(area: Area) -> None:
    write_series(area.folder / "images", "up_{a}_{b}.tif", 6, mean=0.7)
    area.ingest()
    area.baseline(end="2020-03-10")
    write_series(area.folder / "images", "down_{a}_{b}.tif", 1, mean=0.3, first=date(2020, 3, 1))
    area.ingest()
    refused = refusal(area.monitor)
    assert refused.code is ErrorCode.PAIRS_INTERLEAVED
    judged = area.monitor(records="up_*", min_count=2, min_std=0.001)
    assert [image.label for image in judged.plan.content.images] == ["2020-03-04_2020-03-16"]


TIMED = "*{start:%Y%m%dT%H%M%S}_{end:%Y%m%dT%H%M%S}*.tif"


def write_turns(
    folder: Path, times: tuple[str, str], means: tuple[float, float] = (0.7, 0.7), shift: int = 6, count: int = 5
) -> None:
    """Two chains of pairs, each at a time of day."""
    for name, time, mean, days_later in zip("AB", times, means, (0, shift), strict=True):
        first = FIRST + timedelta(days_later)
        write_series(folder, f"S1{name}{name}_{{a}}{time}_{{b}}{time}_VV.tif", count, mean=mean, first=first)


@pytest.mark.parametrize("times", [("T172015", "T172047"), ("T235930", "T000012")])
def test_two_satellites_in_turn_on_one_track_are_one_series(area: Area, times: tuple[str, str]) -> None:
    write_turns(area.folder / "images", times)
    area.ingest(pattern=TIMED)
    before = area.baseline(end="2020-02-20")
    assert len(before.plan.content.images) == 6
    np.testing.assert_allclose(area.mean(before), 0.7, atol=0.02)
    judged = area.monitor(min_count=2, min_std=0.001)
    assert len(judged.plan.content.images) == 4


@pytest.mark.parametrize(
    ("times", "shift"),
    [
        (("T172015", "T053015"), 6),
        (("T172015", "T172830"), 6),
        (("T172015", "T171200"), 6),
        (("T120000", "T120000"), 5),
        (("T000000", "T000000"), 6),
        (("", ""), 6),
    ],
    ids=["other direction", "track to the west", "track to the east", "placeholder", "midnight", "no time"],
)
def test_series_that_may_be_of_two_tracks_are_refused(area: Area, times: tuple[str, str], shift: int) -> None:
    write_turns(area.folder / "images", times, means=(0.7, 0.3), shift=shift)
    how: dict[str, Any] = {"pattern": TIMED} if times[0] else {}
    area.ingest(**how)
    assert refusal(area.baseline).code is ErrorCode.PAIRS_INTERLEAVED
    np.testing.assert_allclose(area.mean(area.baseline(records="S1BB_*")), 0.3, atol=0.02)


def test_a_pass_of_another_track_is_not_judged_with_a_baseline_of_two_satellites(area: Area) -> None:
    write_turns(area.folder / "images", ("T172015", "T172047"))
    area.ingest(pattern=TIMED)
    area.baseline(end="2020-02-20")
    other = FIRST + timedelta(51)
    write_series(area.folder / "images", "S1AA_{a}T053000_{b}T053000_VV.tif", 1, mean=0.3, first=other)
    area.ingest(pattern=TIMED)
    refused = refusal(lambda: area.monitor(min_count=2, min_std=0.001))
    assert refused.code is ErrorCode.PAIRS_INTERLEAVED


def test_the_advice_for_two_satellites_with_dates_alone_works(area: Area) -> None:
    write_turns(area.folder / "images", ("", ""), means=(0.7, 0.6))
    area.ingest()
    refused = refusal(area.baseline)
    assert "two satellites 6 days apart on one track" in refused.detail
    assert "--track A015" in refused.fix
    assert "--mixed" in refused.fix
    for name, options in (("mixed", {"mixed": True}), ("track", {"track": "A015"})):
        if name == "track":
            area.ingest(track="A015")
        made = area.baseline(name=name, end="2020-02-20", **options)
        np.testing.assert_allclose(area.mean(made), 0.65, atol=0.02)
        assert made.plan.estimate.dates == 6
        judged = area.monitor(name=name, baseline_name=name, min_count=2, min_std=0.001, **options)
        assert len(judged.plan.content.images) == 4


def pair(a: int, b: int, name: str = "") -> Pair:
    return Pair(FIRST + timedelta(a), FIRST + timedelta(b), name or f"{a}-{b}")


@pytest.mark.parametrize(
    "pairs",
    [
        [],
        [(0, 12), (12, 24), (24, 36)],
        [(0, 12), (12, 24), (48, 60), (60, 72)],
        [(0, 24), (12, 36), (0, 12), (24, 36), (12, 24)],
        [(24, 36), (0, 12), (12, 36), (12, 48)],
    ],
    ids=["nothing", "a chain", "a chain with a gap", "a network", "a network in any order"],
)
def test_chains_and_networks_are_one_series(pairs: list[tuple[int, int]]) -> None:
    require_one_series([pair(*dates) for dates in pairs], "it")


@given(st.permutations([(0, 12), (12, 24), (24, 36), (5, 17), (17, 29)]))
def test_two_chains_are_found_in_any_order(pairs: list[tuple[int, int]]) -> None:
    with pytest.raises(AcdError, match="3 pairs such as 0-12 and 2 such as 5-17"):
        require_one_series([pair(*dates) for dates in pairs], "it")


def test_two_images_of_one_day_over_one_another_are_refused_naming_both(area: Area) -> None:
    write_series(area.folder / "images", "morning_{a}_{b}.tif", 3, mean=0.7)
    write_series(area.folder / "images", "evening_{a}_{b}.tif", 3, mean=0.3)
    area.ingest(pattern="{when}_{start}_{end}.tif")
    refused = refusal(area.baseline)
    assert refused.code is ErrorCode.RECORDS_OVERLAP
    assert "evening_20200104_20200116" in refused.detail
    assert "morning_20200104_20200116" in refused.detail
    np.testing.assert_allclose(area.mean(area.baseline(leave_out=("evening_*",))), 0.7, atol=0.02)
    np.testing.assert_allclose(area.mean(area.baseline(tags={"when": "evening"}, name="evening")), 0.3, atol=0.02)


def test_slices_of_one_pass_are_one_image(area: Area) -> None:
    for number, (a, b) in enumerate(days(3)):
        upper, lower = pixels_of(0.7, number), pixels_of(0.7, number + 50)
        write(area.folder / f"images/n_{a:%Y%m%d}_{b:%Y%m%d}.tif", upper, top=TOP + 24 * RESOLUTION)
        lower[:10] = 0  # footprints overlap by half, valid pixels by less than a quarter
        upper[-12:] = 0
        write(area.folder / f"images/n_{a:%Y%m%d}_{b:%Y%m%d}.tif", upper, top=TOP + 24 * RESOLUTION)
        write(area.folder / f"images/s_{a:%Y%m%d}_{b:%Y%m%d}.tif", lower)
    area.ingest(pattern="{slice}_{start}_{end}.tif")
    assert len(area.baseline().plan.content.images) == 3


# --- pair lengths, tags, and what plan says


def test_pairs_of_several_lengths_are_told_and_can_be_chosen(area: Area) -> None:
    write_series(area.folder / "images", "{a}_{b}.tif", 5, mean=0.7)
    for a, _ in days(4):
        write(area.folder / f"images/{a:%Y%m%d}_{a + timedelta(24):%Y%m%d}.tif", pixels_of(0.3, 1))
    assert "pair lengths: 12 days: 5, 24 days: 4" in area.ingest().lines
    whole = area.baseline()
    assert any("12 days: 5, 24 days: 4" in line for line in whole.lines)
    assert any("--pair-days" in line for line in whole.lines)
    for length, mean in ((12, 0.7), (24, 0.3)):
        chosen = area.baseline(pair_days=(length,), name=f"d{length}")
        assert not any("--pair-days" in line for line in chosen.lines)
        np.testing.assert_allclose(area.mean(chosen), mean, atol=0.02)


def test_a_baseline_of_one_length_in_a_network_is_monitored_with_that_length(area: Area) -> None:
    for a, b in days(8):
        write(area.folder / f"images/{a:%Y%m%d}_{b:%Y%m%d}.tif", pixels_of(0.7, b.day))
        write(area.folder / f"images/{a:%Y%m%d}_{b + timedelta(12):%Y%m%d}.tif", pixels_of(0.3, b.day))
    area.ingest()
    area.baseline(pair_days=(24,), end="2020-03-16")
    judged = area.monitor(pair_days=(24,), min_count=2, min_std=0.001)
    assert [image.label for image in judged.plan.content.images] == [
        "2020-03-04_2020-03-28",
        "2020-03-16_2020-04-09",
        "2020-03-28_2020-04-21",
    ]


def test_an_image_of_a_length_that_the_baseline_does_not_have_is_told(area: Area) -> None:
    write_series(area.folder / "images", "{a}_{b}.tif", 5, mean=0.7)
    a = days(5)[-1][1]
    write(area.folder / f"images/{a:%Y%m%d}_{a + timedelta(24):%Y%m%d}.tif", pixels_of(0.4, 9))
    area.ingest()
    area.baseline(end=a.isoformat())
    told = area.monitor(min_count=2, min_std=0.001).lines
    assert any("the baseline has no pairs of the length" in line and "24 days: 1" in line for line in told)


def test_plan_says_tracks_lengths_grids_and_how_many_files_match(area: Area) -> None:
    write_series(area.folder / "images", "S1_A015_{a}_{b}_VV.tif", 3, mean=0.7)
    write_series(area.folder / "images", "S1_A015_{a}_{b}_VH.tif", 3, mean=0.2)
    write(area.folder / "images/dem.tif", pixels_of(0.5, 1))
    site = open_site(str(area.cube))
    notes = make_plan(IngestJob(), IngestSettings(source=str(area.folder / "images")), site).notes
    said = {name: note for name, note in notes.items() if name != "map"}
    assert said["tracks"] == "A015: 3"
    assert said["pair lengths"] == "12 days: 3"
    assert said["polarisations"] == "VV: 3"
    assert said["grids"] == "EPSG:32632, pixels of 20: 3"
    assert said["excluded, name does not match"] == 1
    assert said["excluded, other polarisation"] == "VH: 3"
    assert said["files that match"] == 3
    area.ingest()
    notes = make_plan(BaselineJob(), area.of(BaselineSettings), open_site(str(area.cube))).notes
    assert {name: notes[name] for name in ("tracks", "pair lengths", "grids")} == {
        name: said[name] for name in ("tracks", "pair lengths", "grids")
    }
