"""Find the commands that have an option."""

from __future__ import annotations

from acdtask.jobs.registry import JOBS, load_job

__all__ = ["jobs_with_option"]


def jobs_with_option(option: str) -> list[str]:
    """List the jobs that have a setting with this option.

    >>> jobs_with_option("--min-area")
    ['monitor']
    """
    from acdtask.cli.options import options_of

    return [name for name in JOBS if option in {setting.flag for setting in options_of(load_job(name).settings)}]
