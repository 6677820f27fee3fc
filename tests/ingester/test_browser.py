"""The drawing in a browser, under the content security policy of Argo's artifact server."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from acdtask.ingester.graph import chart_of
from acdtask.ingester.svg import draw
from tests.browser import NEEDS_CHROMIUM
from tests.ingester.charts import many
from tests.jobs.report.test_browser import browser, console, opened, strictly_served

if TYPE_CHECKING:
    from selenium.webdriver.chrome.webdriver import WebDriver

__all__ = ["browser"]
pytestmark = NEEDS_CHROMIUM

LOOK = """
const all = [...document.querySelectorAll('text')];
const boxes = all.map(node => [node.textContent, node.getBoundingClientRect()]);
const page = document.documentElement.getBoundingClientRect();
const outside = boxes.filter(([, box]) => box.right > page.right + 0.5 || box.bottom > page.bottom + 0.5);
const over = boxes.flatMap(([one, a], i) => boxes.slice(i + 1).filter(([, b]) =>
  a.left < b.right - 1 && b.left < a.right - 1 && a.top + 3 < b.bottom - 3 && b.top + 3 < a.bottom - 3)
  .map(([other]) => [one, other]));
const fill = name => getComputedStyle(document.querySelector(name)).fill;
return [all.length, outside.map(([text]) => text), over, fill('rect.done'), fill('rect.page'), fill('text')];
"""


@pytest.mark.parametrize(("scenes", "bursts"), [(24, 9), (400, 9)])
def test_it_is_drawn_in_full_and_the_policy_forbids_nothing(
    browser: WebDriver,
    tmp_path: Path,
    scenes: int,
    bursts: int,
) -> None:
    (tmp_path / "koln.svg").write_text(draw(chart_of("koln", *many(scenes, bursts))))
    with strictly_served(tmp_path) as address:
        url = address.replace("index.html", "koln.svg")
        count, outside, over, done, page, ink = opened(browser, url, width=1400).execute_script(LOOK)
        assert count > 100
        assert (outside, over) == ([], [])
        assert (done, page, ink) == ("rgb(216, 240, 225)", "rgb(255, 255, 255)", "rgb(23, 34, 45)")
        dark = opened(browser, url, width=1400, scheme="dark").execute_script(LOOK)[3:]
        assert dark == ["rgb(23, 58, 40)", "rgb(23, 30, 37)", "rgb(227, 233, 238)"]
        assert console(browser) == []
