"""Posts a CloudEvent over HTTP."""

from __future__ import annotations

import os
import re
from datetime import UTC, datetime
from typing import Any

from cloudevents.core.bindings.http import to_structured_event
from cloudevents.core.v1.event import CloudEvent

from acdtask.errors import AcdError, ErrorCode
from acdtask.hosts import address_fault, host_of
from acdtask.http import BUSY, REDIRECTIONS, Client, HttpError, Policy, Reason

__all__ = ["AUTHORIZATION", "check_webhook", "post_event"]

AUTHORIZATION = "ACD_WEBHOOK_AUTHORIZATION"
"""The environment variable with the value of the header Authorization."""

CONNECT_SECONDS, ANSWER_SECONDS = 10, 30
NO_HEADER_VALUE = re.compile(r"[^\x20-\x7e]")
OK, SERVER_ERRORS = range(200, 300), range(500, 600)
CONTENT_REFUSED = frozenset({400, 413, 415, 422})
"""Statuses about the content of a request. Other events may be accepted."""


def check_webhook(url: str) -> str:
    """The host of a webhook's address, for messages. WEBHOOK_INVALID, without the address, which may be secret."""
    if fault := address_fault(url):
        raise AcdError(ErrorCode.WEBHOOK_INVALID, f"the webhook's address {fault}")
    return host_of(url)


def post_event(url: str, attributes: dict[str, str], data: dict[str, Any]) -> int:
    """Post one CloudEvent in structured JSON, once, and return the HTTP status, from 200 to 299.

    Without `time`, the current time is added. Redirections are not followed. A proxy is taken from HTTP_PROXY,
    HTTPS_PROXY and NO_PROXY. WEBHOOK_INVALID, WEBHOOK_UNREACHABLE, WEBHOOK_REFUSED; EVENT_REFUSED if the receiver
    rejects the content.
    """
    host = check_webhook(url)
    time = datetime.fromisoformat(attributes["time"]) if "time" in attributes else datetime.now(UTC)
    message = to_structured_event(CloudEvent({**attributes, "time": time}, data))
    policy = Policy(CONNECT_SECONDS, ANSWER_SECONDS)
    headers = {**message.headers, **_authorization()}
    try:
        reply = Client().request("POST", url, policy, headers=headers, body=message.body)
    except HttpError as error:
        raise _unreachable(error, host) from None
    reply.close()
    if reply.status not in OK:
        raise _unwelcome(reply.status, host)
    return reply.status


def _authorization() -> dict[str, str]:
    """The header, or none. A secret made from a file often ends with a newline, which is not part of it."""
    value = os.environ.get(AUTHORIZATION, "").strip()
    if NO_HEADER_VALUE.search(value):
        raise AcdError(
            ErrorCode.WEBHOOK_INVALID,
            f"{AUTHORIZATION} has a character that HTTP headers do not allow",
            "Give one line of ASCII, such as 'Bearer ...'.",
        )
    return {"authorization": value} if value else {}


def _unreachable(error: HttpError, host: str) -> AcdError:
    if error.reason is Reason.ADDRESS:
        return AcdError(ErrorCode.WEBHOOK_INVALID, f"the webhook's address is invalid: {host}")
    if error.reason is Reason.CERTIFICATE:
        return AcdError(
            ErrorCode.WEBHOOK_REFUSED,
            f"the certificate of {host} is not trusted",
            "Give the receiver a certificate that this machine trusts, or name its authority in SSL_CERT_FILE.",
        )
    return AcdError(ErrorCode.WEBHOOK_UNREACHABLE, f"{host} does not answer ({error.kind})")


def _unwelcome(status: int, host: str) -> AcdError:
    if status in SERVER_ERRORS or status in BUSY:
        return AcdError(ErrorCode.WEBHOOK_UNREACHABLE, f"{host} answers HTTP {status}")
    if status in REDIRECTIONS:
        return AcdError(
            ErrorCode.WEBHOOK_REFUSED,
            f"{host} answers HTTP {status}, a redirection, which is not followed",
            "Give the address that it leads to.",
        )
    code = ErrorCode.EVENT_REFUSED if status in CONTENT_REFUSED else ErrorCode.WEBHOOK_REFUSED
    return AcdError(code, f"{host} answers HTTP {status}")
