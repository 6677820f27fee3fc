"""Calls: retries, errors, keys and TLS."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from acdtask.cube.geocube.cube import GeocubeCube
from acdtask.cube.model import RecordQuery
from acdtask.errors import AcdError, ErrorCode
from tests.cube.geocube.scripted import Code, Fault, Scripted, record_of, scripted


@pytest.mark.parametrize("code", [Code.UNAVAILABLE, Code.ABORTED])
def test_temporary_errors_are_retried(world: Scripted, cube: GeocubeCube, code: grpc.StatusCode) -> None:
    world.faults["Version"] = deque([Fault(code)] * 5)
    assert cube.version() == "1.0.3"
    assert len(world.calls["Version"]) == 6


def test_retries_are_limited(world: Scripted) -> None:
    world.faults["Version"] = deque([Fault()] * 50)
    with pytest.raises(AcdError, match=f"{world.address} cannot be reached: try again") as error:
        GeocubeCube(world.connection(attempts=4)).version()
    assert error.value.code is ErrorCode.GEOCUBE_UNREACHABLE
    assert len(world.calls["Version"]) == 4
    began = time.monotonic()
    with pytest.raises(AcdError):
        GeocubeCube(world.connection(first_pause=0.05, longest_pause=0.1, retry_seconds=0.2)).version()
    assert time.monotonic() - began < 10
    assert len(world.calls["Version"]) > 5


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (Fault(Code.INVALID_ARGUMENT, "Invalid Name: a b"), ErrorCode.GEOCUBE_REFUSED),
        (Fault(Code.UNAUTHENTICATED, "invalid token"), ErrorCode.GEOCUBE_DENIED),
        (Fault(Code.PERMISSION_DENIED, "no"), ErrorCode.GEOCUBE_DENIED),
        (Fault(Code.RESOURCE_EXHAUSTED, "grpc: received message larger than max"), ErrorCode.GEOCUBE_REFUSED),
        (Fault(Code.UNIMPLEMENTED, "not here"), ErrorCode.GEOCUBE_REFUSED),
        (Fault(Code.UNKNOWN, "pq: null value"), ErrorCode.GEOCUBE_FAILED),
        (Fault(Code.INTERNAL, "a bug"), ErrorCode.GEOCUBE_FAILED),
        (Fault(Code.FAILED_PRECONDITION, "Job x: Unable to trigger Retried"), ErrorCode.JOB_STATE),
        (Fault(Code.FAILED_PRECONDITION, "in use", ("datasets", "x")), ErrorCode.IN_USE),
        (Fault(Code.NOT_FOUND, "Es gibt keine", ("Variable", "x")), ErrorCode.VARIABLE_UNKNOWN),
        (Fault(Code.NOT_FOUND, "Es gibt keine", ("Variable Instance", "x")), ErrorCode.INSTANCE_UNKNOWN),
        (Fault(Code.NOT_FOUND, "Es gibt keins", ("Layout", "x")), ErrorCode.LAYOUT_UNKNOWN),
        (Fault(Code.NOT_FOUND, "Es gibt keine", ("Job", "x")), ErrorCode.JOB_UNKNOWN),
        (Fault(Code.NOT_FOUND, "Es gibt nichts", ("Container", "x")), ErrorCode.INPUT_MISSING),
        (Fault(Code.ALREADY_EXISTS, "Gibt es schon", ("Layout", "x")), ErrorCode.LAYOUT_CONFLICT),
        (Fault(Code.ALREADY_EXISTS, "Gibt es schon", ("dataset", "x")), ErrorCode.DATASET_CONFLICT),
    ],
)
def test_a_refusal_is_classified_by_its_details_and_not_retried(
    world: Scripted, cube: GeocubeCube, fault: Fault, code: ErrorCode
) -> None:
    world.faults["Version"] = deque([fault])
    with pytest.raises(AcdError) as error:
        cube.version()
    assert error.value.code is code
    assert fault.message in error.value.detail
    assert len(world.calls["Version"]) == 1


def test_a_broken_listing_is_read_again_from_its_beginning(world: Scripted, cube: GeocubeCube) -> None:
    for number in range(5):
        world.put(record_of(number))
    world.faults["ListRecords"] = deque([Fault(after=2), Fault(after=4)])
    answers = cube.records(RecordQuery())
    assert [record.name for record in answers] == [record_of(number).name for number in range(5)]


def test_the_key_is_sent_with_every_call(world: Scripted) -> None:
    key = "s3cret"
    cube = GeocubeCube(world.connection(api_key=key))
    cube.version()
    cube.records(RecordQuery())
    assert [metadata.get("authorization") for metadata in world.metadata] == [f"Bearer {key}"] * 2
    GeocubeCube(world.connection()).version()
    assert "authorization" not in world.metadata[-1]


def test_a_port_without_a_server() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with scripted() as world:
        connection = world.connection(attempts=2).model_copy(update={"address": f"geocube://127.0.0.1:{port}"})
        with pytest.raises(AcdError, match=f"geocube://127.0.0.1:{port} cannot be reached") as error:
            GeocubeCube(connection).version()
    assert error.value.code is ErrorCode.GEOCUBE_UNREACHABLE


def test_a_restarted_server_is_reached_again(world: Scripted, cube: GeocubeCube) -> None:
    """The same channel works after another server has taken the port."""
    assert cube.version() == "1.0.3"
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    other = GeocubeCube(world.connection(attempts=1).model_copy(update={"address": f"geocube://127.0.0.1:{port}"}))
    with pytest.raises(AcdError):
        other.version()
    with scripted(port=port):
        patient = other.connection.model_copy(update={"attempts": 100, "first_pause": 0.1, "longest_pause": 0.3})
        assert GeocubeCube(patient).version() == "1.0.3"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A self-signed certificate of localhost, and its key."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl is not on PATH: no certificate to test with")
    folder = tmp_path_factory.mktemp("tls")
    cert, key = folder / "cert.pem", folder / "key.pem"
    command = [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    names = ["-addext", "subjectAltName=DNS:localhost", "-keyout", str(key), "-out", str(cert)]
    subprocess.run([*command, *names], check=True, capture_output=True)
    return cert, key


@pytest.fixture
def secure(certificate: tuple[Path, Path]) -> Iterator[Scripted]:
    cert, key = certificate
    credentials = grpc.ssl_server_credentials([(key.read_bytes(), cert.read_bytes())])
    with scripted(credentials=credentials) as world:
        yield world


def test_tls_with_a_private_authority(secure: Scripted, certificate: tuple[Path, Path]) -> None:
    assert GeocubeCube(secure.connection(ca_file=certificate[0], api_key="k")).version() == "1.0.3"
    assert secure.metadata[-1]["authorization"] == "Bearer k"


def test_an_unknown_authority_is_reported_as_the_cause(secure: Scripted) -> None:
    with pytest.raises(AcdError, match=f"certificate of {secure.address} is not trusted") as error:
        GeocubeCube(secure.connection()).version()
    assert error.value.code is ErrorCode.GEOCUBE_TLS
    assert "ACD_GEOCUBE_CA_FILE" in error.value.fix


def test_a_client_without_tls_on_a_server_with_tls(secure: Scripted) -> None:
    plain = secure.connection(attempts=2).model_copy(update={"address": secure.address.replace("geocubes", "geocube")})
    with pytest.raises(AcdError, match="speaks only TLS") as error:
        GeocubeCube(plain).version()
    assert error.value.code is ErrorCode.GEOCUBE_TLS
    assert secure.address.replace("localhost", "localhost") in error.value.fix


def test_a_client_with_tls_on_a_server_without_tls(world: Scripted) -> None:
    secure = world.connection().model_copy(update={"address": world.address.replace("geocube:", "geocubes:")})
    with pytest.raises(AcdError, match="does not speak TLS") as error:
        GeocubeCube(secure).version()
    assert error.value.code is ErrorCode.GEOCUBE_TLS
