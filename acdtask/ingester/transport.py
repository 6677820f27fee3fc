"""HTTP requests to the ingester: address and token, deadlines, and which requests may be repeated.

The token never appears in a message, a log line or a `repr`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

from acdtask import log
from acdtask.errors import AcdError, ErrorCode
from acdtask.hosts import HAS_LOGIN, UNPRINTABLE, address_fault, host_of, is_this_machine
from acdtask.http import REDIRECTIONS, Client, HttpError, Policy, Reason, repeatedly
from acdtask.ingester.model import in_one_line

__all__ = [
    "ADDRESS",
    "INSECURE",
    "TOKEN",
    "Answer",
    "LostAnswerError",
    "Patience",
    "Place",
    "Transport",
    "UnfinishedError",
]

ADDRESS, TOKEN, INSECURE = "ACD_INGESTER_ADDRESS", "ACD_INGESTER_TOKEN", "ACD_INGESTER_INSECURE"
"""Environment variables: the address, the bearer token, and whether the token may be sent over plain HTTP."""

LARGEST_ANSWER = 512 * 2**20
TRY_AGAIN = frozenset({408, 425, 429, 502, 503, 504})
"""Statuses of proxies and overloaded servers, which leave open whether the request was processed."""
UNFINISHED = frozenset({408, 504})
"""Those after which the server may still be processing the request."""

_events = log.events("ingester")


@dataclass(frozen=True)
class Patience:
    """Timeouts in seconds, and retries.

    Attributes:
        connect: timeout for connecting.
        answer: timeout for the complete reply.
        post: the same for posting an AOI, which searches its scenes before it replies.
        attempts: maximum attempts for repeatable requests.
        pause, longest_pause: first and longest pause between attempts; pauses double, with jitter.
        settle: how long to look for an AOI after its post got no reply.
    """

    connect: float = 10
    answer: float = 60
    post: float = 1800
    attempts: int = 5
    pause: float = 0.5
    longest_pause: float = 10
    settle: float = 60


@dataclass(frozen=True)
class Place:
    """Address of an ingester, with the token.

    Attributes:
        address: http:// or https://, with a path if a proxy needs one.
        insecure: whether the token may be sent over plain HTTP to another machine.

    Raises:
        AcdError: SETTING_INVALID.

    >>> Place("https://ingester.example.com/", token="secret")
    Place(address='https://ingester.example.com', insecure=False)
    """

    address: str
    token: str = field(default="", repr=False)
    insecure: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "address", self.address.strip().rstrip("/"))
        object.__setattr__(self, "token", self.token.strip())  # a secret made from a file often ends with a newline
        host = _checked_host(self.address)
        if UNPRINTABLE.search(self.token):
            raise _invalid(f"{TOKEN} has a character that no token has", "Give the bare token, without 'Bearer '.")
        if self.token and not (self.insecure or self.address.startswith("https://") or is_this_machine(host)):
            raise _invalid(
                f"the token would go to {host} over plain HTTP, where others can read it",
                f"Give an https:// address, or allow it with {INSECURE}=yes (--insecure).",
            )

    @classmethod
    def of_environment(cls, address: str = "", *, insecure: bool = False) -> Place:
        """The ingester of the environment; a given address takes precedence. SETTING_INVALID."""
        address = address or os.environ.get(ADDRESS, "")
        if not address.strip():
            raise _invalid("no ingester is given", f"Set {ADDRESS} to http://host:port or https://host.")
        allowed = insecure or os.environ.get(INSECURE, "").strip().lower() in {"1", "yes", "true"}
        return cls(address, os.environ.get(TOKEN, ""), allowed)

    @property
    def host(self) -> str:
        """The host, for messages."""
        return _checked_host(self.address)


@dataclass(frozen=True)
class Answer:
    """The HTTP status and the complete body of a reply."""

    status: int
    body: bytes

    @property
    def text(self) -> str:
        """The body as text."""
        return self.body.decode(errors="replace")


class LostAnswerError(AcdError):
    """A request got no reply, but may have been processed."""


class UnfinishedError(LostAnswerError):
    """A request got no reply, and the server may still be processing it."""


class _NotSentError(AcdError):
    """A request did not reach the server."""


class Transport:
    """Sends requests to one ingester. Not safe for concurrent use by threads or forks."""

    def __init__(
        self, place: Place, patience: Patience | None = None, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self.place = place
        self.patience = patience or Patience()
        self.sleep = sleep
        self._client = Client()

    def request(
        self,
        method: str,
        path: str,
        *,
        query: dict[str, int] | None = None,
        json: bytes | None = None,
        files: dict[str, Any] | None = None,
        repeatable: bool = True,
        deadline: float | None = None,
    ) -> Answer:
        """Send a request. Retries it if it was not sent, or if it is repeatable.

        The path is quoted already. The body is JSON, or the fields of a multipart form in `files`. A request is
        repeatable if sending it twice has the effect of sending it once. The deadline is for one attempt, in seconds.

        Returns:
            The reply; redirections and the statuses of proxies are raised as errors.

        Raises:
            AcdError: INGESTER_UNREACHABLE (a LostAnswerError if it may have been processed), INGESTER_REFUSED.
        """
        url = f"{self.place.address}{path}" + (f"?{urlencode(query)}" if query else "")
        body: dict[str, Any] = {"fields": files} if files else {"body": json}
        again = (_NotSentError, LostAnswerError) if repeatable else (_NotSentError,)
        if not repeatable:
            self._client.forget_connections()
        return repeatedly(
            lambda: self._once(method, url, path, body, deadline or self.patience.answer),
            lambda error: isinstance(error, again),
            attempts=self.patience.attempts,
            pause=self.patience.pause,
            longest_pause=self.patience.longest_pause,
            sleep=self.sleep,
        )

    def _once(self, method: str, url: str, path: str, body: dict[str, Any], seconds: float) -> Answer:
        started = time.monotonic()
        policy = Policy(
            min(self.patience.connect, seconds), seconds, proxy_for_this_machine=False, credentials=self._credentials
        )
        try:
            reply = self._client.request(method, url, policy, **body)
            answer = Answer(reply.status, reply.whole(LARGEST_ANSWER, started + seconds))
        except HttpError as error:
            raise self._trouble(error) from None
        taken = round(time.monotonic() - started, 3)
        _events.debug("request.answered", method=method, path=path, status=answer.status, seconds=taken)
        return self._judged(answer)

    def _credentials(self, _: str) -> dict[str, str]:
        return {"authorization": f"Bearer {self.place.token}"} if self.place.token else {}

    def _judged(self, answer: Answer) -> Answer:
        if answer.status in REDIRECTIONS:
            raise AcdError(
                ErrorCode.INGESTER_REFUSED,
                f"{self.place.host} answers HTTP {answer.status}, a redirection, which is not followed",
                f"Set {ADDRESS} to the address that it leads to.",
            )
        if answer.status in TRY_AGAIN:
            lost = UnfinishedError if answer.status in UNFINISHED else LostAnswerError
            raise lost(ErrorCode.INGESTER_UNREACHABLE, f"{self.place.host} answers HTTP {answer.status}")
        return answer

    def _trouble(self, error: HttpError) -> AcdError:
        """The error for a request without a usable reply."""
        host = self.place.host
        match error.reason:
            case Reason.ADDRESS:
                return _invalid(f"{host} is not a valid address", f"Set {ADDRESS} to http://host:port.")
            case Reason.CERTIFICATE:
                return AcdError(
                    ErrorCode.INGESTER_REFUSED,
                    f"the certificate of {host} is not trusted",
                    "Give the ingester a certificate that this machine trusts, or name its authority in SSL_CERT_FILE.",
                )
            case Reason.TLS:
                return AcdError(
                    ErrorCode.INGESTER_REFUSED,
                    f"{host} and this client do not agree on TLS ({in_one_line(error.detail, 120)})",
                    "Say https:// for a server with TLS, and http:// for one without.",
                )
            case Reason.TOO_LARGE:
                largest = f"the answer is larger than {LARGEST_ANSWER // 2**20} MiB"
                return AcdError(ErrorCode.INGESTER_REFUSED, largest)
            case Reason.NOT_SENT:
                return _NotSentError(ErrorCode.INGESTER_UNREACHABLE, f"{host} takes no connection ({error.kind})")
            case Reason.TIMEOUT:
                return UnfinishedError(ErrorCode.INGESTER_UNREACHABLE, f"{host} did not answer in time")
            case Reason.LATE:
                return UnfinishedError(ErrorCode.INGESTER_UNREACHABLE, f"{host} did not answer in full in time")
        return LostAnswerError(ErrorCode.INGESTER_UNREACHABLE, f"{host} broke the connection ({error.kind})")

    def scrubbed(self, text: str) -> str:
        """A server's message in one line, with the token masked."""
        return in_one_line(text.replace(self.place.token, "***") if self.place.token else text)


def _checked_host(address: str) -> str:
    """The host of an address. SETTING_INVALID, without quoting the address, which may contain a secret."""
    fault = address_fault(address)
    if not fault and set("?#") & set(address):
        fault = "has a query"
    if fault:
        fix = f"A token goes into {TOKEN}." if fault == HAS_LOGIN else f"Set {ADDRESS} to http://host:port."
        raise _invalid(f"the ingester's address {fault}", fix)
    return host_of(address)


def _invalid(detail: str, fix: str) -> AcdError:
    return AcdError(ErrorCode.SETTING_INVALID, detail, fix)
