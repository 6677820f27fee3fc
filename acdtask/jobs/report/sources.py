"""Inputs of a report: a monitoring result with its baseline, and known events."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from functools import cached_property
from typing import Any

from shapely.geometry import shape

from acdtask.change.thresholds import Detection
from acdtask.cube.model import Dataset, Variable
from acdtask.errors import AcdError, ErrorCode
from acdtask.jobs.contract import Site
from acdtask.jobs.manifests import find_manifest
from acdtask.jobs.monitor.months import images_of_month, patches_of_month, rejected_of_image
from acdtask.jobs.parts import month_of
from acdtask.jobs.patch_files import LocatedPatch, numbered
from acdtask.jobs.products import (
    BaselineManifest,
    ImageProduct,
    MonitorManifest,
    MonitorMonth,
)
from acdtask.jobs.report.content import ComparedResult, ReportPlan
from acdtask.jobs.report.fused import Fusion
from acdtask.jobs.report.score import KnownEvent
from acdtask.jobs.report.settings import ReportSettings
from acdtask.jobs.report.truth import events_on, read_truth
from acdtask.jobs.report.window import View, view_of
from acdtask.jobs.transformed import transformed

__all__ = ["PAGE_ALGORITHM", "Sources", "digest_of"]

PICTURE_ALGORITHM = 2
"""Increment when pictures of the same products change; all are then drawn again, under new names."""
PAGE_ALGORITHM = 6
"""Increment when pages of the same products change; all are then written again."""

HELD_BACK_SHOWN = 5
"""Maximum number of candidates of a date that are shown although they are held back."""


def digest_of(content: Any) -> str:
    """A digest of JSON content, 12 hexadecimal digits."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]


class Sources:
    """Reads a report's inputs, each one once.

    `version` is the number of the monitoring result's manifest. `truth` is a GeoJSON document of known events, or
    empty. `fusion` is the fusion to show, if there is one.
    """

    def __init__(
        self, site: Site, monitor: MonitorManifest, version: int, truth: bytes, fusion: Fusion | None = None
    ) -> None:
        self.site, self.monitor, self.version = site, monitor, version
        self.truth, self.fusion = truth, fusion
        self._images: dict[str, list[ImageProduct]] = {}
        self._patches: dict[str, list[LocatedPatch]] = {}

    @classmethod
    def find(cls, settings: ReportSettings, aoi: str, site: Site, version: int = 0) -> Sources:
        """The newest or a given version of the result named by settings. MONITOR_UNKNOWN, TRUTH_UNREADABLE."""
        name, missing = f"{settings.variable}/{settings.layout}/{settings.name}", ErrorCode.MONITOR_UNKNOWN
        number, body = find_manifest(site.store, aoi, "monitor", name, settings.monitor, missing, version)
        truth = read_truth(settings.truth) if settings.truth else b""
        monitor = MonitorManifest.model_validate_json(body)
        return cls(site, monitor, number, truth, Fusion.of_series(settings.fused, monitor.content_id, aoi, site))

    @classmethod
    def of_plan(cls, plan: ReportPlan, site: Site) -> Sources:
        """The inputs of a plan. TRUTH_UNREADABLE if the truth changed since."""
        settings, content = plan.settings.model_copy(update={"monitor": plan.content.monitor}), plan.content
        sources = cls.find(settings, content.aoi, site, content.version)
        if sources.truth_digest != content.truth:
            raise AcdError(ErrorCode.TRUTH_UNREADABLE, f"{settings.truth} changed since the report was planned")
        sources.fusion = Fusion.of_plan(content.fused, content.aoi, site)
        return sources

    @classmethod
    def others(cls, settings: ReportSettings, aoi: str, site: Site) -> list[ComparedResult]:
        """The newest versions of the results that settings compare. MONITOR_UNKNOWN."""
        named = [settings.model_copy(update={"name": name, "monitor": "latest"}) for name in settings.compared]
        found = [(each.name, cls.find(each, aoi, site)) for each in named]
        return [
            ComparedResult(name=name, monitor=sources.monitor.content_id, version=sources.version)
            for name, sources in found
        ]

    def of_other(self, result: ComparedResult) -> Sources:
        """The inputs of a compared result, with the same truth. MONITOR_UNKNOWN."""
        mine, store, missing = self.monitor, self.site.store, ErrorCode.MONITOR_UNKNOWN
        name = f"{mine.variable}/{mine.layout}/{result.name}"
        number, body = find_manifest(store, mine.aoi, "monitor", name, result.monitor, missing, result.version)
        return Sources(self.site, MonitorManifest.model_validate_json(body), number, self.truth)

    def all_patches(self) -> list[LocatedPatch]:
        """The patches of all months."""
        return self.patches(month.month for month in self.monitor.months)

    @property
    def truth_digest(self) -> str:
        """A digest of the truth; empty without."""
        return hashlib.sha256(self.truth).hexdigest() if self.truth else ""

    @cached_property
    def baseline(self) -> BaselineManifest:
        """The baseline. BASELINE_UNKNOWN."""
        monitor, missing = self.monitor, ErrorCode.BASELINE_UNKNOWN
        _, body = find_manifest(self.site.store, monitor.aoi, "baseline", "", monitor.baseline, missing)
        return BaselineManifest.model_validate_json(body)

    @cached_property
    def detection(self) -> Detection:
        """The method."""
        return Detection.of(self.monitor.settings["detection"])

    @cached_property
    def ingested(self) -> Variable:
        """The variable of the images. VARIABLE_UNKNOWN."""
        return self.site.cube.variable(self.monitor.variable)

    @cached_property
    def compared(self) -> Variable:
        """The variable that the monitor compares: the ingested one, or its transform. VARIABLE_UNKNOWN."""
        return transformed(self.ingested, self.detection.transform)

    @cached_property
    def view(self) -> View:
        """The part of the layout that every picture shows."""
        layout = self.site.cube.layout(self.monitor.layout)
        return view_of(shape(self.monitor.aoi_geometry), [tile.tile for tile in self.baseline.tiles], layout)

    @cached_property
    def ground(self) -> str:
        """A digest of the baseline and the view, which all pages share."""
        datasets = [[tile.mean.uri, tile.standard_deviation.uri, tile.count.uri] for tile in self.baseline.tiles]
        return digest_of([PICTURE_ALGORITHM, self.monitor.baseline, datasets, self.view.model_dump(mode="json")])

    @cached_property
    def frame(self) -> str:
        """A digest of the view, which all pictures of dates share. They do not show the baseline."""
        return digest_of([PICTURE_ALGORITHM, self.view.model_dump(mode="json")])

    def month(self, name: str) -> MonitorMonth:
        """A month of the result, such as 2018-07."""
        return next(month for month in self.monitor.months if month.month == name)

    def images(self, month: str) -> list[ImageProduct]:
        """The images of a month, by datetime and label."""
        if month not in self._images:
            self._images[month] = images_of_month(self.month(month), self.site.store)
        return self._images[month]

    def patches(self, months: Iterable[str]) -> list[LocatedPatch]:
        """The patches of some months, in order and numbered over the whole result."""
        return [patch for name in sorted(months) for patch in self._patches_of(name)]

    def patches_before(self, month: str) -> int:
        """Number of patches in the months before a month."""
        return sum(earlier.patches for earlier in self.monitor.months if earlier.month < month)

    def _patches_of(self, name: str) -> list[LocatedPatch]:
        if name not in self._patches:
            month = self.month(name)
            patches = patches_of_month(month, self.site.store) if month.patches else []
            self._patches[name] = numbered(patches, self.patches_before(name))
        return self._patches[name]

    def held_back(self, product: ImageProduct) -> tuple[LocatedPatch, ...]:
        """The most probable candidates of an image that are held back, most probable first."""
        rejected = [patch for patch in rejected_of_image(product, self.site.store) if patch.judgement]
        rejected.sort(key=lambda patch: (-patch.judgement.probability if patch.judgement else 0.0, patch.patch.blob))
        return tuple(rejected[:HELD_BACK_SHOWN])

    def events(self, images: Iterable[ImageProduct]) -> list[KnownEvent]:
        """The known events in the area, each with the dates of images on which it shows."""
        if not self.truth:
            return []
        crs = self.site.cube.layout(self.monitor.layout).crs
        dates = [product.datetime.date() for product in images]
        return events_on(self.truth, dates, crs, shape(self.monitor.aoi_geometry))

    def folders(self, month: str) -> dict[str, str]:
        """The folder of pictures of each image of a month, by label. Its name ends in a digest of their content."""
        images = self.images(month)
        events = self.events(images)
        return {product.label: self._folder(product, events) for product in images}

    def _folder(self, product: ImageProduct, events: list[KnownEvent]) -> str:
        visible = [[event.id, event.geometry.wkb_hex] for event in events if product.datetime.date() in event.dates]
        tiles = [[tile.tile.cell, tile.z.uri, tile.change.uri] for tile in product.tiles]
        digest = digest_of([self.frame, product.patches, tiles, visible])
        return f"dates/{month_of(product.datetime)}/{product.label}-{digest}"

    def datasets(self, product: ImageProduct) -> list[Dataset]:
        """The datasets of an image, in the order of its records. Consolidation may have moved their pixels."""
        grids = [tile.tile.grid for tile in product.tiles]
        layout = self.monitor.layout
        stacks = self.site.cube.where(self.monitor.variable, self.monitor.instance, product.records, grids, layout)
        datasets = dict.fromkeys(dataset for stack in stacks for dataset in stack)
        return sorted(datasets, key=lambda dataset: product.records.index(dataset.record_id))
