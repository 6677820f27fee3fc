"""Errors of a Geocube as AcdErrors, by their gRPC status and details rather than by their text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import grpc
from google.rpc.error_details_pb2 import ResourceInfo, RetryInfo  # type: ignore[import-untyped]  # it has no types
from grpc_status import rpc_status

from acdtask.cube.geocube.connection import Endpoint
from acdtask.cube.model import NAME_RULE
from acdtask.errors import AcdError, ErrorCode

__all__ = ["LOST", "Refusal", "cause_of", "check_name", "explain", "is_passing", "is_taken", "malformed", "refusal_of"]

Code = grpc.StatusCode

PASSING = frozenset({Code.UNAVAILABLE, Code.ABORTED})
"""Temporary: the same call may succeed in a moment."""

LOST = frozenset({Code.UNAVAILABLE, Code.ABORTED, Code.DEADLINE_EXCEEDED, Code.CANCELLED})
"""The server is unavailable or did not finish in time."""

UNKNOWN_THINGS: Mapping[str, ErrorCode] = {
    "Variable": ErrorCode.VARIABLE_UNKNOWN,
    "Variable Instance": ErrorCode.INSTANCE_UNKNOWN,
    "Instance": ErrorCode.INSTANCE_UNKNOWN,
    "Layout": ErrorCode.LAYOUT_UNKNOWN,
    "Job": ErrorCode.JOB_UNKNOWN,
}
KNOWN_THINGS: Mapping[str, ErrorCode] = {
    "Variable": ErrorCode.VARIABLE_CONFLICT,
    "Layout": ErrorCode.LAYOUT_CONFLICT,
    "Job": ErrorCode.JOB_CONFLICT,
    "dataset": ErrorCode.DATASET_CONFLICT,
}

NO_TLS = ("WRONG_VERSION_NUMBER", "wrong version number")
NOT_TRUSTED = ("CERTIFICATE_VERIFY_FAILED", "certificate verify failed", "Hostname Verification", "Peer name")
HANDSHAKE = ("handshake", "SSL", "TLS")


@dataclass(frozen=True)
class Refusal:
    """Status, message and details of a failed call.

    Attributes:
        kind, name, owner: from google.rpc.ResourceInfo; empty if the server sent none.
        may_be_repeated: whether the server sent google.rpc.RetryInfo.
    """

    code: grpc.StatusCode
    message: str
    kind: str = ""
    name: str = ""
    owner: str = ""
    may_be_repeated: bool = False


def refusal_of(error: grpc.RpcError) -> Refusal:
    """The refusal in a failed call."""
    call: Any = error  # also a grpc.Call, although the stubs do not say so
    code, message = call.code() or Code.UNKNOWN, call.details() or ""
    try:
        status: Any = rpc_status.from_call(call)
    except ValueError:  # details that contradict the status do not come from the server itself
        status = None
    fields: dict[str, Any] = {}
    for detail in status.details if status is not None else ():
        info, retry = ResourceInfo(), RetryInfo()
        if detail.Is(ResourceInfo.DESCRIPTOR) and detail.Unpack(info):
            fields |= {"kind": info.resource_type, "name": info.resource_name, "owner": info.owner}
        elif detail.Is(RetryInfo.DESCRIPTOR) and detail.Unpack(retry):
            fields["may_be_repeated"] = True
    return Refusal(code, message, **fields)


def cause_of(error: AcdError) -> Refusal | None:
    """The server's refusal that caused the error, or None."""
    return refusal_of(error.__cause__) if isinstance(error.__cause__, grpc.RpcError) else None


def is_taken(error: AcdError) -> bool:
    """Whether the server reported that the item already exists."""
    refusal = cause_of(error)
    return refusal is not None and refusal.code is Code.ALREADY_EXISTS


def is_passing(error: BaseException) -> bool:
    """Whether the same call may succeed in a moment; with a wrong key or certificate it never does."""
    if not isinstance(error, grpc.RpcError):
        return False
    refusal = refusal_of(error)
    if refusal.code in PASSING:
        return not _says(refusal.message, NO_TLS + NOT_TRUSTED)
    return refusal.code is Code.RESOURCE_EXHAUSTED and refusal.may_be_repeated


def explain(error: grpc.RpcError, endpoint: Endpoint) -> AcdError:
    """The AcdError of a failed call."""
    refusal = refusal_of(error)
    if refusal.code in (Code.UNAUTHENTICATED, Code.PERMISSION_DENIED):
        return AcdError(ErrorCode.GEOCUBE_DENIED, f"{endpoint.address} denied access: {refusal.message}")
    if refusal.code in LOST:
        return _explain_loss(refusal, endpoint)
    if refusal.code is Code.NOT_FOUND:
        code = UNKNOWN_THINGS.get(refusal.kind, ErrorCode.INPUT_MISSING)
        return AcdError(code, f"{endpoint.address} has no {refusal.message}" if refusal.kind else refusal.message)
    if refusal.code is Code.ALREADY_EXISTS:
        code = KNOWN_THINGS.get(refusal.kind, ErrorCode.GEOCUBE_REFUSED)
        return AcdError(code, f"{endpoint.address} already has it: {refusal.message}")
    if refusal.code is Code.FAILED_PRECONDITION:
        code = ErrorCode.IN_USE if refusal.kind or refusal.owner else ErrorCode.JOB_STATE
        return AcdError(code, refusal.message)
    if refusal.code in (Code.INVALID_ARGUMENT, Code.RESOURCE_EXHAUSTED, Code.UNIMPLEMENTED, Code.OUT_OF_RANGE):
        return AcdError(ErrorCode.GEOCUBE_REFUSED, f"{endpoint.address} refused the call: {refusal.message}")
    return AcdError(ErrorCode.GEOCUBE_FAILED, f"{endpoint.address} failed: {refusal.message or refusal.code.name}")


def malformed(endpoint: Endpoint, what: str) -> AcdError:
    """The error of a reply that violates the protocol."""
    return AcdError(ErrorCode.GEOCUBE_FAILED, f"{endpoint.address} sent a malformed reply: {what}")


def check_name(kind: str, name: str, *, parts: bool = True) -> None:
    """NAME_INVALID if Geocube does not accept the name. `parts`: whether it may contain '/'."""
    if NAME_RULE.fullmatch(name) and (parts or "/" not in name):
        return
    rule = "letters without accents, digits, '-', ':' and '_'" + (", with '/' between parts" if parts else " only")
    raise AcdError(ErrorCode.NAME_INVALID, f"{kind} has the name {name!r}, which Geocube refuses", f"Use {rule}.")


def _explain_loss(refusal: Refusal, endpoint: Endpoint) -> AcdError:
    if endpoint.tls and _says(refusal.message, NO_TLS):
        fix = f"Use geocube://{endpoint.target} if a connection without TLS is acceptable."
        return AcdError(ErrorCode.GEOCUBE_TLS, f"{endpoint.address} does not speak TLS", fix)
    if endpoint.tls and _says(refusal.message, NOT_TRUSTED):
        detail = f"the certificate of {endpoint.address} is not trusted: {_first_line(refusal.message)}"
        return AcdError(ErrorCode.GEOCUBE_TLS, detail, "Give the PEM file of its CA as ca_file (ACD_GEOCUBE_CA_FILE).")
    if endpoint.tls and _says(refusal.message, HANDSHAKE):
        detail = f"no TLS connection with {endpoint.address}: {_first_line(refusal.message)}"
        return AcdError(ErrorCode.GEOCUBE_TLS, detail)
    what = "does not answer in time" if refusal.code is Code.DEADLINE_EXCEEDED else "cannot be reached"
    return AcdError(ErrorCode.GEOCUBE_UNREACHABLE, f"{endpoint.address} {what}: {_first_line(refusal.message)}")


def _says(message: str, marks: tuple[str, ...]) -> bool:
    """Whether the transport's message contains one of the marks; a failed connection has no details."""
    return any(mark in message for mark in marks)


def _first_line(message: str) -> str:
    return " ".join(message.split())[:300]
