"""Workflow parameters, made from the settings of the jobs."""

from __future__ import annotations

from dataclasses import dataclass

from hera.workflows import Parameter

from acdtask.cli.options import SettingOption, options_of
from acdtask.cli.small_work import MEMORY_DEFAULT, SECONDS_DEFAULT
from acdtask.jobs.contract import Settings
from acdtask.maintenance.tidy.retention import Retention
from workflows.retries import HERE_MEMORY, MEMORY

__all__ = [
    "AOI",
    "AOI_FILE",
    "HERE_SECONDS",
    "QUARANTINE",
    "WEBHOOK",
    "Bound",
    "bound_to",
    "here_parameters",
    "memory_parameter",
    "parameter_of",
    "quarantine_parameter",
    "retention_parameters",
    "webhook_parameter",
]

AOI = "aoi"
QUARANTINE = "quarantine"
AOI_FOLDER = "/etc/acd/aoi"
AOI_FILE = f"{AOI_FOLDER}/aoi.json"
WEBHOOK = "webhook"
HERE_SECONDS = "here-seconds"

SHARED = frozenset({"aoi", "layout", "variable", "instance", "profile", "resampling", "pod_start"})
"""Settings that mean the same in every job: one parameter for all jobs of a workflow."""

SAME = {
    ("ingest", "make_layout"): ("consolidate", "layout"),
    ("monitor", "baseline_name"): ("baseline", "name"),
    ("report", "name"): ("monitor", "name"),
    **{
        (job, field): ("baseline", field)
        for job in ("consolidate", "monitor")
        for field in ("tags", "track", "pair_days", "mixed")
    },
}
"""Settings of a chain that name what another of its jobs makes or reads, or choose the records of all of them."""

WORKING_DEFAULTS = {"aoi": "default", "layout": "default"}
"""Argo CD starts a template without parameters, so those that a job needs have a default too."""

POD_START = "pod-start"
POD_START_SECONDS = "10"
"""Measured on a cluster of one machine: from the end of a pod to the work of the one that follows it."""

AOI_DESCRIPTION = "Name of the AOI: its file is the key aoi.json of the ConfigMap acd-aoi-<name>"


@dataclass(frozen=True)
class Bound:
    """A setting of a job and the workflow parameter that fills it."""

    job: str
    option: SettingOption
    parameter: str


def bound_to(job: str, settings: type[Settings], *, alone: bool) -> list[Bound]:
    """The parameter of each setting: its own name in the workflow of one job, else the job's name before it.

    Args:
        job: name of the job.
        settings: its settings.
        alone: whether the workflow has no other job.
    """
    return [Bound(job, option, _name(job, option.field, alone=alone)) for option in options_of(settings)]


def parameter_of(bounds: list[Bound]) -> Parameter:
    """One workflow parameter for settings that share it. An empty value means the job's own default."""
    first = bounds[0]
    option = first.option
    value = option.default if option.kind == "one" else ""
    if first.parameter == AOI or any(bound.option.required for bound in bounds):
        value = WORKING_DEFAULTS.get(first.parameter, value)
    if first.parameter == POD_START:
        value = POD_START_SECONDS
    choices = ["yes", "no"] if option.kind == "flag" else [str(choice) for choice in option.choices]
    if choices and value not in choices:
        choices.insert(0, value)
    return Parameter(name=first.parameter, value=value, description=_description(bounds), enum=choices or None)


def quarantine_parameter() -> Parameter:
    """How many shards a gather may go on without; no setting of a job."""
    description = "Number of shards of each job that may fail permanently and are left out; the next run does them"
    return Parameter(name=QUARANTINE, value="0", description=description)


def retention_parameters() -> list[Parameter]:
    """What tidy keeps: a parameter for each option of `acdtask tidy`."""
    described = {
        "keep_days": "Days in which nothing is deleted that was written in them; 2 at least",
        "keep_runs": "Finished runs of each AOI and job to keep",
        "keep_versions": "Versions of each result to keep, and reports of each AOI",
        "keep_heads": "Heads of the index to keep",
    }
    return [
        Parameter(name=field.replace("_", "-"), value=str(Retention.model_fields[field].default), description=text)
        for field, text in described.items()
    ]


def memory_parameter() -> Parameter:
    """The memory of a pod that does a shard; no setting of a job."""
    description = "Memory of a pod that does a shard, in MiB; more after it ran out of memory"
    return Parameter(name=MEMORY, value="2048", description=description)


def here_parameters() -> list[Parameter]:
    """What a pod that plans may do itself; no settings of a job."""
    seconds = (
        "A plan that expects no more seconds of work is done in the pod that made it; 0: every plan gets more pods"
    )
    memory = "Memory of a pod that plans and does small work, in MiB; more after it ran out of memory"
    return [
        Parameter(name=HERE_SECONDS, value=SECONDS_DEFAULT, description=seconds),
        Parameter(name=HERE_MEMORY, value=MEMORY_DEFAULT, description=memory),
    ]


def webhook_parameter() -> Parameter:
    """Where the end of the workflow is told; no setting of a job."""
    description = (
        "http:// or https:// address that gets a CloudEvent when the workflow has ended; empty: nothing is sent"
    )
    return Parameter(name=WEBHOOK, value="", description=description)


def _name(job: str, field: str, *, alone: bool) -> str:
    if not alone and (job, field) in SAME:
        job, field = SAME[job, field]
    name = field if alone or field in SHARED else f"{job}_{field}"
    return name.replace("_", "-")


def _description(bounds: list[Bound]) -> str:
    option = bounds[0].option
    if option.field == AOI:
        return f"{AOI_DESCRIPTION} (required)"
    meanings = list(dict.fromkeys(_meaning(bound.option) for bound in bounds))
    form = {
        "many": " (several: separated by commas)",
        "pairs": " (KEY=VALUE, separated by commas)",
        "several": f" ({option.count} values, separated by commas)",
    }.get(option.kind, "")
    needed = " (required)" if any(bound.option.required for bound in bounds) else ""
    return "; ".join(meanings) + form + needed


def _meaning(option: SettingOption) -> str:
    """What a setting means; with its name where it tells its default only."""
    return (
        f"{option.field.capitalize()}; {option.description}"
        if option.description.startswith("default:")
        else option.meaning
    )
