"""One GET on the web: redirections, credentials, cookies of a login, and what a refusal means.

Texts name addresses without their query. urllib3's own retries are not used, since they log addresses as they are.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from http.cookiejar import CookieJar
from typing import Any, TypeVar
from urllib.parse import urljoin, urlsplit
from urllib.request import Request, getproxies, proxy_bypass

import urllib3
from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_random_exponential
from urllib3.exceptions import HTTPError, LocationParseError

from acdtask import __version__
from acdtask.errors import AcdError, ErrorCode
from acdtask.storage import web_address
from acdtask.storage.web_address import check_address, host_of, leads_inside, origin_of, without_query
from acdtask.storage.web_login import authorization_for

__all__ = ["Answer", "get", "patiently"]

ResultT = TypeVar("ResultT")

CONNECT_SECONDS, READ_SECONDS = 10.0, 60.0
ATTEMPTS = 5
LONGEST_WAIT = 10.0
REDIRECTIONS = 10
CONNECTIONS = 16

OK, PARTIAL, UNSATISFIABLE = 200, 206, 416
MOVED = frozenset({301, 302, 303, 307, 308})
DENIED = frozenset({401, 403, 407})
MISSING = frozenset({404, 410})
BUSY = frozenset({408, 425, 429, 500, 502, 503, 504})


@dataclass(frozen=True)
class Answer:
    """What a server answers with: 200, 206 or 416. `place` is the server that answered, after redirections."""

    status: int
    response: urllib3.BaseHTTPResponse
    place: str

    def header(self, name: str) -> str:
        """A header; empty if there is none."""
        return str(self.response.headers.get(name, ""))


class _InsideError(Exception):
    """A server of the public internet led to an address that is not of it."""


@contextmanager
def get(address: str, headers: dict[str, str], *, public: bool = False) -> Iterator[Answer | None]:
    """Ask for an address. None if nothing is there.

    Args:
        address: with its query.
        headers: of the request.
        public: the address was named by somebody on the public internet, and must be there too.

    Raises:
        AcdError: WEB_ADDRESS, WEB_DENIED, WEB_REDIRECTED, WEB_UNREACHABLE, WEB_CREDENTIALS.
    """
    shown = without_query(address)
    with _explained(shown):
        response, place = _followed(address, headers, public=public)
    try:
        status = response.status
        if status in MISSING:
            yield None
        elif status in (OK, PARTIAL, UNSATISFIABLE):
            with _explained(shown):
                yield Answer(status, response, place)
        else:
            raise _unwelcome(status, shown, place)
    finally:
        response.close()


def patiently(work: Callable[[], ResultT]) -> ResultT:
    """Do something again, a little later, while the server does not answer."""
    attempts = Retrying(
        retry=retry_if_exception(_may_pass),
        stop=stop_after_attempt(ATTEMPTS),
        wait=wait_random_exponential(multiplier=0.3, max=LONGEST_WAIT),
        reraise=True,
    )
    return attempts(work)


def _may_pass(error: BaseException) -> bool:
    return isinstance(error, AcdError) and error.code is ErrorCode.WEB_UNREACHABLE


def _followed(address: str, headers: dict[str, str], *, public: bool) -> tuple[urllib3.BaseHTTPResponse, str]:
    """The response that is no redirection, and the server that gave it."""
    cookies = CookieJar()
    url = address
    for _ in range(REDIRECTIONS + 1):
        check_address(url)
        if public and leads_inside(url):
            raise _InsideError
        asked = {"User-Agent": f"acdtask/{__version__}", **headers, **authorization_for(url)}
        request = Request(url)  # noqa: S310 - its scheme is checked; it is never opened, but tells the cookies
        cookies.add_cookie_header(request)
        if cookie := request.get_header("Cookie"):
            asked["Cookie"] = cookie
        response = _pool(url, public=public).request(
            "GET",
            url,
            headers=asked,
            timeout=urllib3.Timeout(connect=CONNECT_SECONDS, read=READ_SECONDS),
            retries=False,
            redirect=False,
            preload_content=False,
            decode_content=False,
        )
        location = response.headers.get("Location", "")
        if response.status not in MOVED or not location:
            return response, host_of(url)
        cookies.extract_cookies(_Headed(response), request)  # type: ignore[arg-type]  # it has all that is looked at
        response.close()
        url, public = _next(url, location, without_query(address), public=public)
    raise AcdError(
        ErrorCode.WEB_REDIRECTED,
        f"{without_query(address)} leads on and on, {REDIRECTIONS} times at least",
        "It is mostly a login that fails: look at the address in a browser, and check the token or ~/.netrc.",
    )


def _next(url: str, location: str, shown: str, *, public: bool) -> tuple[str, bool]:
    """The address that a server leads to, and whether it must be public. WEB_REDIRECTED."""
    target = urljoin(url, location)
    check_address(target)
    if urlsplit(url).scheme.lower() == "https" and urlsplit(target).scheme.lower() == "http":
        raise AcdError(ErrorCode.WEB_REDIRECTED, f"{shown} leads from https:// to {without_query(target)[:200]}")
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
    """A connection to the public internet alone, whatever the name service says at this very moment."""

    def connect(self) -> None:
        super().connect()
        _require_public(self)


class _PublicHTTPS(urllib3.connection.HTTPSConnection):
    """The same with TLS."""

    def connect(self) -> None:
        super().connect()
        _require_public(self)


def _require_public(connection: urllib3.connection.HTTPConnection) -> None:
    if not web_address.is_public(connection.sock.getpeername()[0]):
        connection.close()
        raise _InsideError


class _PublicHTTPPool(urllib3.HTTPConnectionPool):
    ConnectionCls = _PublicHTTP


class _PublicHTTPSPool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _PublicHTTPS


def _pool(url: str, *, public: bool) -> urllib3.PoolManager:
    proxy = getproxies().get(urlsplit(url).scheme.lower(), "")
    return _manager(proxy if proxy and not proxy_bypass(host_of(url)) else "", public=public)


@cache
def _manager(proxy: str, *, public: bool) -> urllib3.PoolManager:
    if proxy:
        return urllib3.ProxyManager(proxy, maxsize=CONNECTIONS)
    manager = urllib3.PoolManager(maxsize=CONNECTIONS)
    if public:
        manager.pool_classes_by_scheme = {"http": _PublicHTTPPool, "https": _PublicHTTPSPool}
    return manager


@contextmanager
def _explained(shown: str) -> Iterator[None]:
    """What the exceptions of a request mean; their own texts have the address with its query."""
    try:
        yield
    except _InsideError:
        raise AcdError(
            ErrorCode.WEB_REDIRECTED, f"{shown} leads, or was led to, into a network that is not of the public internet"
        ) from None
    except LocationParseError:
        raise AcdError(ErrorCode.WEB_ADDRESS, f"{shown} is no address") from None
    except (HTTPError, OSError) as error:
        causes = (error, error.__cause__, error.__context__, *error.args)
        if any(isinstance(cause, ssl.SSLCertVerificationError) for cause in causes):
            raise AcdError(
                ErrorCode.WEB_DENIED,
                f"the certificate of {host_of(shown)} is not trusted",
                "Name the authority that issued it in SSL_CERT_FILE, if you trust it.",
            ) from None
        raise AcdError(ErrorCode.WEB_UNREACHABLE, f"{shown} does not answer ({type(error).__name__})") from None


def _unwelcome(status: int, shown: str, place: str) -> AcdError:
    by = f" by {place}" if place != host_of(shown) else ""
    if status in BUSY:
        return AcdError(ErrorCode.WEB_UNREACHABLE, f"{shown} is answered{by} with HTTP {status} again and again")
    if status in DENIED:
        return AcdError(ErrorCode.WEB_DENIED, f"{shown} is refused{by} (HTTP {status})")
    return AcdError(
        ErrorCode.WEB_DENIED,
        f"{shown} is answered{by} with HTTP {status}",
        "Check the address in a browser; a signed address that is too old has to be made anew.",
    )
