"""Ids of runs, and their folders below `runs/workflows/` of the cube. A workflow sets ACD_RUN_ID to its uid."""

from __future__ import annotations

import os
import re

from acdtask.errors import AcdError, ErrorCode
from acdtask.jobs.contract import Site
from acdtask.storage.store import Store

__all__ = ["current_run", "run_folder"]

RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


def current_run() -> str:
    """The run that this process is part of, or an empty string. SETTING_INVALID."""
    run = os.environ.get("ACD_RUN_ID", "")
    return run if not run else _valid_run_id(run)


def run_folder(run: str, site: Site) -> Store:
    """The folder with the records of a run. SETTING_INVALID."""
    return site.runs.within(f"workflows/{_valid_run_id(run)}")


def _valid_run_id(run: str) -> str:
    if not RUN_ID.fullmatch(run):
        raise AcdError(
            ErrorCode.SETTING_INVALID,
            f"the run id {run!r} is invalid",
            "Use letters, digits, '.', '_' and '-', at most 128 characters (ACD_RUN_ID or --run).",
        )
    return run
