"""The site in Chromium: formulas are rendered, and no page requests anything from another host."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from docs import website
from tests.browser import NEEDS_CHROMIUM, driven, served

if TYPE_CHECKING:
    from selenium.webdriver.chrome.webdriver import WebDriver

pytestmark = NEEDS_CHROMIUM

PAGES = ("index.html", "docs/explanation/science.html", "docs/tutorial.html", "docs/reference/cli.html")
REQUESTS = "return performance.getEntriesByType('resource').map(entry => entry.name)"
NARROW = (
    "return [...document.querySelectorAll('math')].filter(math => math.getBoundingClientRect().width < 3 || "
    "getComputedStyle(math).display.indexOf('math') < 0).length"
)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("docs")
    assert website.build(folder) == 0
    return folder / "site"


@pytest.fixture(scope="module")
def address(site: Path) -> Iterator[str]:
    with served(site) as url:
        yield url


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebDriver]:
    with driven(tmp_path_factory.mktemp("profile")) as driver:
        yield driver


@pytest.mark.parametrize("page", PAGES)
def test_a_page_requests_nothing_from_other_hosts(page: str, address: str, browser: WebDriver) -> None:
    browser.get(address + page)
    time.sleep(1)  # scripts may load more after the page
    requested = browser.execute_script(REQUESTS)
    assert any(name.endswith(".css") for name in requested)
    assert [name for name in requested if not name.startswith((address, "data:", "blob:"))] == []


def test_formulas_are_drawn(address: str, browser: WebDriver) -> None:
    browser.get(address + "docs/explanation/science.html")
    assert browser.execute_script("return document.querySelectorAll('math').length") > 10
    assert browser.execute_script(NARROW) == 0


def test_no_style_sheet_loads_from_elsewhere(site: Path) -> None:
    for sheet in site.rglob("*.css"):
        assert "url(http" not in sheet.read_text(), sheet
