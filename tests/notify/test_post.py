"""Posting to a real server: the request, and the meaning of replies."""

from __future__ import annotations

import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from cloudevents.core.bindings.http import HTTPMessage, from_structured_event

from acdtask.errors import AcdError, ErrorCode
from acdtask.notify.post import AUTHORIZATION, check_webhook, post_event
from tests.notify.receiver import Receiver, receiving

ATTRIBUTES = {
    "specversion": "1.0",
    "type": "io.github.acd.run.heartbeat",
    "source": "/namespaces/acd/workflows/acd-all-x",
    "id": "7c1e-succeeded",
    "subject": "köln",
    "datacontenttype": "application/json",
}
DATA = {"patches": 0, "aoi": "köln"}
TOKEN = "Bearer a-secret-of-the-receiver"  # noqa: S105  # made up


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "no_proxy", "NO_PROXY", AUTHORIZATION):
        monkeypatch.delenv(name, raising=False)


def refusal(url: str) -> AcdError:
    with pytest.raises(AcdError) as caught:
        post_event(url, ATTRIBUTES, DATA)
    return caught.value


def test_an_event_arrives_as_structured_json() -> None:
    with receiving() as receiver:
        assert post_event(receiver.url, ATTRIBUTES, DATA) == 204
    (request,) = receiver.requests
    assert request["path"] == "/hooks/acd?team=ground"
    headers = {name.lower(): value for name, value in request["headers"].items()}
    assert headers["content-type"] == "application/cloudevents+json"
    assert "authorization" not in headers
    event = from_structured_event(HTTPMessage(headers=headers, body=request["body"]))
    assert (event.get_id(), event.get_subject(), event.get_data()) == ("7c1e-succeeded", "köln", DATA)
    assert event.get_time() is not None


def test_a_token_comes_from_the_environment_and_is_in_no_message(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(AUTHORIZATION, f"{TOKEN}\n")
    with receiving([401]) as receiver:
        error = refusal(receiver.url)
    assert receiver.requests[0]["headers"]["authorization"] == TOKEN
    assert TOKEN not in f"{error!r} {error} {error.fix} {capsys.readouterr()}"


def test_a_token_that_is_no_header_is_refused_before_anything_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(AUTHORIZATION, "Bearer a\r\nX-Other: b")
    with receiving() as receiver:
        error = refusal(receiver.url)
    assert (error.code, receiver.requests) == (ErrorCode.WEBHOOK_INVALID, [])
    assert "X-Other" not in str(error)


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_an_answer_that_may_pass_is_tried_again_by_whoever_called(status: int) -> None:
    with receiving([status]) as receiver:
        error = refusal(receiver.url)
    assert (error.code, error.code.value.exit_status) == (ErrorCode.WEBHOOK_UNREACHABLE, 75)
    assert str(status) in error.detail
    assert len(receiver.requests) == 1


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 410, 413, 415, 422])
def test_an_answer_that_will_not_pass_says_so(status: int) -> None:
    with receiving([status]) as receiver:
        error = refusal(receiver.url)
    of_content = status in {400, 413, 415, 422}
    assert error.code is (ErrorCode.EVENT_REFUSED if of_content else ErrorCode.WEBHOOK_REFUSED)
    assert error.code.value.exit_status == 78
    assert str(status) in error.detail


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirection_is_not_followed(status: int) -> None:
    with receiving() as other, receiving([status], {"location": other.url}) as receiver:
        error = refusal(receiver.url)
    assert error.code is ErrorCode.WEBHOOK_REFUSED
    assert (len(receiver.requests), other.requests) == (1, [])


def test_nobody_who_listens_is_a_fault_that_may_pass() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]  # bound, and nobody listens
        error = refusal(f"http://127.0.0.1:{port}/")
    assert error.code is ErrorCode.WEBHOOK_UNREACHABLE


def test_a_host_that_has_no_address_is_a_fault_that_may_pass() -> None:
    assert refusal("http://receiver.invalid/").code is ErrorCode.WEBHOOK_UNREACHABLE


@contextmanager
def rude_server(answer: bytes | None) -> Iterator[str]:
    """Accepts connections, and replies something other than HTTP, or never replies."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        stop = threading.Event()

        def serve() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.recv(65536)
                if answer is None:
                    stop.wait(20)
                else:
                    connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/"
        stop.set()
        thread.join()


def test_an_answer_that_never_comes_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("acdtask.notify.post.ANSWER_SECONDS", 0.3)
    with rude_server(None) as url:
        assert refusal(url).code is ErrorCode.WEBHOOK_UNREACHABLE


@pytest.mark.parametrize("answer", [b"", b"220 mail.example.com ESMTP\r\n"])
def test_an_answer_that_is_no_http_is_a_fault_that_may_pass(answer: bytes) -> None:
    with rude_server(answer) as url:
        assert refusal(url).code is ErrorCode.WEBHOOK_UNREACHABLE


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A key with a self-signed certificate for 127.0.0.1."""
    file = tmp_path_factory.mktemp("tls") / "both.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    command += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(file), "-out", f"{file}.crt"]
    subprocess.run(command, check=True, capture_output=True)
    file.write_text(file.read_text() + Path(f"{file}.crt").read_text())
    return file


def behind_tls(receiver: Receiver, certificate: Path) -> str:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    receiver.server.socket = context.wrap_socket(receiver.server.socket, server_side=True)
    return receiver.url.replace("http:", "https:")


def test_a_certificate_is_checked(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with receiving() as receiver:
        url = behind_tls(receiver, certificate)
        error = refusal(url)
        assert (error.code, receiver.requests) == (ErrorCode.WEBHOOK_REFUSED, [])
        assert "certificate" in error.detail
        monkeypatch.setenv("SSL_CERT_FILE", f"{certificate}.crt")
        assert post_event(url, ATTRIBUTES, DATA) == 204


def test_a_proxy_of_the_environment_is_used_and_its_exceptions_too(monkeypatch: pytest.MonkeyPatch) -> None:
    with receiving() as proxy:
        monkeypatch.setenv("http_proxy", proxy.url.partition("/hooks")[0])
        assert post_event("http://receiver.invalid/a", ATTRIBUTES, DATA) == 204
        assert proxy.requests[0]["path"] == "http://receiver.invalid/a"
        monkeypatch.setenv("no_proxy", "receiver.invalid")
        assert refusal("http://receiver.invalid/a").code is ErrorCode.WEBHOOK_UNREACHABLE


@pytest.mark.parametrize(
    "url",
    [
        "",
        "receiver.example.com/hook",
        "ftp://receiver.example.com/",
        "file:///etc/passwd",
        "https://",
        "https:///path",
        "https://user:secret@receiver.example.com/",
        "https://secret@receiver.example.com/",
        "https://receiver.example.com:port/",
        "https://receiver.example.com:99999/",
        "https://receiver.example.com/a b",
        "https://receiver.example.com/a\nb",
        "https://[::1/",
    ],
)
def test_an_address_that_is_none_is_refused_without_its_secrets(url: str) -> None:
    error = refusal(url)
    assert (error.code, error.code.value.exit_status) == (ErrorCode.WEBHOOK_INVALID, 78)
    assert "secret" not in str(error)


def test_the_host_is_what_messages_name() -> None:
    assert check_webhook("https://receiver.example.com:8443/hook?token=t") == "receiver.example.com"
