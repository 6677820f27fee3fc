"""Chromium for tests, and a web server for the pages of a folder."""

from __future__ import annotations

import contextlib
import functools
import shutil
import threading
from collections.abc import Iterator, Mapping
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from selenium.webdriver.chrome.webdriver import WebDriver

__all__ = ["CHROMIUM", "FLAGS", "NEEDS_CHROMIUM", "driven", "served"]

CHROMIUM, CHROMEDRIVER = shutil.which("chromium"), shutil.which("chromedriver")
NEEDS_CHROMIUM = [
    pytest.mark.browser,
    pytest.mark.skipif(not (CHROMIUM and CHROMEDRIVER), reason="chromium or chromedriver is not installed"),
]
"""Marks for a module whose tests open pages in a browser."""

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
)


def _handler_of(sent: Mapping[str, str]) -> type[SimpleHTTPRequestHandler]:
    """Create a handler that serves files with additional headers and logs nothing."""

    class Files(SimpleHTTPRequestHandler):
        def end_headers(self) -> None:
            for name, value in sent.items():
                self.send_header(name, value)
            super().end_headers()

        def do_GET(self) -> None:
            if self.path == "/favicon.ico":  # browsers request it from every server
                self.send_response(204)
                self.end_headers()
            else:
                super().do_GET()

        def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
            """Log nothing."""

    return Files


@contextlib.contextmanager
def served(folder: Path, headers: Mapping[str, str] | None = None) -> Iterator[str]:
    """Serve a folder; yields its address, which ends with a slash."""
    files = functools.partial(_handler_of(headers or {}), directory=str(folder))
    server = ThreadingHTTPServer(("127.0.0.1", 0), files)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextlib.contextmanager
def driven(profile: Path) -> Iterator[WebDriver]:
    """Run a Chromium with its profile in a folder; it records console messages."""
    from selenium import webdriver
    from selenium.webdriver.chrome.options import Options
    from selenium.webdriver.chrome.service import Service

    options = Options()
    options.binary_location = str(CHROMIUM)
    for flag in (*FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(executable_path=str(CHROMEDRIVER)))
    try:
        yield driver
    finally:
        driver.quit()
