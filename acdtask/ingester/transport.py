"""HTTP to the ingester: address and token, deadlines, and what may be asked twice.

The token is sent and never told: no message, log line or `repr` has it.
"""

from __future__ import annotations

import ipaddress
import os
import re
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode, urlsplit
from urllib.request import getproxies, proxy_bypass

import urllib3
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_exponential, wait_random
from urllib3.exceptions import (
    ConnectTimeoutError,
    HTTPError,
    LocationParseError,
    ProxyError,
    ReadTimeoutError,
    SSLError,
)

from acdtask import __version__, log
from acdtask.errors import AcdError, ErrorCode
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
"""The environment variables: where the ingester is, its bearer token, and whether plain HTTP may carry it."""

LARGEST_ANSWER = 512 * 2**20
PIECE = 2**16
UNPRINTABLE = re.compile(r"[^\x21-\x7e]")
REDIRECTIONS = range(300, 400)
TRY_AGAIN = frozenset({408, 425, 429, 502, 503, 504})
"""Said by a proxy, or by a server that is too busy: the request may or may not have been done."""
UNFINISHED = frozenset({408, 504})
"""Of these, those after which it may still be going on."""

_events = log.events("ingester")


@dataclass(frozen=True)
class Patience:
    """How long to wait, in seconds, and how often to ask.

    Attributes:
        connect: until there is a connection.
        answer: until a call is answered in full.
        post: the same for the call that takes the inventory of an AOI before it answers.
        attempts: how often a call is made that may be made twice.
        pause, longest_pause: before the second attempt, and before any; they double, with jitter.
        settle: how long to look for an AOI whose post was not answered.
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
    """Where the ingester is, and how to get in.

    Attributes:
        address: http:// or https://, with a path if a proxy wants one.
        insecure: whether the token may go over plain HTTP to another machine.

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
        if self.token and not (self.insecure or self.address.startswith("https://") or _is_this_machine(host)):
            raise _invalid(
                f"the token would go to {host} over plain HTTP, where others can read it",
                f"Give an https:// address, or allow it with {INSECURE}=yes (--insecure).",
            )

    @classmethod
    def of_environment(cls, address: str = "", *, insecure: bool = False) -> Place:
        """The ingester that the environment names. An address given here wins."""
        address = address or os.environ.get(ADDRESS, "")
        if not address.strip():
            raise _invalid("no ingester is given", f"Set {ADDRESS} to http://host:port or https://host.")
        allowed = insecure or os.environ.get(INSECURE, "").strip().lower() in {"1", "yes", "true"}
        return cls(address, os.environ.get(TOKEN, ""), allowed)

    @property
    def host(self) -> str:
        """For messages."""
        return _checked_host(self.address)


@dataclass(frozen=True)
class Answer:
    """What came back: the HTTP status and the whole body."""

    status: int
    body: bytes

    @property
    def text(self) -> str:
        """The body as text."""
        return self.body.decode(errors="replace")


class LostAnswerError(AcdError):
    """A request was sent and not answered, so it may have been done."""


class UnfinishedError(LostAnswerError):
    """The same, and the server may still be doing it."""


class _NotSentError(AcdError):
    """Nothing reached the server."""


class Transport:
    """Sends requests to one ingester. Not for several threads or forks at once."""

    def __init__(
        self, place: Place, patience: Patience | None = None, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self.place = place
        self.patience = patience or Patience()
        self.sleep = sleep
        self._pool = _pool(place)

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
        """Send a request, and again while that is safe: always if nothing was sent, else only if it is repeatable.

        Args:
            method: such as GET.
            path: below the address, already quoted.
            query: parameters.
            json: a body.
            files: fields of a multipart form instead.
            repeatable: whether doing it twice is the same as doing it once.
            deadline: seconds for one attempt, the default being that of an ordinary call.

        Returns:
            Any answer whose meaning depends on the call; redirections and the statuses of proxies never come here.

        Raises:
            AcdError: INGESTER_UNREACHABLE (a LostAnswerError if it may have been done), INGESTER_REFUSED.
        """
        url = f"{self.place.address}{path}" + (f"?{urlencode(query)}" if query else "")
        body: dict[str, Any] = {"fields": files} if files else {"body": json}
        again = (_NotSentError, LostAnswerError) if repeatable else (_NotSentError,)
        attempts = Retrying(
            retry=retry_if_exception_type(again),
            stop=stop_after_attempt(self.patience.attempts),
            wait=wait_exponential(self.patience.pause, self.patience.longest_pause)
            + wait_random(0, self.patience.pause),
            sleep=self.sleep,
            reraise=True,
        )
        if not repeatable:
            self._pool.clear()  # a connection that the server has closed meanwhile would look like a lost answer
        return attempts(self._once, method, url, path, body, deadline or self.patience.answer)

    def _once(self, method: str, url: str, path: str, body: dict[str, Any], seconds: float) -> Answer:
        started = time.monotonic()
        headers = {"user-agent": f"acdtask/{__version__}"}
        if self.place.token:
            headers["authorization"] = f"Bearer {self.place.token}"
        timeout = urllib3.Timeout(connect=min(self.patience.connect, seconds), read=seconds)
        try:
            response = self._pool.request(
                method,
                url,
                headers=headers,
                timeout=timeout,
                retries=False,
                redirect=False,
                preload_content=False,
                **body,
            )
            answer = Answer(response.status, self._whole(response, started + seconds))
        except LocationParseError:
            raise _invalid(f"{self.place.host} is not a valid address", f"Set {ADDRESS} to http://host:port.") from None
        except HTTPError as error:
            raise self._trouble(error) from error
        taken = round(time.monotonic() - started, 3)
        _events.debug("request.answered", method=method, path=path, status=answer.status, seconds=taken)
        return self._judged(answer)

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

    def _trouble(self, error: HTTPError) -> AcdError:
        """What an exception of urllib3 means for the caller."""
        host, kind = self.place.host, type(error).__name__
        causes = [error, error.__cause__, error.__context__, *error.args]
        if any(isinstance(cause, ssl.SSLCertVerificationError) for cause in causes):
            return AcdError(
                ErrorCode.INGESTER_REFUSED,
                f"the certificate of {host} is not trusted",
                "Give the ingester a certificate that this machine trusts, or name its authority in SSL_CERT_FILE.",
            )
        if isinstance(error, SSLError):
            return AcdError(
                ErrorCode.INGESTER_REFUSED,
                f"{host} and this client do not agree on TLS ({in_one_line(str(error), 120)})",
                "Say https:// for a server with TLS, and http:// for one without.",
            )
        if isinstance(error, (ConnectTimeoutError, ProxyError)):  # the first: refused and unknown names too
            return _NotSentError(ErrorCode.INGESTER_UNREACHABLE, f"{host} takes no connection ({kind})")
        if isinstance(error, ReadTimeoutError):
            return UnfinishedError(ErrorCode.INGESTER_UNREACHABLE, f"{host} did not answer in time")
        return LostAnswerError(ErrorCode.INGESTER_UNREACHABLE, f"{host} broke the connection ({kind})")

    def _whole(self, response: urllib3.BaseHTTPResponse, until: float) -> bytes:
        """The body. A read that hangs ends by itself; this ends one that drips."""
        pieces, size = [], 0
        try:
            while piece := response.read1(PIECE):
                pieces.append(piece)
                size += len(piece)
                self._require_bearable(size, until)
        except BaseException:
            response.close()
            raise
        response.release_conn()
        return b"".join(pieces)

    def _require_bearable(self, size: int, until: float) -> None:
        if time.monotonic() > until:
            late = f"{self.place.host} did not answer in full in time"
            raise UnfinishedError(ErrorCode.INGESTER_UNREACHABLE, late)
        if size > LARGEST_ANSWER:
            raise AcdError(ErrorCode.INGESTER_REFUSED, f"the answer is larger than {LARGEST_ANSWER // 2**20} MiB")

    def scrubbed(self, text: str) -> str:
        """A server's words in one line, without the token, should it be among them."""
        return in_one_line(text.replace(self.place.token, "***") if self.place.token else text)


def _pool(place: Place) -> urllib3.PoolManager:
    """Through the proxy of HTTP_PROXY, HTTPS_PROXY and NO_PROXY, but never to this machine."""
    proxy = getproxies().get(urlsplit(place.address).scheme, "")
    if not proxy or _is_this_machine(place.host) or proxy_bypass(place.host):
        return urllib3.PoolManager()
    return urllib3.ProxyManager(proxy)


def _checked_host(address: str) -> str:
    """The host of an address. SETTING_INVALID, without a word of what may be secret in it."""
    try:
        parts = urlsplit(address)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise _invalid("the ingester's address is none", f"Set {ADDRESS} to http://host:port.") from None
    if parts.scheme not in ("http", "https") or not host:
        raise _invalid("the ingester's address is not http:// or https:// and a host", "Give http://host:port.")
    if "@" in parts.netloc:
        raise _invalid("the ingester's address has a user or a password in it", f"A token goes into {TOKEN}.")
    if parts.query or parts.fragment or UNPRINTABLE.search(address):
        raise _invalid(
            "the ingester's address has a query, or a character that URLs do not allow", "Give http://host:port."
        )
    return host


def _is_this_machine(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _invalid(detail: str, fix: str) -> AcdError:
    return AcdError(ErrorCode.SETTING_INVALID, detail, fix)
