"""Run the pending jobs of a project in order, from ingest to report."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
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

__all__ = ["Pending", "Step", "WatchResult", "pending_jobs", "steps_of", "watch"]

NOTHING_MONITORED = "no image has been monitored yet"
NOTHING_TO_FUSE = "not every series has been monitored yet"

SettingsOf = Callable[[Job[Any, Any], str], Settings]
"""Makes the settings of a job for a series; the name is empty for a job of the whole file."""


@dataclass(frozen=True)
class Step:
    """A job, of one series or of several.

    Attributes:
        job: the job.
        project: the project of the series whose settings it has, or of the whole file.
        is_shared: whether it is done once for several series.
    """

    job: Job[Any, Any]
    project: Project
    is_shared: bool = False

    @property
    def label(self) -> str:
        """Its name for the user."""
        return self.job.name if self.is_shared else f"{self.job.name} {self.project.name}".strip()

    def follows(self, other: Step) -> bool:
        """Whether it needs the result of an earlier step."""
        return self.is_shared or other.is_shared or self.project.name == other.project.name


@dataclass(frozen=True)
class Pending:
    """A step with its plan.

    `draft` is the plan; None if it depends on the earlier step `after`. `note` is what is already known without a plan.
    """

    step: str
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
    """The results of all steps.

    `findings` are those of each step that had something to do, with the name of its job. `reports` are the addresses of
    the reports' pages. `unusable` is the number of files that could not be used.
    """

    findings: list[tuple[str, Findings]] = field(default_factory=list)
    reports: list[str] = field(default_factory=list)
    unusable: int = 0

    def summary(self) -> list[str]:
        """Summarise the new images, the patches and the reports."""
        if not self.findings:
            sentences = ["nothing to do: everything is up to date"]
        else:
            sentences = [
                f"new images: {int(self._figure('ingest', 'files'))}; monitored: "
                f"{int(self._figure('monitor', 'images'))}; patches found: {self._patches('monitor')}"
            ]
        if any(job == "fuse" for job, _ in self.findings):
            sentences.append(
                f"windows fused: {int(self._figure('fuse', 'windows'))}; fused patches: {self._patches('fuse')}"
            )
        if self.unusable:
            sentences.append(f"files that cannot be used: {self.unusable} (named above); the next run tries again")
        return [*sentences, *(f"report: {report}" for report in self.reports)]

    def _patches(self, job: str) -> str:
        patches, area = int(self._figure(job, "patches")), self._figure(job, "changed_area_m2")
        return f"{patches}" + (f" ({area / 10_000:.1f} ha)" if patches else "")

    def _figure(self, job: str, name: str) -> float:
        return sum(findings.figures.get(name, 0) for other, findings in self.findings if other == job)


def steps_of(project: Project) -> list[Step]:
    """The steps of a project in order: series by series up to monitor, then the fusion, then the reports.

    What would be ingested or consolidated for several series in the same way is done once. PROJECT_INVALID.
    """
    every = [project.of_series(name) for name in project.series] or [project]
    names = [name for name in JOBS_IN_ORDER if name != "consolidate" or project.consolidates]
    jobs = {name: load_job(name) for name in names}
    once = []
    while len(every) > 1 and names[0] in ("ingest", "consolidate") and _are_same(jobs[names[0]], every):
        once.append(Step(jobs[names.pop(0)], every[0], is_shared=True))
    own = [Step(jobs[name], each) for each in every for name in names if name != "report"]
    fusion = [Step(load_job("fuse"), project, is_shared=True)] if project.fuses and not project.name else []
    return [*once, *own, *fusion, *(Step(jobs["report"], each) for each in every)]


def pending_jobs(project: Project, settings_of: SettingsOf, address: str) -> Iterator[Pending]:
    """Plan the steps of a project that follow none with something to do, without writing. Its errors are raised."""
    pending: list[tuple[Step, Draft[Any, Any] | None]] = []
    for step in steps_of(project):
        job, before = step.job, next(((other, draft) for other, draft in pending if step.follows(other)), None)
        if before is None:
            draft = _plan(step, settings_of, open_site(address))
            if not draft.nothing_to_do:
                pending.append((step, draft))
            yield Pending(step.label, draft, unit=job.unit)
            continue
        other, planned = before
        pending.append((step, None))
        note = ""
        if job.name == "baseline" and other.job.name == "ingest" and planned:
            note = _expected_period(settings_of(job, step.project.name), planned, open_site(address))
        yield Pending(step.label, None, other.label, job.unit, note)


def watch(
    project: Project,
    settings_of: SettingsOf,
    address: str,
    *,
    workers: int,
    on_finished: Callable[[str, list[str]], None],
    progress: bool | None = None,
) -> WatchResult:
    """Run the pending steps of a project, one after the other. Errors of a job are raised.

    `settings_of` makes the settings of a job, once the jobs before it are done. `on_finished` is called with the label
    of each finished step and the lines that it reports. `progress` says whether to draw a bar for each step; None draws
    on a terminal only.
    """
    result = WatchResult()
    with WorkerPool(workers) as pool:
        for step in steps_of(project):
            job, settings = step.job, settings_of(step.job, step.project.name)
            try:
                outcome = run_locally(job, settings, address, pool=pool, progress=progress, one_bar=True)
            except AcdError as error:
                on_finished(step.label, [f"nothing to do: {_why_early(step, error)}"])
                continue
            on_finished(step.label, outcome.lines)
            result.unusable += len(outcome.unusable)
            if not outcome.plan.nothing_to_do:
                result.findings.append((job.name, job.findings(outcome.plan, open_site(address))))
            if job.name == "report":
                files = job.findings(outcome.plan, open_site(address)).files
                result.reports.append(files.get("report copy") or files["report"])
    return result


def _are_same(job: Job[Any, Any], projects: Sequence[Project]) -> bool:
    fields = job.settings.model_fields
    first, *others = (project.of_job(job.name, fields) for project in projects)
    return all(other == first for other in others)


def _plan(step: Step, settings_of: SettingsOf, site: Site) -> Draft[Any, Any]:
    """Plan a step. A report or fusion before the first monitoring has nothing to do."""
    try:
        draft: Draft[Any, Any] = step.job.plan(settings_of(step.job, step.project.name), site)
    except AcdError as error:
        return Draft(content=Content(), shards=[], estimate=Estimate(), nothing_to_do=_why_early(step, error))
    return draft


def _why_early(step: Step, error: AcdError) -> str:
    """Why a step has nothing to do, if its plan fails since no image was monitored yet. Other errors are raised."""
    is_of_series = "members" not in step.project.sections.get("fuse", {})
    if error.code is ErrorCode.MONITOR_UNKNOWN and step.job.name == "report":
        return NOTHING_MONITORED
    if error.code is ErrorCode.MONITOR_UNKNOWN and step.job.name == "fuse" and is_of_series:
        return NOTHING_TO_FUSE
    raise error


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
