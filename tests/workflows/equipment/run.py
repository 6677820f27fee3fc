"""Run a rendered template on this machine, each pod as a process."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from acdtask.errors import AcdError, ErrorCode
from tests.workflows.equipment.engine import Node, run_workflow
from tests.workflows.equipment.model import load_document
from tests.workflows.equipment.pods import Host

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a template, say how each pod ended, and return the exit status of the first that failed."""
    given = _parser().parse_args(arguments)
    try:
        host = Host(
            folder=given.folder.resolve(),
            commands={"acdtask": [sys.executable, "-m", "acdtask"]},
            config_maps={name: Path(path).resolve() for name, path in map(_pair, given.config_map)},
        )
        document = load_document(given.file)
        _require_unused(host.folder)
        result = run_workflow(
            document,
            dict(map(_pair, given.parameter)),
            host,
            workers=given.workers,
            on_node=_say,
        )
    except AcdError as error:
        sys.stderr.write(f"error {error.code.label}: {error.detail}.\n{error.fix}\n")
        return int(error.code.value.exit_status)
    sys.stdout.write(f"{result.phase}: artifacts are in {host.artifacts}\n")
    return result.exit_code


def _require_unused(folder: Path) -> None:
    if (folder / "pods").exists():
        raise AcdError(
            ErrorCode.SETTING_INVALID,
            f"{folder} holds the pods of an earlier run",
            "Give another folder with --folder, or delete this one.",
        )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m workflows.run", description=__doc__)
    parser.add_argument("file", type=Path, metavar="FILE", help="a rendered WorkflowTemplate")
    parser.add_argument("--parameter", "-p", action="append", default=[], metavar="NAME=VALUE", help="repeatable")
    parser.add_argument(
        "--config-map", action="append", default=[], metavar="NAME=FOLDER", help="a file for each key; repeatable"
    )
    parser.add_argument("--folder", type=Path, default=Path("run"), help="for pods, logs and artifacts [run]")
    parser.add_argument("--workers", type=int, default=2, help="pods at once [2]")
    return parser


def _pair(text: str) -> tuple[str, str]:
    name, separator, value = text.partition("=")
    if not separator:
        raise AcdError(ErrorCode.USAGE, f"{text!r} should be NAME=VALUE")
    return name, value


def _say(node: Node) -> None:
    attempts = f" after {len(node.attempts)} attempts" if len(node.attempts) > 1 else ""
    message = f": {node.message}" if node.message else ""
    sys.stdout.write(f"{node.phase:<9} {node.name}{attempts}{message}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
