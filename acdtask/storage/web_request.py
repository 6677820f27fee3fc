"""GET requests for ingestion: redirects, credentials, retries and errors.

Messages show addresses without their query.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from acdtask.errors import AcdError, ErrorCode
from acdtask.hosts import host_of
from acdtask.http import BUSY, Client, HttpError, Policy, Reason, Reply, repeatedly
from acdtask.storage.web_address import check_address, without_query
from acdtask.storage.web_login import authorization_for

__all__ = ["get", "patiently"]

ResultT = TypeVar("ResultT")

CONNECT_SECONDS, READ_SECONDS = 10.0, 60.0
ATTEMPTS = 5
PAUSE, LONGEST_WAIT = 0.3, 10.0
REDIRECTS = 10

OK, PARTIAL, UNSATISFIABLE = 200, 206, 416
DENIED = frozenset({401, 403, 407})
MISSING = frozenset({404, 410})

_client = Client(connections=16)


@contextmanager
def get(address: str, headers: dict[str, str], *, public: bool = False) -> Iterator[Reply | None]:
    """Send a GET request. The reply has status 200, 206 or 416; None if the file is missing.

    If a public document lists the address, the server must be on the `public` internet. WEB_ADDRESS, WEB_DENIED,
    WEB_REDIRECTED, WEB_UNREACHABLE, WEB_CREDENTIALS.
    """
    shown = without_query(address)
    policy = Policy(
        CONNECT_SECONDS,
        READ_SECONDS,
        redirects=REDIRECTS,
        decode=False,
        credentials=authorization_for,
        check=check_address,
    )
    try:
        reply = _client.request("GET", address, policy, headers=headers, public=public)
        try:
            if reply.status in MISSING:
                yield None
            elif reply.status in (OK, PARTIAL, UNSATISFIABLE):
                yield reply
            else:
                raise _status_error(reply.status, shown, reply.host)
        finally:
            reply.close()
    except HttpError as error:
        raise _explained(error, shown) from None


def patiently(work: Callable[[], ResultT]) -> ResultT:
    """Call a function, and again after pauses while the server cannot be reached."""
    return repeatedly(work, _is_transient, attempts=ATTEMPTS, pause=PAUSE, longest_pause=LONGEST_WAIT)


def _is_transient(error: BaseException) -> bool:
    return isinstance(error, AcdError) and error.code is ErrorCode.WEB_UNREACHABLE


def _explained(error: HttpError, shown: str) -> AcdError:
    match error.reason:
        case Reason.REDIRECTS:
            return AcdError(
                ErrorCode.WEB_REDIRECTED,
                f"{shown} redirects more than {REDIRECTS} times",
                "This is usually a failed login: open the address in a browser, and check the token or ~/.netrc.",
            )
        case Reason.DOWNGRADE:
            target = without_query(error.detail)[:200]
            return AcdError(ErrorCode.WEB_REDIRECTED, f"{shown} redirects from https:// to {target}")
        case Reason.INSIDE:
            return AcdError(
                ErrorCode.WEB_REDIRECTED,
                f"{shown} leads from the public internet into a private network",
            )
        case Reason.ADDRESS:
            return AcdError(ErrorCode.WEB_ADDRESS, f"{shown} is not a valid address")
        case Reason.CERTIFICATE:
            return AcdError(
                ErrorCode.WEB_DENIED,
                f"the certificate of {host_of(shown)} is not trusted",
                "If you trust its issuer, set SSL_CERT_FILE to a file with the issuer's certificate.",
            )
    return AcdError(ErrorCode.WEB_UNREACHABLE, f"{shown} does not respond ({error.kind})")


def _status_error(status: int, shown: str, host: str) -> AcdError:
    server = f" from {host}" if host != host_of(shown) else ""
    if status in BUSY:
        return AcdError(ErrorCode.WEB_UNREACHABLE, f"{shown} keeps failing with HTTP {status}{server}")
    if status in DENIED:
        return AcdError(ErrorCode.WEB_DENIED, f"access to {shown} is denied (HTTP {status}{server})")
    return AcdError(
        ErrorCode.WEB_DENIED,
        f"{shown} fails with HTTP {status}{server}",
        "Open the address in a browser. If it is a signed address that has expired, create a new one.",
    )
