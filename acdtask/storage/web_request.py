"""One GET on the web, as an ingest sends it: what it may follow, which credentials it has, and what a refusal means.

Texts name addresses without their query.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from acdtask.errors import AcdError, ErrorCode
from acdtask.http import BUSY, Client, HttpError, Policy, Reason, Reply, host_of, repeatedly
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
    """Ask for an address; the reply has the status 200, 206 or 416. None if nothing is there.

    Args:
        address: with its query.
        headers: of the request.
        public: the address was named by somebody on the public internet, and must be there too.

    Raises:
        AcdError: WEB_ADDRESS, WEB_DENIED, WEB_REDIRECTED, WEB_UNREACHABLE, WEB_CREDENTIALS.
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
                raise _unwelcome(reply.status, shown, reply.host)
        finally:
            reply.close()
    except HttpError as error:
        raise _explained(error, shown) from None


def patiently(work: Callable[[], ResultT]) -> ResultT:
    """Do something again, a little later, while the server does not answer."""
    return repeatedly(work, _may_pass, attempts=ATTEMPTS, pause=PAUSE, longest_pause=LONGEST_WAIT)


def _may_pass(error: BaseException) -> bool:
    return isinstance(error, AcdError) and error.code is ErrorCode.WEB_UNREACHABLE


def _explained(error: HttpError, shown: str) -> AcdError:
    match error.reason:
        case Reason.REDIRECTS:
            return AcdError(
                ErrorCode.WEB_REDIRECTED,
                f"{shown} leads on and on, {REDIRECTS} times at least",
                "It is mostly a login that fails: look at the address in a browser, and check the token or ~/.netrc.",
            )
        case Reason.DOWNGRADE:
            target = without_query(error.detail)[:200]
            return AcdError(ErrorCode.WEB_REDIRECTED, f"{shown} leads from https:// to {target}")
        case Reason.INSIDE:
            return AcdError(
                ErrorCode.WEB_REDIRECTED,
                f"{shown} leads, or was led to, into a network that is not of the public internet",
            )
        case Reason.ADDRESS:
            return AcdError(ErrorCode.WEB_ADDRESS, f"{shown} is not a valid address")
        case Reason.CERTIFICATE:
            return AcdError(
                ErrorCode.WEB_DENIED,
                f"the certificate of {host_of(shown)} is not trusted",
                "Name the authority that issued it in SSL_CERT_FILE, if you trust it.",
            )
    return AcdError(ErrorCode.WEB_UNREACHABLE, f"{shown} does not answer ({error.kind})")


def _unwelcome(status: int, shown: str, host: str) -> AcdError:
    by = f" by {host}" if host != host_of(shown) else ""
    if status in BUSY:
        return AcdError(ErrorCode.WEB_UNREACHABLE, f"{shown} is answered{by} with HTTP {status} again and again")
    if status in DENIED:
        return AcdError(ErrorCode.WEB_DENIED, f"{shown} is refused{by} (HTTP {status})")
    return AcdError(
        ErrorCode.WEB_DENIED,
        f"{shown} is answered{by} with HTTP {status}",
        "Check the address in a browser; a signed address that is too old has to be made anew.",
    )
