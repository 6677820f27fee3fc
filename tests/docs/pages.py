"""What the pages of the documentation are made of."""

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
    """A fenced block: its kind (what follows the fence), and the heading that it is under."""

    kind: str
    heading: str
    body: str

    @property
    def commands(self) -> list[str]:
        """The commands of a block `sh`, a continued line as one, and those of a block `console`."""
        lines = self.body.replace("\\\n", " ").splitlines()
        if self.kind == "console":
            return [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]
        return [line for line in lines if line.strip()]

    @property
    def file(self) -> str:
        """The name of the file that a block `yaml` begins with, or nothing."""
        found = FILE.match(self.body)
        return found[1] if found else ""


def text_of(page: str) -> str:
    """A page, by its path in the checkout."""
    return (CHECKOUT / page).read_text()


def blocks_of(text: str) -> list[Block]:
    """The blocks of a page in their order."""
    headings = [(found.start(), found[1]) for found in HEADING.finditer(FENCE.sub(_blank, text))]
    made = []
    for found in FENCE.finditer(text):
        heading = next((title for start, title in reversed(headings) if start < found.start()), "")
        made.append(Block(found["kind"], heading, textwrap.dedent(found["body"])))
    return made


def without_blocks(text: str) -> str:
    """The prose of a page."""
    return FENCE.sub("", text)


def _blank(found: re.Match[str]) -> str:
    return re.sub(r"[^\n]", " ", found[0])
