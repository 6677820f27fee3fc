"""The jobs by name. Only the module of the requested job is imported."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from acdtask.errors import AcdError, ErrorCode

if TYPE_CHECKING:
    from acdtask.jobs.contract import Job

__all__ = ["JOBS", "JobEntry", "load_job"]


@dataclass(frozen=True)
class JobEntry:
    """Help texts of a job, which are shown without importing it.

    `example` has the options of a working example. `site_setting` is the setting that names the folder in which the job
    works, if that is not a cube. `in_chain` says whether the job is part of the workflow acd-all.
    """

    summary: str
    help: str
    example: str
    site_setting: str = ""
    in_chain: bool = True


JOBS: Mapping[str, JobEntry] = MappingProxyType(
    {
        "simulate": JobEntry(
            "Make coherence images with known events.",
            "Makes a year of simulated coherence images, and a truth file with the places and dates of changes.",
            "--out scene --size 1024 --seed 7",
            site_setting="out",
            in_chain=False,
        ),
        "ingest": JobEntry(
            "Bring images into a cube.",
            "Reads GeoTIFFs from a folder, a bucket or a STAC catalogue, checks them, and indexes them as records of a "
            "cube. A missing cube is created.",
            "--cube cube --source scene/images",
        ),
        "consolidate": JobEntry(
            "Store the images of an area by tile, with all dates together.",
            "Writes all images of each tile into one Zarr group, so that later jobs read them faster. Optional: every "
            "job gives the same result without it.",
            "--cube cube --aoi aoi.json --layout utm",
        ),
        "baseline": JobEntry(
            "Compute the usual value of each pixel.",
            "Computes mean, standard deviation and count of each pixel over a reference period.",
            "--cube cube --aoi aoi.json --layout utm",
        ),
        "monitor": JobEntry(
            "Find abnormal change since the baseline.",
            "Compares each new date with the baseline and outlines the patches of ground that changed abnormally.",
            "--cube cube --aoi aoi.json --layout utm",
        ),
        "report": JobEntry(
            "Show a monitoring result as a web page.",
            "Writes a folder with index.html and pictures: the area, the baseline, each date and its patches.",
            "--cube cube --aoi aoi.json --layout utm --out report",
        ),
        "fuse": JobEntry(
            "Fuse monitoring results of two tracks or polarisations.",
            "Joins the candidates of several monitoring results of an area that overlap on the ground within a window "
            "of time, and keeps the most probable.",
            "--cube cube --aoi aoi.json --members CoherenceVV/utm/ascending --members CoherenceVV/utm/descending",
            in_chain=False,
        ),
    }
)


def load_job(name: str) -> Job[Any, Any]:
    """Load the job with a name: the class `<Name>Job` in `acdtask.jobs.<name>.job`. USAGE if there is none."""
    if name not in JOBS:
        raise AcdError(ErrorCode.USAGE, f"there is no job {name!r}; the jobs are {', '.join(JOBS)}")
    job: Job[Any, Any] = getattr(import_module(f"acdtask.jobs.{name}.job"), f"{name.title()}Job")()
    return job
