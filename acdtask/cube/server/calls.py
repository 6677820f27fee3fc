"""Around every call: its key, its refusals, and its line in the log."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NoReturn, TypeAlias

import grpc

from acdtask.cube.server.errors import DETAILS_KEY, RefusalError, refusal_of
from acdtask.cube.server.keys import OPEN_SERVICES, Keys
from acdtask.engine.log import events
from acdtask.errors import AcdError, ErrorCode

__all__ = ["CallInterceptor"]

LOG = events("serve")
HEALTH = "/grpc.health.v1."
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
Context: TypeAlias = grpc.ServicerContext


@dataclass
class _Count:
    """How many messages were answered."""

    total: int = 0


class CallInterceptor(grpc.ServerInterceptor):
    """Checks keys, turns what a call raises into the answer that it means, and logs how each call ended.

    Args:
        keys: who may call.
        side: threads for health, which must answer while all others work.
    """

    def __init__(self, keys: Keys, side: ThreadPoolExecutor) -> None:
        self._keys = keys
        self._side = side
        self._lock = threading.Lock()
        self._active = 0

    @property
    def active(self) -> int:
        """How many calls are worked on, without those that only look at the server."""
        with self._lock:
            return self._active

    def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Handler | None],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """The handler of a call with all this around it; None for a method that there is not."""
        handler = continuation(handler_call_details)
        return None if handler is None else self._around(handler, handler_call_details.method)

    def _around(self, handler: Handler, method: str) -> Handler:
        shapes: dict[tuple[bool, bool], tuple[Any, Any]] = {
            (False, False): (handler.unary_unary, grpc.unary_unary_rpc_method_handler),
            (False, True): (handler.unary_stream, grpc.unary_stream_rpc_method_handler),
            (True, False): (handler.stream_unary, grpc.stream_unary_rpc_method_handler),
            (True, True): (handler.stream_stream, grpc.stream_stream_rpc_method_handler),
        }
        behaviour, make = shapes[handler.request_streaming, handler.response_streaming]
        if getattr(behaviour, "experimental_non_blocking", False):
            return self._watching(handler)

        def one(request: Any, context: Context) -> Any:
            with self._answering(method, context) as count:
                answer = behaviour(request, context)
                count.total += 1
                return answer

        def several(request: Any, context: Context) -> Iterator[Any]:
            with self._answering(method, context) as count:
                for answer in behaviour(request, context):
                    count.total += 1
                    yield answer

        around: Any = several if handler.response_streaming else one
        if method.startswith(HEALTH):
            around.experimental_thread_pool = self._side
        made: Handler = make(
            around,
            request_deserializer=handler.request_deserializer,
            response_serializer=_serializer(handler),
        )
        return made

    def _watching(self, handler: Handler) -> Handler:
        """The watch on health, which holds no thread while nothing changes."""

        def watch(request: Any, context: Context, send: Callable[[Any], None]) -> None:
            behaviour: Any = handler.unary_stream
            behaviour(request, context, send)

        around: Any = watch
        around.experimental_non_blocking = True
        around.experimental_thread_pool = self._side
        made: Handler = grpc.unary_stream_rpc_method_handler(
            around, handler.request_deserializer, handler.response_serializer
        )
        return made

    @contextmanager
    def _answering(self, method: str, context: Context) -> Iterator[_Count]:
        began, count = time.monotonic(), _Count()
        self._count(method, 1)
        try:
            reason = self._keys.refuse(method, _authorization(context))
            if reason:
                context.abort(grpc.StatusCode.UNAUTHENTICATED, reason)
            yield count
        except RefusalError as error:
            _refuse(context, error)
        except AcdError as error:
            _refuse_cube(context, error, method)
        except NotImplementedError:
            context.abort(grpc.StatusCode.UNIMPLEMENTED, f"acd does not serve {method.rpartition('/')[2]}")
        except Exception as error:  # the edge of the server: whatever is left is a bug of ours
            if _code(context) is not None:
                raise  # the call was aborted
            _refuse_unexpected(context, error, method)
        finally:
            self._count(method, -1)
            _log(method, context, count.total, time.monotonic() - began)

    def _count(self, method: str, change: int) -> None:
        if not method.startswith(OPEN_SERVICES):
            with self._lock:
                self._active += change


def _serializer(handler: Handler) -> Callable[[Any], bytes]:
    """That of the handler, for answers that are not encoded already."""
    encode: Any = handler.response_serializer
    return lambda answer: answer if isinstance(answer, bytes) else encode(answer)


def _authorization(context: Context) -> list[str]:
    return [str(value) for key, value in context.invocation_metadata() if key == "authorization"]


def _code(context: Context) -> grpc.StatusCode | None:
    """What the call was aborted with; None as long as it was not."""
    code: grpc.StatusCode | None = context.code()  # type: ignore[attr-defined]  # the stubs do not know it
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
    """The client gets a number that finds the traceback in the log, and nothing of the traceback."""
    incident = uuid.uuid4().hex[:12]
    LOG.error("call.failed", traceback=True, rpc=method, incident=incident, error=type(error).__name__)
    context.abort(grpc.StatusCode.INTERNAL, f"acd met a condition that it does not expect; its log has {incident}")


def _log(method: str, context: Context, messages: int, seconds: float) -> None:
    code = _code(context)
    ended = "OK" if code is None and context.is_active() else "CANCELLED" if code is None else code.name
    write = LOG.debug if method.startswith(OPEN_SERVICES) else LOG.info
    write("call.done", rpc=method, code=ended, seconds=round(seconds, 4), messages=messages, peer=context.peer())
