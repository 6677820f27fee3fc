"""Making of a report's edition: combines new pictures with those of earlier editions, and writes the pages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from acdtask.jobs.parts import month_of, write_part
from acdtask.jobs.patch_files import LocatedPatch, patches_to_geojson, patches_to_parquet
from acdtask.jobs.quarantine import Failure
from acdtask.jobs.report.content import ReportPlan
from acdtask.jobs.report.edition import INDEX, DrawnDate, Edition, ReportMonth, read_drawn, write_drawn
from acdtask.jobs.report.model import (
    BaselinePage,
    FusedPage,
    LeftOutRow,
    MonthLine,
    ReportPage,
    ScoredResult,
)
from acdtask.jobs.report.page import render
from acdtask.jobs.report.paging import ShownDate, page_of, patches_of_dates, score_of
from acdtask.jobs.report.quicklook import quicklook
from acdtask.jobs.report.score import Score
from acdtask.jobs.report.sources import Sources
from acdtask.jobs.styles import patch_style

__all__ = ["QUICKLOOK", "Drawn", "make_edition"]

QUICKLOOK = "quicklook.png"

TABLES = (".parquet", ".geojson", ".qml")
"""Endings of the files with a page's patches: tables, and their style for QGIS."""


@dataclass(frozen=True)
class Drawn:
    """Pictures drawn by a plan's shards: images by label, the baseline, and failures (`""`: of the baseline)."""

    dates: Mapping[str, DrawnDate]
    baseline: BaselinePage | None
    missing: Mapping[str, Failure]


def make_edition(plan: ReportPlan, drawn: Drawn, known: Sequence[Edition], sources: Sources) -> Edition:
    """Make the edition of a plan, and write its parts.

    `known` are editions with pictures to reuse: the one that was planned on, then the newest.
    """
    return _Editor(plan, drawn, [*known], sources).edition()


class _Editor:
    def __init__(self, plan: ReportPlan, drawn: Drawn, known: list[Edition], sources: Sources) -> None:
        self._plan, self._drawn, self._known, self._sources = plan, drawn, known, sources
        self._store = sources.site.store
        self._content, self._newest = plan.content, plan.settings.dates
        self._folder = plan.content.folder
        self._paged = sum(month.images for month in sources.monitor.months) > self._newest
        self._files: dict[str, str] = {}

    def edition(self) -> Edition:
        """Write the months, then the first page."""
        months = [self._month(month.month) for month in self._sources.monitor.months]
        shown = self._shown
        first = self._first_page()
        single = self._page_part("single", self._first_page(single=True)) if self._paged else ""
        self._files[INDEX] = self._page_part("index", first)
        self._write_tables("patches", patches_of_dates(shown, self._patches))
        score = first.score.model_dump_json(indent=1).encode() if first.score else b"null"
        self._files["score.json"] = self._part("score", ".json", score)
        picture = quicklook(first, first.baseline, self._store.within(self._folder).get)
        self._files[QUICKLOOK] = self._part("quicklook", ".png", picture)
        return Edition(
            content_id=self._content.report,
            aoi=self._content.aoi,
            inputs=self._content.inputs,
            ground=self._content.ground,
            baseline=self._baseline,
            months=months,
            shown=[date.drawn.folder for date in shown if date.drawn.folder],
            files=self._files,
            single_page=single,
        )

    def _month(self, name: str) -> ReportMonth:
        """A month, with its page if the report has pages of months; reused if nothing in it changed."""
        planned = self._content.months.get(name)
        if planned is None:
            unchanged = next(month for edition in self._known[:1] for month in edition.months if month.month == name)
            if self._paged:
                self._files.update({file: self._known[0].files[file] for file in _files_of(name)})
            return unchanged
        if self._paged:
            dates, patches = self._dates(name), self._sources.patches([name])
            page = page_of(
                dates,
                patches,
                self._sources,
                baseline=self._baseline,
                baseline_failure=self._baseline_failure,
                left_out=self._left_out(name),
                month=name,
                fused=self._sources.fusion.page(month=name) if self._sources.fusion else None,
            ).model_copy(update={"score": score_of(dates, patches, self._sources)})
            self._files[f"{name}.html"] = self._page_part(name, page)
            self._write_tables(name, patches)
        return write_drawn(name, planned.inputs, self._drawn_of(name), self._folder, self._store)

    def _first_page(self, *, single: bool = False) -> ReportPage:
        months = [
            MonthLine(
                month=month.month,
                dates=month.images,
                changed=month.changed,
                patches=month.patches,
                area_ha=month.changed_area_m2 / 1e4,
                page="" if single else f"{month.month}.html",
            )
            for month in self._sources.monitor.months
        ]
        page = page_of(
            self._shown,
            patches_of_dates(self._shown, self._patches),
            self._sources,
            baseline=self._baseline,
            baseline_failure=self._baseline_failure,
            left_out=self._left_out(""),
            months=months if self._paged else (),
            months_beside=self._folder if single else "",
            fused=self._fused,
        )
        score = score_of(self._all, self._patches, self._sources)
        files = (QUICKLOOK, *(["score.json"] if score else []))
        return page.model_copy(update={"score": score, "compared": self._compared(score), "more_files": files})

    def _compared(self, score: Score | None) -> tuple[ScoredResult, ...]:
        """The scores of this result and of the compared ones; none without others."""
        if score is None or not self._content.compared:
            return ()
        scored = [ScoredResult(name=self._sources.monitor.settings["name"], score=score)]
        for result in self._content.compared:
            other = score_of(self._all, self._sources.of_other(result).all_patches(), self._sources)
            if other is not None:
                scored.append(ScoredResult(name=result.name, score=other))
        return tuple(scored)

    @cached_property
    def _fused(self) -> FusedPage | None:
        """What the first page shows of the fusion: the windows of its dates, all if it has all dates."""
        first = self._shown[0].product.datetime.date() if self._paged else None
        return self._sources.fusion.page(since=first) if self._sources.fusion else None

    @cached_property
    def _shown(self) -> list[ShownDate]:
        """The newest dates, which the first page shows."""
        dates: list[ShownDate] = []
        for month in reversed(self._sources.monitor.months):
            if len(dates) >= self._newest:
                break
            dates = [*self._dates(month.month), *dates]
        return dates[-self._newest :]

    @cached_property
    def _all(self) -> list[ShownDate]:
        """All dates, for the score; not read without a truth."""
        if not self._sources.truth:
            return []
        return [date for month in self._sources.monitor.months for date in self._dates(month.month)]

    @cached_property
    def _patches(self) -> list[LocatedPatch]:
        """The patches of the shown dates' months; of all months if there is a truth."""
        months = [month.month for month in self._sources.monitor.months]
        first = min((month_of(date.product.datetime) for date in self._shown), default="")
        return self._sources.patches(months if self._sources.truth else [name for name in months if name >= first])

    def _dates(self, name: str) -> list[ShownDate]:
        drawn = self._drawn_of(name)
        detection = self._sources.monitor.settings.get("detection", {})
        return [
            ShownDate(
                product,
                drawn[product.label],
                product.closest.sentence(detection) if product.closest and not product.patch_count else "",
                self._sources.held_back(product),
            )
            for product in self._sources.images(name)
        ]

    def _drawn_of(self, name: str) -> dict[str, DrawnDate]:
        """The pictures of a month, drawn now or by an edition with the same pictures."""
        known = [read_drawn(edition.month(name), self._store) for edition in self._known]
        planned = self._content.months.get(name)
        if planned is None:
            return known[0]
        return {label: self._date(label, folder, known) for label, folder in planned.dates.items()}

    def _date(self, label: str, folder: str, known: list[dict[str, DrawnDate]]) -> DrawnDate:
        options = [self._drawn.dates.get(label), *(dates.get(label) for dates in known)]
        missing = DrawnDate(failure=self._drawn.missing.get(label) or Failure())
        return next((option for option in options if option is not None and option.folder == folder), missing)

    @cached_property
    def _baseline(self) -> BaselinePage | None:
        same = [edition.baseline for edition in self._known if edition.ground == self._content.ground]
        return self._drawn.baseline or next((baseline for baseline in same if baseline is not None), None)

    @property
    def _baseline_failure(self) -> Failure | None:
        return None if self._baseline else self._drawn.missing.get("") or Failure()

    def _left_out(self, scope: str) -> list[LeftOutRow]:
        return self._content.left_out.get(scope, [])

    def _write_tables(self, stem: str, patches: list[LocatedPatch]) -> None:
        self._files[f"{stem}.parquet"] = self._part(stem, ".parquet", patches_to_parquet(patches))
        self._files[f"{stem}.geojson"] = self._part(stem, ".geojson", patches_to_geojson(patches))
        self._files[f"{stem}.qml"] = self._part(stem, ".qml", patch_style(direction=self._sources.detection.direction))

    def _page_part(self, stem: str, page: ReportPage) -> str:
        return self._part(stem, ".html", render(page))

    def _part(self, stem: str, ending: str, body: bytes) -> str:
        return write_part(self._store, f"{self._folder}/pages/{stem}", ending, body)


def _files_of(month: str) -> list[str]:
    return [f"{month}{ending}" for ending in (".html", *TABLES)]
