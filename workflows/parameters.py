"""Workflow parameters, generated from the settings of the jobs."""

from __future__ import annotations

from hera.workflows import Parameter

from acdtask.cli.options import SettingOption
from acdtask.cli.parameters import ALIASES, SHARED, Bound, bound_to
from acdtask.cli.small_work import MEMORY_DEFAULT, SECONDS_DEFAULT
from acdtask.maintenance.tidy.retention import Retention
from workflows.retries import HERE_MEMORY, MEMORY

__all__ = [
    "ALIASES",
    "AOI",
    "AOI_FILE",
    "EVENT_MONITOR",
    "HERE_SECONDS",
    "QUARANTINE",
    "SHARED",
    "WEBHOOK",
    "Bound",
    "bound_to",
    "here_parameters",
    "memory_parameter",
    "monitor_parameter",
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
EVENT_MONITOR = "event-monitor"
HERE_SECONDS = "here-seconds"

REQUIRED_DEFAULTS = {"aoi": "default", "layout": "default"}
"""Defaults of required settings, since Argo CD can start a template without parameters."""

POD_START = "pod-start"
POD_START_SECONDS = "10"
"""Seconds between the end of a pod and the start of work in the next, measured on a single-machine cluster."""

AOI_DESCRIPTION = "Name of the AOI; its file is the key aoi.json of the ConfigMap acd-aoi-<name>"


def parameter_of(bounds: list[Bound]) -> Parameter:
    """Make the workflow parameter that settings share. An empty value means the default of the job."""
    first = bounds[0]
    option = first.option
    value = option.default if option.kind == "one" else ""
    if first.parameter == AOI or any(bound.option.required for bound in bounds):
        value = REQUIRED_DEFAULTS.get(first.parameter, value)
    if first.parameter == POD_START:
        value = POD_START_SECONDS
    choices = ["yes", "no"] if option.kind == "flag" else [str(choice) for choice in option.choices]
    if choices and value not in choices:
        choices.insert(0, value)
    return Parameter(name=first.parameter, value=value, description=_description(bounds), enum=choices or None)


def quarantine_parameter() -> Parameter:
    """The number of shards that may fail; not a setting of a job."""
    description = "Number of shards of each job that may fail permanently and are left out; the next run retries them"
    return Parameter(name=QUARANTINE, value="0", description=description)


def retention_parameters() -> list[Parameter]:
    """The parameters for what `acdtask tidy` keeps."""
    descriptions = {
        "keep_days": "Keep everything written in the last days; at least 2",
        "keep_runs": "Number of finished runs to keep for each AOI and job",
        "keep_versions": "Number of versions to keep of each result",
        "keep_heads": "Number of heads of the index to keep",
    }
    return [
        Parameter(name=field.replace("_", "-"), value=str(Retention.model_fields[field].default), description=text)
        for field, text in descriptions.items()
    ]


def memory_parameter() -> Parameter:
    """The memory of a pod that runs a shard; not a setting of a job."""
    description = "Memory of a pod that runs a shard, in MiB; increased when it runs out of memory"
    return Parameter(name=MEMORY, value="2048", description=description)


def here_parameters() -> list[Parameter]:
    """The limits of work that is done in the pod that plans it; not settings of a job."""
    seconds = "Work of at most this many expected seconds is done in the pod that plans it; 0: always in separate pods"
    memory = "Memory of a pod that plans and does small work, in MiB; increased when it runs out of memory"
    return [
        Parameter(name=HERE_SECONDS, value=SECONDS_DEFAULT, description=seconds),
        Parameter(name=HERE_MEMORY, value=MEMORY_DEFAULT, description=memory),
    ]


def webhook_parameter() -> Parameter:
    """The webhook for the end of the workflow; not a setting of a job."""
    description = (
        "http:// or https:// address that gets the events of the AOI when the workflow ends; empty: none are sent"
    )
    return Parameter(name=WEBHOOK, value="", description=description)


def monitor_parameter() -> Parameter:
    """The name of the monitor in the values of the chart; not a setting of a job."""
    return Parameter(name=EVENT_MONITOR, value="", description="Name of the monitor, for events; the chart sets it")


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
    required = " (required)" if any(bound.option.required for bound in bounds) else ""
    return "; ".join(meanings) + form + required


def _meaning(option: SettingOption) -> str:
    """The description of a setting, with its name if it only describes the default."""
    return (
        f"{option.field.capitalize()}; {option.description}"
        if option.description.startswith("default:")
        else option.meaning
    )
