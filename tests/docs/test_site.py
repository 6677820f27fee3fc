"""The site is built from the pages that GitHub shows, completely and without links to resources of other hosts."""

from __future__ import annotations

import re
import shutil
import tomllib
from collections import Counter
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from markdown_it import MarkdownIt

from docs import website
from tests.conftest import CHECKOUT

COUNTED = ("h1", "h2", "h3", "li", "pre", "table", "tr")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the site like `make site`, which fails on any missing page, link or anchor."""
    folder = tmp_path_factory.mktemp("docs")
    assert website.build(folder) == 0
    return folder / "site"


def navigation(entries: list[Any]) -> Iterator[str]:
    for entry in entries:
        for page in entry.values():
            yield from [page] if isinstance(page, str) else navigation(page)


def test_every_page_is_in_the_navigation(site: Path) -> None:
    listed = set(navigation(tomllib.loads((CHECKOUT / "zensical.toml").read_text())["project"]["nav"]))
    staged = site.with_name("pages")
    pages = {path.relative_to(staged).as_posix() for path in staged.rglob("*.md")}
    assert {page for page in pages - listed if not page.startswith("docs/decisions/0")} == set()
    assert listed - pages == set()


def test_every_decision_is_in_the_list_of_decisions() -> None:
    listed = (CHECKOUT / "docs/decisions/README.md").read_text()
    for path in sorted((CHECKOUT / "docs/decisions").glob("0*.md")):
        number, title = path.read_text().splitlines()[0].removeprefix("# ").split(" ", 1)
        assert f"| [{number}]({path.name}) | {title} |" in listed


class Article(HTMLParser):
    """Counts the tags in a page's article, and collects its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: Counter[str] = Counter()
        self.depth = 0
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "article":
            self.depth += 1
        elif self.depth:
            self.tags[tag] += 1

    def handle_endtag(self, tag: str) -> None:
        self.depth -= tag == "article"

    def handle_data(self, data: str) -> None:
        if self.depth:
            self.text += data


def test_a_page_of_the_site_has_the_lists_tables_and_blocks_that_github_shows(site: Path) -> None:
    github = MarkdownIt("commonmark").enable("table")
    different = {}
    staged = site.with_name("pages")
    for path in sorted(staged.rglob("*.md")):
        page = path.relative_to(staged)
        built = site / page.with_name("index.html" if page.name == "README.md" else f"{page.stem}.html")
        article = Article(built.read_text())
        tags = Counter(re.findall(r"<(\w+)", github.render(path.read_text())))
        if differing := {tag: (tags[tag], article.tags[tag]) for tag in COUNTED if tags[tag] != article.tags[tag]}:
            different[page.as_posix()] = differing
    assert different == {}, "put a blank line before a list, and indent the contents of an item by four spaces"


def test_formulas_are_shown_without_a_script(site: Path) -> None:
    page = (site / "docs/explanation/science.html").read_text()
    source = (CHECKOUT / "docs/explanation/science.md").read_text()
    assert page.count("<math") == len(website.FORMULA.findall(source)) > 10
    assert "$`" not in page
    assert "\\frac" not in Article(page).text
    assert "mathjax" not in page.lower()
    assert "katex" not in page.lower()


def test_a_notebook_is_a_page_with_its_code_output_and_pictures(site: Path) -> None:
    page = (site / "docs/tutorial.html").read_text()
    assert page.count("<img") >= 2
    assert "acdtask.cube.geocube" in Article(page).text
    assert (site / "docs/tutorial-1.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('<a href="nowhere.html">', "does not exist"),
        ('<a href="docs/index.html#no-such-heading">', "is not a heading of docs/index.html"),
        ('<script src="https://cdn.example.com/x.js">', "is loaded from another host"),
        ('<link rel="stylesheet" href="//fonts.example.com/x.css">', "is loaded from another host"),
        ('<img src="missing.png">', "does not exist"),
    ],
)
def test_a_page_with_a_bad_link_is_refused(text: str, problem: str, site: Path, tmp_path: Path) -> None:
    copy = tmp_path / "site"
    shutil.copytree(site, copy)
    assert list(website.problems(copy)) == []
    index = copy / "index.html"
    index.write_text(index.read_text().replace("</article>", f"{text}</article>"))
    (reported,) = website.problems(copy)
    assert reported.endswith(problem)
    assert reported.startswith("index.html: ")
