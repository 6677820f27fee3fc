"""Posting a CloudEvent over HTTP, and what the answer means."""

from __future__ import annotations

import os
import re
import ssl
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import urllib3
from cloudevents.core.bindings.http import to_structured_event
from cloudevents.core.v1.event import CloudEvent
from urllib3.exceptions import HTTPError, LocationParseError

from acdtask import __version__
from acdtask.errors import AcdError, ErrorCode

__all__ = ["AUTHORIZATION", "check_webhook", "post_event"]

AUTHORIZATION = "ACD_WEBHOOK_AUTHORIZATION"
"""The environment variable with the value of the header Authorization."""

CONNECT_SECONDS, ANSWER_SECONDS = 10, 30
UNPRINTABLE = re.compile(r"[^\x21-\x7e]")
NO_HEADER_VALUE = re.compile(r"[^\x20-\x7e]")
OK, REDIRECTIONS, CLIENT_ERRORS, SERVER_ERRORS = range(200, 300), range(300, 400), range(400, 500), range(500, 600)
TRY_AGAIN = frozenset({408, 429, *SERVER_ERRORS})


def check_webhook(url: str) -> str:
    """The host of a webhook's address, for messages. WEBHOOK_INVALID, without a word of what may be secret in it."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise AcdError(ErrorCode.WEBHOOK_INVALID, f"the webhook's address is invalid: {error}") from None
    if parts.scheme not in ("http", "https"):
        raise AcdError(ErrorCode.WEBHOOK_INVALID, "the webhook's address begins with neither http:// nor https://")
    if "@" in parts.netloc:
        raise AcdError(ErrorCode.WEBHOOK_INVALID, "the webhook's address has a user or a password in it")
    if not host or UNPRINTABLE.search(url):
        raise AcdError(
            ErrorCode.WEBHOOK_INVALID, "the webhook's address has no host, or a character that URLs do not allow"
        )
    return host


def post_event(url: str, attributes: dict[str, str], data: dict[str, Any]) -> int:
    """Post one event in structured JSON, once; redirections are not followed.

    A proxy is taken from HTTP_PROXY, HTTPS_PROXY and NO_PROXY.

    Args:
        url: a webhook, as `check_webhook` accepts it.
        attributes: of the CloudEvent; `time` is added.
        data: JSON values.

    Returns:
        The HTTP status, from 200 to 299.

    Raises:
        AcdError: WEBHOOK_INVALID, WEBHOOK_UNREACHABLE, WEBHOOK_REFUSED.
    """
    host = check_webhook(url)
    message = to_structured_event(CloudEvent({**attributes, "time": datetime.now(UTC)}, data))
    headers = {**message.headers, "user-agent": f"acdtask/{__version__}", **_authorization()}
    timeout = urllib3.Timeout(connect=CONNECT_SECONDS, read=ANSWER_SECONDS)
    try:
        answer = _pool(url, host).request(
            "POST",
            url,
            body=message.body,
            headers=headers,
            timeout=timeout,
            retries=False,
            redirect=False,
            preload_content=False,
        )
        status = answer.status
        answer.close()
    except LocationParseError:
        raise AcdError(ErrorCode.WEBHOOK_INVALID, f"the webhook's address is invalid: {host}") from None
    except HTTPError as error:
        raise _unreachable(error, host) from error
    if status not in OK:
        raise _unwelcome(status, host)
    return status


def _pool(url: str, host: str) -> urllib3.PoolManager:
    proxy = getproxies().get(urlsplit(url).scheme, "")
    return urllib3.ProxyManager(proxy) if proxy and not proxy_bypass(host) else urllib3.PoolManager()


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


def _unreachable(error: HTTPError, host: str) -> AcdError:
    causes = [error, error.__cause__, error.__context__, *error.args]
    if any(isinstance(cause, ssl.SSLCertVerificationError) for cause in causes):
        return AcdError(
            ErrorCode.WEBHOOK_REFUSED,
            f"the certificate of {host} is not trusted",
            "Give the receiver a certificate that this machine trusts, or name its authority in SSL_CERT_FILE.",
        )
    return AcdError(ErrorCode.WEBHOOK_UNREACHABLE, f"{host} does not answer ({type(error).__name__})")


def _unwelcome(status: int, host: str) -> AcdError:
    if status in TRY_AGAIN:
        return AcdError(ErrorCode.WEBHOOK_UNREACHABLE, f"{host} answers HTTP {status}")
    if status in REDIRECTIONS:
        return AcdError(
            ErrorCode.WEBHOOK_REFUSED,
            f"{host} answers HTTP {status}, a redirection, which is not followed",
            "Give the address that it leads to.",
        )
    return AcdError(ErrorCode.WEBHOOK_REFUSED, f"{host} answers HTTP {status}")
