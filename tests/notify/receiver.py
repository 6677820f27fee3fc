"""A real HTTP server in a thread, which keeps the posted requests."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Receiver:
    """Replies to each request with the next status; the last one repeats."""

    def __init__(self, statuses: Sequence[int] = (204,), headers: dict[str, str] | None = None) -> None:
        """Bind a port; connections are refused until it listens."""
        self.statuses = list(statuses)
        self.headers = headers or {}
        self.requests: list[dict[str, Any]] = []
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler(), bind_and_activate=False)
        self.server.daemon_threads = True
        self.server.server_bind()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_address[1]}/hooks/acd?team=ground"

    @property
    def events(self) -> list[dict[str, Any]]:
        return [json.loads(request["body"]) for request in self.requests]

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                receiver.requests.append({"path": self.path, "headers": dict(self.headers.items()), "body": body})
                status = receiver.statuses.pop(0) if len(receiver.statuses) > 1 else receiver.statuses[0]
                self.send_response(status)
                for name, value in receiver.headers.items():
                    self.send_header(name, value)
                self.send_header("content-length", "0")
                self.end_headers()

            def do_GET(self) -> None:
                receiver.requests.append({"path": self.path, "headers": {}, "body": b"null"})
                self.send_error(405)

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the base class names it
                del format, args

        return Handler


@contextmanager
def receiving(
    statuses: Sequence[int] = (204,), headers: dict[str, str] | None = None, *, when: Callable[[], bool] | None = None
) -> Iterator[Receiver]:
    """A receiver that starts to listen once `when` returns True."""
    receiver = Receiver(statuses, headers)
    ended = threading.Event()

    def serve() -> None:
        while when is not None and not when():
            if ended.wait(0.02):
                return
        receiver.server.server_activate()
        listening.set()
        receiver.server.serve_forever(poll_interval=0.02)

    listening = threading.Event()
    thread = threading.Thread(target=serve)
    thread.start()
    if when is None:
        listening.wait()
    try:
        yield receiver
    finally:
        ended.set()
        if listening.is_set():
            receiver.server.shutdown()
        thread.join()
        receiver.server.server_close()
