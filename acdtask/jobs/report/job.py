"""The job report: draws the pictures of each date once, and writes the pages that show them."""

from __future__ import annotations

from collections.abc import Sequence

from acdtask.cube.aoi import load_aoi
from acdtask.errors import AcdError, ErrorCode
from acdtask.jobs.contract import (
    Draft,
    Estimate,
    Findings,
    Handouts,
    Job,
    Nothing,
    Results,
    Round,
    Shard,
    Site,
    content_id_of,
)
from acdtask.jobs.costs import REPORT
from acdtask.jobs.ingest.unusable_notes import UnusableFile, unusable_files_of
from acdtask.jobs.manifests import NumberedChain
from acdtask.jobs.parts import month_of
from acdtask.jobs.report.content import (
    ComparedResult,
    Pictures,
    PicturesWork,
    PlannedMonth,
    ReportContent,
    ReportContext,
    ReportPlan,
)
from acdtask.jobs.report.drawing import Drawer, baseline_folder
from acdtask.jobs.report.editing import QUICKLOOK, Drawn, make_edition
from acdtask.jobs.report.edition import (
    INDEX,
    PICTURES,
    Edition,
    copy_edition,
    edition_chain,
    find_edition,
    is_copied,
    is_shown,
    missing_pictures,
    newest_edition,
    parse_edition,
    read_drawn,
    report_folder,
    show_edition,
)
from acdtask.jobs.report.model import LeftOutRow
from acdtask.jobs.report.pictures import paper_name
from acdtask.jobs.report.quarantined import left_out_rows
from acdtask.jobs.report.settings import ReportSettings
from acdtask.jobs.report.sources import PAGE_ALGORITHM, Sources, digest_of
from acdtask.jobs.shards import Sharding
from acdtask.raster.open_images import close_idle_images
from acdtask.raster.tiling import tiles_as_geojson
from acdtask.storage.store import Store

__all__ = ["ReportJob", "ReportSettings"]

ALGORITHM = 1
"""Increment to give reports new addresses. Pictures and pages have their own numbers (sources.py)."""


class Draw(Round[PicturesWork, Nothing, Pictures]):
    """Draw pictures, then write the pages that show them."""

    name = "draw"

    def run(self, work: PicturesWork, handout: Nothing, context: ReportContext) -> Pictures:
        """Draw the pictures of the baseline and of dates."""
        if not work.images:
            return Pictures()
        plan, sources = context.plan, Sources.of_plan(context.plan, context.site)
        drawer = Drawer(sources, context.site.store.within(plan.content.folder))
        pictures = Pictures()
        for done, label in enumerate(work.images, start=1):
            if label:
                name, folder = _planned_date(label, context.content)
                product = next(product for product in sources.images(name) if product.label == label)
                pictures.dates[label] = drawer.date(product, folder)
            else:
                pictures.baseline = drawer.baseline()
            close_idle_images()  # the next image has other files, and each open file holds megabytes
            context.progress(done)
        return pictures

    def gather(self, results: Results[PicturesWork, Pictures], context: ReportContext) -> Handouts[Nothing]:
        """Publish an edition, put its pages in place, and copy the report if requested."""
        plan, site, out = context.plan, context.site, context.settings.out
        sources = Sources.of_plan(plan, site)
        chain = _chain(plan, site)
        drawn = _drawn(results)
        base = find_edition(chain, context.content.edition)

        def make(newest: bytes | None) -> bytes:
            known = [edition for edition in (base, parse_edition(newest, chain)) if edition is not None]
            return make_edition(plan, drawn, known, sources).model_dump_json(indent=1).encode()

        fence, holds = site.fence(plan), {"edition": plan.content_id}
        try:
            chain.require(fence, holds)
            chain.publish(make, fence, holds)
        except AcdError as error:
            if error.code is not ErrorCode.PLAN_OVERTAKEN:
                raise
        _, edition = newest_edition(chain)
        if edition is not None:
            show_edition(chain, _changed_files(context.content, base, edition), site.store)
            if out:
                copy_edition(edition, site.store, Store.at(out))
        return Handouts()

    def files_of(self, result: Pictures, plan: ReportPlan) -> tuple[str, ...]:
        """The pictures that a shard drew."""
        screen = [result.baseline.mean, result.baseline.std] if result.baseline else []
        names = [*screen, *map(paper_name, screen)]
        names += [f"{date.folder}/{name}" for date in result.dates.values() if date.folder for name in PICTURES]
        folder = plan.content.folder
        return tuple(f"{folder}/{name}" for name in names)


def _planned_date(label: str, content: ReportContent) -> tuple[str, str]:
    """The month of an image, and the folder of its pictures."""
    return next((name, month.dates[label]) for name, month in content.months.items() if label in month.dates)


def _drawn(results: Results[PicturesWork, Pictures]) -> Drawn:
    """The pictures that a plan's shards drew."""
    missing = {label: shard.why.failure for shard in results.left_out for label in shard.work.images}
    shards = [pictures for _, pictures in results]
    return Drawn(
        dates={label: date for pictures in shards for label, date in pictures.dates.items()},
        baseline=next((pictures.baseline for pictures in shards if pictures.baseline), None),
        missing=missing,
    )


def _changed_files(content: ReportContent, base: Edition | None, edition: Edition) -> set[str] | None:
    """The files that changed since the edition planned on; None for all if that may be incomplete."""
    if base is None or not content.shown:
        return None
    return {name for name, key in edition.files.items() if base.files.get(name) != key}


class ReportJob(Job[ReportSettings, ReportContent]):
    """Write a report: a folder with index.html and pictures that shows the detected changes."""

    name = "report"
    algorithm = ALGORITHM
    unit = "pages"
    rounds = (Draw(),)
    settings = ReportSettings
    content = ReportContent

    def plan(self, settings: ReportSettings, site: Site) -> Draft[ReportContent, PicturesWork]:
        """Plan the dates without pictures, and the pages that change. MONITOR_UNKNOWN, TRUTH_UNREADABLE."""
        aoi = load_aoi(settings.aoi)
        sources = Sources.find(settings, aoi.name, site)
        monitor = sources.monitor
        identity = {"aoi": aoi.name, "monitor": monitor.content_id, "truth": bool(settings.truth)}
        report = content_id_of(self.name, self.algorithm, identity)
        number, edition = newest_edition(edition_chain(site.store, aoi.name, report))
        unusable = unusable_files_of(site, monitor.variable, monitor.instance, aoi.geometry)
        compared = Sources.others(settings, aoi.name, site)
        changes = _Changes(settings, sources, edition, unusable, compared)
        labels = changes.labels()
        content = ReportContent(
            aoi=aoi.name,
            monitor=monitor.content_id,
            report=report,
            edition=number,
            shown=edition is not None and is_shown(edition, site.store),
            version=sources.version,
            truth=sources.truth_digest,
            ground=sources.ground,
            inputs=changes.inputs,
            months=changes.months(),
            left_out=changes.left_out(),
            compared=compared,
            fused=sources.fusion.planned if sources.fusion else None,
        )
        copied = edition is not None and _is_copy_current(edition, settings.out)
        done = content.shown and not labels and not content.months and changes.inputs == changes.known_inputs
        page = f"{report_folder(aoi.name, report)}/{INDEX}"
        tiles = [tile.tile for tile in sources.baseline.tiles]
        picture_pixels = sources.view.grid.width * sources.view.grid.height
        layout_pixels = picture_pixels * sources.view.step**2
        seconds = [REPORT.seconds(1, picture_pixels + layout_pixels // 3)] * max(1, len(labels))
        sharding = Sharding(settings.shard_images, settings.pod_start, otherwise=10)
        return Draft(
            content=content,
            shards=sharding.shards(labels, lambda images: PicturesWork(images=images), seconds[: len(labels)])
            or [Shard(units=1, work=PicturesWork(images=[]))],
            estimate=Estimate(
                tiles=len(tiles),
                dates=sum(bool(label) for label in labels),
                core_seconds=sum(seconds),
                memory_bytes=REPORT.memory(picture_pixels, 3 * len(tiles), tiles[0].grid.width * tiles[0].grid.height),
            ),
            notes={"map": tiles_as_geojson(tiles)},
            nothing_to_do=f"{site.store.url}/{page} is up to date" if done and copied else "",
        )

    def fenced_area(self, settings: ReportSettings) -> str:
        """The report's AOI."""
        return load_aoi(settings.aoi).name

    def artifacts(self, plan: ReportPlan, site: Site) -> dict[str, str]:
        """The first page with its pictures as the folder `report`, and the quicklook."""
        folder = plan.content.folder
        _, edition = newest_edition(_chain(plan, site))
        if edition is None:
            return {}
        files = ["patches.parquet", "patches.geojson", "patches.qml", "score.json", QUICKLOOK]
        names = [INDEX, *files, *edition.pictures_on_first_page]
        parts = {name: edition.files[name] for name in [INDEX, *files]}
        if edition.single_page:
            parts[INDEX] = edition.single_page
        shown = {f"report/{name}": parts.get(name, f"{folder}/{name}") for name in names}
        return {**shown, QUICKLOOK: edition.files[QUICKLOOK]}

    def findings(self, plan: ReportPlan, site: Site) -> Findings:
        """The addresses of the first page and of its copy."""
        files = {"report": site.store.address_of(f"{plan.content.folder}/{INDEX}")}
        if plan.settings.out:
            files["report copy"] = Store.at(plan.settings.out).address_of(INDEX)
        return Findings(files=files)

    def is_published(self, plan: ReportPlan, site: Site) -> bool:
        """Whether the first page and its copy are up to date."""
        _, edition = newest_edition(_chain(plan, site))
        return edition is not None and is_shown(edition, site.store) and _is_copy_current(edition, plan.settings.out)


class _Changes:
    """Changes since an edition of a report.

    `edition` is the report's newest, if any; `unusable` are the files that could not be ingested; `compared` are the
    other results that the first page compares.
    """

    def __init__(
        self,
        settings: ReportSettings,
        sources: Sources,
        edition: Edition | None,
        unusable: Sequence[UnusableFile],
        compared: Sequence[ComparedResult],
    ) -> None:
        self._sources, self._edition, self._unusable = sources, edition, unusable
        self._inputs = {month.month: self._inputs_of(month.month) for month in sources.monitor.months}
        self._left_out = self._rows("")
        rows = [row.model_dump(mode="json") for row in self._left_out]
        others = [result.model_dump() for result in compared]
        fused = sources.fusion.inputs() if sources.fusion else []
        inputs = [PAGE_ALGORITHM, settings.dates, sources.ground, [*self._inputs.values()], rows]
        self.inputs = digest_of([*inputs, *([others] if others else []), *([{"fused": fused}] if fused else [])])
        self.known_inputs = edition.inputs if edition else ""
        self._incomplete = missing_pictures(edition, sources.site.store) if edition else set()
        paged = sum(month.images for month in sources.monitor.months) > settings.dates
        self._changed = [name for name in self._inputs if self._is_changed(name, paged=paged)]
        self._folders = {name: sources.folders(name) for name in self._changed}

    def months(self) -> dict[str, PlannedMonth]:
        """The months to write, with digests of their inputs and the folders of their pictures."""
        return {name: PlannedMonth(inputs=self._inputs[name], dates=self._folders[name]) for name in self._changed}

    def labels(self) -> list[str]:
        """The labels of images without pictures; `""` is the baseline."""
        edition = self._edition
        has_baseline = edition is not None and edition.ground == self._sources.ground and edition.baseline is not None
        has_baseline = has_baseline and baseline_folder(self._sources.ground) not in self._incomplete
        labels = [] if has_baseline else [""]
        for name in self._changed:
            drawn = read_drawn(edition.month(name) if edition else None, self._sources.site.store)
            folders = {label: date.folder for label, date in drawn.items() if date.folder not in self._incomplete}
            labels += [label for label, folder in self._folders[name].items() if folders.get(label) != folder]
        return labels

    def left_out(self) -> dict[str, list[LeftOutRow]]:
        """What other jobs left out, for the first page and for each month to write."""
        rows = {name: self._rows(name) for name in self._changed}
        return {name: scope_rows for name, scope_rows in {"": self._left_out, **rows}.items() if scope_rows}

    def _is_changed(self, name: str, *, paged: bool) -> bool:
        known = self._edition.month(name) if self._edition else None
        if self._edition is None or known is None or known.failed or known.inputs != self._inputs[name]:
            return True
        if any(folder.startswith(f"dates/{name}/") for folder in self._incomplete):
            return True
        return paged and f"{name}.html" not in self._edition.files

    def _inputs_of(self, name: str) -> str:
        """A digest of all inputs of a month's pictures and page, without reading the month."""
        month, sources = self._sources.month(name), self._sources
        rows = [row.model_dump(mode="json") for row in left_out_rows(sources.baseline, [], self._unusable_of(name))]
        before = sources.patches_before(name)
        fused = sources.fusion.inputs(name) if sources.fusion else []
        inputs = [PAGE_ALGORITHM, sources.ground, month.document, month.table, before, sources.truth_digest, rows]
        return digest_of([*inputs, *([fused] if fused else [])])

    def _rows(self, scope: str) -> list[LeftOutRow]:
        """What other jobs left out of a month, or of all months."""
        sources = self._sources
        months = [month for month in sources.monitor.months if month.partial and scope in ("", month.month)]
        images = [product for month in months for product in sources.images(month.month)]
        return left_out_rows(sources.baseline, images, self._unusable_of(scope))

    def _unusable_of(self, scope: str) -> list[UnusableFile]:
        return [
            file
            for file in self._unusable
            if not scope or (file.record is not None and scope == month_of(file.record.datetime))
        ]


def _chain(plan: ReportPlan, site: Site) -> NumberedChain:
    return edition_chain(site.store, plan.content.aoi, plan.content.report)


def _is_copy_current(edition: Edition, out: str) -> bool:
    return not out or is_copied(edition, Store.at(out))
