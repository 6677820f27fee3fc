"""The address and the token: what is refused, and that the token goes nowhere but into its header."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from acdtask import log
from acdtask.errors import AcdError, ErrorCode
from acdtask.ingester.client import IngesterClient
from acdtask.ingester.transport import Place
from tests.ingester.conftest import SHORT, TOKEN
from tests.ingester.standin import Fault, Standin


@pytest.fixture
def everything_logged(capsys: pytest.CaptureFixture[str]) -> Iterator[pytest.CaptureFixture[str]]:
    log.configure("json", verbose=True, quiet=False)
    yield capsys
    log.install(log.LogSettings(), logging.NullHandler())
    logging.captureWarnings(capture=False)


@pytest.mark.parametrize(
    "address",
    [
        "",
        "ingester:8080",
        "ftp://ingester",
        "http://",
        "http://user:pw@ingester",
        "http://a b",
        "http://i?x=1",
        "http://[::1",
    ],
)
def test_an_address_that_is_none_is_refused_and_not_repeated(address: str) -> None:
    with pytest.raises(AcdError) as caught:
        Place(address)
    assert caught.value.code is ErrorCode.SETTING_INVALID
    assert "pw" not in str(caught.value)


@pytest.mark.parametrize("address", ["http://ingester:8080", "http://10.0.0.7", "http://[2001:db8::1]:80"])
def test_a_token_goes_over_plain_http_to_another_machine_only_if_it_is_allowed(address: str) -> None:
    with pytest.raises(AcdError, match="over plain HTTP") as caught:
        Place(address, TOKEN)
    assert (caught.value.code, TOKEN in str(caught.value)) == (ErrorCode.SETTING_INVALID, False)
    assert Place(address).token == ""
    assert Place(address, TOKEN, insecure=True).token == TOKEN


@pytest.mark.parametrize("address", ["https://ingester", "http://localhost:1", "http://127.0.0.2:1", "http://[::1]:1"])
def test_a_token_goes_where_nobody_can_read_it(address: str) -> None:
    assert Place(address, TOKEN).token == TOKEN


def test_the_environment_says_where_and_who(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(AcdError, match="no ingester is given"):
        Place.of_environment()
    monkeypatch.setenv("ACD_INGESTER_ADDRESS", "http://ingester:8080/ ")
    monkeypatch.setenv("ACD_INGESTER_TOKEN", f"{TOKEN}\n")
    with pytest.raises(AcdError, match="over plain HTTP"):
        Place.of_environment()
    monkeypatch.setenv("ACD_INGESTER_INSECURE", "yes")
    assert Place.of_environment() == Place("http://ingester:8080", TOKEN, insecure=True)
    assert Place.of_environment("https://other").address == "https://other"


@pytest.mark.parametrize("token", ["two words", "line\nline", "ü"])
def test_a_token_that_no_header_can_have_is_refused(token: str) -> None:
    with pytest.raises(AcdError, match="ACD_INGESTER_TOKEN") as caught:
        Place("https://ingester", token)
    assert token not in str(caught.value)


def test_the_token_is_sent_and_never_told(
    standin: Standin, client: IngesterClient, address: str, everything_logged: pytest.CaptureFixture[str]
) -> None:
    standin.add_scene("koln", "S1")
    client.aois()
    standin.faults = [Fault("GET", "/aoi", "status", status=500, body=f"who sent {TOKEN}?")]
    with pytest.raises(AcdError, match=r"who sent \*\*\*\?") as caught:
        client.aois()
    assert {one.headers.get("authorization") for one in standin.asked} == {f"Bearer {TOKEN}"}
    told = "".join(everything_logged.readouterr())
    assert "request.answered" in told
    assert TOKEN not in told + str(caught.value) + repr(client.transport.place)
    with pytest.raises(AcdError) as caught:
        IngesterClient.at(Place(address, "another-secret"), SHORT).aois()
    assert "another-secret" not in str(caught.value)


def test_a_redirection_takes_no_token_elsewhere(standin: Standin, client: IngesterClient) -> None:
    standin.faults = [Fault("GET", "/aoi", "status", status=307)]
    with pytest.raises(AcdError, match="redirection"):
        client.aois()
    assert [one.path for one in standin.asked] == ["/aoi/"]


def test_this_machine_is_never_asked_through_a_proxy(
    standin: Standin, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    assert IngesterClient.at(Place(address, TOKEN), SHORT).aois() == []
    assert len(standin.asked) == 1
