"""Which Geocube, and how to talk to it."""

from __future__ import annotations

import ipaddress
import os
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator, model_validator

from acdtask.errors import AcdError, ErrorCode

__all__ = ["ADDRESS", "Connection", "Deadlines", "Endpoint"]

ADDRESS, KEY, CA_FILE = "ACD_GEOCUBE_ADDRESS", "ACD_GEOCUBE_KEY", "ACD_GEOCUBE_CA_FILE"
DOWNLOADER, COMPRESSION, INSECURE_KEY = "ACD_GEOCUBE_DOWNLOADER", "ACD_GEOCUBE_COMPRESSION", "ACD_GEOCUBE_INSECURE_KEY"

PLAIN, TLS = "geocube", "geocubes"
NEVER_TOO_OFTEN = 310.0
"""Geocube's servers end a connection that is pinged more often than every five minutes."""


class Endpoint(NamedTuple):
    """Where a service listens.

    >>> Endpoint.of("geocubes://cube.example:443")
    Endpoint(host='cube.example', port=443, tls=True)
    """

    host: str
    port: int
    tls: bool

    @classmethod
    def of(cls, address: str) -> Endpoint:
        """The endpoint of an address; raises ValueError."""
        try:
            parts = urlsplit(address)
            host, port = parts.hostname, parts.port
        except ValueError as error:
            raise ValueError(f"{address!r} is not a valid address: {error}") from error
        rest = parts.path.strip("/") or parts.query or parts.fragment or "@" in parts.netloc
        if parts.scheme not in (PLAIN, TLS) or not host or not port or rest:
            raise ValueError(f"{address!r} is neither geocube://host:port nor, for TLS, geocubes://host:port")
        return cls(host, port, parts.scheme == TLS)

    @property
    def target(self) -> str:
        """As gRPC has it."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def address(self) -> str:
        """As people have it."""
        return f"{TLS if self.tls else PLAIN}://{self.target}"

    @property
    def is_loopback(self) -> bool:
        """Whether nobody can listen on the way."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"


class Deadlines(BaseModel):
    """Seconds after which a call is given up, by the kind of the call.

    Attributes:
        short: one thing is asked or made.
        listing: many things are listed or made.
        cube: a stream of pixels; it is opened again where it broke off.
        admin: what a server does with whole tables.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    short: float = Field(default=30.0, gt=0)
    listing: float = Field(default=300.0, gt=0)
    cube: float = Field(default=1200.0, gt=0)
    admin: float = Field(default=900.0, gt=0)


class Connection(BaseModel):
    """A Geocube, and how to talk to it. Picklable, with the key in it; the key is never printed.

    Attributes:
        address: geocube://host:port, or geocubes://host:port for TLS.
        api_key: goes with every call, or the connection is refused: never dropped in silence.
        ca_file: PEM file of the authorities to trust with TLS; default: the system's.
        downloader: address of a downloader, which streams cubes in place of the server while it is there.
        compression: -3 none, -2 Huffman only, 0 stored, 1 (fast) to 9 (small); "auto": none on a fast link, else 1.
        insecure_key: send the key without TLS to a host other than this one.
        retry_seconds: for how long a server that does not answer is asked again; for a cube, without one more image.
        attempts: how often, at most.
        first_pause, longest_pause: seconds, at most, before the second attempt, and before any.
        keepalive: seconds between pings while a call is under way.
        parallel: calls at once where many are made.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    address: str
    api_key: SecretStr = SecretStr("")
    ca_file: Path | None = None
    downloader: str = ""
    compression: Annotated[int, Field(ge=-3, le=9)] | Literal["auto"] = "auto"
    insecure_key: bool = False
    deadlines: Deadlines = Deadlines()
    retry_seconds: float = Field(default=60.0, ge=0)
    attempts: int = Field(default=12, ge=1)
    first_pause: float = Field(default=0.5, ge=0)
    longest_pause: float = Field(default=15.0, ge=0)
    keepalive: float = Field(default=NEVER_TOO_OFTEN, gt=0)
    parallel: int = Field(default=8, ge=1, le=64)

    @classmethod
    def to(cls, address: str, **fields: Any) -> Connection:
        """A connection to an address. SETTING_INVALID naming the field."""
        try:
            return cls.model_validate({"address": address, **fields})
        except ValidationError as error:
            raise _explain(error) from None

    @classmethod
    def from_environment(cls) -> Connection | None:
        """The connection that the environment describes, None if it names no server; SETTING_INVALID.

        ACD_GEOCUBE_ADDRESS; _KEY, _CA_FILE, _DOWNLOADER, _COMPRESSION and _INSECURE_KEY (1 or 0) if they are set.
        """
        address = os.environ.get(ADDRESS, "").strip()
        return cls.to(address, **cls.settings_of_environment()) if address else None

    @staticmethod
    def settings_of_environment() -> dict[str, Any]:
        """What the environment says beside the address, as fields of a connection."""
        names = {
            "api_key": KEY,
            "ca_file": CA_FILE,
            "downloader": DOWNLOADER,
            "compression": COMPRESSION,
            "insecure_key": INSECURE_KEY,
        }
        return {field: os.environ[name].strip() for field, name in names.items() if os.environ.get(name, "").strip()}

    @field_validator("address")
    @classmethod
    def _is_address(cls, address: str) -> str:
        return Endpoint.of(address).address

    @field_validator("downloader")
    @classmethod
    def _is_downloader(cls, address: str) -> str:
        return Endpoint.of(address).address if address else ""

    @field_validator("api_key")
    @classmethod
    def _is_key(cls, key: SecretStr) -> SecretStr:
        text = key.get_secret_value()
        if not (text.isascii() and text.isprintable()) or " " in text:
            raise ValueError("the key has characters that no header can have")
        return key

    @field_validator("ca_file")
    @classmethod
    def _is_file(cls, path: Path | None) -> Path | None:
        if path is not None and not path.is_file():
            raise ValueError(f"there is no file {path}")
        return path

    @model_validator(mode="after")
    def _key_is_safe(self) -> Connection:
        if self.api_key.get_secret_value() and not self.insecure_key:
            for one in filter(None, (self.endpoint, self.downloader_endpoint)):
                if not one.tls and not one.is_loopback:
                    raise ValueError(
                        f"everybody between here and {one.address} could read the key: say {TLS}:// if the server has "
                        f"TLS, or {INSECURE_KEY}=1 if the network is trusted"
                    )
        return self

    @property
    def endpoint(self) -> Endpoint:
        """Of the server."""
        return Endpoint.of(self.address)

    @property
    def downloader_endpoint(self) -> Endpoint | None:
        """Of the downloader, if there is one."""
        return Endpoint.of(self.downloader) if self.downloader else None


_VARIABLE_OF = {
    "address": ADDRESS,
    "api_key": KEY,
    "ca_file": CA_FILE,
    "downloader": DOWNLOADER,
    "compression": COMPRESSION,
    "insecure_key": INSECURE_KEY,
}


def _explain(error: ValidationError) -> AcdError:
    first = error.errors(include_input=False, include_url=False)[0]
    field = str(first["loc"][0]) if first["loc"] else ""
    reason = first["msg"].removeprefix("Value error, ")
    if field == "compression":
        reason = "it is -3 (none) to 9 (small), or auto"
    what = f"{field} of the Geocube connection ({_VARIABLE_OF[field]})" if field in _VARIABLE_OF else field
    return AcdError(ErrorCode.SETTING_INVALID, f"{what}: {reason}" if what else reason)
