"""The bill of materials of `images.sbom`: everything that the lock installs into the image, with its hashes."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from typing import Any

import pytest

from acdtask import __version__
from images.slim import BUILD_DEPENDENCIES
from tests.conftest import CHECKOUT

LOCK = (CHECKOUT / "requirements" / "run.txt").read_text()


@pytest.fixture(scope="module")
def bill(tmp_path_factory: pytest.TempPathFactory) -> Any:
    file = tmp_path_factory.mktemp("sbom") / "sbom.json"
    command = [sys.executable, "-m", "images.sbom", str(file)]
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stderr
    return json.loads(file.read_text())


def test_it_is_cyclonedx_and_about_this_version(bill: Any) -> None:
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.6")
    main = bill["metadata"]["component"]
    assert (main["name"], main["version"], main["type"]) == ("acdtask", __version__, "application")
    assert "timestamp" not in bill["metadata"], "the same commit gives the same file"
    assert "serialNumber" not in bill


ENTRY = re.compile(r"^([a-z0-9.-]+)==([^ ;]+)(.*?) *\\\n((?:    --hash=.*\n)+)", re.MULTILINE)


def test_it_has_every_library_of_the_image_once_with_its_locked_version_and_hashes(bill: Any) -> None:
    locked: dict[str, dict[str, set[str]]] = {}
    entries = ENTRY.findall(LOCK)
    assert len(entries) == len(re.findall(r"^[a-z0-9.-]+==", LOCK, re.MULTILINE))
    for name, version, marker, hashes in entries:
        if "win32" not in marker and "< '3.1" not in marker:  # not for Windows, not for an older Python
            locked.setdefault(name, {})[version] = set(re.findall(r"sha256:([0-9a-f]{64})", hashes))
    assert {len(versions) for versions in locked.values()} == {1}
    found: dict[str, dict[str, set[str]]] = {}
    for component in bill["components"]:
        hashes = {item["content"] for reference in component["externalReferences"] for item in reference["hashes"]}
        assert component["name"] not in found
        found[component["name"]] = {component["version"]: hashes}
        assert component["purl"] == f"pkg:pypi/{component['name']}@{component['version']}"
    assert found == locked


def test_what_only_builds_acdtask_is_marked(bill: Any) -> None:
    excluded = {component["name"] for component in bill["components"] if component["scope"] == "excluded"}
    assert excluded == set(BUILD_DEPENDENCIES)


def test_the_libraries_are_dependencies_of_acdtask(bill: Any) -> None:
    (own,) = [item for item in bill["dependencies"] if item["ref"] == bill["metadata"]["component"]["bom-ref"]]
    assert own["dependsOn"] == sorted(component["bom-ref"] for component in bill["components"])
