"""Names of the workflow parameters that fill the settings of jobs."""

from __future__ import annotations

from dataclasses import dataclass

from acdtask.cli.options import SettingOption, options_of
from acdtask.jobs.contract import Settings

__all__ = ["ALIASES", "SHARED", "Bound", "bound_to"]

SHARED = frozenset({"aoi", "layout", "variable", "instance", "profile", "resampling", "pod_start"})
"""Settings with the same meaning in every job: one parameter for all jobs of a workflow."""

ALIASES = {
    ("ingest", "make_layout"): ("consolidate", "layout"),
    ("monitor", "baseline_name"): ("baseline", "name"),
    ("monitor", "transform"): ("baseline", "transform"),
    ("report", "name"): ("monitor", "name"),
    **{
        (job, field): ("baseline", field)
        for job in ("consolidate", "monitor")
        for field in ("tags", "track", "pair_days", "mixed")
    },
}
"""Settings of a chain that must equal a setting of another job; they share its parameter."""


@dataclass(frozen=True)
class Bound:
    """A setting of a job and the workflow parameter that fills it."""

    job: str
    option: SettingOption
    parameter: str


def bound_to(job: str, settings: type[Settings], *, alone: bool) -> list[Bound]:
    """Assign a parameter to each setting, with the job's name as prefix if the workflow has several jobs.

    Args:
        job: name of the job.
        settings: settings model of the job.
        alone: whether the workflow has only this job.
    """
    return [Bound(job, option, _name(job, option.field, alone=alone)) for option in options_of(settings)]


def _name(job: str, field: str, *, alone: bool) -> str:
    if not alone and (job, field) in ALIASES:
        job, field = ALIASES[job, field]
    name = field if alone or field in SHARED else f"{job}_{field}"
    return name.replace("_", "-")
