"""The HTTP server: health checks, and map tiles for browsers."""

from __future__ import annotations

import re
import socket
import threading
import time
import uuid
from collections.abc import Callable
from datetime import datetime
from http import HTTPStatus
from pathlib import Path

import uvicorn
from grpc import StatusCode
from starlette.applications import Starlette
from starlette.datastructures import QueryParams
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from acdtask.cube.local.cube import LocalCube
from acdtask.cube.model import RecordQuery
from acdtask.dates import parse_moment
from acdtask.errors import AcdError, ErrorCode
from acdtask.log import events
from acdtask.serve.connections import Listener
from acdtask.serve.errors import RefusalError, invalid, refusal_of, uuid_of
from acdtask.serve.keys import Keys
from acdtask.serve.pictures import render_tile

__all__ = ["HttpServing", "application"]

LOG = events("serve")
STARTING_SECONDS = 30.0
LARGEST_HEAD = 64 * 1024
TILE_PATH = "/v1/catalog/mosaic/{instance}/{x:int}/{y:int}/{z:int}/png"
TAG = re.compile(r"filters?\.tags\[(.+)\]")
STATUSES = {
    StatusCode.INVALID_ARGUMENT: HTTPStatus.BAD_REQUEST,
    StatusCode.UNAUTHENTICATED: HTTPStatus.UNAUTHORIZED,
    StatusCode.NOT_FOUND: HTTPStatus.NOT_FOUND,
    StatusCode.UNIMPLEMENTED: HTTPStatus.NOT_IMPLEMENTED,
    StatusCode.UNAVAILABLE: HTTPStatus.SERVICE_UNAVAILABLE,
    StatusCode.RESOURCE_EXHAUSTED: HTTPStatus.TOO_MANY_REQUESTS,
}


def application(cube: LocalCube, keys: Keys, is_serving: Callable[[], bool]) -> Starlette:
    """The HTTP application, with the same keys as for gRPC. `/health` says whether the server `is_serving`."""

    async def root(_: Request) -> Response:
        return PlainTextResponse("ok")

    async def alive(_: Request) -> Response:
        serving = is_serving()
        return JSONResponse({"status": "SERVING" if serving else "NOT_SERVING"}, 200 if serving else 503)

    def tile(request: Request) -> Response:  # not a coroutine, so it runs in a worker thread
        began = time.monotonic()
        response = _answer(cube, keys, request)
        seconds = round(time.monotonic() - began, 4)
        LOG.info("http.done", path=request.url.path, status=response.status_code, seconds=seconds)
        return response

    return Starlette(
        routes=[Route("/", root), Route("/health", alive), Route(TILE_PATH, tile)],
        middleware=[
            Middleware(CORSMiddleware, allow_origins=["*"], allow_methods=["GET"], allow_headers=["authorization"])
        ],
    )


def _answer(cube: LocalCube, keys: Keys, request: Request) -> Response:
    reason = keys.refuse(request.url.path, request.headers.getlist("authorization"))
    if reason:
        return _refused(RefusalError(StatusCode.UNAUTHENTICATED, reason))
    try:
        return Response(_tile(cube, request), media_type="image/png")
    except RefusalError as error:
        return _refused(error)
    except AcdError as error:
        LOG.warning("call.refused", path=request.url.path, error=error.code.label, detail=error.detail)
        return _refused(refusal_of(error))
    except Exception as error:  # noqa: BLE001  # the edge of the server: anything else is a bug
        return _refused(_unexpected(request, error))


def _unexpected(request: Request, error: Exception) -> RefusalError:
    incident = uuid.uuid4().hex[:12]
    LOG.error("call.failed", traceback=True, path=request.url.path, incident=incident, error=type(error).__name__)
    return RefusalError(StatusCode.INTERNAL, f"acd met a condition that it does not expect; its log has {incident}")


def _refused(refusal: RefusalError) -> Response:
    status = STATUSES.get(refusal.code, HTTPStatus.INTERNAL_SERVER_ERROR)
    return JSONResponse({"code": refusal.code.value[0], "message": refusal.message, "details": []}, status)


def _tile(cube: LocalCube, request: Request) -> bytes:
    path, query = request.path_params, request.query_params
    instance = uuid_of(path["instance"], f"Invalid Instance.uuid {path['instance']}")
    which = _which(query)
    limits = (_number(query, "min"), _number(query, "max"))
    return render_tile(cube, instance, which, (path["x"], path["y"], path["z"]), limits)


def _which(query: QueryParams) -> list[str] | RecordQuery:
    """The requested records, by their ids or by tags and times."""
    ids = query.getlist("records.ids")
    if ids:
        return [uuid_of(record_id, f"Invalid Record.uuid {record_id}") for record_id in ids]
    tags = {match[1]: value for key, value in query.multi_items() if (match := TAG.fullmatch(key))}
    start, end = (_moment(query, f"filters.{name}") for name in ("from_time", "to_time"))
    if not tags and start is None and end is None:
        raise invalid("At least one record must be provided")
    return RecordQuery(tags=tags, start=start, end=end)


def _number(query: QueryParams, name: str) -> float:
    try:
        return float(query.get(name, "0"))
    except ValueError as error:
        raise invalid(f"{name} is {query[name]!r}, which is not a number") from error


def _moment(query: QueryParams, name: str) -> datetime | None:
    if name not in query:
        return None
    try:
        return parse_moment(query[name])
    except ValueError as error:
        raise invalid(f"{name}: {error}") from error


class HttpServing:
    """Runs the HTTP application on a port, in a background thread."""

    def __init__(
        self, cube: LocalCube, keys: Keys, is_serving: Callable[[], bool], *, connections: int, request_s: float
    ) -> None:
        self._app = application(cube, keys, is_serving)
        self._connections, self._request_s = connections, request_s
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None

    def start(self, host: str, port: int, certificate: Path | None, key: Path | None) -> int:
        """Start listening and return the port. SERVE_FAILED."""
        listening = _listen(host, port, self._connections, self._request_s)
        config = uvicorn.Config(
            _timed(self._app, listening),
            loop="asyncio",  # other loops would bypass the listener when accepting connections
            http="h11",
            log_config=None,
            access_log=False,
            proxy_headers=False,  # a header must not change the client's address
            lifespan="off",
            ssl_certfile=certificate,
            ssl_keyfile=key,
            h11_max_incomplete_event_size=LARGEST_HEAD,
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, args=([listening],), name="http", daemon=True)
        self._thread.start()
        deadline = time.monotonic() + STARTING_SECONDS
        while not self._server.started:
            if not self._thread.is_alive() or time.monotonic() > deadline:
                raise AcdError(ErrorCode.SERVE_FAILED, f"the HTTP server on {host}:{port} did not start")
            time.sleep(0.01)
        return int(listening.getsockname()[1])

    def stop(self, grace: float) -> None:
        """Accept no more requests, and wait up to `grace` seconds for the running ones."""
        if self._server is None or self._thread is None:
            return
        self._server.should_exit = True
        self._thread.join(grace)
        self._server.force_exit = True
        self._thread.join(1)


def _timed(app: ASGIApp, listener: Listener) -> ASGIApp:
    """Wrap the application so that the listener knows which connections have a request."""

    async def timed(scope: Scope, receive: Receive, send: Send) -> None:
        listener.busy(scope.get("client"))
        try:
            await app(scope, receive, send)
        finally:
            listener.idle(scope.get("client"))

    return timed


def _listen(host: str, port: int, connections: int, request_s: float) -> Listener:
    listener = Listener(socket.AF_INET6 if ":" in host else socket.AF_INET, connections, request_s)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(128)
    except OSError as error:
        listener.close()
        raise AcdError(ErrorCode.SERVE_FAILED, f"cannot listen on {host}:{port}: {error.strerror or error}") from error
    return listener
