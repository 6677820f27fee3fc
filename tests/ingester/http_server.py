"""The stand-in over real HTTP: JSON as text/plain, long bodies in chunks, and faults in the way of chosen requests."""

from __future__ import annotations

import contextlib
import socket
import struct
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.ingester.routes import reply
from tests.ingester.standin import Asked, Fault, Standin

LONG = 2048


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    standin: Standin

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", "0")))
        parts = urlsplit(self.path)
        query = {key: values[0] for key, values in parse_qs(parts.query).items()}
        fault = self._fault(parts.path)
        if fault is not None and fault.how == "reset":
            self._reset()
            return
        if fault is not None and fault.how == "status":
            self._answer(fault.status, fault.body.encode())
            return
        if fault is not None and fault.how == "slow":
            time.sleep(fault.seconds)
        status, said = reply(self.standin, self.command, parts.path, query, self.headers, body)
        said = said.encode() if isinstance(said, str) else said
        if fault is not None and fault.how == "reset after":
            self._reset()
        elif fault is not None and fault.how in ("cut", "drip"):
            self._broken(status, said, fault)
        else:
            self._answer(status, said)

    def do_GET(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def do_PUT(self) -> None:
        self._serve()

    def _fault(self, path: str) -> Fault | None:
        with self.standin.lock:
            self.standin.asked.append(Asked(self.command, path, {k.lower(): v for k, v in self.headers.items()}))
            for fault in self.standin.faults:
                if fault.times > 0 and fault.method == self.command and path.startswith(fault.path):
                    fault.times -= 1
                    self.standin.faults += fault.then
                    return fault
        return None

    def _answer(self, status: int, said: bytes) -> None:
        self.send_response(status)
        if 300 <= status < 400:
            self.send_header("location", "/elsewhere")
        if status != 204:
            self.send_header("content-type", "text/plain; charset=utf-8")
        if len(said) > LONG:
            self.send_header("transfer-encoding", "chunked")
            self.end_headers()
            for start in range(0, len(said), LONG):
                piece = said[start : start + LONG]
                self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            self.wfile.write(b"0\r\n\r\n")
            return
        if status != 204:
            self.send_header("content-length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    def _broken(self, status: int, said: bytes, fault: Fault) -> None:
        self.send_response(status)
        self.send_header("content-length", str(len(said)))
        self.end_headers()
        if fault.how == "cut":
            self.wfile.write(said[: len(said) // 2])
            self.wfile.flush()
            self.close_connection = True
            return
        for byte in said:
            self.wfile.write(bytes([byte]))
            self.wfile.flush()
            time.sleep(fault.seconds)

    def _reset(self) -> None:
        """The connection breaks as if the server's machine had lost it."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True
        self.connection.close()

    def handle(self) -> None:
        with contextlib.suppress(ConnectionError, ValueError):  # the client gave up, or we did
            super().handle()

    def finish(self) -> None:
        with contextlib.suppress(ConnectionError, ValueError):
            super().finish()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the base class names it
        del format, args


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A socket that we closed ourselves is no error; anything else fails the test loudly."""
        if not isinstance(sys.exc_info()[1], (OSError, ValueError)):
            super().handle_error(request, client_address)


@contextmanager
def serving(standin: Standin) -> Iterator[str]:
    """Serve it; gives its address."""
    handler = type("Handler", (_Handler,), {"standin": standin})
    server = _Server(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
