"""Typical mistakes of a first day: each is answered in one sentence, and the next line says what to do."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from acdtask.cli import main
from acdtask.errors import ExitStatus
from tests.jobs.small_site import LAYOUT, ends, make_cube, steady

IMAGES = 3
JOB = "--cube {cube} --aoi {aoi} --layout utm"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cube with images and a layout, and an AOI with latitude and longitude exchanged."""
    folder = tmp_path_factory.mktemp("mistakes")
    make_cube(folder, IMAGES, steady(IMAGES))
    aoi = json.loads((folder / "aoi.json").read_text())
    aoi["coordinates"] = [[[y, x] for x, y in ring] for ring in aoi["coordinates"]]
    (folder / "swapped.json").write_text(json.dumps(aoi))
    return folder


MISTAKES: dict[str, tuple[str, ExitStatus, str, str]] = {
    "a command misspelled": (
        "moniter local",
        ExitStatus.USAGE,
        "error ACD-100: No such command 'moniter'. Did you mean 'monitor'?",
        "Run 'acdtask --help'.",
    ),
    "a step misspelled": (
        "monitor locla --cube x",
        ExitStatus.USAGE,
        "error ACD-100: No such command 'locla'. Did you mean 'local'?",
        "Run 'acdtask monitor --help'.",
    ),
    "an option misspelled": (
        "records --cubee {cube}",
        ExitStatus.USAGE,
        "error ACD-100: No such option: --cubee. Did you mean --cube?",
        "Run 'acdtask records --help'.",
    ),
    "an option of another command": (
        f"baseline local {JOB} --min-area 50",
        ExitStatus.USAGE,
        "error ACD-100: No such option: --min-area.",
        "It is an option of 'acdtask monitor'. Run 'acdtask baseline local --help'.",
    ),
    "the options of a step without the step": (
        "monitor --cube {cube} --plan 0123 --round cut --shard 0",
        ExitStatus.USAGE,
        "error ACD-100: 'acdtask monitor' needs one of plan, run, gather, local before its options.",
        "These options are of 'run': write 'acdtask monitor run' before them.",
    ),
    "a cube that is not there": (
        "records --cube {folder}/cub",
        ExitStatus.INPUT,
        "error ACD-310: there is no cube at {folder}/cub.",
        "Check the address, or make a cube with 'acdtask ingest'.",
    ),
    "a layout misspelled": (
        "baseline local --cube {cube} --aoi {aoi} --layout utn",
        ExitStatus.CONFIG,
        "error ACD-302: there is no layout 'utn'; there are: utm; did you mean utm?",
        "List the layouts with 'acdtask layout list', or make one with 'acdtask layout create'.",
    ),
    "a settings file that is not there": (
        f"baseline local {JOB} --settings {{folder}}/none.toml",
        ExitStatus.INPUT,
        "error ACD-200: {folder}/none.toml cannot be read: No such file or directory.",
        "Check the path after --settings.",
    ),
    "a word for a number": (
        f"monitor local {JOB} --min-count twenty",
        ExitStatus.CONFIG,
        "error ACD-101: --min-count is twenty, and should be a valid integer.",
        "Give the named setting a value that the message allows.",
    ),
    "latitude and longitude exchanged": (
        "baseline local --cube {cube} --aoi {folder}/swapped.json --layout utm",
        ExitStatus.CONFIG,
        "error ACD-113: no record of CoherenceVV:master touches the AOI site, but would if its latitudes and "
        "longitudes were swapped.",
        "In GeoJSON, longitude comes first: swap the coordinates in the AOI file.",
    ),
    "a period without images": (
        f"baseline local {JOB} --start 2021-01-01 --end 2021-12-31",
        ExitStatus.CONFIG,
        "error ACD-113: no record of CoherenceVV:master touches the AOI site from 2021-01-01 to 2021-12-31; there are "
        "3 records from 2020-01-16 to 2020-02-09.",
        "Choose --start and --end to include some of them, or the --variable and --instance that they have.",
    ),
    "monitor before baseline": (
        f"monitor local {JOB}",
        ExitStatus.INPUT,
        "error ACD-307: the AOI site has no baseline of CoherenceVV/utm/annual at {cube}.",
        "Run 'acdtask baseline local' for this AOI, variable and layout first.",
    ),
    "patches before monitor": (
        f"show patches {JOB}",
        ExitStatus.INPUT,
        "error ACD-308: the AOI site has no monitor of CoherenceVV/utm/monitor at {cube}.",
        "Run 'acdtask monitor local' for this AOI first.",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_typical_mistake_is_told_in_a_sentence_with_what_to_do(
    mistake: str, made: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command, status, first, second = MISTAKES[mistake]
    places = {"folder": str(made), "cube": str(made / "cube"), "aoi": str(made / "aoi.json")}
    assert main([word.format(**places) for word in command.split()]) == status
    said = capsys.readouterr()
    lines = [line for line in said.err.splitlines() if not line.startswith("{")]
    assert lines == [first.format(**places), second]
    assert "command.failed" not in said.err
    assert said.out == ("0 patches: no image was monitored yet\n" if mistake == "patches before monitor" else "")


def test_in_json_the_mistake_is_told_once_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--log", "json", "moniter"]) == ExitStatus.USAGE
    (line,) = capsys.readouterr().err.splitlines()
    assert json.loads(line)["code"] == "ACD-100"


@pytest.mark.parametrize("log", ["text", "json"])
def test_a_missing_step_is_guessed_and_said(
    log: str, made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cube = Path(shutil.copytree(made / "cube", tmp_path / "cube"))
    options = ["--cube", str(cube), "--aoi", str(made / "aoi.json"), "--layout", LAYOUT, "--workers", "0"]
    assert main(["--log", log, "baseline", *options, "--end", ends(IMAGES).isoformat()]) == 0
    said = capsys.readouterr()
    assert "done: 4 tiles" in said.out
    if log == "json":
        events = [json.loads(line) for line in said.err.splitlines()]
        assert [(one["command"], one["step"]) for one in events if one["event"] == "step.guessed"] == [
            ("acdtask baseline", "local")
        ]
    else:
        assert "acdtask baseline: no step given, so this is 'acdtask baseline local'\n" in said.err


def test_nothing_is_guessed_for_help_alone(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["baseline", "--help"]) == 0
    said = capsys.readouterr()
    assert re.search(r"^  gather ", said.out, re.MULTILINE)
    assert "no step given" not in said.err
