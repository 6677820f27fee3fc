"""Report: pictures of every date, and the page that shows them."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Callable
from importlib.metadata import version
from typing import Any, ClassVar

import numpy as np
import rasterio
from numpy.typing import NDArray
from pydantic import Field
from rasterio.features import geometry_mask
from shapely.geometry import mapping, shape

from acdtask import __version__
from acdtask.change.zscore import Quality
from acdtask.cube.aoi import load_aoi
from acdtask.cube.local.store import Store
from acdtask.cube.model import Name
from acdtask.cube.tiling import LON_LAT, footprint, project, tiles_as_geojson
from acdtask.errors import AcdError, ErrorCode
from acdtask.jobs.contract import (
    Draft,
    Estimate,
    Findings,
    Handouts,
    Job,
    Plan,
    RoundResult,
    Settings,
    Shard,
    Site,
    content_id_of,
)
from acdtask.jobs.ingest.leftout import left_out_of
from acdtask.jobs.monitor.months import read_images, read_month_patches
from acdtask.jobs.patches import patches_to_geojson, patches_to_parquet
from acdtask.jobs.products import (
    PARTIAL,
    BaselineManifest,
    ImageProduct,
    MonitorManifest,
    baseline_variables,
    change_variable,
    find_manifest,
    z_variable,
)
from acdtask.jobs.quarantine import Failure
from acdtask.jobs.report import pictures
from acdtask.jobs.report.leftout import left_out_rows, pictures_left_out
from acdtask.jobs.report.model import (
    BaselinePage,
    DatePage,
    LeftOutRow,
    PatchRow,
    QualityReason,
    ReportPage,
    TileShape,
)
from acdtask.jobs.report.page import render
from acdtask.jobs.report.quicklook import quicklook
from acdtask.jobs.report.score import Event, FoundPatch, Score, score
from acdtask.jobs.report.truth import events_on, read_truth
from acdtask.jobs.report.window import View, view_of
from acdtask.jobs.shards import shards_of

__all__ = ["ReportJob", "ReportSettings"]

CORE_SECONDS_PER_PICTURE = 0.5
QUICKLOOK = "quicklook.png"
HIDDEN_SHARE = 0.5
REASONS = {
    Quality.NO_DATA: "the image has no data",
    Quality.TOO_FEW_IMAGES: "the baseline has too few images",
    Quality.STEADY: "the baseline hardly varies, so that any change would look abnormal",
    Quality.NO_BASELINE: "the baseline has no image",
}


class ReportSettings(Settings):
    """Which monitoring result to show, and where."""

    execution: ClassVar[frozenset[str]] = frozenset({"out"})

    aoi: str = Field(description="AOI file (a Geocube ingester payload)")
    layout: Name = Field(description="layout of the monitoring result")
    variable: Name = Field(default="CoherenceVV", description="variable that was monitored")
    name: Name = Field(default="monitor", description="instance that the monitor made")
    monitor: str = Field(default="latest", description="content id of the monitoring result, or latest")
    truth: str = Field(default="", description="GeoJSON file of known events to compare with")
    out: str = Field(default="", description="folder or s3:// address that gets a copy of the report")


class ReportJob(Job[ReportSettings]):
    """A folder with index.html and pictures that shows what was found."""

    name = "report"
    unit = "pages"
    rounds = ("draw",)
    settings = ReportSettings

    def plan(self, settings: ReportSettings, site: Site) -> Draft:
        """The baseline, and each date. MONITOR_UNKNOWN, TRUTH_UNREADABLE."""
        aoi = load_aoi(settings.aoi)
        version, found = _monitor(settings, aoi.name, site)
        images = read_images(found, site.store)
        truth = read_truth(settings.truth) if settings.truth else b""
        baseline = _baseline(found, site)
        tiles = [tile.tile for tile in baseline.tiles]
        rasters = left_out_of(site, found.variable, found.instance, aoi.geometry)
        left_out = [row.model_dump(mode="json") for row in left_out_rows(baseline, images, rasters)]
        labels = ["", *(product.label for product in images)]
        content = {
            "monitor": found.content_id,
            "version": version,
            "aoi": aoi.name,
            "images": [product.patches for product in images],
            "truth": hashlib.sha256(truth).hexdigest() if truth else "",
            "variable": settings.variable,
            **({"left out": left_out} if left_out else {}),
        }
        page = f"{report_folder(aoi.name, content_id_of(self.name, content))}/index.html"
        return Draft(
            content=content,
            shards=shards_of(labels, 1, "images"),
            estimate=Estimate(tiles=len(tiles), dates=len(images), core_seconds=CORE_SECONDS_PER_PICTURE * len(labels)),
            notes={"map": tiles_as_geojson(tiles)},
            nothing_to_do=f"{site.store.url}/{page} is there" if _is_there(page, settings.out, site) else "",
        )

    def run(
        self, plan: Plan, round_name: str, shard: Shard, handout: bytes, site: Site, progress: Callable[[int], None]
    ) -> bytes:
        """Draw the pictures of the baseline, which has no label, and of dates."""
        drawer = _Drawer(plan, site)
        rows = []
        for done, label in enumerate(shard.work["images"], start=1):
            row: BaselinePage | DateRow = drawer.image(label) if label else drawer.baseline()
            rows.append(row.model_dump(mode="json"))
            progress(done)
        return json.dumps(rows).encode()

    def gather(self, plan: Plan, round_name: str, result: RoundResult, site: Site) -> Handouts:
        """Write the page, and copy the report to where it is wanted."""
        found = _found(plan, site)
        images = read_images(found, site.store)
        patches = [patch for month in read_month_patches(found, site.store) for patch in month]
        missing = {label: one.why.failure for one in result.left_out for label in one.shard.work["images"]}
        drawn = [label for label in ("", *(product.label for product in images)) if label not in missing]
        rows = [row for _, table in result.tables for row in json.loads(table)]
        page = _page(plan, dict(zip(drawn, rows, strict=True)), missing, site)
        whole = site.store.within(report_folder(plan.content["aoi"], plan.content_id))
        folder = _partial_copy(plan, whole, drawn, site) if missing else whole
        folder.put("patches.parquet", patches_to_parquet(patches))
        folder.put("patches.geojson", patches_to_geojson(patches))
        folder.put("score.json", page.score.model_dump_json(indent=1).encode() if page.score else b"null")
        folder.put(QUICKLOOK, quicklook(page, page.baseline, folder.get))
        folder.put("index.html", render(page))
        if plan.settings["out"] and not (missing and whole.exists("index.html")):
            out = Store.at(plan.settings["out"])
            for key in sorted(folder.list(), key=lambda key: key == "index.html"):
                out.put(key, folder.get(key))
        return Handouts()

    def names(self, shard: Shard) -> tuple[str, ...]:
        """Its images; the baseline is called so."""
        return tuple(label or "baseline" for label in shard.work["images"])

    def artifacts(self, plan: Plan, site: Site) -> dict[str, str]:
        """The page with its pictures, as the folder `report`; and one picture."""
        folder = _shown_folder(plan, site)
        pages = {f"report/{key}": f"{folder}/{key}" for key in site.store.within(folder).list()}
        return {**pages, QUICKLOOK: f"{folder}/{QUICKLOOK}"}

    def findings(self, plan: Plan, site: Site) -> Findings:
        """Where the page is, and where its copy."""
        files = {"report": site.store.address_of(f"{_shown_folder(plan, site)}/index.html")}
        if plan.settings["out"]:
            files["report copy"] = Store.at(plan.settings["out"]).address_of("index.html")
        return Findings(files=files)

    def is_published(self, plan: Plan, site: Site) -> bool:
        """Whether the page is where it is wanted."""
        return _is_there(f"{_shown_folder(plan, site)}/index.html", plan.settings["out"], site)


class DateRow(DatePage):
    """A date of the page, and the events that it could not show."""

    unseen: tuple[str, ...] = ()


def report_folder(aoi: str, content_id: str) -> str:
    """Where a report lies below the cube."""
    return f"products/{aoi}/report/{content_id}"


def _partial_folder(plan: Plan) -> str:
    """Where it lies while pictures are left out: whatever comes late, a whole one is never replaced."""
    return report_folder(plan.content["aoi"], f"{plan.content_id}-{PARTIAL}")


def _shown_folder(plan: Plan, site: Site) -> str:
    """The whole report if it is there, else the partial one."""
    whole = report_folder(plan.content["aoi"], plan.content_id)
    return whole if site.store.exists(f"{whole}/index.html") else _partial_folder(plan)


def _partial_copy(plan: Plan, whole: Store, drawn: list[str], site: Site) -> Store:
    """The folder of the partial report, with the pictures that were drawn."""
    folder = site.store.within(_partial_folder(plan))
    names = {label or "baseline" for label in drawn}
    for key in whole.list():
        if key.partition("/")[0] in names:
            folder.put(key, whole.get(key))
    return folder


def _is_there(page: str, out: str, site: Site) -> bool:
    return site.store.exists(page) and (not out or Store.at(out).exists("index.html"))


def _monitor(settings: ReportSettings, aoi: str, site: Site, version: int = 0) -> tuple[int, MonitorManifest]:
    name, missing = f"{settings.variable}/{settings.layout}/{settings.name}", ErrorCode.MONITOR_UNKNOWN
    number, body = find_manifest(site.store, aoi, "monitor", name, settings.monitor, missing, version)
    return number, MonitorManifest.model_validate_json(body)


def _found(plan: Plan, site: Site) -> MonitorManifest:
    """The monitoring result that was planned for."""
    settings = ReportSettings.model_validate({**plan.settings, "monitor": plan.content["monitor"]})
    return _monitor(settings, plan.content["aoi"], site, plan.content["version"])[1]


def _baseline(found: MonitorManifest, site: Site) -> BaselineManifest:
    _, body = find_manifest(site.store, found.aoi, "baseline", "", found.baseline, ErrorCode.BASELINE_UNKNOWN)
    return BaselineManifest.model_validate_json(body)


def _events(plan: Plan, found: MonitorManifest, images: list[ImageProduct], crs: str) -> list[Event]:
    if not plan.settings["truth"]:
        return []
    body = read_truth(plan.settings["truth"])
    if hashlib.sha256(body).hexdigest() != plan.content["truth"]:
        raise AcdError(ErrorCode.TRUTH_UNREADABLE, f"{plan.settings['truth']} changed since the report was planned")
    dates = [product.datetime.date() for product in images]
    return events_on(body, dates, crs, shape(found.aoi_geometry))


class _Drawer:
    """Draws what one shard is for."""

    def __init__(self, plan: Plan, site: Site) -> None:
        self._found = _found(plan, site)
        self._images = read_images(self._found, site.store)
        self._manifest = _baseline(self._found, site)
        self._plan, self._cube = plan, site.cube
        self._folder = site.store.within(report_folder(plan.content["aoi"], plan.content_id))
        self._layout = site.cube.layout(self._found.layout)
        self._variable = site.cube.variable(self._found.variable)
        tiles = [tile.tile for tile in self._manifest.tiles]
        self._view: View = view_of(shape(self._found.aoi_geometry), tiles, self._layout)

    def baseline(self) -> BaselinePage:
        """Mean and standard deviation."""
        manifest = self._manifest
        mean, std, count, _ = baseline_variables(self._variable)
        tiles = manifest.tiles
        picture = self._view.read_physical(self._cube, [tile.mean for tile in tiles], mean)
        self._folder.put("baseline/mean.png", pictures.coherence_png(picture))
        picture = self._view.read_physical(self._cube, [tile.standard_deviation for tile in tiles], std)
        self._folder.put("baseline/std.png", pictures.std_png(picture))
        counts = np.nan_to_num(self._view.read(self._cube, [tile.count for tile in tiles], count, "nearest"))
        return BaselinePage(
            mean="baseline/mean.png",
            std="baseline/std.png",
            start=manifest.start.date(),
            end=manifest.last.date(),
            images=len(manifest.images),
            count_min=int(counts.min()),
            count_max=int(counts.max()),
        )

    def image(self, label: str) -> DateRow:
        """Image, z and patches."""
        product = next(one for one in self._images if one.label == label)
        day = product.datetime.date()
        tiles, view, cube = product.tiles, self._view, self._cube
        images = [dataset for tile in tiles for dataset in tile.image.datasets]
        image = view.read_physical(cube, images, self._variable)
        z = view.read_physical(cube, [tile.z for tile in tiles], z_variable(self._variable))
        change, quality = view.read(cube, [tile.change for tile in tiles], change_variable(self._variable), "nearest")
        events = [one for one in _events(self._plan, self._found, self._images, self._layout.crs) if day in one.dates]
        truth = self._drawn(events) if events else None
        self._folder.put(f"{label}/image.png", pictures.coherence_png(image))
        self._folder.put(f"{label}/z.png", pictures.z_png(z))
        self._folder.put(
            f"{label}/patches.png",
            pictures.patches_png(image, change == 1, quality, [int(reason) for reason in REASONS], truth),
        )
        return _date_row(product, [one.id for one in events if self._is_unseen(one, quality)])

    def _drawn(self, events: list[Event]) -> NDArray[np.bool_]:
        grid = self._view.grid
        affine = rasterio.Affine(*grid.transform)
        return np.asarray(geometry_mask([one.geometry for one in events], grid.shape, affine, invert=True))

    def _is_unseen(self, event: Event, quality: NDArray[Any]) -> bool:
        inside = quality[self._drawn([event])]
        return bool(inside.size) and float(np.mean(inside != Quality.VALID)) > HIDDEN_SHARE


def _date_row(product: ImageProduct, unseen: list[str], *, drawn: bool = True) -> DateRow:
    counted = {int(one): product.quality_px.get(one.name, 0) for one in Quality if one is not Quality.OUTSIDE}
    pixels = sum(counted.values())
    start = product.start or product.datetime
    return DateRow(
        date=product.datetime.date(),
        pair_start=start.date(),
        image=f"{product.label}/image.png" if drawn else None,
        z=f"{product.label}/z.png" if drawn else None,
        patches=f"{product.label}/patches.png" if drawn else None,
        pixels=pixels,
        valid_fraction=counted[int(Quality.VALID)] / pixels if pixels else 0.0,
        quality=tuple((int(reason), counted[int(reason)]) for reason in REASONS),
        tiles_left_out=len(product.quarantined),
        unseen=tuple(unseen),
    )


def _page(plan: Plan, drawn: dict[str, Any], missing: dict[str, Failure], site: Site) -> ReportPage:
    """The page of what was drawn, by label; `missing` says why other pictures are not there."""
    found = _found(plan, site)
    images = read_images(found, site.store)
    rows = [
        DateRow.model_validate(drawn[product.label]) if product.label in drawn else _date_row(product, [], drawn=False)
        for product in images
    ]
    layout = site.cube.layout(found.layout)
    patches = [patch for month in read_month_patches(found, site.store) for patch in month]
    detection = found.settings["detection"]
    inputs = {dataset.record_id for product in images for tile in product.tiles for dataset in tile.image.datasets}
    manifest = _baseline(found, site)
    return ReportPage(
        aoi=found.aoi,
        variable=found.variable,
        geometry=mapping(shape(found.aoi_geometry)),
        start=rows[0].date if rows else manifest.end.date(),
        end=rows[-1].date if rows else manifest.end.date(),
        tiles=tuple(
            TileShape(cell=tile.tile.cell, ring=ring)
            for tile in manifest.tiles
            for ring in _rings(footprint(tile.tile.grid))
        ),
        baseline=BaselinePage.model_validate(drawn[""]) if "" in drawn else None,
        dates=tuple(DatePage(**row.model_dump(exclude={"unseen"})) for row in rows),
        patches=tuple(
            PatchRow(
                id=patch.patch.id,
                date=patch.datetime.date(),
                pair_start=(patch.start or patch.datetime).date(),
                area_px=patch.patch.area_px,
                area_ha=patch.patch.area_m2 / 1e4,
                z_max=patch.patch.z_max,
                z_mean=patch.patch.z_mean,
                mean_drop=patch.patch.drop_mean,
                baseline_count=patch.patch.baseline_count,
                lon=patch.geometry.centroid.x,
                lat=patch.geometry.centroid.y,
            )
            for patch in patches
        ),
        quality_reasons=tuple(QualityReason(code=int(reason), words=words) for reason, words in REASONS.items()),
        low=detection["low"],
        high=detection["high"],
        score=_score(plan, found, images, rows, layout.crs, patches) if plan.settings["truth"] else None,
        settings=_shown_settings(found, manifest),
        versions={
            "acd": __version__,
            "python": ".".join(platform.python_version_tuple()[:2]),
            **{name: version(name) for name in ("numpy", "rasterio", "scipy", "shapely", "zarr")},
        },
        inputs=manifest.records + len(inputs),
        left_out=(
            *(LeftOutRow.model_validate(row) for row in plan.content.get("left out", [])),
            *pictures_left_out(images, manifest, missing),
        ),
    )


def _rings(geometry: dict[str, Any]) -> list[tuple[tuple[float, float], ...]]:
    """The outer rings of a polygon or multipolygon."""
    polygons = [geometry["coordinates"]] if geometry["type"] == "Polygon" else geometry["coordinates"]
    return [tuple((x, y) for x, y in polygon[0][:-1]) for polygon in polygons]


def _score(
    plan: Plan, found: MonitorManifest, images: list[ImageProduct], rows: list[DateRow], crs: str, patches: list[Any]
) -> Score:
    events = _events(plan, found, images, crs)
    tiles = [tile.tile for product in images for tile in product.tiles[:1]]
    transform = tiles[0].grid.transform if tiles else (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
    return score(
        events,
        [FoundPatch(patch.patch.id, patch.datetime.date(), project(patch.geometry, LON_LAT, crs)) for patch in patches],
        [row.date for row in rows],
        pixel_area=abs(transform[0] * transform[4]),
        unseen=frozenset((event, row.date) for row in rows for event in row.unseen),
    )


def _shown_settings(found: MonitorManifest, baseline: BaselineManifest) -> dict[str, Any]:
    return {
        "profile": found.settings["profile"],
        **found.settings["detection"],
        "instance": found.instance,
        "layout": found.layout,
        "resampling": found.settings["resampling"] or "the variable's",
        "baseline": baseline.content_id,
        "monitor": found.content_id,
    }
