"""The server as a whole: ports, TLS, health, limits, and how it starts and ends."""

from __future__ import annotations

import ipaddress
import signal
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Self

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from acdtask.cube.local.cube import LocalCube
from acdtask.cube.protocol import services_pb2_grpc
from acdtask.errors import AcdError, ErrorCode
from acdtask.log import events
from acdtask.serve.calls import CallInterceptor
from acdtask.serve.connections import raise_file_limit
from acdtask.serve.consolidation.jobs import ConsolidationJobs
from acdtask.serve.consolidation.runner import JobRunner
from acdtask.serve.downloader import DownloaderService
from acdtask.serve.http import HttpServing
from acdtask.serve.keys import USER_VARIABLE, Keys
from acdtask.serve.lanes import Lanes
from acdtask.serve.service import services_of
from acdtask.serve.stalls import StallGuard
from acdtask.serve.streams import StreamLimits, Streams
from acdtask.storage.files import read_small_file

__all__ = ["ServeSettings", "Serving", "cube_at", "is_loopback", "serve_until_signal"]

LOG = events("serve")
LARGEST_REQUEST = 4 * 1024 * 1024
SERVICES = ("geocube.Geocube", "geocube.GeocubeDownloader", "geocube.Admin")
LOOK_EVERY_S, IDLE_LOOKS = 0.05, 4
SIGNAL_EVERY_S = 0.5
STREAMS_OF_A_CONNECTION = 100
IDLE_OF_REQUEST = 3
"""A connection without a call is closed after this many times the seconds that a request has; clients reconnect."""

PING_SECONDS, PONG_SECONDS, PINGS_AT_MOST_EVERY = 60, 20, 10

OPTIONS = (
    ("grpc.so_reuseport", 0),  # a port that is taken is an error, not shared
    ("grpc.max_receive_message_length", LARGEST_REQUEST),
    ("grpc.max_send_message_length", -1),
    ("grpc.max_concurrent_streams", STREAMS_OF_A_CONNECTION),
    # Only running streams count. Else finished ones do until Python's garbage collector frees them, and a connection
    # with many short calls is refused (REFUSED_STREAM). Turns limit what a client can have running.
    ("grpc.http.overload_protection", 0),
    ("grpc.keepalive_time_ms", PING_SECONDS * 1000),
    ("grpc.keepalive_timeout_ms", PONG_SECONDS * 1000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", PINGS_AT_MOST_EVERY * 1000),
)


@dataclass(frozen=True)
class ServeSettings:
    """How a cube is served.

    Attributes:
        port, http_port: 0 takes a free one; without an HTTP port there is no HTTP.
        tls_cert, tls_key: PEM files; TLS on both ports with both of them, none without.
        connections: that gRPC takes at once; HTTP takes half as many.
        workers: calls that are worked on at once, and as many lists; others wait.
        request_s: seconds within which a connection must speak and a call must send its request.
        jobs: consolidations that are worked on at once; with 0 they wait for another server of the cube.
        grace: seconds that running calls have when the server ends.
        allow_open: serve beyond this machine although there is no key.
        data: folders and s3:// prefixes whose files the server opens for clients, as it does the cube's own. Nothing
            else is opened.
        limits: of the streams of pixels.
    """

    host: str = "127.0.0.1"
    port: int = 8080
    http_port: int | None = None
    tls_cert: Path | None = None
    tls_key: Path | None = None
    connections: int = 400
    workers: int = 64
    request_s: float = 10.0
    jobs: int = 1
    grace: float = 30.0
    allow_open: bool = False
    data: tuple[str, ...] = ()
    limits: StreamLimits = field(default_factory=StreamLimits)

    @property
    def http_connections(self) -> int:
        """That HTTP takes at once."""
        return max(self.connections // 2, 1)


class Serving:
    """A cube that is served, from `start` to `stop`.

    Raises:
        AcdError: SERVE_FAILED if a file cannot be used, or an open cube would be served beyond this machine;
            ADDRESS_INVALID for `data` that is neither a folder nor an s3:// prefix.
    """

    def __init__(self, cube: LocalCube, settings: ServeSettings, keys: Keys) -> None:
        if keys.is_open and not settings.allow_open and not is_loopback(settings.host):
            raise AcdError(
                ErrorCode.SERVE_FAILED,
                f"{settings.host} can be reached from other machines, and there is no key",
                f"Set {USER_VARIABLE}, or say --open if everybody may read and write the cube.",
            )
        self._settings = settings
        self._credentials = _credentials(settings)
        self._lanes = Lanes(settings.workers, settings.limits)
        side = self._lanes.side.pool
        self._health = health.HealthServicer(experimental_non_blocking=True, experimental_thread_pool=side)
        self._calls = CallInterceptor(keys, self._lanes, StallGuard(settings.request_s, settings.limits.stall_s))
        self._server = grpc.server(
            side,
            interceptors=[self._calls],
            options=_options(settings),
            maximum_concurrent_rpcs=self._lanes.threads,
        )
        cube = cube.confined(settings.data)
        self._runner = JobRunner(ConsolidationJobs(cube), _job_error, threads=settings.jobs)
        self._names = _add_services(self._server, cube, settings, self._health, self._runner)
        self._http = (
            None
            if settings.http_port is None
            else HttpServing(
                cube,
                keys,
                self._is_serving,
                connections=settings.http_connections,
                request_s=settings.request_s,
            )
        )
        self._serving = threading.Event()
        self.port = 0
        self.http_port = 0

    def start(self) -> Self:
        """Listen; `port` and `http_port` are known then. SERVE_FAILED."""
        settings = self._settings
        raise_file_limit(settings.connections + (settings.http_connections if self._http is not None else 0))
        self.port = _bind(self._server, settings.host, settings.port, self._credentials)
        try:
            if self._http is not None:
                files = (settings.tls_cert, settings.tls_key) if self._credentials else (None, None)
                self.http_port = self._http.start(settings.host, settings.http_port or 0, *files)
            self._server.start()
            self._runner.start()
        except BaseException:
            self.stop(0)
            raise
        self._serving.set()
        for name in self._names:
            self._health.set(name, health_pb2.HealthCheckResponse.SERVING)
        LOG.info("server.started", address=self.address, http_port=self.http_port or None, workers=settings.workers)
        return self

    @property
    def address(self) -> str:
        """As acd's client and people know it."""
        host = f"[{self._settings.host}]" if ":" in self._settings.host else self._settings.host
        return f"{'geocubes' if self._credentials else 'geocube'}://{host}:{self.port}"

    @property
    def http_address(self) -> str:
        """Of the HTTP port; empty without one."""
        host = f"[{self._settings.host}]" if ":" in self._settings.host else self._settings.host
        return f"{'https' if self._credentials else 'http'}://{host}:{self.http_port}" if self.http_port else ""

    def stop(self, grace: float | None = None) -> None:
        """Take no more calls, let the running ones go on for `grace` seconds (the settings' own if None), and end."""
        seconds = self._settings.grace if grace is None else grace
        self._serving.clear()
        self._health.enter_graceful_shutdown()
        LOG.info("server.stopping", grace=seconds)
        ended = self._server.stop(seconds)
        if self._http is not None:
            self._http.stop(seconds)
        self._runner.stop(seconds)
        self._wait_for_calls(ended)
        self._lanes.shut_down()
        LOG.info("server.stopped")

    def _wait_for_calls(self, ended: threading.Event) -> None:
        """Whoever only watches the server's health does not hold it up."""
        idle = 0
        while not ended.wait(LOOK_EVERY_S):
            idle = 0 if self._calls.active else idle + 1
            if idle == IDLE_LOOKS:
                self._server.stop(0)

    def _is_serving(self) -> bool:
        return self._serving.is_set()


def cube_at(address: str) -> LocalCube:
    """The cube at an address, made if there is none. CUBE_VERSION, ADDRESS_INVALID, and what Store raises."""
    try:
        return LocalCube.open(address)
    except AcdError as error:
        if error.code is not ErrorCode.CUBE_UNKNOWN:
            raise
    LOG.warning("cube.made", address=address)
    return LocalCube.create(address)


def serve_until_signal(serving: Serving, started: Callable[[], None]) -> None:
    """Serve until SIGTERM or SIGINT, and end gracefully; a second signal ends the grace. SERVE_FAILED.

    Args:
        serving: what to start, in the main thread.
        started: called when it listens.
    """
    wanted, hurry = threading.Event(), threading.Event()

    def on_signal(_number: int, _frame: FrameType | None) -> None:
        (hurry if wanted.is_set() else wanted).set()

    before = {number: signal.signal(number, on_signal) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        serving.start()
        started()
        while not wanted.wait(SIGNAL_EVERY_S):
            pass  # a signal that another thread gets does not wake this one, and only this one runs its handler
        stopping = threading.Thread(target=serving.stop, name="stopping")
        stopping.start()
        while stopping.is_alive():
            if hurry.wait(LOOK_EVERY_S):
                serving.stop(0)
                break
        stopping.join()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a server there.

    >>> is_loopback("127.0.0.1"), is_loopback("::1"), is_loopback("localhost"), is_loopback("0.0.0.0")
    (True, True, True, False)
    """
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _add_services(
    server: grpc.Server, cube: LocalCube, settings: ServeSettings, healths: health.HealthServicer, runner: JobRunner
) -> tuple[str, ...]:
    """Adds every service, and returns the names that health is asked by."""
    streams = Streams(settings.limits)
    geocube, admin = services_of(cube, runner.jobs, streams, settings.data, runner.wake)
    downloader = DownloaderService(cube, streams, allowed=settings.data)
    services_pb2_grpc.add_GeocubeServicer_to_server(geocube, server)
    services_pb2_grpc.add_AdminServicer_to_server(admin, server)
    services_pb2_grpc.add_GeocubeDownloaderServicer_to_server(downloader, server)
    health_pb2_grpc.add_HealthServicer_to_server(healths, server)
    reflection.enable_server_reflection((*SERVICES, health.SERVICE_NAME, reflection.SERVICE_NAME), server)
    return "", *SERVICES


def _options(settings: ServeSettings) -> tuple[tuple[str, int], ...]:
    return (
        *OPTIONS,
        ("grpc.max_allowed_incoming_connections", settings.connections),
        ("grpc.server_handshake_timeout_ms", round(settings.request_s * 1000)),
        ("grpc.max_connection_idle_ms", round(settings.request_s * 1000 * IDLE_OF_REQUEST)),
    )


def _job_error(job_id: str, error: Exception) -> None:
    LOG.error("job.failed", job=job_id, error=f"{type(error).__name__}: {error}")


def _bind(server: grpc.Server, host: str, port: int, credentials: grpc.ServerCredentials | None) -> int:
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    add: Callable[[], int] = (
        (lambda: server.add_insecure_port(address))
        if credentials is None
        else (lambda: server.add_secure_port(address, credentials))
    )
    try:
        bound = add()
    except RuntimeError as error:
        raise AcdError(
            ErrorCode.SERVE_FAILED, f"{address} cannot be listened on; another program may have it"
        ) from error
    if not bound:
        raise AcdError(ErrorCode.SERVE_FAILED, f"{address} cannot be listened on; another program may have it")
    return bound


def _credentials(settings: ServeSettings) -> grpc.ServerCredentials | None:
    certificate, key = settings.tls_cert, settings.tls_key
    if certificate is None and key is None:
        return None
    if certificate is None or key is None:
        raise AcdError(
            ErrorCode.SERVE_FAILED, "TLS needs both a certificate and its key", "Give --tls-cert and --tls-key."
        )
    try:
        pair = read_small_file(key), read_small_file(certificate)
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key)
        return grpc.ssl_server_credentials([pair])
    except OSError as error:
        reason = error.strerror or str(error)
        raise AcdError(
            ErrorCode.SERVE_FAILED, f"{certificate} and {key} are not a certificate and its key: {reason}"
        ) from error
