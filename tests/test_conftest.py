"""ACD_REQUIRE turns skipped tests with a required marker into failures."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PROBES = """
import pytest

def test_with_a_bucket(s3_address): pass

@pytest.mark.browser
@pytest.mark.skipif(True, reason="no chromium here")
def test_in_a_browser(): pass

@pytest.mark.realdata
def test_in_the_body(): pytest.skip("no data here")

def test_of_another_kind(): pytest.skip("not today")
"""


def outcome(folder: Path, require: str) -> tuple[dict[str, int], str]:
    environment = {name: value for name, value in os.environ.items() if name != "AWS_ENDPOINT_URL"}
    environment["ACD_REQUIRE"] = require
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", str(folder)],
        cwd=folder,
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    output = done.stdout + done.stderr
    counts = re.findall(r"(\d+) (passed|failed|skipped|error)", output.strip().splitlines()[-1])
    return {kind: int(count) for count, kind in counts}, output


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    shutil.copy(Path(__file__).with_name("conftest.py"), tmp_path)
    markers = "\n".join(f"  {name}: a marker" for name in ("s3", "browser", "realdata"))
    (tmp_path / "pytest.ini").write_text(f"[pytest]\nmarkers =\n{markers}\n")
    (tmp_path / "test_probes.py").write_text(PROBES)
    return tmp_path


def test_a_skip_stays_a_skip_unless_it_is_required(folder: Path) -> None:
    assert outcome(folder, "")[0] == {"skipped": 4}


def test_a_required_skip_fails_wherever_it_comes_from(folder: Path) -> None:
    counts, output = outcome(folder, "s3,browser,realdata")
    assert counts == {"failed": 1, "error": 2, "skipped": 1}
    for reason in ("AWS_ENDPOINT_URL is unset", "no chromium here", "no data here"):
        assert reason in output
    assert outcome(folder, "browser")[0] == {"error": 1, "skipped": 3}


def test_a_file_that_skips_itself_fails_if_any_marker_is_required(folder: Path) -> None:
    (folder / "test_probes.py").write_text("import pytest\npytest.skip('all of it', allow_module_level=True)\n")
    assert outcome(folder, "")[0] == {"skipped": 1}
    counts, output = outcome(folder, "s3")
    assert counts == {"error": 1}
    assert "all of it" in output


def test_an_unknown_requirement_is_refused(folder: Path) -> None:
    assert "ACD_REQUIRE names moon" in outcome(folder, "moon")[1]
