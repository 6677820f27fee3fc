"""The server: ports, TLS, health, limits, start and shutdown."""

from __future__ import annotations

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
from acdtask.hosts import is_this_machine
from acdtask.log import events
from acdtask.serve.call_interceptor import CallInterceptor
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

__all__ = ["ServeSettings", "Serving", "cube_at", "serve_until_signal"]

LOG = events("serve")
LARGEST_REQUEST = 4 * 1024 * 1024
SERVICES = ("geocube.Geocube", "geocube.GeocubeDownloader", "geocube.Admin")
LOOK_EVERY_S, IDLE_LOOKS = 0.05, 4
SIGNAL_EVERY_S = 0.5
STREAMS_OF_A_CONNECTION = 100
IDLE_OF_REQUEST = 3
"""A connection without calls is closed after this multiple of `request_s`; clients reconnect."""

PING_SECONDS, PONG_SECONDS, PINGS_AT_MOST_EVERY = 60, 20, 10

OPTIONS = (
    ("grpc.so_reuseport", 0),  # a port in use is an error instead of being shared
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
    """Settings of a server.

    Attributes:
        port, http_port: 0 for any free port; http_port None disables HTTP.
        tls_cert, tls_key: PEM files; both together enable TLS on both ports.
        connections: maximum number of gRPC connections; HTTP accepts half as many.
        workers: maximum number of concurrent calls, and the same number of concurrent lists; further ones wait.
        request_s: seconds within which a connection must become active and a call must send its request.
        jobs: maximum number of concurrent consolidations; with 0, jobs wait for another server of the cube.
        grace: seconds that running calls may continue after a stop.
        allow_open: allow other machines to connect although there is no key.
        data: folders and s3:// prefixes with files that the server may open, in addition to the cube itself.
        limits: limits of the streams of pixels.
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
        """Maximum number of HTTP connections."""
        return max(self.connections // 2, 1)


class Serving:
    """The server of a cube.

    SERVE_FAILED if a file cannot be used, or if other machines could access the cube without a key; ADDRESS_INVALID if
    an item of `data` is neither a folder nor an s3:// prefix.
    """

    def __init__(self, cube: LocalCube, settings: ServeSettings, keys: Keys) -> None:
        if keys.is_open and not settings.allow_open and not is_this_machine(settings.host):
            raise AcdError(
                ErrorCode.SERVE_FAILED,
                f"{settings.host} can be reached from other machines, but there is no key",
                f"Set {USER_VARIABLE}, or use --open if anyone may read and write the cube.",
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
        self._serving = threading.Event()
        self._http: HttpServing | None = None
        if settings.http_port is not None:
            connections, request_s = settings.http_connections, settings.request_s
            self._http = HttpServing(cube, keys, self._serving.is_set, connections=connections, request_s=request_s)
        self.port = 0
        self.http_port = 0

    def start(self) -> Self:
        """Start listening, and set `port` and `http_port`. SERVE_FAILED."""
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
        """The gRPC address, as `connect` accepts it."""
        host = f"[{self._settings.host}]" if ":" in self._settings.host else self._settings.host
        return f"{'geocubes' if self._credentials else 'geocube'}://{host}:{self.port}"

    @property
    def http_address(self) -> str:
        """The HTTP address; empty without HTTP."""
        host = f"[{self._settings.host}]" if ":" in self._settings.host else self._settings.host
        return f"{'https' if self._credentials else 'http'}://{host}:{self.http_port}" if self.http_port else ""

    def stop(self, grace: float | None = None) -> None:
        """Accept no more calls, wait up to `grace` seconds (default: the settings') for running ones, and stop."""
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
        """Wait until the server has ended; calls that only watch its health do not delay it."""
        idle = 0
        while not ended.wait(LOOK_EVERY_S):
            idle = 0 if self._calls.active else idle + 1
            if idle == IDLE_LOOKS:
                self._server.stop(0)


def cube_at(address: str) -> LocalCube:
    """Open the cube at an address, or create it. CUBE_VERSION, ADDRESS_INVALID, and errors of the store."""
    try:
        return LocalCube.open(address)
    except AcdError as error:
        if error.code is not ErrorCode.CUBE_UNKNOWN:
            raise
    LOG.warning("cube.made", address=address)
    return LocalCube.create(address)


def serve_until_signal(serving: Serving, started: Callable[[], None]) -> None:
    """Serve until SIGTERM or SIGINT, then stop gracefully; a second signal stops immediately. SERVE_FAILED.

    Call it in the main thread. `started` is called when the server listens.
    """
    stop_wanted, hurry = threading.Event(), threading.Event()

    def on_signal(_number: int, _frame: FrameType | None) -> None:
        (hurry if stop_wanted.is_set() else stop_wanted).set()

    before = {number: signal.signal(number, on_signal) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        serving.start()
        started()
        while not stop_wanted.wait(SIGNAL_EVERY_S):
            pass  # only the main thread runs signal handlers, but a signal to another thread does not wake it
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


def _add_services(
    server: grpc.Server, cube: LocalCube, settings: ServeSettings, healths: health.HealthServicer, runner: JobRunner
) -> tuple[str, ...]:
    """Add all services. Returns their names in the health service; "" stands for the whole server."""
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
    try:
        if credentials is None:
            return server.add_insecure_port(address)
        return server.add_secure_port(address, credentials)
    except RuntimeError as error:
        raise AcdError(
            ErrorCode.SERVE_FAILED, f"cannot listen on {address}; another program may be using it"
        ) from error


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
            ErrorCode.SERVE_FAILED, f"{certificate} and {key} are not a valid certificate and its key: {reason}"
        ) from error
