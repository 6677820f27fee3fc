"""Credentials for a host: a token from the environment, or an entry of the netrc file."""

from __future__ import annotations

import base64
import netrc
import os
import re
from pathlib import Path
from urllib.parse import urlsplit

from acdtask.errors import AcdError, ErrorCode
from acdtask.hosts import UNPRINTABLE, host_of, is_this_machine

__all__ = ["TOKEN", "TOKEN_HOST", "authorization_for"]

TOKEN, TOKEN_HOST = "ACD_WEB_TOKEN", "ACD_WEB_TOKEN_HOST"
"""Environment variables with a bearer token and the hosts that receive it."""

HOST = re.compile(r"\.?[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?")


def authorization_for(address: str) -> dict[str, str]:
    """Authorization header for a request; empty if there are no credentials. Without TLS, only for this machine.

    WEB_CREDENTIALS if TLS is missing, or if the environment or the netrc file is invalid.
    """
    host = host_of(address)
    token = _token_for(host)
    login = None if token else _login_for(host)
    if not (token or login):
        return {}
    if urlsplit(address).scheme.lower() != "https" and not is_this_machine(host):
        raise AcdError(
            ErrorCode.WEB_CREDENTIALS,
            f"the credentials for {host} would be sent without TLS",
            "Use the https:// address, or remove the credentials for this host if it needs none.",
        )
    return {"Authorization": f"Bearer {token}" if token else f"Basic {login}"}


def _token_for(host: str) -> str:
    """Token for this host, or an empty text. Surrounding whitespace, such as the newline of a file, is ignored."""
    token, hosts = os.environ.get(TOKEN, "").strip(), _hosts()
    if not token:
        return ""
    if UNPRINTABLE.search(token):
        raise AcdError(ErrorCode.WEB_CREDENTIALS, f"{TOKEN} contains whitespace or another invalid character")
    if not hosts:
        raise AcdError(ErrorCode.WEB_CREDENTIALS, f"{TOKEN} is set, but {TOKEN_HOST} names no host")
    receives_token = any(host == named or (named.startswith(".") and host.endswith(named)) for named in hosts)
    return token if receives_token else ""


def _hosts() -> list[str]:
    hosts = [part.strip().lower() for part in os.environ.get(TOKEN_HOST, "").split(",") if part.strip()]
    for host in hosts:
        if not HOST.fullmatch(host) or (host.startswith(".") and "." not in host[1:]):
            raise AcdError(
                ErrorCode.WEB_CREDENTIALS,
                f"{TOKEN_HOST} contains {host!r}, which is not a host name",
                f"Set {TOKEN_HOST} to hosts such as data.example.org, or .example.org for all its subdomains.",
            )
    return hosts


def _login_for(host: str) -> str:
    """Basic credentials for a host from the netrc file. Its `default` entry is never used."""
    named = os.environ.get("NETRC", "")
    try:
        path = Path(named) if named else Path.home() / ".netrc"
        entry = netrc.netrc(path).hosts.get(host) if named or path.is_file() else None
    except (netrc.NetrcParseError, OSError, UnicodeDecodeError, RuntimeError) as error:
        reason = f"line {error.lineno}" if isinstance(error, netrc.NetrcParseError) else type(error).__name__
        raise AcdError(
            ErrorCode.WEB_CREDENTIALS,
            f"the netrc file {named or '~/.netrc'} cannot be read: {reason}",
            "Correct the file, or set NETRC to another file.",
        ) from None
    if entry is None:
        return ""
    user, _, password = entry
    return base64.b64encode(f"{user}:{password or ''}".encode()).decode()
