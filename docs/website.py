"""Build the documentation site: `python -m docs.website`, or `make site`.

The pages keep their folders, so that links work both on GitHub and on the site. Formulas are converted to MathML, which
browsers show without scripts, and notebooks to pages. Zensical builds the site in strict mode; then the links of the
built pages are checked.
"""

from __future__ import annotations

import base64
import html
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import latex2mathml.converter
import nbformat

__all__ = ["BUILD", "FORMULA", "build", "problems"]

CHECKOUT = Path(__file__).resolve().parents[1]
BUILD = CHECKOUT / "build/docs"
CONFIGURATION = "zensical.toml"

SOURCES = (
    "*.md",
    "CITATION.cff",
    "LICENSE",
    "docs/**/*.md",
    "docs/**/*.ipynb",
    "docs/**/*.png",
    "docs/**/*.svg",
    "acdtask/**/*.py",
    "workflows/*.py",
    "tests/test_imports.py",
    "helm/acd/values.yaml",
    "helm/acd/examples/*.yaml",
)
"""Files on the site, and files that its pages link to."""

FORMULA = re.compile(r"\$`(?P<inline>[^`]+)`\$|^```math\n(?P<block>.*?)^```$", re.MULTILINE | re.DOTALL)
LINK_TO_NOTEBOOK = re.compile(r"(\]\([^)\s:]+)\.ipynb\b")
ANSI = re.compile(r"\x1b\[[0-9;]*m")
LOADED = {("script", "src"), ("img", "src"), ("iframe", "src"), ("source", "src"), ("link", "href"), ("object", "data")}
"""Attributes whose targets a browser loads automatically."""


def build(folder: Path = BUILD) -> int:
    """Copy the pages into `folder/pages`, build and check `folder/site`, and return the exit status."""
    pages, site = folder / "pages", folder / "site"
    shutil.rmtree(folder, ignore_errors=True)
    _stage(pages)
    shutil.copyfile(CHECKOUT / CONFIGURATION, folder / CONFIGURATION)
    zensical = [str(Path(sys.executable).with_name("zensical")), "build", "--strict"]
    built = subprocess.run(zensical, cwd=folder, capture_output=True, text=True, check=False)  # noqa: S603 # fixed arguments
    if built.returncode:
        message, _, _ = ANSI.sub("", built.stderr).partition("Traceback (most recent call last)")
        sys.stderr.write(message)
        return 1
    lines = list(problems(site))
    sys.stderr.writelines(f"{line}\n" for line in lines)
    sys.stdout.write(f"{site / 'index.html'}\n")
    return 1 if lines else 0


def problems(site: Path) -> Iterator[str]:
    """Describe the broken links of the built pages, and resources that they would load from other hosts."""
    pages = {path: _Page.of(path) for path in sorted(site.rglob("*.html")) if path.name != "404.html"}
    for path, page in pages.items():
        for tag, attribute, address in page.links:
            link = f"{path.relative_to(site)}: {address}"
            parts = urlsplit(address)
            if parts.scheme or parts.netloc:
                if (tag, attribute) in LOADED and parts.scheme != "data":
                    yield f"{link} is loaded from another host"
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            target = target / "index.html" if target.is_dir() else target
            if not target.exists():
                yield f"{link} does not exist"
            elif parts.fragment and target in pages and unquote(parts.fragment) not in pages[target].ids:
                yield f"{link} is not a heading of {target.relative_to(site)}"


def _stage(pages: Path) -> None:
    """Copy the pages, converted for Zensical."""
    for source in sorted({path for pattern in SOURCES for path in CHECKOUT.glob(pattern)}):
        target = pages / source.relative_to(CHECKOUT)
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.suffix == ".md":
            target.write_text(_page(source.read_text(encoding="utf-8")), encoding="utf-8")
            continue
        shutil.copyfile(source, target)
        if source.suffix == ".ipynb":
            target.with_suffix(".md").write_text(_page(_notebook(source, target)), encoding="utf-8")


def _page(text: str) -> str:
    """Convert the formulas of a page to MathML, and its links to notebooks to links to their pages."""
    return LINK_TO_NOTEBOOK.sub(r"\1.md", FORMULA.sub(_formula, text))


def _formula(match: re.Match[str]) -> str:
    kind = "inline" if match["inline"] else "block"
    mathml = latex2mathml.converter.convert(match[kind].strip(), display=kind)
    # Operators must not be parsed as Markdown.
    mathml = mathml.replace("*", "&#42;").replace("_", "&#95;")
    return f'<span class="math">{mathml}</span>' if match["inline"] else f"<div>{mathml}</div>"


def _notebook(source: Path, target: Path) -> str:
    """Convert a notebook to a page of text, code and outputs. Images are written beside the page."""
    notebook = nbformat.read(source, as_version=4)
    parts, pictures = [], 0
    for cell in notebook.cells:
        if cell.cell_type != "code":
            parts.append(cell.source)
            continue
        parts.append(f"```python\n{cell.source}\n```")
        for output in cell.outputs:
            data = output.get("data", {"text/plain": output.get("text", "")})
            if "image/png" in data:
                pictures += 1
                picture = target.with_name(f"{target.stem}-{pictures}.png")
                picture.write_bytes(base64.b64decode(data["image/png"]))
                parts.append(f"![Output of the cell above]({picture.name})")
            elif "text/html" in data:
                parts.append(f"<div>{data['text/html']}</div>")
            elif text := ANSI.sub("", data.get("text/plain", "")).rstrip():
                parts.append(f"```text\n{text}\n```")
    return "\n\n".join(parts) + "\n"


class _Page(HTMLParser):
    """Collects the links and ids of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.links: list[tuple[str, str, str]] = []
        self.ids: set[str] = set()

    @classmethod
    def of(cls, path: Path) -> _Page:
        page = cls()
        page.feed(path.read_text(encoding="utf-8"))
        return page

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name == "id" and value:
                self.ids.add(value)
            if name in {"href", "src", "data"} and value and (tag, name) != ("link", "canonical"):
                self.links.append((tag, name, html.unescape(value)))


if __name__ == "__main__":
    sys.exit(build())
