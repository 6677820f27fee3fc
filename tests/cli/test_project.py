"""The file acd.toml: what `init` writes, and how commands take their values from it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from rasterio.enums import ColorInterp

from acdtask.change.methods import detection_for
from acdtask.cli.options import options_of
from acdtask.errors import AcdError, ErrorCode
from acdtask.jobs.registry import JOBS, load_job
from acdtask.project.config import (
    AREA,
    JOBS_IN_ORDER,
    PATH_SETTINGS,
    SHARED,
    Project,
    chosen_aoi,
    find_project,
    read_project,
)
from acdtask.project.starter import MAX_IMAGES_READ
from tests.cli.scene import NORTH_UP, SIZE, Run, coherence, runner, write_area, write_images
from workflows.parameters import bound_to

LINE = re.compile(r"^(?:# )?(\w+) =(.*?)  # (.+)$", re.MULTILINE)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.chdir(tmp_path)
    return runner(capsys)


@pytest.fixture
def starter(run: Run) -> str:
    """The file that `init` writes for a few images."""
    write_images(Path("images"), 4)
    status, _, told = run("init", "--source", "images")
    assert status == 0, told
    return Path("acd.toml").read_text()


def sections_of(text: str) -> dict[str, str]:
    """The text of each section; '' is the text above the sections."""
    parts = re.split(r"^\[(\w+)\]$", text, flags=re.MULTILINE)
    return {"": parts[0], **dict(zip(parts[1::2], parts[2::2], strict=True))}


@pytest.mark.parametrize("job", JOBS_IN_ORDER)
def test_every_setting_of_every_job_is_in_the_file_with_a_comment(job: str, starter: str) -> None:
    sections = sections_of(starter)
    described = {name: comment for name, _, comment in LINE.findall(sections[job])}
    for option in options_of(load_job(job).settings):
        if option.field in SHARED:
            assert f"{option.field} =" in sections[""]
        else:
            assert described[option.field] == option.description
    assert set(described) <= set(load_job(job).settings.model_fields)


def test_every_job_of_the_chain_has_a_section() -> None:
    assert {name for name, entry in JOBS.items() if entry.in_chain} == set(JOBS_IN_ORDER)


def test_the_default_of_each_line_is_that_of_the_model(starter: str) -> None:
    uncommented = re.sub(r"^# (\w+ = \S)", r"\1", starter, flags=re.MULTILINE)
    Path("all.toml").write_text(uncommented.replace("bbox = [6.9, 50.9, 7.1, 51.0]", ""))
    project = read_project(Path("all.toml"))
    for job in JOBS_IN_ORDER:
        model = load_job(job).settings
        for name, value in project.of_job(job, model.model_fields).items():
            default = model.model_fields[name].get_default(call_default_factory=True)
            given = {"source", "pattern", "out", "layout", "make_layout", "end"}
            if name not in given and default is not None:
                assert json.loads(json.dumps(default)) == value, (job, name)
        model.model_validate({"aoi": "a.json", **project.of_job(job, model.model_fields)})


OF_NUMBERS = {"file_nodata", "source_minimum", "source_maximum"}
"""Settings that mention files but are not paths."""


def test_settings_that_name_files_are_known_as_such() -> None:
    """A path in acd.toml is relative to the file, so the settings that are paths must be known."""
    words = re.compile(r"\b(folder|file|address)\b")
    for job in JOBS_IN_ORDER:
        fields = load_job(job).settings.model_fields
        found = {name for name, field in fields.items() if words.search(field.description or "")}
        assert found - {"aoi", "on_known", "band", "source_nodata", "shard_files", "pattern"} - OF_NUMBERS == set(
            PATH_SETTINGS.get(job, ())
        )


def test_every_setting_of_the_file_is_a_parameter_of_the_workflow() -> None:
    for job in JOBS_IN_ORDER:
        names = {bound.option.field: bound.parameter for bound in bound_to(job, load_job(job).settings, alone=False)}
        assert set(names) == set(load_job(job).settings.model_fields)
        assert {names[field] for field in ("layout", "variable", "instance", "aoi") if field in names} <= set(SHARED)


def test_the_transform_of_the_baseline_is_also_the_monitors() -> None:
    project = Project(Path("acd.toml"), {}, {"baseline": {"transform": "log"}, "monitor": {"direction": "rise"}})
    of_job = {
        job: project.of_job(job, load_job(job).settings.model_fields) for job in ("baseline", "monitor", "report")
    }
    assert [values.get("transform") for values in of_job.values()] == ["log", "log", None]
    assert of_job["monitor"]["direction"] == "rise"
    other = Project(Path("acd.toml"), {}, {"baseline": {"transform": "log"}, "monitor": {"transform": "none"}})
    assert other.of_job("monitor", load_job("monitor").settings.model_fields)["transform"] == "none"


def test_what_was_seen_of_the_images_is_written_down(starter: str) -> None:
    assert "4 images in images match. Dates: 2020-01-16 to 2020-02-21. EPSG:32632, pixels of 20 x 20." in starter
    assert "span less than a year" in starter
    assert '# end = "2020-02-09T23:59:59Z"' in starter
    document = tomllib.loads(starter)
    assert document["ingest"]["source"] == "images"
    west, south, east, north = document["bbox"]
    assert 6.81 < west < east < 6.83
    assert 51.02 < south < north < 51.03


def test_a_year_of_images_needs_no_end(run: Run) -> None:
    write_images(Path("images"), 40)
    assert run("init")[0] == 0
    text = Path("acd.toml").read_text()
    assert "first year of the images, 2020-01-16 to 2021-01-15" in text
    assert 'source = "images"' in text


def test_images_are_looked_for_and_their_names_read(run: Run) -> None:
    for file in write_images(Path("deep/er"), 2):
        begin, end = re.findall(r"\d{8}", file.name)
        file.rename(file.with_name(f"coh-{begin}-{end}-VV.tif"))
    status, out, _ = run("init")
    assert status == 0
    assert "source: deep/er" in out
    assert "pattern: *{start:%Y%m%d}-{end:%Y%m%d}*.tif" in out
    assert "2 images in deep/er match" in out


def test_init_says_why_nothing_was_seen_and_writes_the_file(run: Run) -> None:
    status, out, _ = run("init", "--source", "nowhere")
    assert status == 0
    assert "no image could be read yet: ACD-2" in out
    assert "# No image could be read yet: ACD-2" in Path("acd.toml").read_text()


def test_the_thresholds_that_init_shows_are_the_defaults(run: Run) -> None:
    """Uncommenting a line changes nothing."""
    run("init", "--source", "nowhere")
    names = ("high", "min_area", "min_count", "min_std", "centred", "smooth", "false_per_1000km2", "judged_by")
    shown = re.findall(rf"^# ((?:{'|'.join(names)}) = \S+)", Path("acd.toml").read_text(), re.MULTILINE)
    given = tomllib.loads("\n".join(shown))
    assert set(given) == set(names)
    assert detection_for("robust", (0, 1000), 0.001, given) == detection_for("robust", (0, 1000), 0.001, {})


def without_nodata(kind: str, path: Path) -> None:
    """Rewrite the image at a path with its validity expressed in another way, or not at all."""
    with rasterio.open(path) as file:
        profile = {"driver": "GTiff", "dtype": "float32", "count": 1, "crs": file.crs, "transform": file.transform}
        pixels = file.read(1)
    path.unlink()
    valid = np.full(pixels.shape, 255, "uint8")
    valid[:3] = 0
    if kind in ("NaN", "NaN and zeros"):
        pixels[:3] = np.nan
    if kind in ("zeros", "NaN and zeros"):
        pixels[-3:] = 0
    if kind == "alpha":
        profile["count"] = 2
    with (
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=kind == "mask"),
        rasterio.open(path, "w", width=SIZE, height=SIZE, **profile) as file,
    ):
        file.write(pixels, 1)
        if kind == "alpha":
            file.write(valid.astype("float32"), 2)
            file.colorinterp = [ColorInterp.gray, ColorInterp.alpha]
        if kind == "mask":
            file.write_mask(valid)
    if kind == "mask beside":
        beside = path.with_name(f"{path.name}.msk")
        with rasterio.open(beside, "w", width=SIZE, height=SIZE, **profile | {"dtype": "uint8"}) as file:
            file.write(valid, 1)


@pytest.mark.parametrize(
    ("kind", "is_known"),
    [
        ("NaN", True),
        ("mask", True),
        ("mask beside", True),
        ("alpha", True),
        ("nothing", False),
        ("zeros", False),
        ("NaN and zeros", False),
    ],
)
def test_init_asks_for_nodata_where_an_ingest_does(kind: str, is_known: bool, run: Run) -> None:
    for path in write_images(Path("images"), 3):
        without_nodata(kind, path)
    _, out, _ = run("init", "--source", "images")
    assert "3 images in images match" in out, out
    assert ("3 of them define no nodata value: set source_nodata (0 or nan)." in out) != is_known
    assert ("source_nodata (0 or nan)" in Path("acd.toml").read_text()) != is_known
    status, _, told = run("ingest", "local", "--workers", "0")
    assert (status == 0, "ACD-209" in told) == (is_known, not is_known)
    if not is_known:
        assert run("init", "--force", "--source", "images", "--source-nodata", "0")[0] == 0
        assert "which pixels are nodata" not in Path("acd.toml").read_text()
        assert run("ingest", "local", "--workers", "0")[0] == 0


def test_init_reads_a_few_images_and_says_that_there_are_more(run: Run) -> None:
    for path in write_images(Path("images"), MAX_IMAGES_READ + 2):
        without_nodata("zeros", path)
    _, out, _ = run("init", "--source", "images")
    assert f"At least {MAX_IMAGES_READ} of them define no nodata value" in out


def test_init_says_which_images_cannot_be_ingested(run: Run) -> None:
    paths = write_images(Path("images"), 3)
    paths[0].unlink()
    profile: dict[str, Any] = {"driver": "GTiff", "dtype": "float32", "count": 1, "width": SIZE, "height": SIZE}
    with rasterio.open(paths[0], "w", transform=NORTH_UP, **profile) as file:
        file.write(coherence(0), 1)
    _, out, _ = run("init", "--source", "images")
    assert "2 images in images match" in out
    assert f"1 cannot be ingested with these settings, the first because of ACD-202: {paths[0].absolute()}" in out
    for path in paths[1:]:
        path.write_bytes(b"no raster")
    paths[0].unlink()
    _, out, _ = run("init", "--source", "images", "--force")
    assert "no image could be read yet: ACD-201" in out


def test_init_writes_what_it_is_given_and_overwrites_nothing(run: Run) -> None:
    write_images(Path("images"), 2)
    write_area(Path("aoi.json"))
    given = ("--source", "images", "--aoi", "aoi.json", "--aoi-start", "2019-01-01", "--source-nodata", "nan")
    more = ("--cube", "s3://b/c", "--layout", "utm", "--baseline-end", "2020-12-31", "--tags", "orbit=37", "--out", "o")
    assert run("init", *given, *more)[0] == 0
    document = tomllib.loads(Path("acd.toml").read_text())
    assert (document["cube"], document["layout"], document["aoi"]) == ("s3://b/c", "utm", "aoi.json")
    assert (document["aoi_start"], document["baseline"]["end"]) == ("2019-01-01", "2020-12-31")
    assert document["ingest"]["tags"] == {"orbit": "37"}
    assert str(document["ingest"]["source_nodata"]) == "nan"
    assert document["report"]["out"] == "o"
    before = Path("acd.toml").read_text()
    status, _, told = run("init", *given)
    assert (status, "ACD-117" in told, "--force" in told) == (78, True, True)
    assert Path("acd.toml").read_text() == before
    assert run("init", "--force", "--source", "images", "--bbox", "6.8,51,6.9,51.1")[0] == 0
    assert tomllib.loads(Path("acd.toml").read_text())["bbox"] == [6.8, 51.0, 6.9, 51.1]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--aoi", "absent.json"), "absent.json"),
        (("--bbox", "1,2,3"), "four numbers"),
        (("--aoi", "a.json", "--bbox", "1,2,3,4"), "both"),
        (("--band", "0"), "--band"),
        (("--tags", "x"), "KEY=VALUE"),
    ],
)
def test_init_refuses_what_no_job_would_take(arguments: tuple[str, ...], words: str, run: Run) -> None:
    status, _, told = run("init", "--source", "images", *arguments)
    assert status in (2, 78)
    assert words in told
    assert not Path("acd.toml").exists()


# What commands take from it


@pytest.fixture
def watched(run: Run) -> Run:
    """A folder with a cube and an acd.toml with all values."""
    write_images(Path("images"), 4)
    write_area(Path("area.json"))
    Path("acd.toml").write_text(
        'cube = "cube"\naoi = "area.json"\nlayout = "utm"\n[ingest]\nsource = "images"\ncell_size = 32\n'
        '[baseline]\nend = "2020-02-09"\nname = "first"\n[monitor]\nname = "mine"\nmin_count = 1\n'
    )
    for job in ("ingest", "baseline", "monitor"):
        status, _, told = run(job, "local")
        assert status == 0, told
    return run


def test_no_command_needs_an_option_there(watched: Run) -> None:
    for arguments in (
        ("show", "patches"),
        ("show", "cube"),
        ("show", "variables"),
        ("show", "dataset"),
        ("tiles",),
        ("records",),
        ("layout", "list"),
        ("layout", "show", "utm"),
        ("verify",),
        ("tidy",),
        ("consolidate", "plan"),
        ("report", "plan"),
    ):
        status, out, told = watched(*arguments)
        assert status == 0, (arguments, told)
        assert out
    assert "that touch the AOI site" in watched("records")[1]
    assert watched("show", "patches")[1].startswith("0 patches\n")


def test_options_win_then_the_environment_then_the_settings_file_then_this_file(
    watched: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("option", "environment", "file"):
        assert watched("layout", "create", name, "--crs", "EPSG:32632", "--resolution", "20")[0] == 0
    settings = Path("s.json")
    settings.write_text('{"layout": "file"}')

    def planned(*arguments: str) -> str:
        status, out, told = watched("baseline", "plan", "--json", *arguments)
        assert status == 0, told
        return str(json.loads(out)["settings"]["layout"])

    assert planned() == "utm"
    assert planned("--settings", "s.json") == "file"
    monkeypatch.setenv("ACD_LAYOUT", "environment")
    assert planned("--settings", "s.json") == "environment"
    assert planned("--settings", "s.json", "--parameter", "layout=option") == "option"
    assert planned("--settings", "s.json", "--layout", "option") == "option"
    assert watched("tiles", "--json")[1].count('"environment"') > 0
    assert watched("tiles", "--json", "--layout", "option")[1].count('"option"') > 0


def test_the_area_of_a_higher_place_never_gets_the_name_of_a_lower_one() -> None:
    area = {"type": "Polygon", "coordinates": [[[7, 50], [7.1, 50], [7.1, 50.1], [7, 50]]]}
    text = json.dumps({**area, "name": "drawn"})
    project = {"aoi": "area.json", "aoi_name": "project", "aoi_end": "2021-01-01"}
    assert chosen_aoi({"aoi": text}, {}, project) == text
    assert chosen_aoi({}, {}, {"aoi": "area.json"}) == "area.json"
    assert chosen_aoi({"aoi_name": "x"}, {}) is None
    named = json.loads(str(chosen_aoi({"aoi_name": "option"}, {"bbox": "7,50,8,51"}, project)))
    assert named["name"] == "option"
    assert "end_time" not in named
    listed = json.loads(str(chosen_aoi({}, {}, {"bbox": [7, 50, 8, 51], "aoi_name": "list", "aoi_end": "2021-01-01"})))
    assert listed["end_time"].startswith("2021-01-01T23:59:59")
    with pytest.raises(AcdError) as caught:
        chosen_aoi({"aoi": "a", "bbox": "1,2,3,4"})
    assert caught.value.code is ErrorCode.USAGE


def test_a_command_without_an_area_says_how_to_give_one(run: Run) -> None:
    write_images(Path("images"), 2)
    assert run("ingest", "local", "--cube", "cube", "--source", "images")[0] == 0
    status, _, told = run("tiles", "--cube", "cube", "--layout", "utm")
    assert (status, "--bbox" in told, "acd.toml" in told) == (2, True, True)
    status, _, told = run("baseline", "plan", "--cube", "cube", "--layout", "utm")
    assert (status, "--aoi" in told) == (2, True)


def test_a_layout_that_nobody_named_is_the_only_one_or_made_from_the_images(run: Run) -> None:
    write_images(Path("images"), 3)
    write_area(Path("a.json"))
    where = ("--cube", "cube", "--aoi", "a.json", "--end", "2020-12-31")
    assert run("ingest", "local", "--cube", "cube", "--source", "images")[0] == 0
    status, _, told = run("monitor", "plan", "--cube", "cube", "--aoi", "a.json")
    assert (status, "the cube has none" in told) == (78, True)
    assert run("baseline", "local", *where)[0] == 0
    assert json.loads(run("layout", "list", "--cube", "cube", "--json")[1])[0]["name"] == "images"
    status, out, told = run("baseline", "local", *where)
    assert (status, "already published" in out) == (0, True), told
    assert run("layout", "create", "utm", "--cube", "cube", "--crs", "EPSG:32632", "--resolution", "20")[0] == 0
    status, _, told = run("baseline", "plan", *where)
    assert (status, "the cube has several: images, utm" in told) == (78, True)


def test_paths_are_relative_to_the_file(watched: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path / "images")
    file = str(tmp_path / "acd.toml")
    for arguments in (("--project", file, "tiles"), ("tiles", "--project", ".."), ("tiles", f"--project={file}")):
        status, out, told = watched(*arguments)
        assert (status, " tile" in out) == (0, True), told
    assert watched("tiles")[0] == 2
    monkeypatch.setenv("ACD_PROJECT", "../acd.toml")
    assert watched("tiles")[0] == 0
    assert watched("tiles", "--project", "")[0] == 2
    assert watched("ingest", "plan")[0] == 0


def test_a_stray_file_is_not_read_where_the_environment_says_so(watched: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACD_PROJECT", "")
    assert find_project() is None
    assert watched("tiles")[0] == 2
    assert watched("baseline", "plan", "--cube", "cube", "--parameter", "aoi=area.json", "--parameter", "layout=utm")[0]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("cube =", "not TOML"),
        ('cub = "x"', "did you mean cube?"),
        ("cube = 3", "cube is 3"),
        ("[baselin]\nend = 1", "did you mean baseline?"),
        ('cube = "cube"\n[baseline]\nende = "2020-01-01"', "did you mean end?"),
        ('cube = "cube"\n[baseline]\nend = "someday"', "[baseline]: end"),
        ('cube = "cube"\n[baseline]\nmin_dates = 0', "[baseline]: min-dates"),
        ("[watch]\nconsolidat = true", "did you mean consolidate?"),
    ],
)
def test_a_file_that_is_wrong_is_refused_naming_the_place(text: str, words: str, run: Run) -> None:
    write_images(Path("images"), 2)
    assert run("ingest", "local", "--cube", "cube", "--source", "images", "--make-layout", "images")[0] == 0
    write_area(Path("a.json"))
    Path("acd.toml").write_text(text)
    status, _, told = run("baseline", "plan", "--aoi", "a.json")
    assert (status, "ACD-116" in told, words in told) == (78, True, True), told
    assert run("layout", "list", "--help")[0] == 0
    assert run("init", "--force", "--source", "images")[0] == 0


def test_a_named_file_must_be_there(run: Run) -> None:
    status, _, told = run("--project", "absent.toml", "tiles")
    assert (status, "absent.toml cannot be read" in told) == (78, True)
    status, _, told = run("watch")
    assert (status, "acdtask init" in told) == (78, True)


def test_help_neither_reads_the_file_nor_imports_what_is_heavy(tmp_path: Path) -> None:
    (tmp_path / "acd.toml").write_text("not TOML")
    code = (
        "import sys; from acdtask.cli import main; status = main(['--help']); "
        "print([name for name in ('numpy', 'rasterio', 'shapely', 'pydantic', 'pyogrio') if name in sys.modules]); "
        "sys.exit(status)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"
    assert "init" in done.stdout
    assert "watch" in done.stdout


def test_the_area_of_the_file_is_that_of_its_options() -> None:
    assert set(AREA) <= set(SHARED)
    fields: dict[str, Any] = load_job("baseline").settings.model_fields
    assert {"aoi", "layout", "variable", "instance"} <= set(fields)
    assert SIZE
