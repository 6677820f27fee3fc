"""Handling common to all calls: keys, refusals, and logging."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NoReturn, TypeAlias

import grpc
from google.protobuf.message import DecodeError

from acdtask.errors import AcdError, ErrorCode
from acdtask.log import events
from acdtask.serve.cancellation import CALL, GoneError
from acdtask.serve.errors import DETAILS_KEY, RefusalError, invalid, refusal_of
from acdtask.serve.keys import OPEN_SERVICES, Keys
from acdtask.serve.lanes import Lane, Lanes
from acdtask.serve.stalls import StallGuard

__all__ = ["CallInterceptor"]

LOG = events("serve")
BUSY = "too many calls are waiting: try again later (this error may be temporary)"
MOST_WATCHERS = 128
LOGGED_RARELY = (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.UNAVAILABLE)
"""Such calls cost a client nothing, so logging each of them could fill the disk."""
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
Context: TypeAlias = grpc.ServicerContext
Metadata: TypeAlias = Iterable[tuple[str, str | bytes]]


@dataclass
class _Count:
    """Number of messages sent."""

    total: int = 0


class CallInterceptor(grpc.ServerInterceptor):
    """Checks keys, translates exceptions into gRPC statuses, and logs how each call ended.

    Requests are read here, as bytes: otherwise gRPC blocks the thread of a call whose request never arrives or cannot
    be decoded.

    Args:
        keys: keys that authorise calls.
        lanes: the threads that calls run in.
        guard: cancels the calls of clients that send nothing or read nothing.
    """

    def __init__(self, keys: Keys, lanes: Lanes, guard: StallGuard) -> None:
        self._keys, self._lanes, self._guard = keys, lanes, guard
        self._lock = threading.Lock()
        self._active = 0
        self._watchers = 0
        self._around: dict[str, Handler] = {}

    @property
    def active(self) -> int:
        """Number of running calls, without those to health and reflection."""
        with self._lock:
            return self._active

    def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Handler | None],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """The wrapped handler of a call, or None for an unknown method."""
        method = handler_call_details.method
        around = self._around.get(method)
        if around is None:
            handler = continuation(handler_call_details)
            if handler is None:
                return None
            around = self._around[method] = self._made(handler, method)
        refusal = self._refusal(method, handler_call_details.invocation_metadata, streams=around.response_streaming)
        return around if refusal is None else self._refusing(refusal, method)

    def _refusal(self, method: str, metadata: Metadata, *, streams: bool) -> RefusalError | None:
        """The reason to refuse a call before it gets a thread, or None."""
        reason = self._keys.refuse(method, [str(value) for key, value in metadata if key == "authorization"])
        if reason:
            return RefusalError(grpc.StatusCode.UNAUTHENTICATED, reason)
        lane = self._lanes.of(method, streams=streams)
        if lane.is_full and lane is not self._lanes.side:
            return RefusalError(grpc.StatusCode.UNAVAILABLE, BUSY)
        return None

    def _refusing(self, refusal: RefusalError, method: str) -> Handler:
        def refuse(_: Any, context: Context) -> Any:
            with self._answering(method, context):
                raise refusal

        return self._handler(refuse, self._lanes.side, streams=False)

    def _made(self, handler: Handler, method: str) -> Handler:
        lane = self._lanes.of(method, streams=handler.response_streaming)
        behaviour = _behaviour(handler)
        if getattr(behaviour, "experimental_non_blocking", False):
            return self._watching(handler, method)
        encode = _serializer(handler)

        def single(messages: Iterator[bytes], context: Context) -> Any:
            with self._answering(method, context) as count, _turn_of(lane, context) as granted:
                request = self._request(handler, messages, context)
                answer = behaviour(request, context) if granted else None
                count.total += 1
                return answer

        def several(messages: Iterator[bytes], context: Context) -> Iterator[Any]:
            with self._answering(method, context) as count, _turn_of(lane, context) as granted:
                request = self._request(handler, messages, context)
                for answer in behaviour(request, context) if granted else ():
                    count.total += 1
                    with self._guard.sending(context):
                        yield answer

        return self._handler(
            several if handler.response_streaming else single, lane, encode, streams=handler.response_streaming
        )

    def _handler(
        self, around: Any, lane: Lane, encode: Callable[[Any], bytes] | None = None, *, streams: bool
    ) -> Handler:
        around.experimental_thread_pool = lane.pool
        make: Any = grpc.stream_stream_rpc_method_handler if streams else grpc.stream_unary_rpc_method_handler
        made: Handler = make(around, request_deserializer=None, response_serializer=encode)
        return made

    def _watching(self, handler: Handler, method: str) -> Handler:
        """The handler of the health watch, which needs no thread while nothing changes."""

        def watch(messages: Iterator[bytes], context: Context, send: Callable[[Any], None]) -> None:
            with self._answering(method, context):
                request = self._request(handler, messages, context)
                self._count_watcher(context)
                behaviour: Any = handler.unary_stream
                behaviour(request, context, send)

        around: Any = watch
        around.experimental_non_blocking = True
        return self._handler(around, self._lanes.side, handler.response_serializer, streams=True)

    def _count_watcher(self, context: Context) -> None:
        def gone() -> None:
            with self._lock:
                self._watchers -= 1

        with self._lock:
            if self._watchers >= MOST_WATCHERS:
                raise RefusalError(
                    grpc.StatusCode.UNAVAILABLE, f"{MOST_WATCHERS} clients are watching already: use Check"
                )
            self._watchers += 1
        if not context.add_callback(gone):
            gone()

    def _request(self, handler: Handler, messages: Iterator[bytes], context: Context) -> Any:
        """The request of a call, or an iterator of its requests. INVALID_ARGUMENT."""
        requests = self._requests(handler, messages, context)
        if handler.request_streaming:
            return requests
        try:
            return next(requests)
        except StopIteration:
            raise invalid("the call ended without a request") from None

    def _requests(self, handler: Handler, messages: Iterator[bytes], context: Context) -> Iterator[Any]:
        decode: Any = handler.request_deserializer
        while True:
            with self._guard.requesting(context):
                try:
                    data = next(messages)
                except StopIteration:
                    return
            try:
                request = decode(data)
            except (DecodeError, UnicodeDecodeError) as error:
                raise invalid(f"the request is not a message of this method: {error}") from error
            yield request

    @contextmanager
    def _answering(self, method: str, context: Context) -> Iterator[_Count]:
        began, count = time.monotonic(), _Count()
        CALL.set(context)  # gRPC runs each call in a context of its own
        self._count(method, 1)
        try:
            yield count
        except GoneError:
            pass  # the client has left
        except RefusalError as error:
            _refuse(context, error)
        except AcdError as error:
            _refuse_cube(context, error, method)
        except NotImplementedError:
            context.abort(grpc.StatusCode.UNIMPLEMENTED, f"acd does not serve {method.rpartition('/')[2]}")
        except Exception as error:  # the edge of the server: anything else is a bug
            if _code(context) is not None or (isinstance(error, grpc.RpcError) and not context.is_active()):
                raise  # the call was aborted, or its client has left
            _refuse_unexpected(context, error, method)
        finally:
            self._count(method, -1)
            _log(method, context, count.total, time.monotonic() - began)

    def _count(self, method: str, change: int) -> None:
        if not method.startswith(OPEN_SERVICES):
            with self._lock:
                self._active += change


def _serializer(handler: Handler) -> Callable[[Any], bytes]:
    """A serializer that passes encoded responses through, and encodes None (the client has left) as no bytes."""
    encode: Any = handler.response_serializer
    return lambda answer: answer if isinstance(answer, bytes) else b"" if answer is None else encode(answer)


def _behaviour(handler: Handler) -> Callable[[Any, Context], Any]:
    """The method that a handler calls."""
    behaviours: dict[tuple[bool, bool], Any] = {
        (False, False): handler.unary_unary,
        (False, True): handler.unary_stream,
        (True, False): handler.stream_unary,
        (True, True): handler.stream_stream,
    }
    behaviour: Callable[[Any, Context], Any] = behaviours[handler.request_streaming, handler.response_streaming]
    return behaviour


@contextmanager
def _turn_of(lane: Lane, context: Context) -> Iterator[bool]:
    """Wait for a turn of the lane. Yields False if the client left before."""
    if lane.turns is None:
        yield True
        return
    with lane.turns.turn(context) as granted:
        yield granted


def _code(context: Context) -> grpc.StatusCode | None:
    """The status that the call was aborted with, or None."""
    code: grpc.StatusCode | None = context.code()  # type: ignore[attr-defined]  # missing in the stubs
    return code


def _refuse(context: Context, refusal: RefusalError) -> NoReturn:
    details = refusal.details()
    if details:
        context.set_trailing_metadata(((DETAILS_KEY, details),))
    context.abort(refusal.code, refusal.message)


def _refuse_cube(context: Context, error: AcdError, method: str) -> NoReturn:
    if error.code is ErrorCode.BUG:
        _refuse_unexpected(context, error, method)
    refusal = refusal_of(error)
    LOG.warning("call.refused", rpc=method, error=error.code.label, detail=error.detail)
    _refuse(context, refusal)


def _refuse_unexpected(context: Context, error: Exception, method: str) -> NoReturn:
    """Abort with an incident number that is logged with the traceback; the client gets only the number."""
    incident = uuid.uuid4().hex[:12]
    LOG.error("call.failed", traceback=True, rpc=method, incident=incident, error=type(error).__name__)
    context.abort(grpc.StatusCode.INTERNAL, f"internal error of acd; its log has the details under {incident}")


def _log(method: str, context: Context, messages: int, seconds: float) -> None:
    code = _code(context)
    ended = "OK" if code is None and context.is_active() else "CANCELLED" if code is None else code.name
    fields = {"rpc": method, "code": ended, "seconds": round(seconds, 4), "messages": messages, "peer": context.peer()}
    if code in LOGGED_RARELY:
        LOG.repeated("call.done", key=f"{method} {ended}", **fields)
    elif method.startswith(OPEN_SERVICES):
        LOG.debug("call.done", **fields)
    else:
        LOG.info("call.done", **fields)
