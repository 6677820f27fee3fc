"""Which credentials go to which host: a token by the environment, or an entry of the netrc file."""

from __future__ import annotations

import base64
import netrc
import os
import re
from pathlib import Path
from urllib.parse import urlsplit

from acdtask.errors import AcdError, ErrorCode
from acdtask.http import UNPRINTABLE, host_of, is_this_machine

__all__ = ["TOKEN", "TOKEN_HOST", "authorization_for"]

TOKEN, TOKEN_HOST = "ACD_WEB_TOKEN", "ACD_WEB_TOKEN_HOST"
"""The environment variables: a bearer token, and the hosts that it is for."""

HOST = re.compile(r"\.?[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?")


def authorization_for(address: str) -> dict[str, str]:
    """The header Authorization of a request, or none. Nothing is sent in the clear, but to this machine.

    WEB_CREDENTIALS if the environment or the netrc file cannot be used.
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
            "Give the https:// address, or take the credentials for this host away if it needs none.",
        )
    return {"Authorization": f"Bearer {token}" if token else f"Basic {login}"}


def _token_for(host: str) -> str:
    """The token, if it is for this host. A secret made of a file often ends with a line end, no part of it."""
    token, hosts = os.environ.get(TOKEN, "").strip(), _hosts()
    if not token:
        return ""
    if UNPRINTABLE.search(token):
        raise AcdError(ErrorCode.WEB_CREDENTIALS, f"{TOKEN} has a blank, or a character that no token has")
    if not hosts:
        raise AcdError(ErrorCode.WEB_CREDENTIALS, f"{TOKEN} is set, and {TOKEN_HOST} does not say for which host")
    is_meant = any(host == named or (named.startswith(".") and host.endswith(named)) for named in hosts)
    return token if is_meant else ""


def _hosts() -> list[str]:
    hosts = [part.strip().lower() for part in os.environ.get(TOKEN_HOST, "").split(",") if part.strip()]
    for host in hosts:
        if not HOST.fullmatch(host) or (host.startswith(".") and "." not in host[1:]):
            raise AcdError(
                ErrorCode.WEB_CREDENTIALS,
                f"{TOKEN_HOST} has {host!r}, which is not the name of a host",
                f"Set {TOKEN_HOST} to hosts such as data.example.org, or .example.org for all below it.",
            )
    return hosts


def _login_for(host: str) -> str:
    """The login for a host as HTTP sends it. The `default` entry of the file counts for no host."""
    named = os.environ.get("NETRC", "")
    try:
        path = Path(named) if named else Path.home() / ".netrc"
        entry = netrc.netrc(path).hosts.get(host) if named or path.is_file() else None
    except (netrc.NetrcParseError, OSError, UnicodeDecodeError, RuntimeError) as error:
        reason = f"line {error.lineno}" if isinstance(error, netrc.NetrcParseError) else type(error).__name__
        raise AcdError(
            ErrorCode.WEB_CREDENTIALS,
            f"the netrc file {named or '~/.netrc'} cannot be read: {reason}",
            "Correct the file, or name another one in NETRC.",
        ) from None
    if entry is None:
        return ""
    user, _, password = entry
    return base64.b64encode(f"{user}:{password or ''}".encode()).decode()
