"""An ingester that tests fill, and clients of it that lose patience soon."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from acdtask.ingester.client import IngesterClient
from acdtask.ingester.transport import Patience, Place
from tests.ingester.http_server import serving
from tests.ingester.standin import Standin

SHORT = Patience(connect=2, answer=5, post=5, attempts=3, pause=0.01, longest_pause=0.02, settle=0.4)
TOKEN = "a-secret"  # noqa: S105  # the stand-in's


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ACD_INGESTER_ADDRESS", "ACD_INGESTER_TOKEN", "ACD_INGESTER_INSECURE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def standin() -> Standin:
    return Standin(token=TOKEN)


@pytest.fixture
def address(standin: Standin) -> Iterator[str]:
    with serving(standin) as url:
        yield url


@pytest.fixture
def client(address: str) -> IngesterClient:
    return IngesterClient.at(Place(address, TOKEN), SHORT)
