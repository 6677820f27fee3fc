"""Publication of a monitoring result: joins outlines into patches, writes tables, and makes all visible at once."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace

import numpy as np
from shapely import from_wkb

from acdtask import __version__, log
from acdtask.change.near_misses import Near
from acdtask.change.patches import patch_table
from acdtask.change.polygons import Piece, join_all, to_crs_coordinates
from acdtask.change.zscore import Quality
from acdtask.cube.local.cube import LocalCube
from acdtask.cube.model import Addition, Instance, RecordQuery, Variable
from acdtask.jobs.catalogue import put_all
from acdtask.jobs.cautions import Caution, little_judged
from acdtask.jobs.codec import read_scratch
from acdtask.jobs.contract import Results, Site
from acdtask.jobs.manifests import NumberedChain, body_of, digest_of_file, manifest_chain, point_latest
from acdtask.jobs.monitor.content import CutTile, CutTiles, MonitorContext, MonitorPlan, MonitorWork, compared_variable
from acdtask.jobs.monitor.documents import files_of_image, write_catalogue
from acdtask.jobs.monitor.gaps import Gaps
from acdtask.jobs.monitor.images import TAG_BASELINE, TAG_CONTENT, ImageWork
from acdtask.jobs.monitor.judge import ImageJudgement, pixel_km2
from acdtask.jobs.monitor.label import ImageBlobs, JoinedImages
from acdtask.jobs.monitor.months import images_of_month, join_months, patches_of_image, read_month_patches
from acdtask.jobs.monitor.news import add_news
from acdtask.jobs.monitor.reasons import judgement_of
from acdtask.jobs.near_misses import Closest, closest_of
from acdtask.jobs.news import News
from acdtask.jobs.parts import month_of
from acdtask.jobs.patch_files import LocatedPatch, PatchJudgement, patches_to_geojson, patches_to_parquet
from acdtask.jobs.products import (
    ImageProduct,
    MonitorManifest,
    change_variable,
    z_variable,
)
from acdtask.raster.tiling import LON_LAT, project

__all__ = ["patch_files", "publish"]

_events = log.events("monitor")


def publish(results: Results[MonitorWork, CutTiles], context: MonitorContext) -> None:
    """Publish the images: their tables, their months, the manifest, then the index in one commit.

    Images that lack tiles are not added to the index, so the next plan takes them again.
    """
    plan, site, settings, images = context.plan, context.site, context.settings, context.content.image
    variable = compared_variable(context)
    _chain(plan, site).require(site.fence(plan), _holds(plan))
    cuts: dict[str, list[CutTile]] = defaultdict(list)
    for _, result in results:
        for cut in result.tiles:
            cuts[cut.label].append(cut)
    gaps = Gaps(context.content, results.left_out)
    labels = [*cuts, *(label for label in gaps if label not in cuts)]
    publisher = _ImagePublisher(plan, variable, results.memo(JoinedImages), gaps, site)
    products = [publisher.publish(images[label], cuts[label]) for label in labels]
    if plan.series is not None and products:
        News(site.store, plan.series).open()
    _publish_manifest(plan, products, site)
    add_news(plan, products, site)
    write_catalogue(plan, {month_of(product.datetime) for product in products}, variable, site)
    whole = [product for product in products if not product.quarantined]
    variables = (z_variable(variable), change_variable(variable))
    site.cube.commit(
        Addition(
            [images[product.label].record for product in whole],
            [dataset for product in whole for tile in product.tiles for dataset in (tile.z, tile.change)],
            variables=variables,
            instances=[Instance(variable=product.name, name=settings.name) for product in variables],
        )
    )
    _retire([images[product.label] for product in whole], [product.name for product in variables], settings.name, site)
    _write_patch_files(plan, site)


def _retire(images: list[ImageWork], variables: list[str], instance: str, site: Site) -> None:
    """Remove products of the images that were judged against other baseline versions from the index.

    On a Geocube they stay; the tag acd:baseline distinguishes them.
    """
    own = site.shared.own if site.shared else LocalCube.open(site.address)
    if own is None or not images:
        return
    versions = {image.content: image.baseline for image in images}
    dates = [image.datetime for image in images]
    records = own.records(RecordQuery(tags={"acd:monitor": images[0].method}, start=min(dates), end=max(dates)))
    old = frozenset(
        record.id
        for record in records
        if versions.get(record.tags[TAG_CONTENT], record.tags[TAG_BASELINE]) != record.tags[TAG_BASELINE]
    )
    if old:
        datasets = [dataset for variable in variables for dataset in own.datasets(variable, instance, old)]
        own.remove(records=old, datasets=datasets)


def patch_files(plan: MonitorPlan) -> dict[str, str]:
    """Keys of the files with the patches of a plan's images, by name. They live as long as the run."""
    names = ("patches.parquet", "patches.geojson")
    return {name: f"runs/{plan.job}/{plan.plan_id}/{name}" for name in names}


def _write_patch_files(plan: MonitorPlan, site: Site) -> None:
    """Write the published patches of the plan's images, so that a late partial run removes none."""
    _, body = _chain(plan, site).newest()
    images = plan.content.image
    months = {month_of(image.datetime) for image in images.values()}
    manifest = MonitorManifest.model_validate_json(body or b"")
    numbers = {
        located.patch.id: located.number
        for month in sorted(months)
        for patches in read_month_patches(manifest, site.store, month)
        for located in patches
    }
    patches = [
        replace(patch, number=numbers[patch.patch.id])
        for month in manifest.months
        if month.month in months
        for product in images_of_month(month, site.store)
        if product.label in images
        for patch in patches_of_image(product, site.store)
    ]
    files = patch_files(plan)
    tables = _tables("patches", patches, judged=plan.content.method.rules.judging is not None)
    put_all(site.store, {files[name]: body for name, body in tables.items()})


def _tables(name: str, patches: list[LocatedPatch], *, judged: bool) -> dict[str, bytes]:
    """The table and the GeoJSON of patches, by file name."""
    return {
        f"{name}.parquet": patches_to_parquet(patches, judged=judged),
        f"{name}.geojson": patches_to_geojson(patches),
    }


@dataclass(frozen=True)
class _ImagePublisher:
    """Writes the files of an image that do not belong to a tile."""

    plan: MonitorPlan
    variable: Variable
    joined: JoinedImages
    gaps: Gaps
    site: Site

    def publish(self, image: ImageWork, cuts: list[CutTile]) -> ImageProduct:
        store = self.site.store
        cuts = sorted(cuts, key=lambda cut: (cut.place.tile.j, cut.place.tile.i))
        quarantined = self.gaps.of(image.label)
        made_from = [tile.cell for tile in quarantined] + [cut.model_dump_json() for cut in cuts]
        subfolder = self.gaps.subfolder(image.label, *map(str.encode, made_from))
        folder = f"{image.folder}/{subfolder}".rstrip("/")
        candidates, judging = self._candidates(image, cuts), self.plan.content.method.rules.judging is not None
        patches = [patch for patch, kept in candidates if kept]
        rejected = [patch for patch, kept in candidates if not kept]
        tables = _tables("patches", patches, judged=judging)
        if judging:
            tables |= _tables("rejected", rejected, judged=True)
        files = tables | files_of_image(image, cuts, folder, self.variable, self.plan)
        put_all(store, {f"{folder}/{name}": body for name, body in files.items()})
        quality = {reason.name: sum(cut.quality_px[reason.name] for cut in cuts) for reason in Quality} if cuts else {}
        return ImageProduct(
            label=image.label,
            datetime=image.datetime,
            start=image.start,
            records=image.records,
            tiles=[cut.place for cut in cuts],
            patches=f"{folder}/patches.parquet",
            patches_geojson=f"{folder}/patches.geojson",
            patch_count=len(patches),
            rejected=f"{folder}/rejected.parquet" if judging else "",
            rejected_count=len(rejected),
            changed_px=sum(cut.changed_px for cut in cuts),
            quality_px=quality,
            checksums={name: digest_of_file(body) for name, body in files.items()},
            quarantined=quarantined,
            closest=self._closest(image, rejected, quality),
            content=image.content,
            baseline=image.baseline,
            warnings=self._warnings(image.label, quality),
        )

    def _warnings(self, label: str, quality_px: dict[str, int]) -> tuple[Caution, ...]:
        """Those of the plan about this image, and one if little of it was judged. They are logged."""
        of_plan = [caution for caution in self.plan.content.warnings if label in caution.images]
        judged = little_judged(label, quality_px)
        for caution in judged:
            _events.warning("image.warned", image=label, kind=caution.kind, text=caution.text)
        return (*of_plan, *judged)

    def _closest(self, image: ImageWork, rejected: list[LocatedPatch], quality: dict[str, int]) -> Closest | None:
        """The closest near miss of an image, with its most probable rejected candidate."""
        near = self.joined.near.get(image.label)
        if near is None:
            return None
        probabilities = [patch.judgement.probability for patch in rejected if patch.judgement]
        closest = closest_of(Near(*near))
        if not probabilities:
            return closest
        layout = self.site.cube.layout(self.plan.content.method.layout)
        area_km2 = quality[Quality.VALID.name] * pixel_km2(image.area, layout)
        return closest.with_candidate(max(probabilities), area_km2)

    def _candidates(self, image: ImageWork, cuts: list[CutTile]) -> list[tuple[LocatedPatch, bool]]:
        """The blobs of an image, and whether each is kept; all are if the method does not judge them.

        Outlines end at missing tiles; blobs without one lie entirely in missing tiles.
        """
        if not cuts:
            return []
        layout = self.site.cube.layout(self.plan.content.method.layout)
        transform = layout.pixel_grid(0, 0, 1, 1).transform
        pieces = [Piece(blob, from_wkb(polygon)) for cut in cuts for blob, polygon in cut.pieces]
        outlines = {
            blob: project(to_crs_coordinates(outline, transform), layout.crs, LON_LAT)
            for blob, outline in join_all(pieces).items()
        }
        blobs = read_scratch(self.site.scratch(self.plan), self.joined.blobs[image.label], ImageBlobs).blobs
        if self.gaps.of(image.label):
            blobs = blobs[np.isin(blobs["id"], list(outlines))]
        table = patch_table(blobs, outlines, aoi=image.aoi, image=image.label, scale=self.variable.scale)
        judged = self._judged(image)
        located = [
            LocatedPatch(
                patch,
                image.aoi,
                self.variable.name,
                image.datetime,
                image.start,
                outlines[patch.blob],
                judgement=judged[patch.blob][0] if judged else None,
            )
            for patch in table
            if not judged or patch.blob in judged
        ]
        return [(patch, not judged or judged[patch.patch.blob][1]) for patch in located]

    def _judged(self, image: ImageWork) -> dict[int, tuple[PatchJudgement, bool]]:
        """The judgement of each blob by id, and whether it is kept; empty if the method does not judge blobs."""
        content, key = self.plan.content, self.joined.judgements.get(image.label)
        judging, reference = content.method.rules.judging, content.reference
        if key is None or judging is None or reference is None:
            return {}
        rows = read_scratch(self.site.scratch(self.plan), key, ImageJudgement).judged
        return {
            int(row["id"]): (
                judgement_of(row, reference, self.variable, judging.false_per_1000km2),
                bool(row["kept"]),
            )
            for row in rows
        }


def _publish_manifest(plan: MonitorPlan, products: list[ImageProduct], site: Site) -> None:
    """Add a version of the series' manifest, with the new images in addition to those of earlier runs."""
    settings, content, method = plan.settings, plan.content, plan.content.method

    def make(earlier: bytes | None) -> bytes:
        known = MonitorManifest.model_validate_json(earlier) if earlier else None
        months = join_months(known.months if known else [], products, method.folder, site.store)
        manifest = MonitorManifest(
            content_id=method.id,
            aoi=method.aoi,
            aoi_geometry=method.area,
            variable=settings.variable,
            instance=settings.instance,
            layout=settings.layout,
            baseline=months[-1].baseline if months else content.baseline,
            months=months,
            settings=method.as_settings,
            version=__version__,
            since=known.since if known else content.since,
        )
        return body_of(manifest, earlier)

    fence = site.fence(plan)
    _chain(plan, site).publish(make, fence, _holds(plan))
    name = f"{settings.variable}/{settings.layout}/{settings.name}"
    point_latest(site.store, method.aoi, "monitor", name, method.id, fence)


def _chain(plan: MonitorPlan, site: Site) -> NumberedChain:
    method = plan.content.method
    return manifest_chain(site.store, method.aoi, "monitor", method.id)


def _holds(plan: MonitorPlan) -> dict[str, str]:
    """The names and versions that a plan publishes: for each image its folder, which depends on its records."""
    return {label: image.folder for label, image in plan.content.image.items()}
