"""docs/how-to/operate.md: its commands are run, or excused with a reason; its files are used."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from acdtask.cli import main
from acdtask.storage.store import Store
from tests.conftest import CHECKOUT
from tests.docs.pages import blocks_of, text_of
from tests.jobs.chain import digests
from tests.jobs.rasters import good_pixels, write_tiff

PAGE = "docs/how-to/operate.md"
PUSH = "buildah manifest push --all registry.example.com/acd:0.1.0 docker://registry.example.com/acd:0.1.0"
BUILD = "make image IMAGE=registry.example.com/acd:0.1.0 PLATFORMS=linux/amd64,linux/arm64 BUILDER=buildah"
SIGNED = "--key cosign.key registry.example.com/acd@sha256:..."
BACK_UP = "aws s3 sync s3://ground/cubes/rhine s3://ground-backup/cubes/rhine --delete"
RESTORE = "aws s3 sync s3://ground-backup/cubes/rhine s3://ground/cubes/rhine"

RUN = {
    BUILD: "test_the_image_is_built_for_both_platforms",
    "make sbom": "tests/images/test_sbom.py",
    "kubectl apply --filename quota.yaml": "tests/cluster/test_quota.py",
    "helm upgrade acd helm/acd --namespace acd --values values.yaml": "tests/cluster/test_docs.py",
    "argo list --namespace acd --running": "tests/cluster/test_docs.py",
    "acdtask verify --cube s3://ground/cubes/rhine": "test_a_restored_cube_is_complete_and_continues",
}
EXCUSED = {
    PUSH: "there is no registry",
    "cosign generate-key-pair": "cosign is not needed to build or test acd, and there is no registry",
    f"cosign sign {SIGNED}": "the same",
    "cosign attest --key cosign.key --type cyclonedx --predicate build/sbom.json"
    " registry.example.com/acd@sha256:...": "the same",
    "cosign verify --key cosign.pub registry.example.com/acd@sha256:...": "the same",
    BACK_UP: "the AWS CLI is not needed by acd: the test below copies every object in the same way",
    RESTORE: "the same",
}


def test_every_command_is_run_or_excused() -> None:
    commands = {command for block in blocks_of(text_of(PAGE)) if block.kind == "sh" for command in block.commands}
    assert commands == set(RUN) | set(EXCUSED)
    assert [place for place in RUN.values() if place.endswith(".py") and not (CHECKOUT / place).exists()] == []
    assert [place for place in RUN.values() if not place.endswith(".py") and place not in globals()] == []


def test_the_image_is_built_for_both_platforms(tmp_path: Path) -> None:
    (tmp_path / "buildah").write_text('#!/bin/sh\necho "$@"\n')
    (tmp_path / "buildah").chmod(0o755)
    # The options and variables of a `make test` around this test would reach the command by MAKEFLAGS.
    outside_make = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    environment = {**outside_make, "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-euc", BUILD], cwd=CHECKOUT, env=environment, capture_output=True, text=True, check=True, timeout=60
    )
    call = done.stdout.splitlines()[-2]
    assert "--platform linux/amd64,linux/arm64 --manifest registry.example.com/acd:0.1.0" in call


def quotas() -> tuple[Any, Any]:
    """The quota and the limits of the page."""
    (body,) = [block.body for block in blocks_of(text_of(PAGE)) if block.file == "quota.yaml"]
    quota, limits = yaml.safe_load_all(body)
    return quota, limits


def test_the_quota_has_room_for_a_workflow_with_the_default_values() -> None:
    quota, limits = quotas()
    assert (quota["kind"], limits["kind"]) == ("ResourceQuota", "LimitRange")
    hard = quota["spec"]["hard"]
    values = yaml.safe_load((CHECKOUT / "helm/acd/values.yaml").read_text())
    pods, run = values["parallelism"], values["resources"]["run"]
    (own,) = limits["spec"]["limits"]
    assert own["defaultRequest"] == {"cpu": "10m", "memory": "64Mi"}
    assert int(hard["pods"]) >= 2 * pods
    assert int(hard["requests.cpu"]) >= pods * (float(run["requests"]["cpu"]) + 0.02)
    assert int(hard["requests.memory"].removesuffix("Gi")) * 1024 >= pods * (run["memoryMiB"] + 2 * 64)
    assert "cpu" not in own["default"], "a limit below the request of another container would refuse its pod"


@pytest.fixture
def cube(tmp_path: Path) -> Path:
    """A cube with two images."""
    for name in ("S1_20210101_20210107_VV.tif", "S1_20210107_20210113_VV.tif"):
        write_tiff(tmp_path / "images" / name, good_pixels(5))
    assert main(["ingest", "local", "--cube", str(tmp_path / "cube"), "--source", str(tmp_path / "images")]) == 0
    return tmp_path / "cube"


def copy(source: Path, target: Path) -> None:
    """Copy every object, as a synchronisation of buckets does."""
    there, here = Store.at(str(target)), Store.at(str(source))
    for key in here.list():
        there.put(key, here.get(key))


def test_a_restored_cube_is_complete_and_continues(cube: Path, tmp_path: Path, capsys: Any) -> None:
    before = digests(cube)
    copy(cube, tmp_path / "backup")
    shutil.rmtree(cube)
    copy(tmp_path / "backup", cube)
    assert digests(cube) == before
    assert main(["verify", "--cube", str(cube)]) == 0
    assert main(["ingest", "local", "--cube", str(cube), "--source", str(tmp_path / "images")]) == 0
    assert "nothing to do" in capsys.readouterr().out
