"""Settings of a connection, and what is refused before anything is sent."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from acdtask.cube.geocube.connection import Connection, Endpoint
from acdtask.errors import AcdError, ErrorCode

SECRET = "a-very-secret-key"  # noqa: S105  # of no server


@pytest.mark.parametrize(
    ("address", "target", "tls"),
    [
        ("geocube://localhost:8080", "localhost:8080", False),
        ("geocubes://cube.example.com:443/", "cube.example.com:443", True),
        ("geocube://[::1]:8080", "[::1]:8080", False),
        ("geocube://10.0.0.1:1", "10.0.0.1:1", False),
    ],
)
def test_addresses(address: str, target: str, tls: bool) -> None:
    endpoint = Connection.to(address).endpoint
    assert (endpoint.target, endpoint.tls) == (target, tls)
    assert Endpoint.of(endpoint.address) == endpoint


@pytest.mark.parametrize(
    "address",
    [
        "",
        "localhost:8080",
        "http://localhost:8080",
        "geocube://localhost",
        "geocube://:8080",
        "geocube://localhost:0",
        "geocube://localhost:99999",
        "geocube://localhost:8080/path",
        "geocube://user:word@localhost:8080",
        "geocube://localhost:8080?x=1",
        "geocube://[::1:8080",
    ],
)
def test_an_invalid_address_is_refused(address: str) -> None:
    with pytest.raises(AcdError, match="address of the Geocube connection") as error:
        Connection.to(address)
    assert error.value.code is ErrorCode.SETTING_INVALID


def test_a_key_is_never_shown() -> None:
    connection = Connection.to("geocubes://cube.example.com:443", api_key=SECRET)
    assert SECRET not in repr(connection) + str(connection) + connection.model_dump_json()
    with pytest.raises(AcdError) as error:
        Connection.to("geocube://cube.example.com:80", api_key=SECRET)
    assert SECRET not in str(error.value) + repr(error.value)


def test_a_connection_is_pickled_with_its_key() -> None:
    connection = Connection.to("geocubes://cube.example.com:443", api_key=SECRET)
    assert pickle.loads(pickle.dumps(connection)) == connection  # noqa: S301  # made here
    assert connection.api_key.get_secret_value() == SECRET


def test_a_key_is_sent_unencrypted_only_if_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    for address in ("geocube://localhost:80", "geocube://127.0.0.1:80", "geocube://[::1]:80", "geocubes://far:443"):
        Connection.to(address, api_key=SECRET)
    with pytest.raises(
        AcdError, match=r"key would be sent to geocube://far:80 unencrypted.* ACD_GEOCUBE_INSECURE_KEY=1"
    ):
        Connection.to("geocube://far:80", api_key=SECRET)
    with pytest.raises(AcdError, match=r"key would be sent to geocube://far:81"):
        Connection.to("geocubes://near:80", api_key=SECRET, downloader="geocube://far:81")
    Connection.to("geocube://far:80", api_key=SECRET, insecure_key=True)
    monkeypatch.setenv("ACD_GEOCUBE_ADDRESS", "geocube://far:80")
    monkeypatch.setenv("ACD_GEOCUBE_KEY", SECRET)
    with pytest.raises(AcdError, match="unencrypted"):
        Connection.from_environment()
    monkeypatch.setenv("ACD_GEOCUBE_INSECURE_KEY", "1")
    connection = Connection.from_environment()
    assert connection is not None
    assert connection.api_key.get_secret_value() == SECRET


def test_settings_are_read_from_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("ACD_GEOCUBE_ADDRESS", raising=False)
    assert Connection.from_environment() is None
    (tmp_path / "ca.pem").write_text("")
    for name, value in {
        "ADDRESS": "geocubes://cube:443",
        "KEY": SECRET,
        "CA_FILE": str(tmp_path / "ca.pem"),
        "DOWNLOADER": "geocubes://down:444",
        "COMPRESSION": "3",
    }.items():
        monkeypatch.setenv(f"ACD_GEOCUBE_{name}", value)
    assert Connection.from_environment() == Connection.to(
        "geocubes://cube:443",
        api_key=SECRET,
        ca_file=tmp_path / "ca.pem",
        downloader="geocubes://down:444",
        compression=3,
    )


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("compression", 10, "-3 .none. to 9"),
        ("compression", "fast", "-3 .none. to 9"),
        ("ca_file", "/nowhere/ca.pem", "there is no file /nowhere/ca.pem"),
        ("api_key", "two words", "not allowed in a header"),
        ("downloader", "localhost:1", "ACD_GEOCUBE_DOWNLOADER"),
    ],
)
def test_a_bad_setting_is_named(field: str, value: object, message: str) -> None:
    with pytest.raises(AcdError, match=message) as error:
        Connection.to("geocubes://cube:443", **{field: value})
    assert error.value.code is ErrorCode.SETTING_INVALID
