"""Does what a page says, in its order, on a cluster."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import yaml

from tests.cluster.tools import Json, Place, Workflow
from tests.conftest import CHECKOUT
from tests.docs.pages import blocks_of, text_of

Key = tuple[str, str]
"""A heading, and a command below it."""

PAGES_CUBE = "s3://ground/cubes/rhine"


@dataclass
class Walk:
    """One who follows a page.

    Attributes:
        place: the namespace, and the facts of the surroundings.
        folder: where the commands run: the checkout's chart is in it, and values.yaml.
        values: of the page, with the facts of the surroundings.
        said: what the last command printed.
        seen: what checks keep for later ones.
    """

    place: Place
    folder: Path
    values: Json
    said: str = ""
    seen: dict[str, set[str]] = field(default_factory=dict)

    def write_values(self) -> None:
        """values.yaml as it is now."""
        (self.folder / "values.yaml").write_text(yaml.safe_dump(self.values))

    def run(self, command: str) -> None:
        """Run a command as it is written, with the facts of the surroundings in their place."""
        facts = {
            "accessKeyId=...": f"accessKeyId={os.environ['AWS_ACCESS_KEY_ID']}",
            "secretAccessKey=...": f"secretAccessKey={os.environ['AWS_SECRET_ACCESS_KEY']}",
            PAGES_CUBE: self.cube,
            "--namespace argo ": f"--namespace {self.place.surroundings.argo} ",
        }
        for theirs, ours in facts.items():
            command = command.replace(theirs, ours)
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", command],
            cwd=self.folder,
            env={**os.environ, "PATH": path},
            capture_output=True,
            text=True,
            timeout=900,
            check=False,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout[-2000:]}\n{done.stderr[-3000:]}"
        self.said = done.stdout

    @property
    def cube(self) -> str:
        """The address of the cube."""
        return f"s3://{self.place.surroundings.bucket}/{self.place.prefix}/cube"

    def names(self, kind: str) -> set[str]:
        """The names of the objects of a kind."""
        return {resource["metadata"]["name"] for resource in self.place.get(kind)["items"]}

    def ended(self) -> Workflow:
        """The newest workflow, when it has ended; it has to succeed."""
        items = self.place.get("workflows")["items"]
        newest = max(items, key=lambda one: str(one["metadata"]["creationTimestamp"]))
        workflow = self.place.ended(newest["metadata"]["name"])
        assert workflow.phase == "Succeeded", workflow.why()
        return workflow

    def data(self) -> set[str]:
        """Everything in the cube but scratch."""
        return {key for key in self.place.store.list() if not key.startswith(("runs/", "index/hint"))}


def keys_of(page: str) -> list[Key]:
    """Every command of the blocks `sh` of a page, in its order."""
    blocks = blocks_of(text_of(page))
    return [(block.heading, command) for block in blocks if block.kind == "sh" for command in block.commands]


def out_of_the_way(schedule: str, now: datetime) -> str:
    """A daily schedule, twelve hours later if it would start a run of its own in the hour that a test takes at most.

    >>> [out_of_the_way("0 6 * * *", datetime(2021, 8, 1, hour)) for hour in (4, 5, 6, 7)]
    ['0 6 * * *', '0 18 * * *', '0 18 * * *', '0 6 * * *']
    """
    minute, hour, *days = schedule.split()
    near = (int(hour) - now.hour) % 24 <= 1
    return " ".join((minute, str((int(hour) + 12) % 24) if near else hour, *days))


def unproven(page: str, checks: Mapping[Key, Callable[[Walk], None]], not_run: Mapping[Key, str]) -> set[Key]:
    """Commands that are neither run and checked nor excused, and checks and excuses of commands that are not there."""
    assert not set(checks) & set(not_run)
    return set(keys_of(page)) ^ (set(checks) | set(not_run))


def folder_of(path: Path) -> Path:
    """A folder in which the page's commands find the chart."""
    path.mkdir()
    (path / "helm").symlink_to(CHECKOUT / "helm")
    return path
