"""A local web server for tests: with or without ranges, with logins, redirects and faults."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit


@dataclass
class ReceivedRequest:
    """A request received by the server; `target` and `query` are still encoded."""

    method: str
    target: str
    path: str
    query: str
    headers: Mapping[str, str]
    number: int

    @property
    def first(self) -> int | None:
        """First byte of the requested range, or None."""
        text = self.headers.get("Range", "")
        return int(text.removeprefix("bytes=").partition("-")[0]) if text else None


@dataclass
class Reply:
    """A reply. `length` is the Content-Length: -1 for the body's length, None to send none."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    length: int | None = -1
    delay: float = 0.0


Rule = Callable[[ReceivedRequest], Reply | None]


@dataclass
class WebServer:
    """A running server.

    Attributes:
        objects: bodies by path.
        rule: returns replies that take precedence over the objects; None means the object.
        ranges: whether range requests are supported.
        tags: whether ETag and Last-Modified are sent.
        requests: the requests so far.
        most_at_once: maximum number of concurrent requests.
    """

    objects: dict[str, bytes]
    rule: Rule | None = None
    ranges: bool = True
    tags: bool = True
    address: str = ""
    requests: list[ReceivedRequest] = field(default_factory=list)
    most_at_once: int = 0

    def paths(self) -> list[str]:
        """Paths requested so far."""
        return [request.path for request in self.requests]

    def reply(self, request: ReceivedRequest) -> Reply:
        """Reply to a request."""
        if self.rule is not None and (reply := self.rule(request)) is not None:
            return reply
        if request.method != "GET":
            return Reply(405)
        body = self.objects.get(request.path)
        return Reply(404, b"not here") if body is None else self.object_reply(body, request)

    def object_reply(self, body: bytes, request: ReceivedRequest) -> Reply:
        """Reply with an object or the requested range of it."""
        headers = {"Content-Type": "image/tiff"}
        if self.tags:
            headers |= {"ETag": etag_of(body), "Last-Modified": "Mon, 01 Jan 2024 00:00:00 GMT"}
        text = request.headers.get("Range", "")
        if not text or not self.ranges:
            return Reply(200, body, headers)
        first, _, last = text.removeprefix("bytes=").partition("-")
        if int(first) >= len(body):
            return Reply(416, b"", {"Content-Range": f"bytes */{len(body)}"})
        end = min(int(last or len(body)), len(body) - 1)
        return Reply(206, body[int(first) : end + 1], headers | {"Content-Range": f"bytes {first}-{end}/{len(body)}"})


def etag_of(body: bytes) -> str:
    """ETag of a body."""
    return f'"{hashlib.sha256(body).hexdigest()[:16]}"'


@contextmanager
def web_server(objects: Mapping[str, bytes], host: str = "127.0.0.1") -> Iterator[WebServer]:
    """Serve objects by path."""
    web = WebServer(dict(objects))
    server = _Server(web, host)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield web
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, web: WebServer, host: str) -> None:
        super().__init__((host, 0), _Handler)
        self.web = web
        self.now = 0
        self.lock = threading.Lock()
        self.pause = threading.Event()
        web.address = f"http://{host}:{self.server_address[1]}"

    def handle_error(self, request: object, client_address: object) -> None:
        """Ignore clients that disconnect."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        web, parts = self.server.web, urlsplit(self.path)
        with self.server.lock:
            path, headers, number = unquote(parts.path), dict(self.headers), len(web.requests)
            request = ReceivedRequest(self.command, self.path, path, parts.query, headers, number)
            web.requests.append(request)
            self.server.now += 1
            web.most_at_once = max(web.most_at_once, self.server.now)
        reply = web.reply(request)
        self.server.pause.wait(reply.delay)
        with self.server.lock:
            self.server.now -= 1
        self.send_response(reply.status)
        for name, value in reply.headers.items():
            self.send_header(name, value)
        length = len(reply.body) if reply.length == -1 else reply.length
        if length is None:
            self.send_header("Connection", "close")
        else:
            self.send_header("Content-Length", str(length))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(reply.body)
        self.close_connection = length != len(reply.body)
