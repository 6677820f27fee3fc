"""HTTP requests: proxies, time limits, TLS, redirects, and why a request got no reply.

What a caller allows is its `Policy`. Nothing is logged, and no exception's text has an address, since a query may be a
signature. urllib3 neither retries nor follows redirects itself: it would log addresses, and send headers elsewhere.
"""

from __future__ import annotations

import ipaddress
import re
import socket
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

__all__ = [
    "BUSY",
    "HAS_LOGIN",
    "INVALID_HOST",
    "REDIRECTIONS",
    "UNPRINTABLE",
    "Client",
    "HttpError",
    "Policy",
    "Reason",
    "Reply",
    "address_fault",
    "host_of",
    "is_public",
    "is_this_machine",
    "leads_inside",
    "origin_of",
    "repeatedly",
]

ResultT = TypeVar("ResultT")

UNPRINTABLE = re.compile(r"[^\x21-\x7e]")
"""What neither an address nor a token has."""

HAS_LOGIN = "has a user or a password in it"
INVALID_HOST = "has no valid host or port"
REDIRECTIONS = range(300, 400)
FOLLOWED = frozenset({301, 302, 303, 307, 308})
BUSY = frozenset({408, 425, 429, 500, 502, 503, 504})
"""Statuses after which the same request may succeed later."""

PIECE_BYTES = 2**16
SHARED_NETWORK = ipaddress.ip_network("100.64.0.0/10")


class Reason(Enum):
    """Why a request got no reply, or none that may be used."""

    ADDRESS = "the address is malformed"
    CERTIFICATE = "the server's certificate is not trusted"
    TLS = "TLS could not be agreed on"
    NOT_SENT = "there is no connection, so nothing was sent"
    TIMEOUT = "the server sends nothing"
    LATE = "the reply was not complete in time"
    BROKEN = "the connection broke"
    TOO_LARGE = "the reply is too large"
    REDIRECTS = "there are too many redirects"
    DOWNGRADE = "a redirect leads from https to http"
    INSIDE = "a public server leads into a private network"


class HttpError(Exception):
    """A request without a usable reply.

    Attributes:
        reason: why.
        kind: the name of urllib3's exception, if there was one.
        detail: the words of TLS, or the address that a redirect leads to, with its query.
    """

    def __init__(self, reason: Reason, kind: str = "", detail: str = "") -> None:
        super().__init__(reason.value)
        self.reason, self.kind, self.detail = reason, kind, detail


def _no_headers(_: str) -> dict[str, str]:
    return {}


def _any_address(_: str) -> None:
    pass


@dataclass(frozen=True)
class Policy:
    """What a caller allows.

    Attributes:
        connect_seconds: until there is a connection.
        read_seconds: between two pieces of a reply.
        redirects: how many are followed. With 0, a redirect is a reply like any other.
        decode: whether a compressed body is decompressed.
        proxy_for_this_machine: whether requests to this machine, too, go through the proxy of the environment.
        credentials: headers for an address. It is called for each address of a chain of redirects, so that no server
            gets the credentials of another one.
        check: raises if an address may not be asked; called for each address too.
    """

    connect_seconds: float
    read_seconds: float
    redirects: int = 0
    decode: bool = True
    proxy_for_this_machine: bool = True
    credentials: Callable[[str], Mapping[str, str]] = _no_headers
    check: Callable[[str], None] = _any_address


@dataclass(frozen=True)
class Reply:
    """Status and headers of a reply, and its body as far as it is read. `host` gave it, after redirects."""

    status: int
    host: str
    response: urllib3.BaseHTTPResponse

    def header(self, name: str) -> str:
        """A header; empty if it is missing."""
        return str(self.response.headers.get(name, ""))

    def pieces(self, size: int = PIECE_BYTES) -> Iterator[bytes]:
        """The body as it arrives, in pieces of at most this many bytes."""
        with _explained():
            while piece := self.response.read1(size):
                yield piece

    def whole(self, limit: int, until: float) -> bytes:
        """The body. A read that hangs ends by itself; the limit and the time (monotonic) end one that drips."""
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
    """Sends requests and keeps connections: `connections` to each server."""

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
        """Send a request once, and follow its redirects as the policy allows. The body of the reply is not read yet.

        Args:
            method: such as GET.
            url: with its query.
            policy: of the caller.
            headers: the same for every address of a chain of redirects.
            public: whether the server has to be on the public internet. A chain that began there stays there.
            body: `body` in bytes or `fields` of a multipart form.

        Raises:
            HttpError: there is no reply; whatever `policy.check` and `policy.credentials` raise.
        """
        cookies = CookieJar()
        for _ in range(policy.redirects + 1):
            policy.check(url)
            if public and leads_inside(url):
                raise HttpError(Reason.INSIDE)
            # It is never opened: the jar of cookies asks it for the address.
            request = Request(url)  # noqa: S310
            cookies.add_cookie_header(request)
            sent = {"User-Agent": f"acdtask/{__version__}", **(headers or {}), **policy.credentials(url)}
            if cookie := request.get_header("Cookie"):
                sent["Cookie"] = cookie
            reply = self._send(method, url, policy, sent, public=public, **body)
            location = reply.header("Location")
            if not policy.redirects or reply.status not in FOLLOWED or not location:
                return reply
            cookies.extract_cookies(_Headed(reply.response), request)  # type: ignore[arg-type]  # it looks at info()
            reply.close()
            url, public = _next_address(url, location, policy, public=public)
        raise HttpError(Reason.REDIRECTS)

    def forget_connections(self) -> None:
        """Close what is kept open: a connection that the server closed meanwhile looks like a lost reply."""
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
        """Through the proxy of HTTP_PROXY, HTTPS_PROXY and NO_PROXY."""
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
    """Do something again after an error that may pass; pauses double, with jitter."""
    retrying = Retrying(
        retry=retry_if_exception(may_pass),
        stop=stop_after_attempt(attempts),
        wait=wait_exponential(pause, longest_pause) + wait_random(0, min(pause, longest_pause)),
        sleep=sleep,
        reraise=True,
    )
    return retrying(work)


def address_fault(url: str, unfit: re.Pattern[str] = UNPRINTABLE) -> str:
    """What is wrong with the address of a server, as the end of a sentence without the address; empty if nothing is.

    >>> address_fault("ftp://x.org"), address_fault("https://me:secret@x.org"), address_fault("https://x.org/?a=1")
    ('begins with neither http:// nor https://', 'has a user or a password in it', '')
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        return INVALID_HOST
    if "@" in parts.netloc:
        return HAS_LOGIN
    if parts.scheme and not host:
        return "has no host"
    if parts.scheme not in ("http", "https"):
        return "begins with neither http:// nor https://"
    if port == 0:
        return INVALID_HOST
    return "has a character that URLs do not allow" if unfit.search(url) else ""


def host_of(address: str) -> str:
    """The host of an address, in lower case."""
    return (urlsplit(address).hostname or "").lower()


def origin_of(address: str) -> str:
    """Scheme, host and port.

    >>> origin_of("https://X.org/a"), origin_of("http://x.org:8080/a")
    ('https://x.org:443', 'http://x.org:8080')
    """
    parts = urlsplit(address)
    scheme = parts.scheme.lower()
    return f"{scheme}://{host_of(address)}:{parts.port or {'http': 80, 'https': 443}.get(scheme)}"


def is_this_machine(host: str) -> bool:
    """Whether nobody can listen on the way to a host.

    >>> is_this_machine("localhost"), is_this_machine("127.0.0.2"), is_this_machine("10.0.0.1")
    (True, True, False)
    """
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def is_public(ip: str) -> bool:
    """Whether an IP address is on the public internet, and not on this machine or in a network around it.

    >>> is_public("8.8.8.8"), is_public("169.254.169.254"), is_public("::ffff:127.0.0.1")
    (True, False, False)
    """
    number = ipaddress.ip_address(ip.partition("%")[0])
    mapped = getattr(number, "ipv4_mapped", None) or number
    return mapped.is_global and not mapped.is_multicast and mapped not in SHARED_NETWORK


def leads_inside(address: str) -> bool:
    """Whether an address is on this machine or in a network around it; not if its host is unknown."""
    try:
        answers = socket.getaddrinfo(host_of(address), None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return False
    return not all(is_public(str(answer[4][0])) for answer in answers)


def _next_address(url: str, location: str, policy: Policy, *, public: bool) -> tuple[str, bool]:
    """The address that a server leads to, and whether it has to be public."""
    target = urljoin(url, location)
    policy.check(target)
    if urlsplit(url).scheme.lower() == "https" and urlsplit(target).scheme.lower() == "http":
        raise HttpError(Reason.DOWNGRADE, detail=target)
    if origin_of(target) == origin_of(url):
        return target, public
    return target, public or not leads_inside(url)


class _Headed:
    """A response as `http.cookiejar` looks at it."""

    def __init__(self, response: urllib3.BaseHTTPResponse) -> None:
        self._response = response

    def info(self) -> Any:
        """The headers."""
        return self._response.headers


class _PublicHTTP(urllib3.connection.HTTPConnection):
    """A connection to the public internet only, whatever the name service answers at the moment of connecting."""

    def connect(self) -> None:
        super().connect()
        _require_public(self)


class _PublicHTTPS(urllib3.connection.HTTPSConnection):
    """The same with TLS."""

    def connect(self) -> None:
        super().connect()
        _require_public(self)


def _require_public(connection: urllib3.connection.HTTPConnection) -> None:
    if not is_public(connection.sock.getpeername()[0]):
        connection.close()
        raise HttpError(Reason.INSIDE)


class _PublicHTTPPool(urllib3.HTTPConnectionPool):
    ConnectionCls = _PublicHTTP


class _PublicHTTPSPool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _PublicHTTPS


@contextmanager
def _explained() -> Iterator[None]:
    """Turn urllib3's exceptions, whose texts have addresses with their queries, into ours."""
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
    # In this order: the exceptions of a connection that was not made are subclasses of those of a broken one.
    kinds: tuple[tuple[type[Exception] | tuple[type[Exception], ...], Reason], ...] = (
        (LocationParseError, Reason.ADDRESS),
        (SSLError, Reason.TLS),
        ((ConnectTimeoutError, ProxyError), Reason.NOT_SENT),  # the first: refused and unknown names too
        (ReadTimeoutError, Reason.TIMEOUT),
    )
    return next((reason for kind, reason in kinds if isinstance(error, kind)), Reason.BROKEN)
