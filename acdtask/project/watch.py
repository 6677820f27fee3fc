"""Run the pending jobs of a project in order, from ingest to report."""

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

__all__ = ["Pending", "WatchResult", "pending_jobs", "watch"]

NOTHING_MONITORED = "no image has been monitored yet"

SettingsOf = Callable[[Job[Any, Any]], Settings]
"""Makes the settings of a job."""


@dataclass(frozen=True)
class Pending:
    """A job with its plan.

    `draft` is the plan; None if it depends on the earlier job `after`. `note` is what is already known without a plan.
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
class WatchResult:
    """The results of all jobs.

    `findings` are those of each job that had something to do, by name. `report` is the address of the report's page;
    empty if there is none. `unusable` is the number of files that could not be used.
    """

    findings: dict[str, Findings] = field(default_factory=dict)
    report: str = ""
    unusable: int = 0

    def summary(self) -> list[str]:
        """Summarise the new images, the patches and the report."""
        if not self.findings:
            sentences = ["nothing to do: everything is up to date"]
        else:
            new = int(self._figure("ingest", "files"))
            images = int(self._figure("monitor", "images"))
            patches, area = int(self._figure("monitor", "patches")), self._figure("monitor", "changed_area_m2")
            sentences = [
                f"new images: {new}; monitored: {images}; "
                f"patches found: {patches}" + (f" ({area / 10_000:.1f} ha)" if patches else "")
            ]
        if self.unusable:
            sentences.append(f"files that cannot be used: {self.unusable} (named above); the next run tries again")
        return [*sentences, f"report: {self.report}"] if self.report else sentences

    def _figure(self, job: str, name: str) -> float:
        return self.findings[job].figures.get(name, 0) if job in self.findings else 0


def pending_jobs(project: Project, settings_of: SettingsOf, address: str) -> Iterator[Pending]:
    """Plan the jobs of a project up to the first with something to do, without writing. Planning errors are raised."""
    first: Pending | None = None
    for job in _jobs(project):
        if first is None:
            draft = _plan(job, settings_of(job), open_site(address))
            pending = Pending(job.name, draft, unit=job.unit)
            first = None if pending.is_idle else pending
            yield pending
            continue
        note = ""
        if job.name == "baseline" and first.job == "ingest" and first.draft:
            note = _expected_period(settings_of(job), first.draft, open_site(address))
        yield Pending(job.name, None, first.job, job.unit, note)


def watch(
    project: Project,
    settings_of: SettingsOf,
    address: str,
    *,
    workers: int,
    on_finished: Callable[[str, list[str]], None],
    progress: bool | None = None,
) -> WatchResult:
    """Run the pending jobs of a project, one after the other. Errors of a job are raised.

    `settings_of` makes the settings of a job, once the jobs before it are done. `on_finished` is called with the name
    of each finished job and the lines that it reports. `progress` says whether to draw a bar for each job; None draws
    on a terminal only.
    """
    result = WatchResult()
    with WorkerPool(workers) as pool:
        for job in _jobs(project):
            try:
                outcome = run_locally(job, settings_of(job), address, pool=pool, progress=progress, one_bar=True)
            except AcdError as error:
                if job.name != "report" or error.code is not ErrorCode.MONITOR_UNKNOWN:
                    raise
                on_finished(job.name, [f"nothing to do: {NOTHING_MONITORED}"])
                continue
            on_finished(job.name, outcome.lines)
            result.unusable += len(outcome.unusable)
            if not outcome.plan.nothing_to_do:
                result.findings[job.name] = job.findings(outcome.plan, open_site(address))
            if job.name == "report":
                files = job.findings(outcome.plan, open_site(address)).files
                result.report = files.get("report copy") or files["report"]
    return result


def _jobs(project: Project) -> list[Job[Any, Any]]:
    return [load_job(name) for name in JOBS_IN_ORDER if name != "consolidate" or project.consolidates]


def _plan(job: Job[Any, Any], settings: Settings, site: Site) -> Draft[Any, Any]:
    """Plan a job. A report before the first monitoring has nothing to do."""
    try:
        draft: Draft[Any, Any] = job.plan(settings, site)
    except AcdError as error:
        if job.name != "report" or error.code is not ErrorCode.MONITOR_UNKNOWN:
            raise
        return Draft(content=Content(), shards=[], estimate=Estimate(), nothing_to_do=NOTHING_MONITORED)
    return draft


def _expected_period(settings: Settings, ingest: Draft[Any, FilesWork], site: Site) -> str:
    """The baseline's period, from the images that a planned ingest will add. BASELINE_PERIOD_OPEN, TOO_FEW_DATES."""
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
