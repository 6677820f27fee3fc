"""Geocube's own Python client, unmodified, on `acdtask serve`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from acdtask.cube.local.cube import LocalCube
from tests.serve.conftest import serving
from tests.serve.test_datasets import tiff

SCRIPT = Path(__file__).with_name("public_client.py")
CLIENT = os.environ.get("ACD_GEOCUBE_CLIENT", "")
PYTHON = os.environ.get("ACD_GEOCUBE_CLIENT_PYTHON", sys.executable)
"""A Python with the client's own dependencies: geopandas, parse, ..."""

PATIENCE = 600.0


@pytest.mark.publicclient
def test_the_public_client_works_as_on_a_geocube(cube: LocalCube, tmp_path: Path) -> None:
    if not (Path(CLIENT) / "geocube" / "client.py").is_file():
        pytest.skip("needs airbusgeo/geocube-client-python (ACD_GEOCUBE_CLIENT)")
    images = []
    for number in range(3):
        images.append(tiff(tmp_path / f"{number}.tif", shape=(100, 120), first=number))
        np.save(tmp_path / f"{number}.npy", (np.arange(100 * 120).reshape(100, 120) + number) % 1000)
    with serving(cube, workers=16, data=(str(tmp_path),)) as server:
        done = subprocess.run(
            [PYTHON, "-W", "ignore", str(SCRIPT), f"127.0.0.1:{server.port}", *images],
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONPATH": CLIENT, "GRPC_ENABLE_FORK_SUPPORT": "1"},
            cwd=tmp_path,
            timeout=PATIENCE,
            check=False,
        )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == "end done"
