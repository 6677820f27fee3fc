"""Run a rendered template on this machine, with each pod as a process."""

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
    """Run a template, print how each pod ended, and return the exit status of the first that failed."""
    options = _parser().parse_args(arguments)
    try:
        host = Host(
            folder=options.folder.resolve(),
            commands={"acdtask": [sys.executable, "-m", "acdtask"]},
            config_maps={name: Path(path).resolve() for name, path in map(_pair, options.config_map)},
        )
        document = load_document(options.file)
        _require_unused(host.folder)
        result = run_workflow(
            document,
            dict(map(_pair, options.parameter)),
            host,
            workers=options.workers,
            on_node=_print_node,
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
            f"{folder} contains pods of an earlier run",
            "Choose another folder with --folder, or delete this one.",
        )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m workflows.run", description=__doc__)
    parser.add_argument("file", type=Path, metavar="FILE", help="a rendered WorkflowTemplate")
    parser.add_argument("--parameter", "-p", action="append", default=[], metavar="NAME=VALUE", help="repeatable")
    parser.add_argument(
        "--config-map",
        action="append",
        default=[],
        metavar="NAME=FOLDER",
        help="folder with a file for each key; repeatable",
    )
    parser.add_argument("--folder", type=Path, default=Path("run"), help="for pods, logs and artifacts [run]")
    parser.add_argument("--workers", type=int, default=2, help="number of pods that run at once [2]")
    return parser


def _pair(text: str) -> tuple[str, str]:
    name, separator, value = text.partition("=")
    if not separator:
        raise AcdError(ErrorCode.USAGE, f"{text!r} must have the form NAME=VALUE")
    return name, value


def _print_node(node: Node) -> None:
    attempts = f" after {len(node.attempts)} attempts" if len(node.attempts) > 1 else ""
    message = f": {node.message}" if node.message else ""
    sys.stdout.write(f"{node.phase:<9} {node.name}{attempts}{message}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
