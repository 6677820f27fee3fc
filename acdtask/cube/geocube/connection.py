"""Which Geocube server, and how it is asked."""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, model_validator

from acdtask.errors import AcdError, ErrorCode

__all__ = ["Connection", "Deadlines"]

ADDRESS = re.compile(r"^(geocubes?)://([^/@\s]+:\d{1,5}|\[[0-9a-fA-F:]+\]:\d{1,5})/?$")
PREFIX = "ACD_GEOCUBE_"

Seconds = Annotated[float, Field(gt=0)]


class Deadlines(BaseModel):
    """Seconds after which a call is given up. A cube is asked for again from where it broke off."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    call: Seconds = 30
    listing: Seconds = 300
    index: Seconds = 120
    cube: Seconds = 840


class Connection(BaseModel):
    """A server and how to speak with it.

    Attributes:
        address: geocube://host:port, or geocubes://host:port with TLS.
        key: API key; empty for none.
        ca_file: certificates (PEM) that the server's must come from; empty for those of this system.
        insecure_key: send the key without TLS to another machine.
        downloader: address of a downloader that reads pixels from the files; empty for none.
        compression: of pixels on the way: -3 none, -2 Huffman only, 0 stored, 1 (fast) to 9 (small).
        retry_seconds: for how long a server that does not answer is asked again.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    address: str
    key: SecretStr = SecretStr("")
    ca_file: str = ""
    insecure_key: bool = False
    downloader: str = ""
    compression: int = Field(default=-3, ge=-3, le=9)
    retry_seconds: float = Field(default=60, ge=0)
    deadlines: Deadlines = Deadlines()

    @model_validator(mode="after")
    def _usable(self) -> Self:
        for address in filter(None, (self.address, self.downloader)):
            if not ADDRESS.match(address):
                raise ValueError(f"{address!r} is not geocube://host:port or geocubes://host:port")
        if self.ca_file and not self.is_secure:
            raise ValueError("ca_file is given, and the address says geocube://, which has no TLS")
        if self.key.get_secret_value() and not (self.is_secure or self.is_near or self.insecure_key):
            raise ValueError(
                f"an API key would go to {self.target} without TLS: use geocubes://, or allow it with insecure_key"
            )
        if not self.key.get_secret_value().isascii() or not self.key.get_secret_value().isprintable():
            raise ValueError("the API key has characters that no header can have")
        return self

    @classmethod
    def to(cls, address: str, **settings: object) -> Connection:
        """The connection to an address. SETTING_INVALID, in a sentence that shows no key."""
        try:
            return cls.model_validate({"address": address, **settings})
        except ValidationError as error:
            first = error.errors(include_input=False, include_url=False)[0]
            where = ".".join(str(part) for part in first["loc"])
            reason = first["msg"].removeprefix("Value error, ")
            raise AcdError(
                ErrorCode.SETTING_INVALID, f"connection to a Geocube: {where + ': ' if where else ''}{reason}"
            ) from error

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> Connection | None:
        """The connection that ACD_GEOCUBE_ADDRESS, _KEY, _CA_FILE, _INSECURE_KEY, _DOWNLOADER, _COMPRESSION say.

        None without an address. SETTING_INVALID.
        """
        names = ("address", "key", "ca_file", "insecure_key", "downloader", "compression")
        given = environment if environment is not None else os.environ
        values = {name: given[PREFIX + name.upper()] for name in names if given.get(PREFIX + name.upper())}
        return cls.to(**values) if "address" in values else None

    @property
    def is_secure(self) -> bool:
        """Whether TLS is spoken."""
        return self.address.startswith("geocubes://")

    @property
    def target(self) -> str:
        """host:port."""
        return target_of(self.address)

    @property
    def is_near(self) -> bool:
        """Whether the server is on this machine."""
        host = self.target.rpartition(":")[0].strip("[]")
        try:
            return ipaddress.ip_address(host).is_loopback
        except ValueError:
            return host == "localhost"

    def certificates(self) -> bytes | None:
        """The content of ca_file, or None for the system's. SETTING_INVALID."""
        if not self.ca_file:
            return None
        try:
            return Path(self.ca_file).read_bytes()
        except OSError as error:
            raise AcdError(
                ErrorCode.SETTING_INVALID, f"ca_file {self.ca_file} cannot be read: {error.strerror}"
            ) from error


def target_of(address: str) -> str:
    """host:port of an address.

    >>> target_of("geocubes://geocube.example.com:443/")
    'geocube.example.com:443'
    """
    return address.partition("://")[2].rstrip("/")
