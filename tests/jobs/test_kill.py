"""A run that is killed at any moment leaves nothing half written, and goes on where it stopped."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import CHECKOUT
from tests.jobs.chain import digests, simulate

KILLS = {"standard": 30, "robust": 10}
"""How often a chain with a method is killed."""


def start_chain(scene: Path, cube: Path, method: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "tests.jobs.chain", str(scene), str(cube), method]
    return subprocess.Popen(command, cwd=CHECKOUT, stderr=subprocess.DEVNULL)


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return simulate(tmp_path_factory.mktemp("scene"))


def is_catalogue_so_far(path: Path, whole: Path) -> bool:
    """Whether a STAC catalogue has links of the whole one alone: it names what is published so far."""
    if path.name != "catalog.json":
        return False
    links, whole_links = (json.loads(document.read_text())["links"] for document in (path, whole))
    return all(link in whole_links for link in links)


@pytest.mark.parametrize("method", KILLS)
def test_many_kills_change_no_byte(method: str, scene: Path, tmp_path: Path) -> None:
    undisturbed = tmp_path / "undisturbed"
    assert start_chain(scene, undisturbed, method).wait(300) == 0
    expected = digests(undisturbed)
    moments = random.Random(30)  # noqa: S311  # moments of a test
    kills = cubes = 0
    while kills < KILLS[method]:
        cubes += 1
        cube = tmp_path / f"cube{cubes}"
        while True:
            process = start_chain(scene, cube, method)
            try:
                assert process.wait(moments.uniform(0.8, 5.0) if kills < KILLS[method] else 300) == 0
                break
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                kills += 1
            visible = digests(cube) if cube.exists() else {}
            strange = [
                name
                for name, digest in visible.items()
                if expected.get(name) != digest and not is_catalogue_so_far(cube / name, undisturbed / name)
            ]
            assert strange == [], f"after kill {kills}"
        assert digests(cube) == expected
