"""Every test of the cube that takes `place` runs on a folder and on S3."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(params=["folder", pytest.param("s3", marks=pytest.mark.s3)])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of a new, empty store."""
    if request.param == "folder":
        return str(tmp_path / "cube")
    return str(request.getfixturevalue("s3_address"))
