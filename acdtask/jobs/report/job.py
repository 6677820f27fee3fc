"""Report: pictures of every date, drawn once, and pages that show them."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from acdtask.cube.aoi import load_aoi
from acdtask.cube.local.store import Store
from acdtask.cube.tiling import tiles_as_geojson
from acdtask.errors import AcdError, ErrorCode
from acdtask.jobs.contract import (
    Draft,
    Estimate,
    Findings,
    Handouts,
    Job,
    Plan,
    RoundResult,
    Shard,
    Site,
    content_id_of,
)
from acdtask.jobs.ingest.leftout import LeftOutRaster, left_out_of
from acdtask.jobs.parts import month_of
from acdtask.jobs.products import NumberedChain
from acdtask.jobs.report.drawing import Drawer, baseline_folder
from acdtask.jobs.report.editing import QUICKLOOK, Drawn, make_edition, planned_report
from acdtask.jobs.report.edition import (
    INDEX,
    PICTURES,
    DrawnDate,
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
from acdtask.jobs.report.leftout import left_out_rows
from acdtask.jobs.report.model import BaselinePage
from acdtask.jobs.report.pictures import paper_name
from acdtask.jobs.report.settings import ReportSettings
from acdtask.jobs.report.sources import PAGE_ALGORITHM, Sources, digest_of
from acdtask.jobs.shards import shards_of

__all__ = ["ReportJob", "ReportSettings"]

CORE_SECONDS_PER_PICTURE = 0.5


class ReportJob(Job[ReportSettings]):
    """A folder with index.html and pictures that shows what was found."""

    name = "report"
    unit = "pages"
    rounds = ("draw",)
    settings = ReportSettings

    def plan(self, settings: ReportSettings, site: Site) -> Draft:
        """The dates that have no pictures yet, and the pages that change. MONITOR_UNKNOWN, TRUTH_UNREADABLE."""
        aoi = load_aoi(settings.aoi)
        sources = Sources.find(settings, aoi.name, site)
        monitor = sources.monitor
        identity = {"aoi": aoi.name, "monitor": monitor.content_id, "truth": bool(settings.truth)}
        report = content_id_of(self.name, identity)
        number, edition = newest_edition(edition_chain(site.store, aoi.name, report))
        rasters = left_out_of(site, monitor.variable, monitor.instance, aoi.geometry)
        changes = _Changes(settings, sources, edition, rasters)
        labels = changes.labels()
        content = {
            **identity,
            "report": report,
            "edition": number,
            "shown": edition is not None and is_shown(edition, site.store),
            "version": sources.version,
            "variable": settings.variable,
            "dates": settings.dates,
            "truth": sources.truth_digest,
            "ground": sources.ground,
            "inputs": changes.inputs,
            "months": changes.months(),
            **({"left out": left_out} if (left_out := changes.left_out()) else {}),
        }
        copied = edition is not None and _has_copy(edition, settings.out)
        done = content["shown"] and not labels and not content["months"] and changes.inputs == changes.known_inputs
        page = f"{report_folder(aoi.name, report)}/{INDEX}"
        tiles = [tile.tile for tile in sources.baseline.tiles]
        return Draft(
            content=content,
            shards=shards_of(labels, settings.shard_images, "images") or [Shard(units=1, work={"images": []})],
            estimate=Estimate(
                tiles=len(tiles),
                dates=sum(bool(label) for label in labels),
                core_seconds=CORE_SECONDS_PER_PICTURE * max(1, len(labels)),
            ),
            notes={"map": tiles_as_geojson(tiles)},
            nothing_to_do=f"{site.store.url}/{page} is there" if done and copied else "",
        )

    def run(
        self, plan: Plan, round_name: str, shard: Shard, handout: bytes, site: Site, progress: Callable[[int], None]
    ) -> bytes:
        """Draw the pictures of the baseline, which has no label, and of dates."""
        labels = shard.work["images"]
        draw = _drawing(plan, site) if labels else None
        rows: dict[str, Any] = {}
        for done, label in enumerate(labels, start=1):
            rows[label] = draw(label) if draw else None
            progress(done)
        return json.dumps(rows).encode()

    def gather(self, plan: Plan, round_name: str, result: RoundResult, site: Site) -> Handouts:
        """Publish an edition, write its pages, and copy the report to where it is wanted."""
        sources = Sources.of_plan(plan, site)
        chain = edition_chain(site.store, *planned_report(plan))
        drawn = _drawn(result)
        base = find_edition(chain, plan.content["edition"])

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
            show_edition(chain, _changed(plan, base, edition), site.store)
            if plan.settings["out"]:
                copy_edition(edition, site.store, Store.at(plan.settings["out"]))
        return Handouts()

    def fenced_area(self, settings: ReportSettings) -> str:
        """Its AOI."""
        return load_aoi(settings.aoi).name

    def names(self, shard: Shard) -> tuple[str, ...]:
        """Its images; the baseline is called so."""
        return tuple(label or "baseline" for label in shard.work["images"])

    def artifacts(self, plan: Plan, site: Site) -> dict[str, str]:
        """The first page with its pictures, as the folder `report`; and one picture."""
        folder = report_folder(*planned_report(plan))
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

    def findings(self, plan: Plan, site: Site) -> Findings:
        """Where the page is, and where its copy."""
        files = {"report": site.store.address_of(f"{report_folder(*planned_report(plan))}/{INDEX}")}
        if plan.settings["out"]:
            files["report copy"] = Store.at(plan.settings["out"]).address_of(INDEX)
        return Findings(files=files)

    def files_of(self, plan: Plan, table: bytes) -> tuple[str, ...]:
        """The pictures of its images and of the baseline."""
        rows: dict[str, Any] = json.loads(table)
        baseline = [BaselinePage.model_validate(row) for label, row in rows.items() if row and not label]
        dates = [DrawnDate.model_validate(row) for label, row in rows.items() if row and label]
        screen = [name for page in baseline for name in (page.mean, page.std)]
        names = [*screen, *map(paper_name, screen)]
        names += [f"{date.folder}/{name}" for date in dates if date.folder for name in PICTURES]
        folder = report_folder(*planned_report(plan))
        return tuple(f"{folder}/{name}" for name in names)

    def is_published(self, plan: Plan, site: Site) -> bool:
        """Whether the page is where it is wanted."""
        _, edition = newest_edition(_chain(plan, site))
        return edition is not None and is_shown(edition, site.store) and _has_copy(edition, plan.settings["out"])


def _drawing(plan: Plan, site: Site) -> Callable[[str], dict[str, Any]]:
    """A function that draws an image by its label, or the baseline, and says what it drew."""
    sources = Sources.of_plan(plan, site)
    drawer = Drawer(sources, site.store.within(report_folder(*planned_report(plan))))
    months: dict[str, Any] = plan.content["months"]

    def draw(label: str) -> dict[str, Any]:
        if not label:
            return drawer.baseline().model_dump(mode="json")
        name = next(name for name, month in months.items() if label in month["dates"])
        product = next(product for product in sources.images(name) if product.label == label)
        return drawer.date(product, months[name]["dates"][label]).model_dump(mode="json")

    return draw


class _Changes:
    """What changed since an edition of a report.

    Args:
        settings: of the report.
        sources: what it is made from now.
        edition: its newest edition, if there is one.
        rasters: images that could not be ingested.
    """

    def __init__(
        self, settings: ReportSettings, sources: Sources, edition: Edition | None, rasters: Sequence[LeftOutRaster]
    ) -> None:
        self._sources, self._edition, self._rasters = sources, edition, rasters
        self._inputs = {month.month: self._inputs_of(month.month) for month in sources.monitor.months}
        self._left_out = self._rows("")
        self.inputs = digest_of(
            [PAGE_ALGORITHM, settings.dates, sources.ground, [*self._inputs.values()], self._left_out]
        )
        self.known_inputs = edition.inputs if edition else ""
        self._lost = missing_pictures(edition, sources.site.store) if edition else set()
        paged = sum(month.images for month in sources.monitor.months) > settings.dates
        self._changed = [name for name in self._inputs if self._is_changed(name, paged=paged)]
        self._folders = {name: sources.folders(name) for name in self._changed}

    def months(self) -> dict[str, Any]:
        """The months that are made: what from, and for each image the folder of its pictures."""
        return {name: {"inputs": self._inputs[name], "dates": self._folders[name]} for name in self._changed}

    def labels(self) -> list[str]:
        """The images without pictures; the baseline has no label."""
        edition = self._edition
        known = edition is not None and edition.ground == self._sources.ground and edition.baseline is not None
        known = known and baseline_folder(self._sources.ground) not in self._lost
        labels = [] if known else [""]
        for name in self._changed:
            drawn = read_drawn(edition.month(name) if edition else None, self._sources.site.store)
            folders = {label: date.folder for label, date in drawn.items() if date.folder not in self._lost}
            labels += [label for label, folder in self._folders[name].items() if folders.get(label) != folder]
        return labels

    def left_out(self) -> dict[str, Any]:
        """What other jobs left out, for the first page and for each month that is made."""
        rows = {name: self._rows(name) for name in self._changed}
        return {name: some for name, some in {"": self._left_out, **rows}.items() if some}

    def _is_changed(self, name: str, *, paged: bool) -> bool:
        known = self._edition.month(name) if self._edition else None
        if self._edition is None or known is None or known.failed or known.inputs != self._inputs[name]:
            return True
        if any(folder.startswith(f"dates/{name}/") for folder in self._lost):
            return True
        return paged and f"{name}.html" not in self._edition.files

    def _inputs_of(self, name: str) -> str:
        """A digest of everything that a month's pictures and page are made from, without reading the month."""
        month, sources = self._sources.month(name), self._sources
        rows = [row.model_dump(mode="json") for row in left_out_rows(sources.baseline, [], self._rasters_of(name))]
        before = sources.patches_before(name)
        shown = [PAGE_ALGORITHM, sources.ground, month.document, month.table, before, sources.truth_digest, rows]
        return digest_of(shown)

    def _rows(self, scope: str) -> list[dict[str, Any]]:
        """What other jobs left out of a month, or of all."""
        sources = self._sources
        months = [month for month in sources.monitor.months if month.partial and scope in ("", month.month)]
        images = [product for month in months for product in sources.images(month.month)]
        rows = left_out_rows(sources.baseline, images, self._rasters_of(scope))
        return [row.model_dump(mode="json") for row in rows]

    def _rasters_of(self, scope: str) -> list[LeftOutRaster]:
        return [one for one in self._rasters if scope in ("", month_of(one.record.datetime))]


def _drawn(result: RoundResult) -> Drawn:
    """What the shards of a plan drew."""
    missing = {label: one.why.failure for one in result.left_out for label in one.shard.work["images"]}
    rows = {label: row for _, table in result.tables for label, row in json.loads(table).items()}
    baseline = rows.pop("", None)
    return Drawn(
        dates={label: DrawnDate.model_validate(row) for label, row in rows.items()},
        baseline=BaselinePage.model_validate(baseline) if baseline else None,
        missing=missing,
    )


def _changed(plan: Plan, base: Edition | None, edition: Edition) -> set[str] | None:
    """The files that differ from the edition that was planned on; None for all if that may not be there whole."""
    if base is None or not plan.content["shown"]:
        return None
    return {name for name, key in edition.files.items() if base.files.get(name) != key}


def _chain(plan: Plan, site: Site) -> NumberedChain:
    return edition_chain(site.store, *planned_report(plan))


def _has_copy(edition: Edition, out: str) -> bool:
    return not out or is_copied(edition, Store.at(out))
