"""Output files and progress of a workflow's pods, as Argo reads them."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Mapping
from pathlib import Path

from acdtask.engine.progressbar import ProgressBar
from acdtask.engine.workflow_limits import shards_parameter
from acdtask.jobs.contract import PlanHead, Site
from acdtask.storage.files import writing

__all__ = [
    "NEEDED",
    "ArgoProgress",
    "PodBar",
    "require_writable",
    "write_artifacts",
    "write_figures",
    "write_plan",
    "write_texts",
]

NEEDED = "yes"
"""Content of the file of a round that the plan needs; a round without a file is skipped."""
PROGRESS_SECONDS = 3.0
"""Interval at which Argo's executor reads the progress file (argo-workflows, docs/progress.md)."""


class ArgoProgress:
    """Writes `done/total` to the file named by ARGO_PROGRESS_FILE, if any, at most every three seconds.

    Args:
        total: number of units of the shard.
        file: file to write; None takes it from the environment.

    >>> import tempfile
    >>> file = Path(tempfile.mkdtemp()) / "progress"
    >>> progress = ArgoProgress(3, str(file))
    >>> progress(1); progress(2); file.read_text()
    '1/3'
    >>> progress(3); file.read_text()
    '3/3'
    """

    def __init__(self, total: int, file: str | None = None) -> None:
        self._total = total
        self._file = os.environ.get("ARGO_PROGRESS_FILE", "") if file is None else file
        self._next = 0.0

    def __call__(self, done: int) -> None:
        """Report the number of units done."""
        now = time.monotonic()
        if not self._file or (now < self._next and done < self._total):
            return
        self._next = now + PROGRESS_SECONDS
        Path(self._file).write_text(f"{done}/{self._total}")


class PodBar(ProgressBar):
    """Reports the progress of a plan that is done in one pod to Argo.

    `total` is the number of units of all rounds, `before` that of units done for other jobs. `file` is the file to
    write; None takes it from the environment.
    """

    def __init__(self, title: str, total: int, *, unit: str, before: int = 0, file: str | None = None) -> None:
        super().__init__(title, total, unit=unit, visible=False)
        self._earlier = before
        self._argo = ArgoProgress(before + total, file)

    def _show(self) -> None:
        self._argo(self._earlier + self.units)


def write_plan(plan: PlanHead, folder: Path, *, handed_over: bool = True) -> None:
    """Write the files of a plan that the workflow and its users read.

    For the workflow: `plan-id`, `shards` (a JSON list, empty if pods have nothing to do), `shard-count`, `shard-units`
    (the mean number of units per shard), and `round-<name>` for each round that the plan needs. For people: `plan.json`
    and `summary.md`.
    """
    has_pods = handed_over and not plan.nothing_to_do
    texts = {
        "plan-id": plan.plan_id,
        "shards": shards_parameter(plan) if has_pods else "[]",
        "shard-units": str(max(1, round(plan.units / plan.shards)) if has_pods else 1),
        "shard-count": str(plan.shards if has_pods else 0),
        **{f"round-{name}": NEEDED for name in plan.rounds},
        "plan.json": plan.model_dump_json(indent=1),
        "summary.md": _summary(plan),
    }
    write_texts(texts, folder)


def write_texts(texts: Mapping[str, str], folder: Path) -> None:
    """Write small files for the workflow, given as {name: text}."""
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            (folder / name).write_text(text)


def require_writable(folder: Path) -> None:
    """Check before any work that outputs can be written to a folder. OUTPUT_UNWRITABLE, STORE_DENIED."""
    nearest = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    with writing(folder):
        if not nearest.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(nearest))
        if not os.access(nearest, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(nearest))


def write_artifacts(artifacts: dict[str, str], site: Site, folder: Path) -> None:
    """Copy files from the store, given as {name: key}, into a folder."""
    for name, key in sorted(artifacts.items()):
        path, data = folder / name, site.store.get(key)
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)


def write_figures(figures: Mapping[str, float], folder: Path) -> None:
    """Write each number to a file `figures/<name>` below a folder, in a form that Argo reads.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> write_figures({"changed_area_m2": 2400.5, "patches": 3.0}, folder)
    >>> [(path.name, path.read_text()) for path in sorted((folder / "figures").iterdir())]
    [('changed-area-m2', '2400.5'), ('patches', '3')]
    """
    texts = {
        name.replace("_", "-"): str(int(number)) if float(number).is_integer() else repr(number)
        for name, number in figures.items()
    }
    write_texts(texts, folder / "figures")


def _summary(plan: PlanHead) -> str:
    if plan.nothing_to_do:
        return f"**{plan.job}**: nothing to do, {plan.nothing_to_do}.\n"
    estimate = plan.estimate
    return (
        f"**{plan.job}**: {plan.units} units in {plan.shards} shards, {estimate.dates} dates,"
        f" {estimate.bytes_read / 1e6:.0f} MB to read, about {estimate.core_seconds:.0f} core seconds.\n"
    )
