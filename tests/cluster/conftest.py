"""A cluster with Argo Workflows, acd's image in it, and an S3 server that pods and tests reach."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.cluster.scenes import SCENE, run_locally
from tests.cluster.tools import Place, Surroundings
from tests.jobs.chain import digests, simulate

PROGRAMS = ("kubectl", "helm", "argo")

NewPlace = Callable[[str], Place]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker("cluster")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the figures that tests have recorded."""
    figures = [figure for report in terminalreporter.getreports("passed") for figure in report.user_properties]
    for name, value in dict(figures).items():
        terminalreporter.write_line(f"{name}: {value}")


@pytest.fixture(scope="session")
def surroundings() -> Surroundings:
    """What the environment says of the cluster; skips without one."""
    missing = [name for name in Surroundings.NEEDED if not os.environ.get(name)]
    missing += [name for name in PROGRAMS if shutil.which(name) is None]
    if missing:
        pytest.skip(f"no cluster to test with: {', '.join(missing)} (CONTRIBUTING.md)")
    return Surroundings.of_environment()


@pytest.fixture(scope="session")
def known_metrics(surroundings: Surroundings, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Let one workflow make every metric, before those of several tests do it at once.

    Argo 3.7.3 loses a value when two workflows are the first to report a metric at the same time: each of them makes
    it, and the later one replaces the earlier one with its values.
    """
    base = tmp_path_factory.getbasetemp()
    folder = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    with (folder / "metrics.lock").open("a+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if lock.tell() == 0:
            place = Place.new(surroundings, "metrics")
            place.make()
            place.make_metrics()
            place.remove()
            lock.write("made")


@pytest.fixture
def new_place(surroundings: Surroundings, known_metrics: None, request: pytest.FixtureRequest) -> Iterator[NewPlace]:
    """Makes a namespace; it is removed when the test has passed, and kept to look at when it has failed."""
    made: list[Place] = []

    def make(name: str) -> Place:
        place = Place.new(surroundings, name)
        place.make()
        made.append(place)
        return place

    failed_before = request.session.testsfailed
    yield make
    if request.session.testsfailed == failed_before:
        for place in made:
            place.remove()


@pytest.fixture(scope="session")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A simulated scene."""
    return simulate(tmp_path_factory.mktemp("scene"), SCENE)


@pytest.fixture(scope="session")
def ingested(scene: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The digests of a cube after `acdtask ingest local`."""
    cube = tmp_path_factory.mktemp("local") / "cube"
    run_locally(("ingest",), scene, cube)
    return digests(cube)
