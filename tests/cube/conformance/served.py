"""`acdtask serve` as a process that tests can stop and restart."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from types import TracebackType
from typing import IO, Self

__all__ = ["Served"]

PATIENCE = 60.0


class Served:
    """A cube's server process on 127.0.0.1.

    Attributes:
        port: stays the same after a restart.
    """

    def __init__(self, cube: str, *options: str) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = int(free.getsockname()[1])
        self._command = [sys.executable, "-m", "acdtask", "serve", "--cube", cube, "--port", str(self.port), *options]
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def address(self) -> str:
        """host:port."""
        return f"127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """Id of the current process."""
        return self._running().pid

    def start(self) -> Self:
        """Start, and wait until it listens."""
        environment = {**os.environ, "ACD_LOG": "text"}
        self._process = subprocess.Popen(
            self._command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
        )
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        log: list[str] = []
        threading.Thread(target=_drain, args=(self._process.stderr, log), daemon=True).start()
        line = self._process.stdout.readline().strip()
        assert line.endswith(f":{self.port}"), f"the server wrote {line!r}: {''.join(log)}"
        return self

    def stop(self) -> None:
        """Stop it gracefully; kill it if it does not end."""
        if self._process is None:
            return
        self._process.send_signal(signal.SIGTERM)
        try:
            assert self._process.wait(PATIENCE) == 0
        finally:
            self.kill()

    def kill(self) -> None:
        """Kill it, as if the machine failed."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(PATIENCE)
            assert self._process.stdout is not None
            self._process.stdout.close()
            self._process = None

    def _running(self) -> subprocess.Popen[str]:
        assert self._process is not None
        return self._process


def _drain(pipe: IO[str], log: list[str]) -> None:
    with pipe:
        log.extend(pipe)
