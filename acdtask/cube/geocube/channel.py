"""Calls to a Geocube: one channel per process, a deadline per call, retries where they can help."""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
import threading
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal, TypeAlias, TypeVar

import grpc
from tenacity import RetryCallState, Retrying, retry_if_exception, wait_random_exponential

from acdtask.cube.geocube.connection import Connection, Endpoint
from acdtask.cube.geocube.errors import explain, is_passing
from acdtask.cube.protocol.services_pb2_grpc import GeocubeDownloaderStub, GeocubeStub
from acdtask.errors import AcdError, ErrorCode
from acdtask.storage.files import read_small_file

__all__ = ["Channel"]

AnyT = TypeVar("AnyT")
ItemT = TypeVar("ItemT")
RequestT = TypeVar("RequestT")
ResponseT = TypeVar("ResponseT")

CallKind: TypeAlias = Literal["short", "listing", "cube"]
"""Kind of a call, which determines its deadline (`Deadlines`)."""

Metadata: TypeAlias = tuple[tuple[str, str], ...]

KEEPALIVE_ANSWER_MS = 20_000
RECONNECT_MS = 200, 5_000
PROBE_SECONDS = 3.0


class _Services:
    """Service stubs of a channel."""

    def __init__(self, channel: grpc.Channel) -> None:
        self.geocube = GeocubeStub(channel)
        self.downloader = GeocubeDownloaderStub(channel)


class _ProcessChannels:
    """The open channels of this process. A forked child leaves its parent's channels alone and opens its own."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._channels: dict[tuple[Endpoint, Path | None, float], _Services] = {}
        self._inherited: list[Any] = []
        os.register_at_fork(after_in_child=self._forget)

    def _forget(self) -> None:
        self._lock = threading.Lock()  # another thread of the parent may have held the old one
        self._inherited.append(self._channels)  # keeps them from being collected, which would close them
        self._channels = {}

    def get(self, endpoint: Endpoint, ca_file: Path | None, keepalive: float) -> _Services:
        """The channel to an endpoint, opened at first use. GEOCUBE_TLS if `ca_file` cannot be read."""
        key = endpoint, ca_file, keepalive
        with self._lock:
            if key not in self._channels:
                self._channels[key] = _Services(_channel(endpoint, ca_file, keepalive))
            return self._channels[key]


_CHANNELS = _ProcessChannels()


def _channel(endpoint: Endpoint, ca_file: Path | None, keepalive: float) -> grpc.Channel:
    options = [
        ("grpc.max_receive_message_length", -1),
        ("grpc.max_send_message_length", -1),
        ("grpc.keepalive_time_ms", int(keepalive * 1000)),
        ("grpc.keepalive_timeout_ms", KEEPALIVE_ANSWER_MS),
        ("grpc.http2.max_pings_without_data", 0),
        ("grpc.initial_reconnect_backoff_ms", RECONNECT_MS[0]),
        ("grpc.min_reconnect_backoff_ms", RECONNECT_MS[0]),
        ("grpc.max_reconnect_backoff_ms", RECONNECT_MS[1]),
        ("grpc.enable_retries", 0),  # retries are decided here, by what a call does
        ("grpc.use_local_subchannel_pool", 1),
    ]
    if not endpoint.tls:
        return grpc.insecure_channel(endpoint.target, options)
    try:
        roots = read_small_file(ca_file) if ca_file else None
    except OSError as error:
        raise AcdError(ErrorCode.GEOCUBE_TLS, f"{ca_file} cannot be read: {error.strerror}") from error
    return grpc.secure_channel(endpoint.target, grpc.ssl_channel_credentials(roots), options)


class Channel:
    """Calls to one endpoint. Picklable; each process connects at its first call.

    Every method raises AcdError for a failed call, such as GEOCUBE_UNREACHABLE. The default endpoint is the
    connection's server.
    """

    def __init__(self, connection: Connection, endpoint: Endpoint | None = None) -> None:
        self.connection = connection
        self.endpoint = endpoint or connection.endpoint
        key = connection.api_key.get_secret_value()
        self._metadata: Metadata = (("authorization", f"Bearer {key}"),) if key else ()

    def __reduce__(self) -> tuple[type[Channel], tuple[Connection, Endpoint]]:
        return Channel, (self.connection, self.endpoint)

    def __repr__(self) -> str:
        return f"Channel({self.endpoint.address!r})"

    @property
    def geocube(self) -> GeocubeStub:
        """The service for catalogue, cubes and jobs."""
        return self._services().geocube

    @property
    def downloader(self) -> GeocubeDownloaderStub:
        """The service that reads files without a catalogue."""
        return self._services().downloader

    def _services(self) -> _Services:
        return _CHANNELS.get(self.endpoint, self.connection.ca_file, self.connection.keepalive)

    def deadline(self, kind: CallKind) -> float:
        """Seconds that a call of this kind may take."""
        return float(getattr(self.connection.deadlines, kind))

    def call(
        self,
        method: grpc.UnaryUnaryMultiCallable[RequestT, ResponseT],
        request: RequestT,
        kind: CallKind = "short",
        *,
        repeat: bool = True,
    ) -> ResponseT:
        """The response to a call. `repeat`: retry even if the server may have processed the call already."""

        def once() -> ResponseT:
            return method(request, timeout=self.deadline(kind), metadata=self._metadata)

        return self.trying(once, self.connection.attempts if repeat else 1)

    def listed(
        self,
        method: grpc.UnaryStreamMultiCallable[RequestT, ResponseT],
        request: RequestT,
        kind: CallKind = "listing",
        *,
        enough: Callable[[list[ResponseT]], bool] = lambda _: False,
    ) -> list[ResponseT]:
        """All items of a stream, or the first ones until they are `enough`. A broken stream is read again."""

        def once() -> list[ResponseT]:
            items: list[ResponseT] = []
            with contextlib.closing(self.messages(method, request, kind)) as messages:
                for item in messages:
                    items.append(item)
                    if enough(items):
                        break
            return items

        return self.trying(once, self.connection.attempts)

    def messages(
        self,
        method: grpc.UnaryStreamMultiCallable[RequestT, ResponseT],
        request: RequestT,
        kind: CallKind = "cube",
    ) -> Generator[ResponseT, None, None]:
        """The items of a stream as they arrive, without retries. Closing the generator cancels the call.

        Raises:
            grpc.RpcError: if the call fails.
        """
        stream = method(request, timeout=self.deadline(kind), metadata=self._metadata)
        try:
            yield from stream
        finally:
            stream.cancel()

    def trying(
        self, once: Callable[[], AnyT], attempts: int, passes: Callable[[BaseException], bool] = is_passing
    ) -> AnyT:
        """The result of a call, retried after a pause as long as `passes` accepts its errors."""
        pauses = wait_random_exponential(multiplier=self.connection.first_pause, max=self.connection.longest_pause)
        patience = self.connection.retry_seconds

        # `idle_for` is the time spent in pauses so far, without the calls themselves.
        def is_enough(state: RetryCallState) -> bool:
            return state.attempt_number >= attempts or state.idle_for >= patience

        retrying = Retrying(retry=retry_if_exception(passes), stop=is_enough, wait=pauses, reraise=True)
        try:
            return retrying(once)
        except grpc.RpcError as error:
            raise self.explained(error) from error

    def explained(self, error: grpc.RpcError) -> AcdError:
        """The AcdError of a failed call."""
        explained = explain(error, self.endpoint)
        if explained.code is ErrorCode.GEOCUBE_UNREACHABLE and not self.endpoint.tls and _speaks_tls(self.endpoint):
            fix = f"Use geocubes://{self.endpoint.target}."
            return AcdError(ErrorCode.GEOCUBE_TLS, f"{self.endpoint.address} speaks only TLS", fix)
        return explained

    def in_parallel(self, call: Callable[[ItemT], AnyT], items: list[ItemT]) -> Iterator[AnyT]:
        """The results of a call for each item, in order; at most `2 * parallel` calls are under way or waiting."""
        width = min(self.connection.parallel, len(items))
        if width <= 1:
            yield from map(call, items)
            return
        with ThreadPoolExecutor(width, thread_name_prefix="geocube") as pool:
            # Submit the next call only when a result is consumed, so that few results wait in memory.
            waiting = [pool.submit(call, item) for item in items[: 2 * width]]
            try:
                for following in [*items[2 * width :], *([None] * len(waiting))]:
                    yield waiting.pop(0).result()
                    if following is not None:
                        waiting.append(pool.submit(call, following))
            finally:
                for future in waiting:
                    future.cancel()


def _speaks_tls(endpoint: Endpoint) -> bool:
    """Whether the endpoint completes a TLS handshake; a call without TLS does not report why it failed."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # nothing is sent
    try:
        with (
            socket.create_connection((endpoint.host, endpoint.port), PROBE_SECONDS) as raw,
            context.wrap_socket(raw, server_hostname=endpoint.host),
        ):
            return True
    except (OSError, ValueError):
        return False
