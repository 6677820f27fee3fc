"""Prometheus metrics of workflows: Argo's controller exports them, with values from the last gather of each job."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hera.workflows import Counter, Gauge, Metrics, Parameter
from hera.workflows.metrics import Label
from hera.workflows.models import ValueFrom

__all__ = [
    "DURATION",
    "DURATION_HELP",
    "FIGURES",
    "PREFIX",
    "SUCCEEDED",
    "Figure",
    "duration_metric",
    "figure_metrics",
    "figure_outputs",
]

PREFIX = "argo_workflows_"
"""Prefix that Argo adds to every name."""

SUCCEEDED = "{{status}} == Succeeded"
"""Argo evaluates metrics after every attempt of a pod, and failed attempts have no outputs."""


@dataclass(frozen=True)
class Figure:
    """A number that a gather writes to the file `figures/<output>` of its outputs.

    `metric` is the name of the counter, without PREFIX. Prometheus requires the same `help` for every use of a name.
    `jobs` are those with this figure; empty for all.
    """

    output: str
    metric: str
    help: str
    jobs: tuple[str, ...] = ()


FIGURES = (
    Figure("units", "acd_units_total", "Finished tiles, files or pages"),
    Figure("seconds", "acd_shard_seconds_total", "Seconds of work on shards, summed over all pods"),
    Figure("pixel-bytes-read", "acd_pixel_bytes_read_total", "Bytes of pixels read, uncompressed"),
    Figure("bytes-written", "acd_bytes_written_total", "Bytes written to the store"),
    Figure("images", "acd_images_total", "Images compared with the baseline", ("monitor",)),
    Figure("news-patches", "acd_patches_total", "Patches of abnormal change in images to announce", ("monitor",)),
    Figure("news-area-m2", "acd_changed_square_metres_total", "Area of these patches, in square metres", ("monitor",)),
    Figure("area-px", "acd_area_pixels_total", "Pixels of the area in the compared images", ("monitor",)),
    Figure("judged-px", "acd_judged_pixels_total", "Pixels of the area that could be judged", ("monitor",)),
)

DURATION = "acd_job_duration_seconds"
DURATION_HELP = "Seconds from start to end of a job, in the last successful run"


def figure_outputs(job: str, folder: str, prefix: str = "") -> list[Parameter]:
    """The output parameters with the figures of a job, for a pod that publishes its results.

    `folder` is that of the pod's outputs; `prefix` starts the names, in a pod that does several jobs.
    """
    return [
        Parameter(
            name=prefix + figure.output, value_from=ValueFrom(path=f"{folder}/figures/{figure.output}", default="0")
        )
        for figure in _figures_of(job)
    ]


def figure_metrics(job: str, aoi: str, prefix: str = "") -> Metrics:
    """The counters of a pod that publishes a job's results; `aoi` is the value of their label."""
    counters: list[Any] = [
        Counter(
            name=figure.metric,
            help=figure.help,
            labels=_labels(job, aoi),
            when=SUCCEEDED,
            value=f"{{{{outputs.parameters.{prefix}{figure.output}}}}}",
        )
        for figure in _figures_of(job)
    ]
    return Metrics(metrics=counters)


def duration_metric(job: str, aoi: str) -> Metrics:
    """The gauge with the duration of a job, or of the whole chain."""
    gauge: Any = Gauge(
        name=DURATION,
        help=DURATION_HELP,
        labels=_labels(job, aoi),
        when=SUCCEEDED,
        value="{{duration}}",
        realtime=False,
    )
    return Metrics(metrics=[gauge])


def _figures_of(job: str) -> list[Figure]:
    return [figure for figure in FIGURES if not figure.jobs or job in figure.jobs]


def _labels(job: str, aoi: str) -> list[Label]:
    return [Label(key="job", value=job), Label(key="aoi", value=aoi)]
