"""Watch: all that is pending in a project, from images to report, job after job."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from acdtask.cube.aoi import load_aoi
from acdtask.engine.local import run_locally
from acdtask.engine.processes import WorkerPool
from acdtask.engine.stages import open_site
from acdtask.errors import AcdError, ErrorCode
from acdtask.jobs.baseline.period import period_of, period_text
from acdtask.jobs.baseline.settings import BaselineSettings
from acdtask.jobs.contract import Content, Draft, Estimate, Findings, Job, Settings, Site
from acdtask.jobs.ingest.content import FilesWork
from acdtask.jobs.registry import load_job
from acdtask.project.config import JOBS_IN_ORDER, Project

__all__ = ["Pending", "Watched", "pending_jobs", "watch"]

NOTHING_MONITORED = "no image was monitored yet"

SettingsOf = Callable[[Job[Any, Any]], Settings]
"""Gives the settings of a job."""


@dataclass(frozen=True)
class Pending:
    """What a job has to do.

    Attributes:
        job: its name.
        draft: its plan; None if that depends on a job before it.
        after: the job that it depends on.
        unit: what its plan counts.
        note: what is known of it already.
    """

    job: str
    draft: Draft[Any, Any] | None
    after: str = ""
    unit: str = "tiles"
    note: str = ""

    @property
    def is_idle(self) -> bool:
        """Whether there is nothing to do."""
        return self.draft is not None and bool(self.draft.nothing_to_do)


@dataclass
class Watched:
    """How a watch went: what each job said, and what came out.

    Attributes:
        lines: the sentences of each job, by its name.
        done: what each job that did something has brought.
        report: address of the page, if there is one.
    """

    lines: dict[str, list[str]] = field(default_factory=dict)
    done: dict[str, Findings] = field(default_factory=dict)
    report: str = ""

    def summary(self) -> list[str]:
        """What was new, what was found, and where the report is."""
        if not self.done:
            said = ["nothing to do: all is up to date"]
        else:
            new = int(self._figure("ingest", "files"))
            images = int(self._figure("monitor", "images"))
            patches, area = int(self._figure("monitor", "patches")), self._figure("monitor", "changed_area_m2")
            said = [
                f"new images: {new}; monitored: {images}; "
                f"patches found: {patches}" + (f" ({area / 10_000:.1f} ha)" if patches else "")
            ]
        return [*said, f"report: {self.report}"] if self.report else said

    def _figure(self, job: str, name: str) -> float:
        return self.done[job].figures.get(name, 0) if job in self.done else 0


def pending_jobs(project: Project, settings_of: SettingsOf, address: str) -> Iterator[Pending]:
    """What each job of a project has to do. Nothing is written.

    Raises what the plan of a job raises.
    """
    first: Pending | None = None
    for job in _jobs(project):
        if first is None:
            draft = _planned(job, settings_of(job), open_site(address))
            pending = Pending(job.name, draft, unit=job.unit)
            first = None if pending.is_idle else pending
            yield pending
            continue
        note = ""
        if job.name == "baseline" and first.job == "ingest" and first.draft:
            note = _period_to_come(settings_of(job), first.draft, open_site(address))
        yield Pending(job.name, None, first.job, job.unit, note)


def watch(
    project: Project,
    settings_of: SettingsOf,
    address: str,
    *,
    workers: int,
    told: Callable[[str, list[str]], None],
    progress: bool | None = None,
) -> Watched:
    """Do what each job of a project has to do, one after the other. Raises what a job raises.

    Args:
        project: which jobs.
        settings_of: gives the settings of a job, once the jobs before it are done.
        address: of the cube.
        workers: processes.
        told: called with the name and the sentences of each job that has ended.
        progress: draw a bar for each job; None draws on a terminal only.
    """
    watched = Watched()
    with WorkerPool(workers) as pool:
        for job in _jobs(project):
            try:
                outcome = run_locally(job, settings_of(job), address, pool=pool, progress=progress, one_bar=True)
            except AcdError as error:
                if job.name != "report" or error.code is not ErrorCode.MONITOR_UNKNOWN:
                    raise
                lines = [f"nothing to do: {NOTHING_MONITORED}"]
                watched.lines[job.name] = lines
                told(job.name, lines)
                continue
            watched.lines[job.name] = outcome.lines
            told(job.name, outcome.lines)
            if not outcome.plan.nothing_to_do:
                watched.done[job.name] = job.findings(outcome.plan, open_site(address))
            if job.name == "report":
                files = job.findings(outcome.plan, open_site(address)).files
                watched.report = files.get("report copy") or files["report"]
    return watched


def _jobs(project: Project) -> list[Job[Any, Any]]:
    return [load_job(name) for name in JOBS_IN_ORDER if name != "consolidate" or project.consolidates]


def _planned(job: Job[Any, Any], settings: Settings, site: Site) -> Draft[Any, Any]:
    """The plan of a job. A report of nothing is nothing to do."""
    try:
        draft: Draft[Any, Any] = job.plan(settings, site)
    except AcdError as error:
        if job.name != "report" or error.code is not ErrorCode.MONITOR_UNKNOWN:
            raise
        return Draft(content=Content(), shards=[], estimate=Estimate(), nothing_to_do=NOTHING_MONITORED)
    return draft


def _period_to_come(settings: Settings, ingest: Draft[Any, FilesWork], site: Site) -> str:
    """The period of the baseline in a cube that the ingest is to make. BASELINE_PERIOD_OPEN, TOO_FEW_DATES."""
    if not isinstance(settings, BaselineSettings) or site.find_cube() is not None:
        return ""
    records = [file.record for shard in ingest.shards for file in shard.work.inputs]
    aoi = load_aoi(settings.aoi)
    choice = settings.choice()
    start, end = settings.start or aoi.start, settings.end or aoi.end
    moments = sorted(
        record.datetime
        for record in records
        if choice.matches(record) and (start or record.datetime) <= record.datetime <= (end or record.datetime)
    )
    if not moments:
        return ""
    first, last = period_of(start, end, moments, aoi.name)
    return period_text(first, last, by_default=end is None)
