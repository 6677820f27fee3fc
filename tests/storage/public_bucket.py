"""A local S3 server with one public, read-only bucket; it counts signed requests."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

PAGE = 1000


@dataclass
class PublicBucket:
    """A running server and its requests.

    Attributes:
        name: name of the bucket.
        address: address of the server.
        requests: method and path of each request.
        signed: number of signed requests.
        most_at_once: maximum number of concurrent requests.
    """

    name: str
    address: str = ""
    requests: list[str] = field(default_factory=list)
    signed: int = 0
    most_at_once: int = 0

    @property
    def environment(self) -> dict[str, str]:
        """Environment variables for the server, without keys."""
        return {"AWS_ENDPOINT_URL": self.address, "AWS_REGION": "us-east-1"}


@contextmanager
def public_bucket(name: str, objects: Mapping[str, bytes], delay: float = 0.0) -> Iterator[PublicBucket]:
    """Serve objects by key. Each reply takes at least `delay` seconds."""
    server = _Server(PublicBucket(name), objects, delay)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.bucket
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, bucket: PublicBucket, objects: Mapping[str, bytes], delay: float) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.bucket, self.objects, self.delay = bucket, objects, delay
        self.now = 0
        self.lock = threading.Lock()
        self.pause = threading.Event()
        bucket.address = f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        server, bucket = self.server, self.server.bucket
        with server.lock:
            bucket.requests.append(f"{self.command} {self.path}")
            bucket.signed += "Authorization" in self.headers
            server.now += 1
            bucket.most_at_once = max(bucket.most_at_once, server.now)
        server.pause.wait(server.delay)
        self._answer()
        with server.lock:
            server.now -= 1

    def _answer(self) -> None:
        objects, name = self.server.objects, self.server.bucket.name
        path, query = urlsplit(self.path).path, parse_qs(urlsplit(self.path).query)
        folder, _, key = unquote(path).lstrip("/").partition("/")
        if folder != name:
            self._send(404, b"<Error><Code>NoSuchBucket</Code></Error>")
        elif not key and "list-type" in query:
            parameters = {parameter: values[0] for parameter, values in query.items()}
            self._send(200, listing(name, objects, parameters).encode())
        elif key not in objects:
            self._send(404, b"<Error><Code>NoSuchKey</Code></Error>")
        else:
            self._object(objects[key])

    def _object(self, data: bytes) -> None:
        requested = self.headers.get("Range", "")
        if not requested:
            self._send(200, data)
            return
        first, _, last = requested.removeprefix("bytes=").partition("-")
        end = min(int(last or len(data)), len(data) - 1)
        part = data[int(first) : end + 1]
        self._send(206, part, {"Content-Range": f"bytes {first}-{end}/{len(data)}"})

    def _send(self, status: int, body: bytes, more: Mapping[str, str] | None = None) -> None:
        self.send_response(status)
        headers = {"Content-Length": str(len(body)), "ETag": f'"{len(body)}"', "Accept-Ranges": "bytes"}
        headers["Last-Modified"] = "Mon, 01 Jan 2024 00:00:00 GMT"
        for header, value in (headers | dict(more or {})).items():
            self.send_header(header, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)


def listing(name: str, objects: Mapping[str, bytes], query: Mapping[str, str]) -> str:
    """Page of a ListObjectsV2 response."""
    prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
    after = query.get("continuation-token", query.get("start-after", ""))
    keys, folders = [], []
    for key in sorted(objects):
        rest = key.removeprefix(prefix)
        if not key.startswith(prefix) or key <= after:
            continue
        if delimiter and delimiter in rest:
            folders.append(prefix + rest.partition(delimiter)[0] + delimiter)
        else:
            keys.append(key)
    shown = keys[:PAGE]
    token = f"<NextContinuationToken>{escape(shown[-1])}</NextContinuationToken>" if len(keys) > PAGE else ""
    contents = "".join(
        f"<Contents><Key>{escape(key)}</Key><LastModified>2024-01-01T00:00:00.000Z</LastModified>"
        f"<ETag>&quot;{len(objects[key])}&quot;</ETag><Size>{len(objects[key])}</Size></Contents>"
        for key in shown
    )
    common = "".join(
        f"<CommonPrefixes><Prefix>{escape(folder)}</Prefix></CommonPrefixes>" for folder in dict.fromkeys(folders)
    )
    return (
        "<?xml version='1.0'?><ListBucketResult xmlns='http://s3.amazonaws.com/doc/2006-03-01/'>"
        f"<Name>{name}</Name><KeyCount>{len(shown)}</KeyCount><IsTruncated>{str(bool(token)).lower()}</IsTruncated>"
        f"{token}{contents}{common}</ListBucketResult>"
    )
