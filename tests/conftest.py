"""What every test may ask for, and the rule that makes a skip a failure where nothing may be skipped."""

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
        raise pytest.UsageError(f"ACD_REQUIRE names {', '.join(unknown)}, and no test has such a marker")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        for fixture in getattr(item, "fixturenames", ()):
            if fixture in MARKER_OF_FIXTURE:
                item.add_marker(MARKER_OF_FIXTURE[fixture])


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    needed = sorted(REQUIRED.intersection(mark.name for mark in item.iter_markers()))
    if report.skipped and needed and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped, but ACD_REQUIRE asks for {', '.join(needed)}: {_reason(report.longrepr)}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    if report.skipped and REQUIRED:
        # The markers of the tests inside are unknown, so a file that skips itself could hide any of them.
        report.outcome = "failed"
        report.longrepr = f"a whole file is skipped, and ACD_REQUIRE is set: {_reason(report.longrepr)}"
    return report


def _reason(longrepr: object) -> str:
    return str(longrepr[2]) if isinstance(longrepr, tuple) else str(longrepr)


@pytest.fixture
def ctrl_c() -> Iterator[None]:
    """SIGINT is what it is in a terminal, for what a test starts too: a shell's background jobs ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def s3_address() -> str:
    """A fresh prefix on the S3 server of AWS_ENDPOINT_URL, in its bucket `test`."""
    return new_s3_address()


def new_s3_address() -> str:
    """What the fixture `s3_address` is, for fixtures of a wider scope. Skips the test without a server."""
    if not os.environ.get("AWS_ENDPOINT_URL"):
        pytest.skip("AWS_ENDPOINT_URL is unset: no S3 server to test with")
    return f"s3://test/{uuid.uuid4()}"


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of Sentinel-1 coherence: ACD_REAL_DATA, or ../shared/data beside the checkout."""
    folder = Path(os.environ.get("ACD_REAL_DATA") or CHECKOUT.parent / "shared" / "data")
    if not (folder / "pyrate_cropA").is_dir():
        pytest.skip(f"no pyrate_cropA in {folder} (ACD_REAL_DATA)")
    return folder


@pytest.fixture(params=["folder", pytest.param("s3", marks=pytest.mark.s3)])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of a new, empty store: a test that takes it runs on a folder and on S3."""
    if request.param == "folder":
        return str(tmp_path / "cube")
    return str(request.getfixturevalue("s3_address"))
