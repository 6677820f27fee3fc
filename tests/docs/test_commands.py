"""All commands in the README and the how-to pages run, in order and as written."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import CHECKOUT
from tests.docs.pages import HOW_TO, PAGES, blocks_of, text_of, without_blocks

RUN_ELSEWHERE = {
    "docs/how-to/install.md": "tests/docs/test_install_page.py",
    "docs/how-to/kubernetes.md": "tests/cluster/test_docs.py",
    "docs/how-to/gitops.md": "tests/cluster/test_gitops.py",
    "docs/how-to/operate.md": "tests/docs/test_operate_page.py",
}
"""Tests that run the `sh` blocks of a page and use its `yaml` blocks."""

FENCES = {"console", "json", "math", "python", "sh", "toml", "yaml"}
RUN_BY_CI = {"make demo", "make test"}
INDENTED = re.compile(r"(?<=\n\n)(?: {4}\S.*\n)+")


def run(command: str, folder: Path) -> None:
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-euc", command], cwd=folder, env=environment, capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"


@pytest.mark.realdata
@pytest.mark.parametrize(
    "page", [page for page in PAGES[1:] if any(block.kind == "console" for block in blocks_of(text_of(page)))]
)
def test_the_commands_of_a_page_run(page: str, real_data: Path, tmp_path: Path) -> None:
    (tmp_path / "geotiffs").symlink_to(real_data / "pyrate_cropA" / "geotiffs")
    for block in blocks_of(text_of(page)):
        if block.kind == "json":
            (tmp_path / "aoi.json").write_text(block.body)
        if block.kind == "toml":
            (tmp_path / "acd.toml").write_text(block.body)
        if block.kind == "console":
            for command in block.commands:
                run(command, tmp_path)
        if block.kind == "python":
            (tmp_path / "example.py").write_text(block.body)
            run("python example.py", tmp_path)


@pytest.mark.parametrize("page", PAGES)
def test_every_block_has_a_kind_that_a_test_runs(page: str) -> None:
    text = text_of(page)
    blocks = blocks_of(text)
    assert {block.kind for block in blocks} <= FENCES
    assert "```" not in without_blocks(text)
    assert "~~~" not in text
    for block in blocks:
        if block.kind == "console":
            assert page not in RUN_ELSEWHERE
            assert all(line.startswith("$ ") for line in block.body.splitlines()), (
                "console blocks may only contain commands: output is not compared"
            )
        if block.kind == "python":
            assert any(other.kind == "console" for other in blocks), "only pages with commands are run"
        if block.kind in {"sh", "yaml"}:
            assert page in RUN_ELSEWHERE
        if block.kind == "yaml":
            assert block.file, "the first line of a yaml block must name its file"


@pytest.mark.parametrize("page", PAGES)
def test_indented_commands_are_run_by_ci(page: str) -> None:
    commands = {line.split("#")[0].strip() for group in INDENTED.findall(text_of(page)) for line in group.splitlines()}
    assert commands <= RUN_BY_CI
    ci = (CHECKOUT / ".ci/run").read_text()
    assert all(f" {command.removeprefix('make ')}\n" in ci for command in commands)


@pytest.mark.parametrize("page", sorted(RUN_ELSEWHERE))
def test_commands_that_run_elsewhere_have_their_test(page: str) -> None:
    assert page in HOW_TO
    assert page.rpartition("/")[2] in (CHECKOUT / RUN_ELSEWHERE[page]).read_text()


@pytest.mark.parametrize("folder", ["explanation", "how-to", "reference"])
def test_every_page_is_in_the_index(folder: str) -> None:
    index = text_of("docs/README.md")
    names = [path.name for path in sorted((CHECKOUT / "docs" / folder).glob("*.md"))]
    assert [name for name in names if f"({folder}/{name})" not in index] == []


@pytest.mark.parametrize("page", PAGES)
def test_links_have_existing_targets(page: str) -> None:
    text = text_of(page)
    targets = [target for target in re.findall(r"\]\(([^)#]+)", text) if "://" not in target]
    missing = [target for target in targets if not ((CHECKOUT / page).parent / target).exists()]
    assert missing == []


@pytest.mark.parametrize("page", PAGES)
def test_anchors_are_headings_of_the_page(page: str) -> None:
    for target, anchor in re.findall(r"\]\(([^)#:]*)#([^)]+)\)", text_of(page)):
        path = (CHECKOUT / page).parent / target if target else CHECKOUT / page
        headings = re.findall(r"^#+ (.*)$", path.read_text(), re.MULTILINE)
        assert anchor in {re.sub(r"[^\w -]", "", title).lower().replace(" ", "-") for title in headings}


@pytest.mark.parametrize("page", PAGES)
def test_a_tag_of_this_repository_that_a_page_names_exists(page: str) -> None:
    listed = subprocess.run(["git", "tag"], cwd=CHECKOUT, capture_output=True, text=True, check=True).stdout.split()
    named = re.findall(r"(?:targetRevision: |ref: \{ tag: |acd\.git@)(v\d[\w.]*)", text_of(page))
    assert [tag for tag in named if tag not in listed] == []
