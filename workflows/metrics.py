"""Figures of workflows for Prometheus: Argo's controller keeps them, and the last gather of a job brings the values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hera.workflows import Counter, Gauge, Metrics, Parameter
from hera.workflows.metrics import Label
from hera.workflows.models import ValueFrom

__all__ = [
    "DURATION",
    "FIGURES",
    "PREFIX",
    "SUCCEEDED",
    "Figure",
    "duration_metric",
    "figure_metrics",
    "figure_outputs",
]

PREFIX = "argo_workflows_"
"""Argo puts it before every name."""

SUCCEEDED = "{{status}} == Succeeded"
"""Argo asks after every attempt of a pod, and one that failed has no outputs."""


@dataclass(frozen=True)
class Figure:
    """A number that a gather writes below its outputs as `figures/<output>`.

    Attributes:
        output: name of the output parameter.
        metric: name of the counter, without PREFIX.
        help: the same wherever the name is used, as Prometheus wants it.
        jobs: those that have it; empty for all.
    """

    output: str
    metric: str
    help: str
    jobs: tuple[str, ...] = ()


FIGURES = (
    Figure("units", "acd_units_total", "Tiles, files or pages that were done"),
    Figure("seconds", "acd_shard_seconds_total", "Seconds that shards have worked, all pods together"),
    Figure("pixel-bytes-read", "acd_pixel_bytes_read_total", "Bytes of pixels read, as they are in memory"),
    Figure("bytes-written", "acd_bytes_written_total", "Bytes written to the store"),
    Figure("images", "acd_images_total", "Images that were compared with the baseline", ("monitor",)),
    Figure("patches", "acd_patches_total", "Patches of abnormal change that were found", ("monitor",)),
    Figure("changed-area-m2", "acd_changed_square_metres_total", "Area of the patches that were found", ("monitor",)),
    Figure("area-px", "acd_area_pixels_total", "Pixels of the area in the images that were compared", ("monitor",)),
    Figure("judged-px", "acd_judged_pixels_total", "Those of them that could be judged", ("monitor",)),
)

DURATION = "acd_job_duration_seconds"
DURATION_HELP = "Seconds from the start of a job to its end, in the last run that did not fail"


def figure_outputs(job: str, folder: str, prefix: str = "") -> list[Parameter]:
    """The output parameters of a pod that publishes a job's results, which hold its figures.

    Args:
        job: the job.
        folder: where the pod writes.
        prefix: what their names begin with, in a pod that does several jobs.
    """
    return [
        Parameter(
            name=prefix + figure.output, value_from=ValueFrom(path=f"{folder}/figures/{figure.output}", default="0")
        )
        for figure in _of(job)
    ]


def figure_metrics(job: str, aoi: str, prefix: str = "") -> Metrics:
    """The counters of a pod that publishes a job's results; `aoi` is the label's value."""
    made: list[Any] = [
        Counter(
            name=figure.metric,
            help=figure.help,
            labels=_labels(job, aoi),
            when=SUCCEEDED,
            value=f"{{{{outputs.parameters.{prefix}{figure.output}}}}}",
        )
        for figure in _of(job)
    ]
    return Metrics(metrics=made)


def duration_metric(job: str, aoi: str) -> Metrics:
    """How long a job took, or all of them."""
    gauge: Any = Gauge(
        name=DURATION,
        help=DURATION_HELP,
        labels=_labels(job, aoi),
        when=SUCCEEDED,
        value="{{duration}}",
        realtime=False,
    )
    return Metrics(metrics=[gauge])


def _of(job: str) -> list[Figure]:
    return [figure for figure in FIGURES if not figure.jobs or job in figure.jobs]


def _labels(job: str, aoi: str) -> list[Label]:
    return [Label(key="job", value=job), Label(key="aoi", value=aoi)]
