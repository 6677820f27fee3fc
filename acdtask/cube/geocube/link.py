"""Calls to a Geocube server: channels, deadlines, retries, and what its refusals mean."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

# Before grpc is imported: a forked child may open channels of its own then.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "1")

import grpc
from google.rpc.error_details_pb2 import ResourceInfo  # type: ignore[import-untyped]  # googleapis-common-protos has no types
from grpc_status import rpc_status
from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_random_exponential

from acdtask.cube.geocube.connection import Connection, target_of
from acdtask.cube.protocol.services_pb2_grpc import GeocubeDownloaderStub, GeocubeStub
from acdtask.errors import AcdError, ErrorCode

__all__ = ["Link", "ServerError", "is_passing"]

Answer = TypeVar("Answer")

OPTIONS = [
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.keepalive_permit_without_calls", 0),
    ("grpc.enable_retries", 0),  # we retry, and only what may be asked twice
    ("grpc.max_reconnect_backoff_ms", 5_000),
]

PASSING = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.ABORTED}
"""The server may answer the same call later."""

MEANINGS = {
    grpc.StatusCode.UNAVAILABLE: ErrorCode.GEOCUBE_UNREACHABLE,
    grpc.StatusCode.ABORTED: ErrorCode.GEOCUBE_UNREACHABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED: ErrorCode.GEOCUBE_UNREACHABLE,
    grpc.StatusCode.CANCELLED: ErrorCode.GEOCUBE_UNREACHABLE,
    grpc.StatusCode.UNAUTHENTICATED: ErrorCode.GEOCUBE_DENIED,
    grpc.StatusCode.PERMISSION_DENIED: ErrorCode.GEOCUBE_DENIED,
    grpc.StatusCode.INVALID_ARGUMENT: ErrorCode.GEOCUBE_REFUSED,
    grpc.StatusCode.NOT_FOUND: ErrorCode.GEOCUBE_REFUSED,
    grpc.StatusCode.ALREADY_EXISTS: ErrorCode.GEOCUBE_REFUSED,
    grpc.StatusCode.FAILED_PRECONDITION: ErrorCode.GEOCUBE_REFUSED,
    grpc.StatusCode.RESOURCE_EXHAUSTED: ErrorCode.GEOCUBE_REFUSED,
    grpc.StatusCode.UNIMPLEMENTED: ErrorCode.GEOCUBE_REFUSED,
}

OF_TLS = ("ssl", "tls", "certificate", "handshake", "wrong_version", "x509")


class ServerError(AcdError):
    """What a server or the way to it answered.

    Attributes:
        status: gRPC's status.
        resource: type and name of the thing that it is about, as the server's details say it; empty if they do not.
    """

    def __init__(
        self, code: ErrorCode, detail: str, fix: str | None, status: grpc.StatusCode, resource: tuple[str, str]
    ) -> None:
        super().__init__(code, detail, fix)
        self.status = status
        self.resource = resource

    def __reduce__(self) -> tuple[type[ServerError], tuple[Any, ...]]:
        return type(self), (self.code, self.detail, self.fix, self.status, self.resource)


def is_passing(error: BaseException) -> bool:
    """Whether the same call may succeed later."""
    return isinstance(error, ServerError) and error.status in PASSING


class Link:
    """The way to a server: one channel a process, opened by the first call. Picklable; safe in forked processes."""

    def __init__(self, connection: Connection, *, downloader: bool = False) -> None:
        self.connection = connection
        self._address = connection.downloader if downloader else connection.address
        self._is_downloader = downloader
        self._lock = threading.Lock()
        self._opened: tuple[int, grpc.Channel, Any] | None = None

    def __reduce__(self) -> tuple[Callable[..., Link], tuple[Connection, bool]]:
        return _link, (self.connection, self._is_downloader)

    @property
    def target(self) -> str:
        """host:port."""
        return target_of(self._address)

    def call(self, name: str, request: Any, *, again: bool = True, seconds: float | None = None) -> Any:
        """The answer of a unary call.

        Args:
            name: of the call, such as "GetVariable".
            request: its message.
            again: whether it may be made twice, so that it is tried again when the server is away.
            seconds: deadline; default: that of short calls.

        Raises:
            ServerError: GEOCUBE_UNREACHABLE, GEOCUBE_DENIED, GEOCUBE_TLS, GEOCUBE_REFUSED, GEOCUBE_FAILED.
        """
        deadline = seconds or self.connection.deadlines.call

        def once() -> Any:
            return self._explained(
                name, lambda stub: getattr(stub, name)(request, timeout=deadline, metadata=self._key())
            )

        return self._patiently(once) if again else once()

    def listing(self, name: str, request: Any) -> list[Any]:
        """All items of a server's stream that is short enough to be asked for anew when it breaks. Raises as `call`."""
        deadline = self.connection.deadlines.listing

        def once() -> list[Any]:
            return self._explained(
                name, lambda stub: list(getattr(stub, name)(request, timeout=deadline, metadata=self._key()))
            )

        return self._patiently(once)

    def stream(self, name: str, request: Any) -> Iterator[Any]:
        """The messages of a stream, once; closing the generator cancels the call. Raises as `call`."""
        try:
            call = getattr(self._stub(), name)(
                request, timeout=self.connection.deadlines.cube, metadata=self._key(), wait_for_ready=False
            )
        except ValueError as error:  # a channel that was closed meanwhile
            raise self._away(name, str(error)) from error
        try:
            yield from call
        except grpc.RpcError as error:
            raise self._meaning(name, error) from error
        finally:
            call.cancel()

    def close(self) -> None:
        """Close the channel of this process; the next call opens another."""
        with self._lock:
            if self._opened is not None and self._opened[0] == os.getpid():
                self._opened[1].close()
            self._opened = None

    def _patiently(self, once: Callable[[], Answer]) -> Answer:
        attempts = Retrying(
            retry=retry_if_exception(is_passing),
            stop=stop_after_delay(self.connection.retry_seconds),
            wait=wait_random_exponential(multiplier=0.1, max=5),
            reraise=True,
        )
        return attempts(once)

    def _explained(self, name: str, made: Callable[[Any], Answer]) -> Answer:
        try:
            return made(self._stub())
        except grpc.RpcError as error:
            raise self._meaning(name, error) from error
        except ValueError as error:
            if "closed channel" in str(error):
                raise self._away(name, str(error)) from error
            raise

    def _stub(self) -> Any:
        with self._lock:
            if self._opened is None or self._opened[0] != os.getpid():
                channel = self._channel()
                stub = GeocubeDownloaderStub if self._is_downloader else GeocubeStub
                self._opened = os.getpid(), channel, stub(channel)
            return self._opened[2]

    def _channel(self) -> grpc.Channel:
        if self._address.startswith("geocubes://"):
            credentials = grpc.ssl_channel_credentials(self.connection.certificates())
            return grpc.secure_channel(self.target, credentials, OPTIONS)
        return grpc.insecure_channel(self.target, OPTIONS)

    def _key(self) -> list[tuple[str, str]]:
        key = self.connection.key.get_secret_value()
        return [("authorization", f"Bearer {key}")] if key else []

    def _away(self, name: str, why: str) -> ServerError:
        detail = f"{self.target} does not answer {name}: {why}"
        return ServerError(ErrorCode.GEOCUBE_UNREACHABLE, detail, None, grpc.StatusCode.UNAVAILABLE, ("", ""))

    def _meaning(self, name: str, error: grpc.RpcError) -> ServerError:
        status: grpc.StatusCode = error.code()
        said = " ".join(str(error.details() or "").split()) or status.name
        code = MEANINGS.get(status, ErrorCode.GEOCUBE_FAILED)
        if status is grpc.StatusCode.UNAVAILABLE and any(word in said.lower() for word in OF_TLS):
            code = ErrorCode.GEOCUBE_TLS
            status = grpc.StatusCode.UNKNOWN  # waiting does not help
        return ServerError(code, f"{self.target} answers {name} with {said}", None, status, _resource(error))


def _link(connection: Connection, downloader: bool) -> Link:
    return Link(connection, downloader=downloader)


def _resource(error: grpc.RpcError) -> tuple[str, str]:
    """Type and name of the thing that the status details name."""
    try:
        status = rpc_status.from_call(error)  # type: ignore[arg-type]  # an error of a call is a call
    except ValueError:  # details of another status
        return "", ""
    for detail in status.details if status is not None else ():
        if detail.Is(ResourceInfo.DESCRIPTOR):
            resource = ResourceInfo()
            detail.Unpack(resource)
            return resource.resource_type, resource.resource_name
    return "", ""
