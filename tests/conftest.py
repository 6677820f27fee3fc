"""Fixtures for all tests, and the rule that makes a skipped test fail if ACD_REQUIRE requires it."""

from __future__ import annotations

import os
import signal
import uuid
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[1]
REQUIRED = frozenset(name.strip() for name in os.environ.get("ACD_REQUIRE", "").split(",") if name.strip())
"""Markers whose tests must run: ACD_REQUIRE=s3,browser,realdata."""

MARKER_OF_FIXTURE = {"s3_address": "s3", "real_data": "realdata"}


def pytest_configure(config: pytest.Config) -> None:
    known = {line.split(":")[0].split("(")[0].strip() for line in config.getini("markers")}
    if unknown := sorted(REQUIRED - known):
        raise pytest.UsageError(f"ACD_REQUIRE names {', '.join(unknown)}, which is not a known marker")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        for fixture in getattr(item, "fixturenames", ()):
            if fixture in MARKER_OF_FIXTURE:
                item.add_marker(MARKER_OF_FIXTURE[fixture])


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    required = sorted(REQUIRED.intersection(mark.name for mark in item.iter_markers()))
    if report.skipped and required and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped, but ACD_REQUIRE includes {', '.join(required)}: {_reason(report.longrepr)}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    if report.skipped and REQUIRED:
        # The markers of the file's tests are unknown, so the file may contain required ones.
        report.outcome = "failed"
        report.longrepr = f"a whole file is skipped, but ACD_REQUIRE is set: {_reason(report.longrepr)}"
    return report


def _reason(longrepr: object) -> str:
    return str(longrepr[2]) if isinstance(longrepr, tuple) else str(longrepr)


@pytest.fixture
def ctrl_c() -> Iterator[None]:
    """Handle SIGINT as in a terminal, also in processes that the test starts: background jobs ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def s3_address() -> str:
    """Address of a new prefix in the bucket `test` on the S3 server of AWS_ENDPOINT_URL."""
    return new_s3_address()


def new_s3_address() -> str:
    """Make the address of `s3_address`, for fixtures of a wider scope. Skips the test without a server."""
    if not os.environ.get("AWS_ENDPOINT_URL"):
        pytest.skip("AWS_ENDPOINT_URL is unset: no S3 server to test with")
    return f"s3://test/{uuid.uuid4()}"


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder with Sentinel-1 coherence: ACD_REAL_DATA, or ../shared/data beside the checkout."""
    folder = Path(os.environ.get("ACD_REAL_DATA") or CHECKOUT.parent / "shared" / "data")
    if not (folder / "pyrate_cropA").is_dir():
        pytest.skip(f"no pyrate_cropA in {folder} (ACD_REAL_DATA)")
    return folder


@pytest.fixture(params=["folder", pytest.param("s3", marks=pytest.mark.s3)])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Address of a new, empty store; the test runs once with a folder and once with S3."""
    if request.param == "folder":
        return str(tmp_path / "cube")
    return str(request.getfixturevalue("s3_address"))
