"""The end of a monitoring run: outlines joined into patches, tables written, everything made visible at once."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from shapely import from_wkb

from acdtask import __version__
from acdtask.change.near import Near
from acdtask.change.patches import patch_table
from acdtask.change.polygons import Piece, join_all, to_crs_coordinates
from acdtask.change.seams import blobs_from_bytes
from acdtask.cube.model import Instance, Variable
from acdtask.cube.tiling import LON_LAT, project
from acdtask.jobs.bundle import unpack
from acdtask.jobs.catalogue import put_all
from acdtask.jobs.closest import closest_of
from acdtask.jobs.contract import Plan, RoundResult, Site
from acdtask.jobs.monitor.cut import CutTile
from acdtask.jobs.monitor.documents import files_of_image, write_catalogue
from acdtask.jobs.monitor.label import JoinedImages
from acdtask.jobs.monitor.months import images_of_month, join_months, patches_of_image, read_month_patches
from acdtask.jobs.monitor.settings import MonitorSettings
from acdtask.jobs.monitor.work import ImageWork, images_of, partial_place, quarantined_tiles
from acdtask.jobs.parts import month_of
from acdtask.jobs.patches import LocatedPatch, patches_to_geojson, patches_to_parquet
from acdtask.jobs.products import (
    ImageProduct,
    MonitorManifest,
    NumberedChain,
    change_variable,
    digest_of_file,
    manifest_chain,
    point_latest,
    z_variable,
)
from acdtask.jobs.quarantine import QuarantinedTile
from acdtask.jobs.scratch import read_scratch

__all__ = ["patch_files", "publish"]


def publish(plan: Plan, result: RoundResult, site: Site) -> None:
    """Publish the images: the tables of each, the months that they are in, the manifest, then one commit of the index.

    Images that lack tiles are not in the index: the next plan takes them again.
    """
    settings = MonitorSettings.model_validate(plan.settings)
    variable = site.cube.variable(settings.variable)
    _chain(plan, site).require(site.fence(plan), _holds(plan))
    cuts: dict[str, list[CutTile]] = defaultdict(list)
    for _, table in result.tables:
        for part in unpack(table).values():
            cut = CutTile.model_validate_json(part)
            cuts[cut.label].append(cut)
    images, joined = images_of(plan), JoinedImages.model_validate_json(result.memo)
    quarantined = quarantined_tiles(plan, result.left_out)
    labels = [*cuts, *sorted(quarantined.keys() - cuts.keys())]
    publisher = _ImagePublisher(plan, variable, joined, site)
    products = [publisher.publish(images[label], cuts[label], quarantined.get(label, ())) for label in labels]
    _publish_manifest(plan, settings, products, site)
    write_catalogue(plan, {month_of(product.datetime) for product in products}, variable, site)
    whole = [product for product in products if not product.quarantined]
    made = (z_variable(variable), change_variable(variable))
    site.cube.commit(
        [images[product.label].record for product in whole],
        [dataset for product in whole for tile in product.tiles for dataset in (tile.z, tile.change)],
        variables=made,
        instances=[Instance(variable=one.name, name=settings.name) for one in made],
    )
    _write_patch_files(plan, site)


def patch_files(plan: Plan) -> dict[str, str]:
    """Keys of the files with the patches of a plan's images, by name. They are kept as long as the run."""
    names = ("patches.parquet", "patches.geojson")
    return {name: f"runs/{plan.job}/{plan.plan_id}/{name}" for name in names}


def _write_patch_files(plan: Plan, site: Site) -> None:
    """Write the patches of the plan's images as they are published, so that a late partial run takes none away."""
    _, body = _chain(plan, site).newest()
    images = images_of(plan)
    months = {month_of(image.datetime) for image in images.values()}
    manifest = MonitorManifest.model_validate_json(body or b"")
    numbers = {
        one.patch.id: one.number
        for month in sorted(months)
        for patches in read_month_patches(manifest, site.store, month)
        for one in patches
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
    site.store.put(files["patches.parquet"], patches_to_parquet(patches))
    site.store.put(files["patches.geojson"], patches_to_geojson(patches))


@dataclass(frozen=True)
class _ImagePublisher:
    """Writes what is not of one tile."""

    plan: Plan
    variable: Variable
    joined: JoinedImages
    site: Site

    def publish(self, image: ImageWork, cuts: list[CutTile], quarantined: tuple[QuarantinedTile, ...]) -> ImageProduct:
        store = self.site.store
        cuts = sorted(cuts, key=lambda cut: (cut.place.tile.j, cut.place.tile.i))
        folder = image.folder
        if quarantined:
            cells = [tile.cell.encode() for tile in quarantined]
            place = partial_place(*cells, *(cut.model_dump_json().encode() for cut in cuts))
            folder = f"{folder}/{place.strip('/')}"
        patches = self._patches(image, cuts, whole=not quarantined)
        tables = {"patches.parquet": patches_to_parquet(patches), "patches.geojson": patches_to_geojson(patches)}
        files = tables | files_of_image(image, cuts, folder, self.variable, self.plan)
        put_all(store, {f"{folder}/{name}": body for name, body in files.items()})
        quality: dict[str, int] = defaultdict(int)
        for cut in cuts:
            for reason, pixels in cut.quality_px.items():
                quality[reason] += pixels
        return ImageProduct(
            label=image.label,
            datetime=image.datetime,
            start=image.start,
            records=image.records,
            tiles=[cut.place for cut in cuts],
            patches=f"{folder}/patches.parquet",
            patches_geojson=f"{folder}/patches.geojson",
            patch_count=len(patches),
            changed_px=sum(cut.changed_px for cut in cuts),
            quality_px=dict(quality),
            checksums={name: digest_of_file(body) for name, body in files.items()},
            quarantined=quarantined,
            closest=closest_of(Near(*near)) if (near := self.joined.near.get(image.label)) else None,
        )

    def _patches(self, image: ImageWork, cuts: list[CutTile], *, whole: bool) -> list[LocatedPatch]:
        """The patches; of a partial image those that have an outline, which may end where a tile is missing."""
        if not cuts:
            return []
        layout = self.site.cube.layout(self.plan.content["method"]["layout"])
        transform = layout.pixel_grid(0, 0, 1, 1).transform
        pieces = [Piece(blob, from_wkb(polygon)) for cut in cuts for blob, polygon in cut.pieces]
        outlines = {
            blob: project(to_crs_coordinates(outline, transform), layout.crs, LON_LAT)
            for blob, outline in join_all(pieces).items()
        }
        blobs = blobs_from_bytes(read_scratch(self.site.scratch(self.plan), self.joined.blobs[image.label]))
        if not whole:
            blobs = blobs[np.isin(blobs["id"], list(outlines))]
        table = patch_table(blobs, outlines, aoi=image.aoi, image=image.label, scale=self.variable.scale)
        return [
            LocatedPatch(patch, image.aoi, self.variable.name, image.datetime, image.start, outlines[patch.blob])
            for patch in table
        ]


def _publish_manifest(plan: Plan, settings: MonitorSettings, products: list[ImageProduct], site: Site) -> None:
    """Add a version to the manifest of this method: the new images, month by month, beside those of earlier runs."""
    method: dict[str, Any] = plan.content["method"]
    folder = f"products/{method['aoi']}/monitor/{method['id']}"

    def make(earlier: bytes | None) -> bytes:
        known = MonitorManifest.model_validate_json(earlier).months if earlier else []
        made = MonitorManifest(
            content_id=method["id"],
            aoi=method["aoi"],
            aoi_geometry=method["area"],
            variable=settings.variable,
            instance=settings.instance,
            layout=settings.layout,
            baseline=method["baseline"],
            months=join_months(known, products, folder, site.store),
            settings=method,
            version=__version__,
        )
        return made.model_dump_json(indent=1).encode()

    fence = site.fence(plan)
    _chain(plan, site).publish(make, fence, _holds(plan))
    name = f"{settings.variable}/{settings.layout}/{settings.name}"
    point_latest(site.store, method["aoi"], "monitor", name, method["id"], fence)


def _chain(plan: Plan, site: Site) -> NumberedChain:
    method = plan.content["method"]
    return manifest_chain(site.store, method["aoi"], "monitor", method["id"])


def _holds(plan: Plan) -> dict[str, str]:
    """What a plan publishes: for each image the folder that is named by its records."""
    return {label: image.folder for label, image in images_of(plan).items()}
