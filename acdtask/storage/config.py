"""Configuration of object stores from the environment, for both obstore and GDAL."""

from __future__ import annotations

import os
import re
from datetime import timedelta
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from acdtask.errors import AcdError, ErrorCode

if TYPE_CHECKING:
    from obstore.store import S3Config, S3Store

__all__ = ["gdal_options", "gdal_s3_options", "open_bucket", "s3_config"]

ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
"""Variables with the address of the object store; the first one set is used."""

UNSIGNED = ("AWS_NO_SIGN_REQUEST", "AWS_SKIP_SIGNATURE")
"""GDAL's and obstore's variables for public buckets: requests are not signed."""

SENT_IN_HEADERS = (
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_REGION",
    "AWS_DEFAULT_REGION",
)

YES = frozenset({"1", "true", "yes", "y", "on"})
NO = frozenset({"", "0", "false", "no", "n", "off"})
GDAL_CACHE_BYTES = 16 * 1024 * 1024
"""Size of GDAL's cache of decoded blocks in each process; the default is 5 % of the machine's memory."""

USER = re.compile(r"//[^/]*@")
HOST = re.compile(r"[A-Za-z0-9._-]+|[0-9A-Fa-f:.]+")


def s3_config() -> S3Config:
    """Options for obstore's S3Store in addition to those that it reads from the environment itself.

    ENDPOINT_INVALID, STORE_CONFIG_INVALID.
    """
    _check_plain()
    _check_unsigned()
    config: S3Config = {"skip_signature": _is_anonymous()}
    if endpoint := _checked_endpoint():
        config["endpoint"] = endpoint
    return config


def open_bucket(bucket: str, prefix: str, retries: int, retry_seconds: float) -> S3Store:
    """Open a prefix of a bucket with obstore. ENDPOINT_INVALID, STORE_CONFIG_INVALID."""
    from obstore.store import S3Store

    return S3Store(
        bucket,
        prefix=prefix or None,
        config=s3_config(),
        client_options={
            "allow_http": True,
            "connect_timeout": timedelta(seconds=5),
            "timeout": timedelta(minutes=2),
        },
        retry_config={
            "max_retries": retries,
            "retry_timeout": timedelta(seconds=retry_seconds),
            "backoff": {"init_backoff": timedelta(seconds=0.1), "max_backoff": timedelta(seconds=5), "base": 2},
        },
    )


def gdal_options() -> dict[str, str | int]:
    """Options for rasterio.Env: S3 access, no search for sidecar files, a small block cache."""
    options: dict[str, str | int] = {
        "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
        "GDAL_HTTP_MAX_RETRY": "6",
        "GDAL_HTTP_RETRY_DELAY": "0.3",
        "GDAL_HTTP_RETRY_CODES": "408,429,500,502,503,504",
        "GDAL_HTTP_CONNECTTIMEOUT": "10",
        "GDAL_PAM_ENABLED": "NO",
    }
    if "GDAL_CACHEMAX" not in os.environ:
        options["GDAL_CACHEMAX"] = GDAL_CACHE_BYTES
    return options | gdal_s3_options()


def gdal_s3_options() -> dict[str, str | int]:
    """Options for rasterio.Env: the S3 endpoint, and whether requests are signed.

    GDAL reads keys and web identity from the environment itself. Nothing is checked here, since local files use these
    options too; `s3_config` checks the environment when a bucket is listed.
    """
    options: dict[str, str | int] = {}
    _, endpoint = _endpoint()
    if endpoint:
        scheme, _, host = endpoint.rpartition("://")
        options["AWS_S3_ENDPOINT"] = host.rstrip("/")
        options["AWS_HTTPS"] = "NO" if scheme.lower() == "http" else "YES"
        options["AWS_VIRTUAL_HOSTING"] = "FALSE"
    # Always set: rasterio keeps the value of an earlier Env of this process.
    options["AWS_NO_SIGN_REQUEST"] = "YES" if _is_anonymous() else "NO"
    return options


def _check_plain() -> None:
    """Reject variables with whitespace, such as the newline of a secret made from a file. STORE_CONFIG_INVALID."""
    for name in SENT_IN_HEADERS:
        if re.search(r"[\s\x00-\x1f\x7f]", os.environ.get(name, "")):
            raise AcdError(
                ErrorCode.STORE_CONFIG_INVALID,
                f"{name} contains whitespace",
                f"Set {name} without spaces and line breaks.",
            )


def _endpoint() -> tuple[str, str]:
    """Name and value of the variable with the object store's address; both empty for AWS."""
    name = next((name for name in ENDPOINTS if os.environ.get(name)), "")
    return name, os.environ.get(name, "")


def _checked_endpoint() -> str:
    name, text = _endpoint()
    if text and (fault := _fault(text)):
        raise AcdError(
            ErrorCode.ENDPOINT_INVALID,
            f"{name} is {USER.sub('//...@', text)!r}, which {fault}",
            f"Set {name} to an address such as http://localhost:9000 or https://s3.example.org.",
        )
    return text


def _fault(text: str) -> str:
    """Describe what is wrong with an address; empty if it is valid."""
    if text != text.strip() or re.search(r"\s", text):
        return "contains whitespace"
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError as error:
        return f"is not an address: {error}"
    if parts.scheme.lower() not in ("http", "https") or "//" not in text:
        return "does not begin with http:// or https://"
    if not parts.hostname or not HOST.fullmatch(parts.hostname) or port == 0:
        return "has no valid host"
    if parts.username or parts.query or parts.fragment:
        return "may only have a host, a port and a path"
    return ""


def _is_anonymous() -> bool:
    return any(os.environ.get(name, "").strip().lower() in YES for name in UNSIGNED)


def _check_unsigned() -> None:
    for name in UNSIGNED:
        text = os.environ.get(name, "")
        if text.strip().lower() not in YES | NO:
            raise AcdError(
                ErrorCode.STORE_CONFIG_INVALID,
                f"{name} is {text!r}",
                f"Set {name} to YES for a public bucket, or unset it.",
            )
