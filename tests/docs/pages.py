"""Parses the pages of the documentation."""

from __future__ import annotations

import re
import textwrap
from dataclasses import dataclass

from tests.conftest import CHECKOUT

FENCE = re.compile(r"^(?P<indent> *)```(?P<kind>\S*)\n(?P<body>.*?)^(?P=indent)```$", re.MULTILINE | re.DOTALL)
HEADING = re.compile(r"^#+ (.*)$", re.MULTILINE)
FILE = re.compile(r"# (\S+\.ya?ml)\n")

HOW_TO = sorted(path.relative_to(CHECKOUT).as_posix() for path in (CHECKOUT / "docs/how-to").glob("**/*.md"))
EXPLANATION = sorted(path.relative_to(CHECKOUT).as_posix() for path in (CHECKOUT / "docs/explanation").glob("*.md"))
PAGES = ["README.md", "docs/README.md", *HOW_TO, *EXPLANATION]


@dataclass(frozen=True)
class Block:
    """A fenced block: its kind (the text after the fence), and the heading above it."""

    kind: str
    heading: str
    body: str

    @property
    def commands(self) -> list[str]:
        """Commands of an `sh` or `console` block; continued lines are joined."""
        lines = self.body.replace("\\\n", " ").splitlines()
        if self.kind == "console":
            return [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]
        return [line for line in lines if line.strip()]

    @property
    def file(self) -> str:
        """File name on the first line of a `yaml` block, or an empty text."""
        match = FILE.match(self.body)
        return match[1] if match else ""


def text_of(page: str) -> str:
    """Text of a page, given by its path in the checkout."""
    return (CHECKOUT / page).read_text()


def blocks_of(text: str) -> list[Block]:
    """Fenced blocks of a page, in order."""
    headings = [(match.start(), match[1]) for match in HEADING.finditer(FENCE.sub(_blank, text))]
    blocks = []
    for match in FENCE.finditer(text):
        heading = next((title for start, title in reversed(headings) if start < match.start()), "")
        blocks.append(Block(match["kind"], heading, textwrap.dedent(match["body"])))
    return blocks


def without_blocks(text: str) -> str:
    """Text of a page without its fenced blocks."""
    return FENCE.sub("", text)


def _blank(match: re.Match[str]) -> str:
    return re.sub(r"[^\n]", " ", match[0])
