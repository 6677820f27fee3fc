"""A local S3 server with one public, read-only bucket; it counts signed requests."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import parse_qsl
from xml.sax.saxutils import escape

from tests.storage.web_server import ReceivedRequest, Reply, WebServer, etag_of, web_server

PAGE = 1000


@dataclass
class PublicBucket:
    """A running server and its requests.

    Attributes:
        name: name of the bucket.
        server: the server, whose objects are those of the bucket.
        delay: seconds that each reply takes at least.
    """

    name: str
    server: WebServer
    delay: float

    @property
    def requests(self) -> list[str]:
        """Method and path of each request."""
        return [f"{request.method} {request.target}" for request in self.server.requests]

    @property
    def signed(self) -> int:
        """Number of signed requests."""
        return sum("Authorization" in request.headers for request in self.server.requests)

    @property
    def most_at_once(self) -> int:
        """Maximum number of concurrent requests."""
        return self.server.most_at_once

    @property
    def environment(self) -> dict[str, str]:
        """Environment variables for the server, without keys."""
        return {"AWS_ENDPOINT_URL": self.server.address, "AWS_REGION": "us-east-1"}

    def reply(self, request: ReceivedRequest) -> Reply:
        """Reply as S3 does, to HEAD as to GET."""
        folder, _, key = request.path.lstrip("/").partition("/")
        query = dict(parse_qsl(request.query, keep_blank_values=True))
        if folder != self.name:
            reply = Reply(404, b"<Error><Code>NoSuchBucket</Code></Error>")
        elif not key and "list-type" in query:
            reply = Reply(200, listing(self.name, self.server.objects, query).encode())
        elif key not in self.server.objects:
            reply = Reply(404, b"<Error><Code>NoSuchKey</Code></Error>")
        else:
            reply = self.server.object_reply(self.server.objects[key], request)
        reply.delay = self.delay
        return reply


@contextmanager
def public_bucket(name: str, objects: Mapping[str, bytes], delay: float = 0.0) -> Iterator[PublicBucket]:
    """Serve objects by key. Each reply takes at least `delay` seconds."""
    with web_server(objects) as server:
        bucket = PublicBucket(name, server, delay)
        server.rule = bucket.reply
        yield bucket


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
        f"<ETag>{escape(etag_of(objects[key]))}</ETag><Size>{len(objects[key])}</Size></Contents>"
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
