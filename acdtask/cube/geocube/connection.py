"""Settings of the connection to a Geocube."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator, model_validator

from acdtask.errors import AcdError, ErrorCode
from acdtask.hosts import is_this_machine

__all__ = ["ADDRESS", "Connection", "Deadlines", "Endpoint"]

ADDRESS, INSECURE_KEY = "ACD_GEOCUBE_ADDRESS", "ACD_GEOCUBE_INSECURE_KEY"
_VARIABLE_OF = {
    "address": ADDRESS,
    "api_key": "ACD_GEOCUBE_KEY",
    "ca_file": "ACD_GEOCUBE_CA_FILE",
    "downloader": "ACD_GEOCUBE_DOWNLOADER",
    "compression": "ACD_GEOCUBE_COMPRESSION",
    "insecure_key": INSECURE_KEY,
}

PLAIN, TLS = "geocube", "geocubes"
NEVER_TOO_OFTEN = 310.0
"""Seconds. Geocube servers close a connection that is pinged more often than every five minutes."""


class Endpoint(NamedTuple):
    """Host and port of a service.

    >>> Endpoint.of("geocubes://cube.example:443")
    Endpoint(host='cube.example', port=443, tls=True)
    """

    host: str
    port: int
    tls: bool

    @classmethod
    def of(cls, address: str) -> Endpoint:
        """The endpoint of an address. ValueError if it is malformed."""
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
        """The endpoint in gRPC's notation."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def address(self) -> str:
        """The endpoint as a geocube:// or geocubes:// address."""
        return f"{TLS if self.tls else PLAIN}://{self.target}"


class Deadlines(BaseModel):
    """Deadlines in seconds, by kind of call.

    Attributes:
        short: reading or creating a single item.
        listing: listing or creating many items.
        cube: a stream of pixels; a broken one is resumed.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    short: float = Field(default=30.0, gt=0)
    listing: float = Field(default=300.0, gt=0)
    cube: float = Field(default=1200.0, gt=0)


class Connection(BaseModel):
    """Address, key and other settings of a connection. Picklable, including the key; the key is never printed.

    Attributes:
        address: geocube://host:port, or geocubes://host:port for TLS.
        api_key: sent with every call. A connection that would expose it is rejected.
        ca_file: PEM file of the CAs to trust with TLS; default: the system's.
        downloader: address of a downloader, which streams cubes instead of the server while it is available.
        compression: -3 none, -2 Huffman only, 0 stored, 1 (fast) to 9 (small); "auto": none on a fast link, else 1.
        insecure_key: send the key without TLS to a host other than this one.
        retry_seconds: how long calls to an unresponsive server are retried; for a cube, since its last image.
        attempts: maximum number of attempts.
        first_pause, longest_pause: maximum pause in seconds before the second attempt, and before any attempt.
        keepalive: seconds between pings during a call.
        parallel: maximum number of concurrent calls.
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
        """A connection to an address. SETTING_INVALID, naming the field."""
        try:
            return cls.model_validate({"address": address, **fields})
        except ValidationError as error:
            raise _explain(error) from None

    @classmethod
    def from_environment(cls) -> Connection | None:
        """The connection described by the environment, or None if ACD_GEOCUBE_ADDRESS is not set. SETTING_INVALID.

        Also read: ACD_GEOCUBE_KEY, _CA_FILE, _DOWNLOADER, _COMPRESSION and _INSECURE_KEY (1 or 0).
        """
        address = os.environ.get(ADDRESS, "").strip()
        return cls.to(address, **cls.settings_of_environment()) if address else None

    @staticmethod
    def settings_of_environment() -> dict[str, Any]:
        """Settings from the environment except the address, as fields of a connection."""
        given = {field: os.environ.get(name, "").strip() for field, name in _VARIABLE_OF.items()}
        return {field: text for field, text in given.items() if text and field != "address"}

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
            raise ValueError("the key has characters that are not allowed in a header")
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
            for endpoint in filter(None, (self.endpoint, self.downloader_endpoint)):
                if not endpoint.tls and not is_this_machine(endpoint.host):
                    raise ValueError(
                        f"the key would be sent to {endpoint.address} unencrypted: use {TLS}:// if the server has "
                        f"TLS, or set {INSECURE_KEY}=1 if the network is trusted"
                    )
        return self

    @property
    def endpoint(self) -> Endpoint:
        """The server's endpoint."""
        return Endpoint.of(self.address)

    @property
    def downloader_endpoint(self) -> Endpoint | None:
        """The downloader's endpoint, or None."""
        return Endpoint.of(self.downloader) if self.downloader else None


def _explain(error: ValidationError) -> AcdError:
    first = error.errors(include_input=False, include_url=False)[0]
    field = str(first["loc"][0]) if first["loc"] else ""
    reason = first["msg"].removeprefix("Value error, ")
    if field == "compression":
        reason = "it is -3 (none) to 9 (small), or auto"
    what = f"{field} of the Geocube connection ({_VARIABLE_OF[field]})" if field in _VARIABLE_OF else field
    return AcdError(ErrorCode.SETTING_INVALID, f"{what}: {reason}" if what else reason)
