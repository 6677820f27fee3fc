"""`acdtask serve` as a process of its own, as a user starts it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.conftest import CHECKOUT


@contextmanager
def served(cube: Path, port: int = 0, **environment: str) -> Iterator[str]:
    """Serve the cube and the sites beside it at `geocube://host:port`, on a free port by default; it ends on SIGTERM.

    What it logs is in a file beside the cube, `<cube>.log`.
    """
    command = [sys.executable, "-m", "acdtask", "serve", "--cube", str(cube), "--port", str(port), "--grace", "1"]
    command += ["--data", str(cube.parent)]
    own = {name: value for name, value in os.environ.items() if not name.startswith("ACD_")}
    with (
        Path(f"{cube}.log").open("ab") as log,
        subprocess.Popen(
            command, cwd=CHECKOUT, stdout=subprocess.PIPE, stderr=log, text=True, env={**own, **environment}
        ) as process,
    ):
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        try:
            assert address, Path(f"{cube}.log").read_text()
            yield address
        finally:
            process.terminate()
            process.wait(30)
