"""Web addresses. The query may be a signature, so it is never shown, stored or used in a name."""

from __future__ import annotations

import os
import re
from urllib.parse import unquote, urlsplit

from acdtask.errors import AcdError, ErrorCode
from acdtask.hosts import HAS_LOGIN, INVALID_HOST, address_fault

__all__ = [
    "SIGNED_SOURCE",
    "check_address",
    "is_web",
    "is_web_api",
    "name_of",
    "signed_source",
    "take_signature",
    "without_query",
]

SIGNED_SOURCE = "ACD_SIGNED_SOURCE"
"""Environment variable with the full address of a source that needs a query."""

LONGEST = 8192
WEB = ("http://", "https://")
UNFIT = re.compile(r"[\x00-\x20\x7f-\x9f\\]")
FILE = re.compile(
    r"\w+://[^/]*/.*[^/]\.(tiff?|vrt|(geo)?json|ndjson|(geo)?jsonl|(geo)?parquet|zip|tar|t?gz|7z|nc4?|h5|hdf5?|he5|img|"
    r"dim|cor|coh|cc|jp2|png|jpe?g)",
    re.IGNORECASE,
)
"""Addresses of files, as opposed to those of an API."""


def is_web(address: str) -> bool:
    """Whether an address begins with http:// or https://.

    >>> is_web("HTTPS://x.org/a.tif"), is_web("s3://bucket/a.tif")
    (True, False)
    """
    return address.lower().startswith(WEB)


def is_web_api(address: str) -> bool:
    """Whether an address is on the web and is not a file's.

    >>> is_web_api("https://x.org/v1/collections/coherence"), is_web_api("https://x.org/items.json?sig=secret")
    (True, False)
    """
    return is_web(address) and FILE.fullmatch(without_query(address)) is None


def without_query(address: str) -> str:
    """Strip query and fragment, so that the address may be shown and stored.

    >>> without_query("https://x.org/a.tif?sig=secret#x")
    'https://x.org/a.tif'
    """
    return re.split(r"[?#]", address, maxsplit=1)[0]


def name_of(address: str) -> str:
    """Name of the file at an address.

    >>> name_of("https://x.org/b/S1%20a.tif?sig=secret")
    'S1 a.tif'
    """
    return unquote(urlsplit(address).path).rpartition("/")[2]


def check_address(address: str) -> None:
    """Raise WEB_ADDRESS if an address is invalid or contains a user or password."""
    fault = address_fault(address, UNFIT) or ("is too long" if len(address) > LONGEST else "")
    if fault == HAS_LOGIN:
        host = urlsplit(address).netloc.rpartition("@")[2]
        raise AcdError(
            ErrorCode.WEB_ADDRESS,
            f"an address at {host} {fault}",
            "Remove them from the address, and put them in ~/.netrc.",
        )
    if fault == INVALID_HOST:
        raise AcdError(ErrorCode.WEB_ADDRESS, f"an address on the web {fault}")
    if fault:
        raise AcdError(ErrorCode.WEB_ADDRESS, f"{without_query(address)[:200]!a} {fault}")


def take_signature(source: str) -> str:
    """Strip the query from a source, and set SIGNED_SOURCE to the full address for this process and its workers.

    Applies to files and documents only: the query of a STAC API is part of the request.
    """
    if not is_web(source) or is_web_api(source):
        return source
    check_address(source)
    plain = without_query(source)
    if plain != source:
        os.environ[SIGNED_SOURCE] = source
    return plain


def signed_source(source: str) -> str:
    """Source with the query that SIGNED_SOURCE has for it, if any."""
    signed = os.environ.get(SIGNED_SOURCE, "").strip()
    return signed if is_web(source) and signed and without_query(signed) == source else source
