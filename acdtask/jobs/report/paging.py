"""Building of the page model from the products, for the first page and for pages of months."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from importlib.metadata import version
from typing import Any

from shapely.geometry import mapping, shape

from acdtask import __version__
from acdtask.change.zscore import Quality
from acdtask.jobs.cautions import Caution, baseline_season, little_judged
from acdtask.jobs.monitor.versions import images_by_version
from acdtask.jobs.patch_files import LocatedPatch
from acdtask.jobs.products import (
    BaselineManifest,
    ImageProduct,
    MonitorManifest,
)
from acdtask.jobs.quantity import physical_range, quantity_of
from acdtask.jobs.quarantine import Failure
from acdtask.jobs.report.drawing import REASONS
from acdtask.jobs.report.edition import DrawnDate
from acdtask.jobs.report.model import (
    BaselinePage,
    DatePage,
    FusedPage,
    HeldBackRow,
    LeftOutRow,
    MonthLine,
    PatchRow,
    QualityReason,
    ReportPage,
    TileShape,
)
from acdtask.jobs.report.quarantined import pictures_left_out
from acdtask.jobs.report.score import DetectedPatch, Score, score
from acdtask.jobs.report.sources import Sources
from acdtask.raster.tiling import LON_LAT, footprint, project

__all__ = ["ShownDate", "page_of", "patches_of_dates", "score_of"]


@dataclass(frozen=True)
class ShownDate:
    """An image, its pictures, what came closest to a patch if it has none, and the most probable held back."""

    product: ImageProduct
    drawn: DrawnDate
    closest: str = ""
    held_back: tuple[LocatedPatch, ...] = ()

    @property
    def page(self) -> DatePage:
        """The date in the page model."""
        product, folder = self.product, self.drawn.folder
        counts = {int(code): product.quality_px.get(code.name, 0) for code in Quality if code is not Quality.OUTSIDE}
        pixels = sum(counts.values())
        start = product.start or product.datetime
        return DatePage(
            date=product.datetime.date(),
            pair_start=start.date(),
            image=f"{folder}/image.png" if folder else None,
            z=f"{folder}/z.png" if folder else None,
            patches=f"{folder}/patches.png" if folder else None,
            pixels=pixels,
            valid_fraction=counts[int(Quality.VALID)] / pixels if pixels else 0.0,
            quality=tuple((int(reason), counts[int(reason)]) for reason in REASONS),
            tiles_left_out=len(product.quarantined),
            closest=self.closest,
            warnings=tuple(caution.text for caution in self._cautions),
            held_back=product.rejected_count,
            held_back_rows=tuple(_held_back(patch) for patch in self.held_back),
        )

    @property
    def _cautions(self) -> list[Caution]:
        """Warnings about the image; products of earlier versions do not list them, but know how much was judged."""
        product = self.product
        others = [caution for caution in product.warnings if caution.kind != "little judged"]
        return [*others, *little_judged(product.label, product.quality_px)]


def page_of(
    dates: Sequence[ShownDate],
    patches: Sequence[LocatedPatch],
    sources: Sources,
    *,
    baseline: BaselinePage | None,
    baseline_failure: Failure | None = None,
    left_out: Sequence[LeftOutRow] = (),
    months: Sequence[MonthLine] = (),
    month: str = "",
    months_beside: str = "",
    fused: FusedPage | None = None,
) -> ReportPage:
    """Build the page of some dates, without a score.

    `dates` are by datetime and label; `patches` are theirs, numbered. `baseline` is None if its pictures could not be
    drawn, for the reason `baseline_failure`. `months` are all months, if they have their own pages; `month` is the
    month of the page, empty for the first page. `months_beside` is the cube's folder with the pages of months, for a
    page that is elsewhere. `fused` is what the page shows of a fusion, if there is one.
    """
    monitor, manifest = sources.monitor, sources.baseline
    detection = monitor.settings["detection"]
    days = [date.page for date in dates]
    missing = {date.product.label: date.drawn.failure for date in dates if date.drawn.failure}
    failures = {**({"": baseline_failure} if baseline_failure else {}), **missing}
    stem = month or "patches"
    inputs = {record for date in dates for record in date.product.records}
    return ReportPage(
        aoi=monitor.aoi,
        variable=monitor.variable,
        geometry=mapping(shape(monitor.aoi_geometry)),
        start=days[0].date if days else manifest.end.date(),
        end=days[-1].date if days else manifest.end.date(),
        tiles=_tiles(manifest),
        baseline=baseline,
        dates=tuple(days),
        patches=tuple(_row(patch) for patch in patches),
        quality_reasons=tuple(QualityReason(code=int(reason), words=words) for reason, words in REASONS.items()),
        quantity=quantity_of(sources.compared),
        unit=sources.compared.unit,
        limits=physical_range(sources.compared),
        direction=sources.detection.direction,
        warnings=tuple(caution.text for caution in baseline_season(manifest.images)),
        low=detection["low"],
        high=detection["high"],
        settings=_shown_settings(monitor, manifest),
        versions={
            "acd": __version__,
            "python": ".".join(platform.python_version_tuple()[:2]),
            **{name: version(name) for name in ("numpy", "rasterio", "scipy", "shapely", "zarr")},
        },
        inputs=manifest.records + len(inputs),
        patch_files=(f"{stem}.geojson", f"{stem}.parquet"),
        left_out=(*left_out, *pictures_left_out([date.product for date in dates], manifest, failures)),
        months=tuple(months),
        month=month,
        months_beside=months_beside,
        fused=fused,
    )


def patches_of_dates(dates: Sequence[ShownDate], patches: Sequence[LocatedPatch]) -> list[LocatedPatch]:
    """The patches that belong to the dates."""
    keys = {date.page.key for date in dates}
    return [patch for patch in patches if f"{_pair_start(patch)}_{patch.datetime.date()}" in keys]


def score_of(dates: Sequence[ShownDate], patches: Sequence[LocatedPatch], sources: Sources) -> Score | None:
    """Score the patches of dates against the known events; None without a truth."""
    if not sources.truth:
        return None
    crs = sources.site.cube.layout(sources.monitor.layout).crs
    tiles = [tile.tile for date in dates for tile in date.product.tiles[:1]]
    transform = tiles[0].grid.transform if tiles else (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
    detected = [
        DetectedPatch(patch.patch.id, patch.datetime.date(), project(patch.geometry, LON_LAT, crs)) for patch in patches
    ]
    return score(
        sources.events(date.product for date in dates),
        detected,
        [date.product.datetime.date() for date in dates],
        pixel_area=abs(transform[0] * transform[4]),
        unseen=frozenset((event, date.product.datetime.date()) for date in dates for event in date.drawn.unseen),
    )


def _pair_start(patch: LocatedPatch) -> date:
    return (patch.start or patch.datetime).date()


def _row(patch: LocatedPatch) -> PatchRow:
    return PatchRow(
        id=patch.patch.id,
        number=patch.number or 0,
        date=patch.datetime.date(),
        pair_start=_pair_start(patch),
        area_px=patch.patch.area_px,
        area_ha=patch.patch.area_m2 / 1e4,
        z_max=patch.patch.z_max,
        z_mean=patch.patch.z_mean,
        mean_drop=patch.patch.drop_mean,
        baseline_count=patch.patch.baseline_count,
        lon=patch.geometry.centroid.x,
        lat=patch.geometry.centroid.y,
        probability=patch.judgement.probability if patch.judgement else None,
        reason=patch.judgement.reason if patch.judgement else "",
    )


def _held_back(patch: LocatedPatch) -> HeldBackRow:
    return HeldBackRow(
        area_px=patch.patch.area_px,
        probability=patch.judgement.probability if patch.judgement else 0.0,
        reason=patch.judgement.reason if patch.judgement else "",
        lon=patch.geometry.centroid.x,
        lat=patch.geometry.centroid.y,
    )


def _tiles(manifest: BaselineManifest) -> tuple[TileShape, ...]:
    return tuple(
        TileShape(cell=tile.tile.cell, ring=ring)
        for tile in manifest.tiles
        for ring in _rings(footprint(tile.tile.grid))
    )


def _rings(geometry: dict[str, Any]) -> list[tuple[tuple[float, float], ...]]:
    """The outer rings of a polygon or multipolygon."""
    polygons = [geometry["coordinates"]] if geometry["type"] == "Polygon" else geometry["coordinates"]
    return [tuple((x, y) for x, y in polygon[0][:-1]) for polygon in polygons]


def _versions_text(versions: Mapping[str, int]) -> str:
    return ", ".join(f"{version}: {images}" for version, images in versions.items())


def _shown_settings(monitor: MonitorManifest, baseline: BaselineManifest) -> dict[str, Any]:
    versions = images_by_version(monitor)
    return {
        "profile": monitor.settings["profile"],
        **monitor.settings["detection"],
        "instance": monitor.instance,
        "layout": monitor.layout,
        "resampling": monitor.settings["resampling"] or "the variable's",
        "baseline": baseline.content_id,
        **({"images by baseline version": _versions_text(versions)} if len(versions) > 1 else {}),
        "monitor": monitor.content_id,
    }
