"""`acdtask ingester` as people run it: a process, its output and its exit status."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from tests.conftest import CHECKOUT
from tests.docs.pages import blocks_of, text_of
from tests.ingester.area import passes, payload
from tests.ingester.conftest import TOKEN
from tests.ingester.standin import Standin

Done = subprocess.CompletedProcess[str]
Acd = Callable[..., Done]


@pytest.fixture
def acd(address: str, tmp_path: Path) -> Acd:
    """Make a function that runs `acdtask ingester` and checks that the token is not in the output."""
    (tmp_path / "aoi.json").write_text(payload())

    def run(*arguments: str, **environment: str) -> Done:
        known = {**os.environ, "PYTHONPATH": str(CHECKOUT), "ACD_LOG": "text", "COLUMNS": "100"}
        known |= {"ACD_INGESTER_ADDRESS": address, "ACD_INGESTER_TOKEN": TOKEN, **environment}
        command = [sys.executable, "-m", "acdtask", "--verbose", "ingester", *arguments]
        done = subprocess.run(
            command, cwd=tmp_path, env=known, capture_output=True, text=True, timeout=300, check=False
        )
        assert known["ACD_INGESTER_TOKEN"] not in done.stdout + done.stderr
        return done

    return run


def parsed(done: Done) -> Any:
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_an_area_is_posted_watched_waited_for_and_drawn(standin: Standin, acd: Acd, tmp_path: Path) -> None:
    standin.catalogue = passes(3)
    first = acd("post", "--aoi", "aoi.json")
    assert first.stdout == "AOI koln was posted: scenes 3 pending; tiles 6 new\n", first.stderr
    again = parsed(acd("post", "--aoi", "aoi.json", "--json"))
    assert (again["posted"], again["scenes"]["pending"], standin.posts) == (False, 3, 1)

    waiting = acd("wait", "koln", "--minutes", "0")
    assert waiting.returncode == 75
    assert "error ACD-724: AOI koln is working: scenes 3 pending; tiles 6 new." in waiting.stderr
    assert "--minutes" in waiting.stderr

    workers = threading.Timer(1.0, standin.work)
    workers.start()
    ended = acd("wait", "koln")
    workers.join()
    assert ended.stdout == "AOI koln is done: scenes 3 done; tiles 6 done\n", ended.stderr
    assert "round.done" in ended.stderr

    drawn = acd("graph", "koln", "--out", "koln.svg")
    assert drawn.stdout == "koln.svg: 3 scenes, 6 tiles\n", drawn.stderr
    assert ET.parse(tmp_path / "koln.svg").getroot().tag.endswith("svg")  # noqa: S314  # ours


def test_trouble_is_told_and_retried(standin: Standin, acd: Acd) -> None:
    done = standin.add_scene("koln", "S1A_1", status="DONE")
    standin.add_tile(done, "T15_IW1_1", status="RETRY", message="storage\nis away")
    standin.add_scene("koln", "S1A_2", status="FAILED", message="no product")
    assert acd("status").stdout == "aoi   status\nkoln  retry\n1 AOI\n"
    said = acd("status", "koln")
    assert said.stdout.splitlines() == [
        "AOI koln is retriable: scenes 1 done, 1 failed; tiles 1 retry",
        "  S1A_2 (id 2, FAILED): no product",
        "  tile T15_IW1_1 of S1A_1 (id 1, RETRY): storage is away",
    ]
    assert parsed(acd("status", "koln", "--json"))["troubles"][1]["message"] == "storage is away"
    ended = acd("wait", "koln")
    assert ended.returncode == 66
    assert "error ACD-723" in ended.stderr
    assert "acdtask ingester retry koln'" in ended.stderr

    assert acd("retry", "koln", "--tile", "1").stdout == "AOI koln: restarted: 0 scenes, 1 tiles\n"
    standin.work()
    forced = acd("retry", "koln", "--force")
    assert forced.returncode == 78
    assert "1 of 2 scenes of koln are DONE" in forced.stderr
    assert acd("retry", "koln", "--failed").stdout == "AOI koln: restarted: 1 scenes, 0 tiles\n"
    assert standin.published == ["tile 1", "scene 2"]


def test_lists_are_filtered_and_say_when_they_are_cut(standin: Standin, acd: Acd) -> None:
    for number in range(3):
        scene = standin.add_scene("koln", f"S1A_{number}", status="FAILED" if number else "DONE", message="a\nb")
        standin.add_tile(scene, "T15_IW1_1", status="DONE")
    lines = acd("scenes", "koln", "--status", "failed", "--limit", "1").stdout.splitlines()
    assert lines[1].split() == ["2", "S1A_1", "2021-01-07", "failed", "a", "b"]
    assert lines[-1] == "2 scenes, the first 1 shown"
    tiles = parsed(acd("scenes", "koln", "--tiles", "--json"))
    assert [tile["scene"]["id"] for tile in tiles] == [1, 2, 3]


@pytest.mark.parametrize(
    ("arguments", "environment", "status", "told"),
    [
        (["status"], {"ACD_INGESTER_ADDRESS": ""}, 78, "no ingester is given"),
        (["status"], {"ACD_INGESTER_TOKEN": "another-one"}, 78, "does not accept this token: invalid token"),
        (["status", "--address", "http://ingester:1"], {}, 78, "over plain HTTP"),
        (["status", "--address", "http://ingester.invalid:1", "--insecure"], {}, 75, "takes no connection"),
        (["wait", "bonn"], {}, 78, "the ingester has no AOI bonn; it has none"),
        (["retry", "koln", "--restart-done"], {}, 2, "only works with --force"),
        (["retry", "koln", "--force", "--scene", "1"], {}, 2, "exclude each other"),
        (["post", "--aoi", "{"], {}, 78, "is not JSON"),
    ],
)
def test_a_mistake_is_told(arguments: list[str], environment: dict[str, str], status: int, told: str, acd: Acd) -> None:
    done = acd(*arguments, **environment)
    assert (done.returncode, "Traceback" in done.stderr) == (status, False), done.stderr
    assert told in done.stderr


def test_a_scene_of_another_aoi_is_not_retried(standin: Standin, acd: Acd) -> None:
    standin.add_scene("koln", "S1A_1")
    other = standin.add_scene("bonn", "S1A_2", status="RETRY")
    done = acd("retry", "koln", "--scene", str(other))
    assert (done.returncode, standin.published) == (78, [])
    assert "AOI koln has no scene 2" in done.stderr


def test_the_commands_of_the_page_run(standin: Standin, acd: Acd, tmp_path: Path) -> None:
    page = text_of("docs/how-to/ingester.md")
    (tmp_path / "aoi.json").write_text(next(block.body for block in blocks_of(page) if block.kind == "json"))
    standin.catalogue = passes(2)
    commands = re.findall(r"^\| `acdtask ingester ([^`]*)`", page, re.MULTILINE)
    assert {command.split()[0] for command in commands} == {"post", "status", "wait", "scenes", "graph", "retry"}
    for command in commands:
        if command.startswith("wait"):
            standin.work()
        done = acd(*command.split())
        assert done.returncode == (78 if "--force" in command else 0), done.stderr
    standin.work()
    assert acd("retry", "koln", "--force", "--restart-done").returncode == 78  # chains, as the page says


def test_help_imports_nothing_heavy() -> None:
    command = [sys.executable, "-X", "importtime", "-m", "acdtask", "ingester", "status", "--help"]
    environment = {**os.environ, "PYTHONPATH": str(CHECKOUT)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=True)
    modules = {line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.splitlines() if "|" in line}
    assert "acdtask ingester status" in done.stdout
    assert modules.isdisjoint({"rasterio", "numpy", "shapely", "urllib3", "obstore", "scipy", "zarr"})
