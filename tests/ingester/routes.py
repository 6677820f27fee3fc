"""The routes of an ingester's workflow server, and their replies."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote

from tests.ingester.standin import Reply, Standin, integer

__all__ = ["reply"]


def _json(value: Any) -> Reply:
    return 200, json.dumps(value) + "\n"


def _one(server: Standin, kind: str, text: str) -> Reply:
    number = integer(text, -1)
    if number < 0:
        return 400, b""
    if kind == "scene":
        return _json(server.scenes[number]) if number in server.scenes else (404, b"")
    return _json(server.as_tile(server.tiles[number], with_scene=True)) if number in server.tiles else (404, b"")


def _aoi(server: Standin, part: list[str], *_: Any) -> Reply:
    name = part[0]
    if "*" in name or "?" in name:
        like = re.compile(re.escape(name).replace(r"\*", ".*").replace(r"\?", "."))
        return _json(
            [{"ID": aoi, "status": server.aoi_status(aoi)} for aoi in sorted(server.aois) if like.fullmatch(aoi)]
        )
    return 200, server.table(name)


def _create(server: Standin, part: list[str], *_: Any) -> Reply:
    if part[0] in server.aois:
        return 409, b""
    server.aois.append(part[0])
    return 204, b""


def _scenes(server: Standin, part: list[str], query: dict[str, str], *_: Any) -> Reply:
    return _json(server.paged([row for row in server.of_aoi(part[0]) if part[1] in ("", row["status"])], query))


def _tiles(server: Standin, part: list[str], query: dict[str, str], *_: Any) -> Reply:
    mine = {row["id"] for row in server.of_aoi(part[0])}
    rows = [row for row in server.tiles.values() if row["scene"] in mine and row["status"] == part[1]]
    return _json([server.as_tile(row) for row in server.paged(rows, query)])


def _of_scene(server: Standin, part: list[str], *_: Any) -> Reply:
    number = integer(part[0], -1)
    if number < 0:
        return 400, b""
    return _json([server.as_tile(row) for row in server.tiles.values() if row["scene"] == number])


Act = Callable[[Standin, list[str], dict[str, str], Any, bytes], Reply]
ROUTES: list[tuple[str, str, Act]] = [
    (
        "GET",
        r"/aoi/",
        lambda server, *_: _json([{"ID": aoi, "status": server.aoi_status(aoi)} for aoi in sorted(server.aois)]),
    ),
    ("GET", r"/aoi/([^/]+)", _aoi),
    ("POST", r"/aoi/([^/]+)", _create),
    ("GET", r"/aoi/([^/]+)/dot", lambda server, part, *_: (200, server.dot(part[0]))),
    ("GET", r"/aoi/([^/]+)/scenes(?:/([^/]+))?", _scenes),
    ("GET", r"/aoi/([^/]+)/tiles/([^/]+)", _tiles),
    ("POST", r"/aoi/([^/]+)/scene", lambda server, part, _q, _h, body: server.add_by_hand(part[0], body)),
    ("PUT", r"/aoi/([^/]+)/retry", lambda server, part, *_: server.retry_aoi(part[0], force=False)),
    (
        "PUT",
        r"/aoi/([^/]+)/retry/([^/]+)",
        lambda server, part, *_: server.retry_aoi(part[0], force=part[1] == "force"),
    ),
    ("GET", r"/(scene|tile)/([^/]+)", lambda server, part, *_: _one(server, *part)),
    ("GET", r"/scene/([^/]+)/tiles", _of_scene),
    (
        "PUT",
        r"/(scene|tile)/(\d+)/(retry|fail)",
        lambda server, part, *_: server.move(part[0], int(part[1]), part[2], ""),
    ),
    (
        "PUT",
        r"/(scene|tile)/(\d+)/(force)/([^/]+)",
        lambda server, part, *_: server.move(part[0], int(part[1]), part[2], part[3]),
    ),
    ("POST", r"/catalog/aoi", lambda server, _p, _q, headers, body: server.post_area(headers, body)),
]


def reply(server: Standin, method: str, path: str, query: dict[str, str], headers: Any, body: bytes) -> Reply:
    """The reply to a request."""
    if (method, path) == ("GET", "/"):
        return 200, "ingester ok"
    route = next(
        ((found, act) for verb, pattern, act in ROUTES if verb == method and (found := re.fullmatch(pattern, path))),
        None,
    )
    if route is None:
        known = any(re.fullmatch(pattern, path) for _, pattern, _ in ROUTES)
        return (405, b"") if known else (404, "404 page not found\n")
    if server.token and headers.get("authorization", "") != f"Bearer {server.token}":
        given = headers.get("authorization", "")
        why = (
            "token not found"
            if not given
            else "invalid token"
            if given.startswith("Bearer ")
            else 'missing "Bearer " prefix'
        )
        return 403, json.dumps(why) + "\n"
    found, act = route
    with server.lock:
        return act(server, [unquote(part or "") for part in found.groups()], query, headers, body)
