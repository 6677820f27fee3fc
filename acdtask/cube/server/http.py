"""HTTP beside gRPC: whether the server lives, and map tiles for browsers."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable

import grpc
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from acdtask.cube.local.cube import LocalCube
from acdtask.cube.server.keys import Keys
from acdtask.engine.log import events

__all__ = ["HttpServing", "application"]

LOG = events("serve")
STARTING_SECONDS = 30.0
OPEN_PATHS = ("/", "/health")


def application(cube: LocalCube, keys: Keys, is_serving: Callable[[], bool]) -> Starlette:
    """The HTTP application.

    Args:
        cube: what is served.
        keys: the same as for gRPC.
        is_serving: tells `/health` whether the server takes calls.
    """
    del cube

    async def root(_: Request) -> Response:
        return PlainTextResponse("ok")

    async def alive(_: Request) -> Response:
        serving = is_serving()
        return JSONResponse({"status": "SERVING" if serving else "NOT_SERVING"}, 200 if serving else 503)

    app = Starlette(routes=[Route("/", root), Route("/health", alive)])

    @app.middleware("http")
    async def checked(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        began = time.monotonic()
        reason = "" if request.url.path in OPEN_PATHS else keys.refuse(request.url.path, request.headers.getlist("authorization"))
        response = _refused(grpc.StatusCode.UNAUTHENTICATED, reason) if reason else await call_next(request)
        write = LOG.debug if request.url.path in OPEN_PATHS else LOG.info
        write("http.done", path=request.url.path, status=response.status_code, seconds=round(time.monotonic() - began, 4))
        return response

    return app
