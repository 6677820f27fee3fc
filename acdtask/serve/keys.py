"""API keys, and the calls that they authorise."""

from __future__ import annotations

import hmac
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Self

from acdtask.errors import AcdError, ErrorCode

__all__ = ["ADMIN_VARIABLE", "USER_VARIABLE", "Keys"]

USER_VARIABLE, ADMIN_VARIABLE = "ACD_SERVE_KEY", "ACD_SERVE_ADMIN_KEY"
PREFIX = "Bearer "
OPEN_SERVICES = ("/grpc.health.v1.", "/grpc.reflection.")
ADMIN_SERVICE = "/geocube.Admin/"


@dataclass(frozen=True)
class Keys:
    """The keys of a server; an empty string means no key.

    Attributes:
        user: authorises calls on the cube. Without it, anyone may call.
        admin: authorises calls on the cube and the service Admin. With only a user key, Admin is disabled.
    """

    user: str = field(default="", repr=False)
    admin: str = field(default="", repr=False)

    @classmethod
    def from_environment(cls) -> Self:
        """The keys in ACD_SERVE_KEY and ACD_SERVE_ADMIN_KEY. SETTING_INVALID if one is not allowed in a header."""
        return cls(_key(USER_VARIABLE), _key(ADMIN_VARIABLE))

    @property
    def is_open(self) -> bool:
        """Whether anyone may read and write the cube."""
        return not self.user

    def refuse(self, method: str, headers: Iterable[str]) -> str:
        """The reason to refuse a call with these values of `authorization` headers; empty if it is authorised.

        >>> keys = Keys(user="secret")
        >>> [keys.refuse("/geocube.Geocube/GetCube", [sent]) for sent in ("Bearer secret", "Bearer x", "secret")]
        ['', 'invalid token', 'missing "Bearer " prefix']
        """
        if method.startswith(OPEN_SERVICES):
            return ""
        for_admin = method.startswith(ADMIN_SERVICE)
        if self.is_open and not (for_admin and self.admin):
            return ""
        allowed = [self.admin] if for_admin else [self.user, self.admin]
        reason = "invalid token"
        for header in headers:
            if not header.startswith(PREFIX):
                reason = f'missing "{PREFIX}" prefix'
            elif _is_one_of(header.removeprefix(PREFIX), allowed):
                return ""
            else:
                reason = "invalid token"
        return reason


def _is_one_of(given: str, allowed: Iterable[str]) -> bool:
    """Compare with all keys in constant time, so that timing does not reveal a partial match."""
    same = [hmac.compare_digest(given.encode(), key.encode()) for key in allowed if key]
    return any(same)


def _key(variable: str) -> str:
    key = os.environ.get(variable, "").strip()
    if not (key.isascii() and key.isprintable()) or " " in key:
        raise AcdError(
            ErrorCode.SETTING_INVALID,
            f"{variable} has characters that are not allowed in a header",
            "Use letters and digits.",
        )
    return key
