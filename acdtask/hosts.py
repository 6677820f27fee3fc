"""Hosts of web addresses: validity, origin, and whether a host is this machine, private or public."""

from __future__ import annotations

import ipaddress
import re
import socket
from urllib.parse import urlsplit

__all__ = [
    "HAS_LOGIN",
    "INVALID_HOST",
    "UNPRINTABLE",
    "address_fault",
    "host_of",
    "is_public",
    "is_this_machine",
    "leads_inside",
    "origin_of",
]

UNPRINTABLE = re.compile(r"[^\x21-\x7e]")
"""Characters that neither an address nor a token may contain."""

HAS_LOGIN = "contains a user or password"
INVALID_HOST = "has no valid host or port"
SHARED_NETWORK = ipaddress.ip_network("100.64.0.0/10")


def address_fault(url: str, unfit: re.Pattern[str] = UNPRINTABLE) -> str:
    """Describe what is wrong with a web address, as the end of a sentence; empty if it is valid.

    >>> address_fault("ftp://x.org"), address_fault("https://me:secret@x.org"), address_fault("https://x.org/?a=1")
    ('does not begin with http:// or https://', 'contains a user or password', '')
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
        return "does not begin with http:// or https://"
    if port == 0:
        return INVALID_HOST
    return "contains a character that URLs do not allow" if unfit.search(url) else ""


def host_of(address: str) -> str:
    """Host of an address, in lower case."""
    return (urlsplit(address).hostname or "").lower()


def origin_of(address: str) -> str:
    """Origin of an address: scheme, host and port.

    >>> origin_of("https://X.org/a"), origin_of("http://x.org:8080/a")
    ('https://x.org:443', 'http://x.org:8080')
    """
    parts = urlsplit(address)
    scheme = parts.scheme.lower()
    return f"{scheme}://{host_of(address)}:{parts.port or {'http': 80, 'https': 443}.get(scheme)}"


def is_this_machine(host: str) -> bool:
    """Whether a host is this machine, so that nobody can intercept the connection.

    >>> is_this_machine("localhost"), is_this_machine("127.0.0.2"), is_this_machine("10.0.0.1")
    (True, True, False)
    """
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def is_public(ip: str) -> bool:
    """Whether an IP address is on the public internet, and not this machine's or a private network's.

    >>> is_public("8.8.8.8"), is_public("169.254.169.254"), is_public("::ffff:127.0.0.1")
    (True, False, False)
    """
    number = ipaddress.ip_address(ip.partition("%")[0])
    mapped = getattr(number, "ipv4_mapped", None) or number
    return mapped.is_global and not mapped.is_multicast and mapped not in SHARED_NETWORK


def leads_inside(address: str) -> bool:
    """Whether an address is on this machine or in a private network; False if its host is unknown."""
    try:
        answers = socket.getaddrinfo(host_of(address), None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return False
    return not all(is_public(str(answer[4][0])) for answer in answers)
