"""Addresses on the web. What follows a `?` may be a signature: it is never shown, stored or made part of a name."""

from __future__ import annotations

import ipaddress
import os
import re
import socket
from urllib.parse import unquote, urlsplit

from acdtask.errors import AcdError, ErrorCode

__all__ = [
    "SIGNED_SOURCE",
    "check_address",
    "host_of",
    "is_public",
    "is_web",
    "is_web_api",
    "leads_inside",
    "name_of",
    "origin_of",
    "signed_source",
    "take_signature",
    "without_query",
]

SIGNED_SOURCE = "ACD_SIGNED_SOURCE"
"""The environment variable with the whole address of a source that needs a query."""

LONGEST = 8192
WEB = ("http://", "https://")
UNFIT = re.compile(r"[\x00-\x20\x7f-\x9f\\]")
FILE = re.compile(
    r"\w+://[^/]*/.*[^/]\.(tiff?|vrt|(geo)?json|ndjson|(geo)?jsonl|(geo)?parquet|zip|tar|t?gz|7z|nc4?|h5|hdf5?|he5|img|"
    r"dim|cor|coh|cc|jp2|png|jpe?g)",
    re.IGNORECASE,
)
"""How the addresses of files end; those of an API do not."""

SHARED_NETWORK = ipaddress.ip_network("100.64.0.0/10")


def is_web(address: str) -> bool:
    """Whether an address is one of the web.

    >>> is_web("HTTPS://x.org/a.tif"), is_web("s3://bucket/a.tif")
    (True, False)
    """
    return address.lower().startswith(WEB)


def is_web_api(address: str) -> bool:
    """Whether an address is one of the web, and not that of a file.

    >>> is_web_api("https://x.org/v1/collections/coherence"), is_web_api("https://x.org/items.json?sig=secret")
    (True, False)
    """
    return is_web(address) and FILE.fullmatch(without_query(address)) is None


def without_query(address: str) -> str:
    """The address as it may be shown and stored.

    >>> without_query("https://x.org/a.tif?sig=secret#x")
    'https://x.org/a.tif'
    """
    return re.split(r"[?#]", address, maxsplit=1)[0]


def name_of(address: str) -> str:
    """The name of the file at an address.

    >>> name_of("https://x.org/b/S1%20a.tif?sig=secret")
    'S1 a.tif'
    """
    return unquote(urlsplit(address).path).rpartition("/")[2]


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


def check_address(address: str) -> None:
    """WEB_ADDRESS if no request can be made of an address, or if it has a user or a password."""
    try:
        parts = urlsplit(address)
        fault = "" if parts.hostname and parts.port != 0 else "has no host"
    except ValueError:
        raise AcdError(ErrorCode.WEB_ADDRESS, "an address on the web has no valid host or port") from None
    if parts.username is not None or parts.password is not None:
        host = parts.netloc.rpartition("@")[2]
        raise AcdError(
            ErrorCode.WEB_ADDRESS,
            f"an address at {host} has a user or a password in it",
            "Leave them out of the address, and write them into ~/.netrc.",
        )
    if not fault and not is_web(address):
        fault = "begins with neither http:// nor https://"
    if not fault and (UNFIT.search(address) or len(address) > LONGEST):
        fault = "has blanks, or characters that no address has, or is too long"
    if fault:
        shown = ascii(without_query(address)[:200])
        raise AcdError(ErrorCode.WEB_ADDRESS, f"{shown} {fault}")


def is_public(ip: str) -> bool:
    """Whether an IP address is one of the public internet, and not of this machine or of a network around it.

    >>> is_public("8.8.8.8"), is_public("169.254.169.254"), is_public("::ffff:127.0.0.1")
    (True, False, False)
    """
    number = ipaddress.ip_address(ip.partition("%")[0])
    mapped = getattr(number, "ipv4_mapped", None) or number
    return mapped.is_global and not mapped.is_multicast and mapped not in SHARED_NETWORK


def leads_inside(address: str) -> bool:
    """Whether an address is of this machine or of a network around it; if its host is unknown, it is not."""
    try:
        answers = socket.getaddrinfo(host_of(address), None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return False
    return not all(is_public(str(answer[4][0])) for answer in answers)


def take_signature(source: str) -> str:
    """A source without its query. The whole address goes into the environment, for this process and its workers.

    Only that of a file or a document; the query of a STAC API says what is asked for.
    """
    if not is_web(source) or is_web_api(source):
        return source
    check_address(source)
    plain = without_query(source)
    if plain != source:
        os.environ[SIGNED_SOURCE] = source
    return plain


def signed_source(source: str) -> str:
    """A source with the query that the environment has for it."""
    signed = os.environ.get(SIGNED_SOURCE, "").strip()
    return signed if is_web(source) and signed and without_query(signed) == source else source
