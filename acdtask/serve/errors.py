"""Refusals: the status, message and google.rpc.ResourceInfo that Geocube's clients expect."""

from __future__ import annotations

import uuid
from functools import lru_cache

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.rpc.code_pb2 import Code  # type: ignore[import-untyped]  # googleapis-common-protos has no types
from google.rpc.error_details_pb2 import ResourceInfo  # type: ignore[import-untyped]  # likewise
from google.rpc.status_pb2 import Status  # type: ignore[import-untyped]  # likewise

from acdtask.errors import AcdError, ErrorCode

__all__ = [
    "DETAILS_KEY",
    "RefusalError",
    "already_exists",
    "failed",
    "invalid",
    "not_found",
    "not_served",
    "refusal_of",
    "still_used",
    "unhandled",
    "uuid_of",
]

DETAILS_KEY = "grpc-status-details-bin"
LONGEST_MESSAGE, LONGEST_DETAIL = 3000, 1000
"""Geocube's limits, in characters: message and details share 8 KiB of trailers."""

_CODES = {
    ErrorCode.VARIABLE_UNKNOWN: grpc.StatusCode.NOT_FOUND,
    ErrorCode.INSTANCE_UNKNOWN: grpc.StatusCode.NOT_FOUND,
    ErrorCode.LAYOUT_UNKNOWN: grpc.StatusCode.NOT_FOUND,
    ErrorCode.JOB_UNKNOWN: grpc.StatusCode.NOT_FOUND,
    ErrorCode.VARIABLE_CONFLICT: grpc.StatusCode.ALREADY_EXISTS,
    ErrorCode.LAYOUT_CONFLICT: grpc.StatusCode.ALREADY_EXISTS,
    ErrorCode.DATASET_CONFLICT: grpc.StatusCode.ALREADY_EXISTS,
    ErrorCode.DATASET_LOCKED: grpc.StatusCode.ALREADY_EXISTS,
    ErrorCode.JOB_CONFLICT: grpc.StatusCode.ALREADY_EXISTS,
    ErrorCode.JOB_STATE: grpc.StatusCode.FAILED_PRECONDITION,
    ErrorCode.IN_USE: grpc.StatusCode.FAILED_PRECONDITION,
    ErrorCode.BUG: grpc.StatusCode.INTERNAL,
    ErrorCode.CUBE_DAMAGED: grpc.StatusCode.UNKNOWN,
    ErrorCode.STORE_DENIED: grpc.StatusCode.UNKNOWN,
    ErrorCode.BUCKET_UNKNOWN: grpc.StatusCode.UNKNOWN,
    ErrorCode.CUBE_UNKNOWN: grpc.StatusCode.UNKNOWN,
}
"""Statuses of errors; all others are UNAVAILABLE if they are retryable, and INVALID_ARGUMENT if not."""


class RefusalError(Exception):
    """The refusal of a call.

    Attributes:
        code: the status.
        message: text for the user.
        resource: the item concerned, for programs; None if the status suffices.
    """

    def __init__(self, code: grpc.StatusCode, message: str, resource: ResourceInfo | None = None) -> None:
        self.code = code
        self.message = _cut(message, LONGEST_MESSAGE)
        self.resource = resource
        super().__init__(code, message)

    def details(self) -> bytes:
        """The encoded google.rpc.Status for `grpc-status-details-bin`; empty without a resource."""
        if self.resource is None:
            return b""
        detail = AnyMessage()
        detail.Pack(self.resource)
        code = Code.Value(self.code.name)
        return bytes(Status(code=code, message=self.message, details=[detail]).SerializeToString())


def invalid(message: str) -> RefusalError:
    """A refusal with INVALID_ARGUMENT."""
    return RefusalError(grpc.StatusCode.INVALID_ARGUMENT, message)


def failed(message: str) -> RefusalError:
    """A refusal with UNKNOWN, for what is refused by Geocube's database rather than by Geocube itself."""
    return RefusalError(grpc.StatusCode.UNKNOWN, message)


def not_served(reason: str) -> RefusalError:
    """A refusal with UNIMPLEMENTED, with the reason."""
    return RefusalError(grpc.StatusCode.UNIMPLEMENTED, reason)


def not_found(entity: str, key: str, value: str, message: str = "") -> RefusalError:
    """A refusal with NOT_FOUND.

    >>> not_found("Layout", "name", "utm").message
    'Layout with name: utm'
    """
    return _about(grpc.StatusCode.NOT_FOUND, entity, key, value, message)


def already_exists(entity: str, key: str, value: str, message: str = "") -> RefusalError:
    """A refusal with ALREADY_EXISTS; `value` is also the resource's name in the details."""
    return _about(grpc.StatusCode.ALREADY_EXISTS, entity, key, value, message)


def still_used(entities: str, users: str, value: str) -> RefusalError:
    """A refusal with FAILED_PRECONDITION: `users` refer to the `entities` with that id.

    >>> still_used("records", "datasets", "96e5").message
    'records and datasets with id: 96e5'
    """
    resource = ResourceInfo(owner=entities, resource_type=users, resource_name=_cut(value, LONGEST_DETAIL))
    message = f"{entities} and {users} with id: {value}"
    return RefusalError(grpc.StatusCode.FAILED_PRECONDITION, message, resource)


def unhandled(message: str) -> RefusalError:
    """A refusal with FAILED_PRECONDITION: the job's state does not allow the operation."""
    return RefusalError(grpc.StatusCode.FAILED_PRECONDITION, message)


def refusal_of(error: AcdError) -> RefusalError:
    """The refusal that corresponds to an error of the cube."""
    code = _CODES.get(error.code)
    if code is None:
        code = grpc.StatusCode.UNAVAILABLE if error.code.value.retryable else grpc.StatusCode.INVALID_ARGUMENT
    hint = " (this error may be temporary)" if code is grpc.StatusCode.UNAVAILABLE else ""
    return RefusalError(code, f"{error.detail}{hint}")


def uuid_of(text: str, what: str = "Invalid uuid") -> str:
    """The canonical form of a UUID, given with or without dashes, in braces, or with the prefix `urn:uuid:`.

    INVALID_ARGUMENT, with a message that begins with `what`.

    >>> uuid_of("96E564C9562D57EB96E2EC1E734D55E4")
    '96e564c9-562d-57eb-96e2-ec1e734d55e4'
    """
    try:
        return _canonical(text)
    except ValueError as error:
        raise invalid(f"{what}: {error}") from None


@lru_cache(maxsize=65536)
def _canonical(text: str) -> str:
    """Like `uuid_of`, cached, since a cube is requested tile by tile with the same ids. ValueError."""
    core = text[9:] if len(text) == 45 and text[:9].lower() == "urn:uuid:" else text
    core = core[1:-1] if len(core) == 38 else core
    if len(core) not in (32, 36):
        raise ValueError(f"invalid UUID length: {len(text)}")
    try:
        parsed = uuid.UUID(core)
    except ValueError:
        raise ValueError("invalid UUID format") from None
    if len(core) == 36 and str(parsed) != core.lower():
        raise ValueError("invalid UUID format")
    return str(parsed)


def _about(code: grpc.StatusCode, entity: str, key: str, value: str, message: str) -> RefusalError:
    resource = ResourceInfo(resource_type=entity, resource_name=_cut(value, LONGEST_DETAIL))
    return RefusalError(code, message or f"{entity} with {key}: {value}", resource)


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else f"{text[:longest]}[...]"
