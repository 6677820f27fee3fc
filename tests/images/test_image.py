"""The image, built and run as a pod runs it: any user but root, a root that is read-only, a folder on /tmp."""

from __future__ import annotations

import json
import os
import re
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
from tests.jobs.chain import digests

pytestmark = pytest.mark.image

ROOT = Path(__file__).parents[2]
MEGABYTES = 450
START_SECONDS = 0.5


def must(*command: str | Path, env: dict[str, str] | None = None, cwd: Path | None = None) -> str:
    """The output of a command that has to work."""
    words = [str(word) for word in command]
    done = subprocess.run(words, capture_output=True, text=True, check=False, env=env, cwd=cwd)
    assert done.returncode == 0, f"{command[0]}: {done.stderr[-2000:]}"
    return done.stdout.strip()


@dataclass(frozen=True)
class Image:
    """A built image, its settings, and its root file system as a bundle of runc."""

    config: dict[str, Any]
    root: Path
    bundle: Path

    def run(
        self, *arguments: str, out: Path | None = None, entrypoint: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Run it as a restricted pod: its own user, no capability, read-only root, /tmp; `out` is mounted on /out."""
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
    """Built by images/build with buildah, run by runc: both give the same whatever else is on the machine."""
    if missing := [program for program in ("buildah", "runc") if shutil.which(program) is None]:
        pytest.skip(f"{' and '.join(missing)} not on PATH: no image is built")
    if not os.environ.get("ACD_BASE_IMAGE"):
        pytest.skip("ACD_BASE_IMAGE is unset: it names the base image to build from")
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
    sizes = {found.st_ino: found.st_size for _, found in everything(image.root)}
    assert sum(sizes.values()) < MEGABYTES * 10**6


def test_its_settings_are_those_of_the_recipe(image: Image) -> None:
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
    assert min(seconds) < START_SECONDS  # the quickest: others may use the processors too


def test_a_users_mistake_has_its_exit_status(image: Image) -> None:
    refused = image.run("monitor", "--no-such-option")
    assert refused.returncode == 2
    assert "no-such-option" in refused.stderr


def test_there_is_no_shell_no_installer_and_nothing_that_raises_rights(image: Image) -> None:
    for command in (["/bin/sh", "-c", "true"], ["/opt/acd/bin/python3", "-m", "pip"], ["/usr/bin/apt-get"]):
        assert image.run(*command, entrypoint=False).returncode != 0
    raising = [path for path, found in everything(image.root) if found.st_mode & (stat.S_ISUID | stat.S_ISGID)]
    assert not raising


def test_every_python_file_in_it_is_compiled(image: Image) -> None:
    sources = [path for path, _ in everything(image.root / "opt") if path.suffix == ".py"]
    missing = [path for path in sources if not list(path.parent.glob(f"__pycache__/{path.stem}.cpython-*.pyc"))]
    assert sources
    assert not missing


def test_all_jobs_give_the_same_bytes_in_it_as_here(image: Image, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    out.chmod(0o777)  # the user of the image is nobody here
    options = ["--size", "192", "--workers", "2"]
    done = image.run("demo", "/out/demo", *options, out=out)
    assert done.returncode == 0, done.stderr[-3000:]
    assert (out / "demo" / "report" / "index.html").stat().st_size > 0
    here = tmp_path / "here"
    must(sys.executable, "-m", "acdtask", "demo", here, *options)
    ours, theirs = here / "cube", out / "demo" / "cube"
    assert digests_but_of_pages(theirs) == digests_but_of_pages(ours)
    assert page_without_versions(theirs) == page_without_versions(ours)


def digests_but_of_pages(cube: Path) -> dict[str, str]:
    """Without the page of the report, which names versions of libraries, and files that are named after its bytes."""
    page = re.compile(r"products/[^/]+/report/[^/]+/(index\.html|pages/index-\w+\.html|editions/\d+\.json)")
    return {name: digest for name, digest in digests(cube).items() if not page.fullmatch(name)}


def page_without_versions(cube: Path) -> str:
    (page,) = cube.glob("products/*/report/*/index.html")
    text, count = re.subn(
        r'(<th scope="row">(?:acd|gdal|numpy|obstore|python|rasterio|scipy|shapely|zarr)</th><td>)\d[\w.]*(</td>)',
        r"\1\2",
        page.read_text(),
    )
    assert count >= 5, "the page says which versions it was made with"
    return text
