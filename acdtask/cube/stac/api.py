"""Reads the items of a STAC API. Requests only go to the server in the address, whatever its replies link to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, unquote, urlsplit

from acdtask.cube.stac.read import usable_items
from acdtask.errors import AcdError, ErrorCode
from acdtask.hosts import origin_of
from acdtask.http import BUSY
from acdtask.storage.web_address import without_query

if TYPE_CHECKING:
    from datetime import datetime

    from pystac_client import Client
    from pystac_client.stac_api_io import StacApiIO
    from requests import PreparedRequest, Response

__all__ = ["MOST_ITEMS", "ApiAddress", "read_stac_api"]

MOST_ITEMS = 100_000
"""Limit for the items of a search. The collection of a satellite has millions."""

ITEMS_PER_PAGE = 250
TIMEOUT_S = (10.0, 60.0)
"""Seconds to connect, and to wait for data."""

NAMES_SHOWN = 10


@dataclass(frozen=True)
class ApiAddress:
    """The parts of the address of a collection or search.

    >>> ApiAddress.of("https://x.org/v1/collections/coherence/items")
    ApiAddress(root='https://x.org/v1', collections=('coherence',), query={})
    >>> ApiAddress.of("https://x.org/v1/search?collections=a,b&bbox=6,50,7,51").query
    {'bbox': '6,50,7,51'}
    """

    root: str
    collections: tuple[str, ...]
    query: Mapping[str, str]

    @classmethod
    def of(cls, address: str) -> ApiAddress:
        """Parse an address. STAC_API_FAILED."""
        try:
            parts = urlsplit(address)
            fault = "" if parts.hostname and parts.port != 0 else "it has no host"
        except ValueError as error:
            fault = str(error)
        if fault or parts.username or parts.password:
            # An address with a user may contain a password, so it is not shown.
            shown, reason = (address, fault) if fault else ("the source", "it has a user before the host")
            raise AcdError(ErrorCode.STAC_API_FAILED, f"{shown} is not the address of a STAC API: {reason}")
        query = {key: values[-1] for key, values in parse_qs(parts.query).items()}
        if unknown := sorted(query.keys() - {"collections", "ids", "bbox", "datetime", "limit"}):
            raise AcdError(
                ErrorCode.STAC_API_FAILED,
                f"{without_query(address)} has unsupported parameters: {', '.join(unknown)}",
                "Use collections, ids, bbox and datetime.",
            )
        named = tuple(name for name in query.pop("collections", "").split(",") if name)
        query.pop("limit", None)
        path = parts.path.rstrip("/").removesuffix("/items")
        head, marker, name = path.rpartition("/collections/")
        if marker and "/" not in name:
            path, named = head, (unquote(name),)
        return cls(f"{parts.scheme}://{parts.netloc}{path.removesuffix('/search')}", named, query)


def read_stac_api(
    address: str,
    area: Mapping[str, Any] | None = None,
    start: datetime | None = None,
    end: datetime | None = None,
    *,
    refused: list[tuple[str, AcdError]] | None = None,
) -> list[dict[str, Any]]:
    """Read the items of a collection or a search, ordered by collection and id. Assets are as in `read_stac`.

    Args:
        address: `https://.../collections/NAME`, or `https://.../search?collections=NAME` with bbox, datetime or ids.
        area: only items that intersect this GeoJSON geometry, unless the address has a bbox.
        start: only items from then on, unless the address has a datetime. Used together with `end`.
        end: only items up to then.
        refused: gets the invalid items, as in `read_stac`.

    Raises:
        AcdError: EXTRA_MISSING without pystac-client, STAC_API_FAILED, STAC_API_UNREACHABLE, SOURCE_TOO_LARGE,
            STAC_INVALID.
    """
    parts = ApiAddress.of(address)
    server = _Server(address)
    query: dict[str, Any] = dict(parts.query)
    if area is not None and "bbox" not in query:
        query["intersects"] = dict(area)
    if start is not None and end is not None and "datetime" not in query:
        query["datetime"] = (start, end)
    client = server.open(parts.root)
    if not parts.collections and "ids" not in query:
        raise _without_collection(server, client, address)
    items = server.items(client, parts.collections, query)
    if len(items) > MOST_ITEMS:
        raise AcdError(ErrorCode.SOURCE_TOO_LARGE, f"{address} has more than {MOST_ITEMS:,} items")
    ordered = sorted(items, key=lambda item: (str(item.get("collection")), str(item.get("id"))))
    return usable_items(ordered, address, refused)


def _without_collection(server: _Server, client: Client, address: str) -> AcdError:
    names = server.collections(client)
    more = f" and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else ""
    return AcdError(
        ErrorCode.STAC_API_FAILED,
        f"{address} has no collection; those of the API are {', '.join(names[:NAMES_SHOWN]) or 'none'}{more}",
        f"Give {ApiAddress.of(address).root}/collections/NAME.",
    )


class _Server:
    """Requests to one server. Failures become AcdErrors."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._io, self._refused = _io_of(address)

    def open(self, root: str) -> Client:
        """Open the API, reading its landing page."""
        from pystac_client import Client

        try:
            return Client.open(root, stac_io=self._io)
        except Exception as error:  # an invalid reply may raise almost any exception in pystac
            raise self._explained(error) from error

    def items(self, client: Client, collections: tuple[str, ...], query: dict[str, Any]) -> list[dict[str, Any]]:
        """The items of a search, up to one more than the limit."""
        try:
            methods = {str(link.extra_fields.get("method", "GET")) for link in client.links if link.rel == "search"}
            search = client.search(
                method="GET" if methods == {"GET"} else "POST",
                collections=list(collections) or None,
                limit=ITEMS_PER_PAGE,
                max_items=MOST_ITEMS + 1,
                **query,
            )
            return list(search.items_as_dicts())
        except Exception as error:  # as above
            raise self._explained(error) from error

    def collections(self, client: Client) -> list[str]:
        """Ids of the API's collections, sorted."""
        try:
            return sorted(collection.id for collection in client.get_collections())
        except Exception as error:  # as above
            raise self._explained(error) from error

    def _explained(self, error: Exception) -> AcdError:
        from pystac_client.exceptions import APIError

        if self._refused:
            return AcdError(
                ErrorCode.STAC_API_FAILED,
                f"{self._address} links to {without_query(self._refused[0])}, which is on another server",
                "If you trust that server, give the linked address as --source.",
            )
        status = getattr(error, "status_code", None)
        reason = " ".join(str(error).split())[:200]
        if isinstance(error, APIError) and (status is None or status in BUSY):
            return AcdError(ErrorCode.STAC_API_UNREACHABLE, f"{self._address} does not respond: {reason}")
        reply = f"HTTP {status}" if status else "a reply that is not STAC"
        return AcdError(ErrorCode.STAC_API_FAILED, f"{self._address} returned {reply}: {reason}")


def _io_of(address: str) -> tuple[StacApiIO, list[str]]:
    """Make a session for one server, and the list to which it adds the addresses of refused requests. EXTRA_MISSING."""
    try:
        from pystac_client.stac_api_io import StacApiIO
        from requests.adapters import HTTPAdapter
        from urllib3 import Retry
    except ImportError as error:
        raise AcdError(
            ErrorCode.EXTRA_MISSING,
            f"{address} is a STAC API, and pystac-client is not installed",
            "Install it with: pip install 'acdtask[stac]'",
        ) from error
    refused: list[str] = []
    origin = origin_of(address)

    class OneServer(HTTPAdapter):
        """Refuses requests to other servers, including redirected ones."""

        def send(self, request: PreparedRequest, *more: Any, **named: Any) -> Response:
            if origin_of(request.url or "") != origin:
                refused.append(request.url or "")
                raise OSError(f"{request.url} is not on {origin}")
            return super().send(request, *more, **named)

    session = StacApiIO(timeout=TIMEOUT_S, max_retries=None)
    retries = Retry(total=4, backoff_factor=0.3, status_forcelist=sorted(BUSY), allowed_methods=None)
    for scheme in ("http://", "https://"):
        session.session.mount(scheme, OneServer(max_retries=retries))
    return session, refused
