"""HTTP client: proxies, timeouts, TLS, redirects and errors, within the caller's `Policy`.

Nothing is logged and no exception contains an address, since a query may be a signature. Retries and redirects are
handled here, since urllib3 would log addresses and send headers to other servers.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from http.cookiejar import CookieJar
from typing import Any, TypeVar
from urllib.parse import urljoin, urlsplit
from urllib.request import Request, getproxies, proxy_bypass

import urllib3
from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_exponential, wait_random
from urllib3.exceptions import (
    ConnectTimeoutError,
    HTTPError,
    LocationParseError,
    ProxyError,
    ReadTimeoutError,
    SSLError,
)

from acdtask import __version__
from acdtask.hosts import host_of, is_public, is_this_machine, leads_inside, origin_of

__all__ = [
    "BUSY",
    "REDIRECTIONS",
    "Client",
    "HttpError",
    "Policy",
    "Reason",
    "Reply",
    "repeatedly",
]

ResultT = TypeVar("ResultT")

REDIRECTIONS = range(300, 400)
FOLLOWED = frozenset({301, 302, 303, 307, 308})
BUSY = frozenset({408, 425, 429, 500, 502, 503, 504})
"""Statuses after which the same request may succeed later."""

PIECE_BYTES = 2**16


class Reason(Enum):
    """Why a request got no usable reply."""

    ADDRESS = "the address is malformed"
    CERTIFICATE = "the server's certificate is not trusted"
    TLS = "the TLS handshake failed"
    NOT_SENT = "the connection failed, so nothing was sent"
    TIMEOUT = "the server sent nothing in time"
    LATE = "the reply was not complete in time"
    BROKEN = "the connection broke"
    TOO_LARGE = "the reply is too large"
    REDIRECTS = "there are too many redirects"
    DOWNGRADE = "a redirect leads from https to http"
    INSIDE = "a public server redirects into a private network"


class HttpError(Exception):
    """A request without a usable reply.

    Attributes:
        reason: what went wrong.
        kind: name of urllib3's exception, if any.
        detail: the TLS library's message, or the target of a redirect, with its query.
    """

    def __init__(self, reason: Reason, kind: str = "", detail: str = "") -> None:
        super().__init__(reason.value)
        self.reason, self.kind, self.detail = reason, kind, detail


@dataclass(frozen=True)
class Policy:
    """Limits and permissions of a caller's requests.

    Attributes:
        connect_seconds: timeout for connecting.
        read_seconds: timeout between two pieces of a reply.
        redirects: maximum number of redirects to follow. With 0, a redirect is returned like any other reply.
        decode: whether to decompress bodies.
        proxy_for_this_machine: whether requests to this machine use the environment's proxy too.
        credentials: returns headers for an address. Called for each address of a chain of redirects, so that no server
            gets another server's credentials.
        check: raises if an address is not allowed; also called for each address.
    """

    connect_seconds: float
    read_seconds: float
    redirects: int = 0
    decode: bool = True
    proxy_for_this_machine: bool = True
    credentials: Callable[[str], Mapping[str, str]] = lambda _: {}
    check: Callable[[str], None] = lambda _: None


@dataclass(frozen=True)
class Reply:
    """Reply of a server: status, headers and a body that is read on demand. `host` sent it, after redirects."""

    status: int
    host: str
    response: urllib3.BaseHTTPResponse

    def header(self, name: str) -> str:
        """Value of a header; empty if it is missing."""
        return str(self.response.headers.get(name, ""))

    def pieces(self, size: int = PIECE_BYTES) -> Iterator[bytes]:
        """Iterate over the body as it arrives, in pieces of at most `size` bytes."""
        with _explained():
            while piece := self.response.read1(size):
                yield piece

    def whole(self, limit: int, until: float) -> bytes:
        """Read the body, of at most `limit` bytes and before a monotonic time, which ends slow replies."""
        pieces, size = [], 0
        try:
            for piece in self.pieces():
                pieces.append(piece)
                size += len(piece)
                _require_within(size, limit, until)
        except BaseException:
            self.close()
            raise
        self.response.release_conn()
        return b"".join(pieces)

    def close(self) -> None:
        """Close the connection."""
        self.response.close()


def _require_within(size: int, limit: int, until: float) -> None:
    if time.monotonic() > until:
        raise HttpError(Reason.LATE)
    if size > limit:
        raise HttpError(Reason.TOO_LARGE)


class Client:
    """Sends requests and keeps up to `connections` connections to each server open."""

    def __init__(self, connections: int = 1) -> None:
        self._connections = connections
        self._pools: dict[tuple[str, bool], urllib3.PoolManager] = {}

    def request(
        self,
        method: str,
        url: str,
        policy: Policy,
        *,
        headers: Mapping[str, str] | None = None,
        public: bool = False,
        **body: Any,
    ) -> Reply:
        """Send a request once, and follow redirects as the policy allows. The reply's body is not read.

        Args:
            method: HTTP method, such as GET.
            url: address with its query.
            policy: limits and permissions.
            headers: headers sent to every address of a chain of redirects.
            public: whether the server must be on the public internet; once a chain is there, it must stay there.
            body: `body` as bytes, or `fields` of a multipart form.

        Raises:
            HttpError: there is no usable reply.
            Exception: any error of `policy.check` and `policy.credentials`.
        """
        cookies = CookieJar()
        for _ in range(policy.redirects + 1):
            policy.check(url)
            if public and leads_inside(url):
                raise HttpError(Reason.INSIDE)
            # Never opened: the cookie jar only needs the address.
            request = Request(url)  # noqa: S310
            cookies.add_cookie_header(request)
            sent = {"User-Agent": f"acdtask/{__version__}", **(headers or {}), **policy.credentials(url)}
            if cookie := request.get_header("Cookie"):
                sent["Cookie"] = cookie
            reply = self._send(method, url, policy, sent, public=public, **body)
            location = reply.header("Location")
            if not policy.redirects or reply.status not in FOLLOWED or not location:
                return reply
            cookies.extract_cookies(_CookieResponse(reply.response), request)  # type: ignore[arg-type]  # it only calls info()
            reply.close()
            url, public = _next_address(url, location, policy, public=public)
        raise HttpError(Reason.REDIRECTS)

    def forget_connections(self) -> None:
        """Close idle connections. One that the server has closed meanwhile would look like a lost reply."""
        for pool in self._pools.values():
            pool.clear()

    def _send(
        self, method: str, url: str, policy: Policy, headers: dict[str, str], *, public: bool, **body: Any
    ) -> Reply:
        with _explained():
            response = self._pool(url, policy, public=public).request(
                method,
                url,
                headers=headers,
                timeout=urllib3.Timeout(connect=policy.connect_seconds, read=policy.read_seconds),
                retries=False,
                redirect=False,
                preload_content=False,
                decode_content=policy.decode,
                **body,
            )
        return Reply(response.status, host_of(url), response)

    def _pool(self, url: str, policy: Policy, *, public: bool) -> urllib3.PoolManager:
        """Get the connection pool for an address, with the proxy of HTTP_PROXY, HTTPS_PROXY and NO_PROXY."""
        host = host_of(url)
        proxy = getproxies().get(urlsplit(url).scheme.lower(), "")
        if proxy_bypass(host) or (is_this_machine(host) and not policy.proxy_for_this_machine):
            proxy = ""
        key = (proxy, public)
        if key not in self._pools:
            self._pools[key] = self._new_pool(proxy, public=public)
        return self._pools[key]

    def _new_pool(self, proxy: str, *, public: bool) -> urllib3.PoolManager:
        if proxy:
            return urllib3.ProxyManager(proxy, maxsize=self._connections)
        pool = urllib3.PoolManager(maxsize=self._connections)
        if public:
            pool.pool_classes_by_scheme = {"http": _PublicHTTPPool, "https": _PublicHTTPSPool}
        return pool


def repeatedly(
    work: Callable[[], ResultT],
    may_pass: Callable[[BaseException], bool],
    *,
    attempts: int,
    pause: float,
    longest_pause: float,
    sleep: Callable[[float], None] = time.sleep,
) -> ResultT:
    """Call a function, and again after errors that `may_pass` accepts; pauses double, with jitter."""
    retrying = Retrying(
        retry=retry_if_exception(may_pass),
        stop=stop_after_attempt(attempts),
        wait=wait_exponential(pause, longest_pause) + wait_random(0, min(pause, longest_pause)),
        sleep=sleep,
        reraise=True,
    )
    return retrying(work)


def _next_address(url: str, location: str, policy: Policy, *, public: bool) -> tuple[str, bool]:
    """Resolve a redirect to the next address, and whether it must be public."""
    target = urljoin(url, location)
    policy.check(target)
    if urlsplit(url).scheme.lower() == "https" and urlsplit(target).scheme.lower() == "http":
        raise HttpError(Reason.DOWNGRADE, detail=target)
    if origin_of(target) == origin_of(url):
        return target, public
    return target, public or not leads_inside(url)


class _CookieResponse:
    """Adapts a response to `http.cookiejar`."""

    def __init__(self, response: urllib3.BaseHTTPResponse) -> None:
        self._response = response

    def info(self) -> Any:
        """Headers of the response."""
        return self._response.headers


class _PublicHTTP(urllib3.connection.HTTPConnection):
    """Connection to the public internet only, checked by its peer address so that DNS cannot change it in between."""

    def connect(self) -> None:
        super().connect()
        if not is_public(self.sock.getpeername()[0]):
            self.close()
            raise HttpError(Reason.INSIDE)


class _PublicHTTPS(_PublicHTTP, urllib3.connection.HTTPSConnection):
    """Like `_PublicHTTP`, with TLS: `super().connect()` there is that of HTTPSConnection."""


class _PublicHTTPPool(urllib3.HTTPConnectionPool):
    ConnectionCls = _PublicHTTP


class _PublicHTTPSPool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _PublicHTTPS


@contextmanager
def _explained() -> Iterator[None]:
    """Convert urllib3's exceptions, whose messages contain addresses with queries, to HttpError."""
    try:
        yield
    except (HTTPError, OSError) as error:
        reason = _reason_of(error)
        detail = str(error) if reason is Reason.TLS else ""
        raise HttpError(reason, type(error).__name__, detail) from None


def _reason_of(error: HTTPError | OSError) -> Reason:
    causes = (error, error.__cause__, error.__context__, *error.args)
    if any(isinstance(cause, ssl.SSLCertVerificationError) for cause in causes):
        return Reason.CERTIFICATE
    # The order matters: some exceptions of failed connections are subclasses of those of broken ones.
    kinds: tuple[tuple[type[Exception] | tuple[type[Exception], ...], Reason], ...] = (
        (LocationParseError, Reason.ADDRESS),
        (SSLError, Reason.TLS),
        # ConnectTimeoutError includes refused connections and unknown host names.
        ((ConnectTimeoutError, ProxyError), Reason.NOT_SENT),
        (ReadTimeoutError, Reason.TIMEOUT),
    )
    return next((reason for kind, reason in kinds if isinstance(error, kind)), Reason.BROKEN)
