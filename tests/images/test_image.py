"""The image is built and run like a pod: with a user other than root, a read-only root file system and /tmp."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from acdtask import __version__
from tests.jobs.other_libraries import digests_but_of_pages, page_without_versions

pytestmark = pytest.mark.image

ROOT = Path(__file__).parents[2]
MEGABYTES = 500
START_SECONDS = 0.5


def must(*command: str | Path, env: dict[str, str] | None = None, cwd: Path | None = None) -> str:
    """Run a command that must succeed, and return its output."""
    arguments = [str(argument) for argument in command]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False, env=env, cwd=cwd)
    assert done.returncode == 0, f"{command[0]}: {done.stderr[-2000:]}"
    return done.stdout.strip()


@dataclass(frozen=True)
class Image:
    """A built image, with its configuration, root file system and a runc bundle."""

    config: dict[str, Any]
    root: Path
    bundle: Path

    def run(
        self, *arguments: str, out: Path | None = None, entrypoint: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Run like a restricted pod: image's user, no capabilities, read-only root, /tmp; `out` is mounted on /out."""
        spec = json.loads((self.bundle / "spec.json").read_text())
        uid, gid = (int(number) for number in self.config["User"].split(":"))
        spec["root"] = {"path": str(self.root), "readonly": True}
        spec["process"] |= {
            "terminal": False,
            "user": {"uid": uid, "gid": gid},
            "args": [*(self.config["Entrypoint"] if entrypoint else []), *arguments],
            "env": self.config["Env"],
            "cwd": self.config["WorkingDir"],
            "capabilities": {},
            "noNewPrivileges": True,
        }
        spec["mounts"].append(
            {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "nodev", "mode=1777"]}  # noqa: S108  # in the container
        )
        if out is not None:
            spec["mounts"].append(
                {"destination": "/out", "type": "bind", "source": str(out), "options": ["bind", "rw"]}
            )
        (self.bundle / "config.json").write_text(json.dumps(spec))
        state = self.bundle / "state"
        command = ["runc", "--root", str(state), "run", "--bundle", str(self.bundle), f"acd-{uuid.uuid4()}"]
        return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Image]:
    """Build the image with images/build and buildah, for running with runc."""
    if missing := [program for program in ("buildah", "runc") if shutil.which(program) is None]:
        pytest.skip(f"{' and '.join(missing)} not on PATH")
    if not os.environ.get("ACD_BASE_IMAGE"):
        pytest.skip("ACD_BASE_IMAGE, the base image to build from, is unset")
    if os.geteuid() != 0:
        pytest.skip("mounting an image and running it with runc needs root")
    name = f"acd-test:{uuid.uuid4().hex[:12]}"
    settings = os.environ | {"BUILDER": "buildah", "BASE": os.environ["ACD_BASE_IMAGE"], "IMAGE": name}
    must(ROOT / "images" / "build", env=settings)
    buildah = ["buildah", *os.environ.get("BUILD_FLAGS", "").split()]
    container = must(*buildah, "from", "--pull-never", name)
    try:
        config = json.loads(must(*buildah, "inspect", "--type", "image", name))["OCIv1"]["config"]
        root = Path(must(*buildah, "mount", container))
        bundle = tmp_path_factory.mktemp("bundle")
        must("runc", "spec", cwd=bundle)
        (bundle / "config.json").rename(bundle / "spec.json")
        yield Image(config, root, bundle)
    finally:
        must(*buildah, "rm", container)
        must(*buildah, "rmi", name)


def everything(root: Path) -> Iterator[tuple[Path, os.stat_result]]:
    for folder, _, files in os.walk(root):
        for name in files:
            path = Path(folder) / name
            yield path, path.lstat()


def test_the_image_is_small(image: Image) -> None:
    sizes = {status.st_ino: status.st_size for _, status in everything(image.root)}
    assert sum(sizes.values()) < MEGABYTES * 10**6


def test_its_configuration_is_that_of_the_containerfile(image: Image) -> None:
    assert image.config["User"] == "65532:65532"
    assert image.config["Entrypoint"] == ["acdtask"]
    assert image.config["Labels"]["org.opencontainers.image.version"] == __version__
    assert image.config["Labels"]["org.opencontainers.image.licenses"] == "Apache-2.0"
    assert image.config["Labels"]["org.opencontainers.image.base.name"] == os.environ["ACD_BASE_IMAGE"]


def test_it_starts_quickly(image: Image) -> None:
    seconds = []
    for _ in range(5):
        start = time.monotonic()
        done = image.run("--version")
        seconds.append(time.monotonic() - start)
        assert (done.returncode, done.stdout) == (0, f"acdtask {__version__}\n"), done.stderr
    assert min(seconds) < START_SECONDS  # the fastest, since other processes may use the CPUs too


def test_a_users_mistake_has_its_exit_status(image: Image) -> None:
    refused = image.run("monitor", "--no-such-option")
    assert refused.returncode == 2
    assert "no-such-option" in refused.stderr


def test_it_has_no_shell_no_installer_and_no_setuid_files(image: Image) -> None:
    for command in (["/bin/sh", "-c", "true"], ["/opt/acd/bin/python3", "-m", "pip"], ["/usr/bin/apt-get"]):
        assert image.run(*command, entrypoint=False).returncode != 0
    setuid = [path for path, status in everything(image.root) if status.st_mode & (stat.S_ISUID | stat.S_ISGID)]
    assert not setuid


def test_every_python_file_in_it_is_compiled(image: Image) -> None:
    sources = [path for path, _ in everything(image.root / "opt") if path.suffix == ".py"]
    missing = [path for path in sources if not list(path.parent.glob(f"__pycache__/{path.stem}.cpython-*.pyc"))]
    assert sources
    assert not missing


def test_all_jobs_give_the_same_bytes_as_outside_the_image(image: Image, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    out.chmod(0o777)  # the image's user does not exist here
    options = ["--size", "192", "--workers", "2"]
    done = image.run("demo", "/out/demo", *options, out=out)
    assert done.returncode == 0, done.stderr[-3000:]
    assert (out / "demo" / "report" / "index.html").stat().st_size > 0
    outside = tmp_path / "outside"
    must(sys.executable, "-m", "acdtask", "demo", outside, *options)
    ours, theirs = outside / "cube", out / "demo" / "cube"
    assert digests_but_of_pages(theirs) == digests_but_of_pages(ours)
    (page,), (our_page,) = (list(cube.glob("products/*/report/*/index.html")) for cube in (theirs, ours))
    assert page_without_versions(page.read_text()) == page_without_versions(our_page.read_text())
