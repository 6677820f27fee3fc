"""Files and metadata for other tools in a monitored image: STAC, mosaics, styles, TIFF tags."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Any

from acdtask.cube.model import Variable
from acdtask.cube.stac.items import StacLinks, stac_catalog, stac_collection
from acdtask.jobs.catalogue import (
    CATALOGUE,
    COLLECTION,
    ROOT,
    area_catalogue,
    encode_document,
    link_collection,
    put_if_changed,
    tile_item,
)
from acdtask.jobs.contract import Site
from acdtask.jobs.filenames import cell_part
from acdtask.jobs.manifests import manifest_chain
from acdtask.jobs.monitor.content import CutTile, MonitorPlan
from acdtask.jobs.monitor.images import ImageWork
from acdtask.jobs.monitor.months import folders_of_month
from acdtask.jobs.products import (
    MASK_NODATA,
    Z_FORMAT,
    Z_SCALE,
    Z_UNIT,
    MonitorManifest,
    MonitorMonth,
    change_variable,
    z_variable,
)
from acdtask.jobs.provenance import processing_fields, processing_provider, tiff_tags
from acdtask.jobs.quantity import is_coherence
from acdtask.jobs.styles import CHANGE_CATEGORIES, CHANGE_COLOURS, QUALITY_CATEGORIES, patch_style, raster_style
from acdtask.raster.mosaic import MosaicBand, encode_vrt

__all__ = ["files_of_image", "keys_of_catalogue", "tags_of_image", "write_catalogue"]

Z_BANDS = (MosaicBand("z", Z_FORMAT.dtype, Z_FORMAT.nodata, Z_SCALE, Z_UNIT),)
CHANGE_BANDS = (
    MosaicBand("change", "uint8", MASK_NODATA, colours=CHANGE_COLOURS, categories=CHANGE_CATEGORIES),
    MosaicBand("quality", "uint8", MASK_NODATA, categories=QUALITY_CATEGORIES),
)


def tags_of_image(image: ImageWork, variable: Variable, plan: MonitorPlan) -> dict[str, dict[str, str]]:
    """The TIFF tags of z and change of an image, by product."""
    facts = _facts(image, variable, plan)
    titles = {"z": f"z of {variable.name}", "change": f"Abnormal change of {variable.name}"}
    return {
        product: tiff_tags(f"{title}, {image.aoi}, {image.label}", image.datetime, facts)
        for product, title in titles.items()
    }


def files_of_image(
    image: ImageWork, cuts: Sequence[CutTile], folder: str, variable: Variable, plan: MonitorPlan
) -> dict[str, bytes]:
    """The files of an image's product other than rasters and tables, by name.

    Args:
        image: the image.
        cuts: its tiles; may be empty.
        folder: folder for the files: the image's own, or that of a partial image.
        variable: variable of the image.
        plan: the plan that judges the image.
    """
    z, change, facts = z_variable(variable), change_variable(variable), _facts(image, variable, plan)
    known = {name: facts[name] for name in ("baseline", "layout", "method", "variable")}
    properties = processing_fields(
        _lineage(variable, plan.content.method.detection), known, f"monitor {plan.algorithm}"
    )
    product = image.folder.rpartition("/")[0]
    month = _month_key(product, f"{image.datetime.astimezone(dt.UTC):%Y-%m}")
    above = StacLinks(ROOT, f"{folder}/{CATALOGUE}", f"{product}/{COLLECTION}", _identity(product))
    files: dict[str, bytes] = {}
    for cut in cuts:
        name = f"{image.stem(variable, tile=cut.place.tile)}.json"
        files[name] = tile_item(
            image.record,
            cut.place.tile,
            {"z": (cut.place.z, z), "change": (cut.place.change, change)},
            href=f"{folder}/{name}",
            sizes=cut.sizes,
            properties=properties,
            links=above,
        )
    items = {f"{folder}/{name}": cell_part(cut.place.tile) for name, cut in zip(files, cuts, strict=True)}
    catalogue = stac_catalog(
        image.stem(variable),
        f"Tiles of the image {image.label}.",
        href=f"{folder}/{CATALOGUE}",
        links=StacLinks(root=ROOT, parent=month, items=items),
        title=image.label,
    )
    files[CATALOGUE] = encode_document(catalogue)
    tags = tags_of_image(image, variable, plan)
    for name, bands in (("z", Z_BANDS), ("change", CHANGE_BANDS)) if cuts else ():
        stem = image.stem(variable, name)
        tiles = {getattr(cut.place, name).uri: cut.place.tile.grid for cut in cuts}
        files[f"{stem}.vrt"] = encode_vrt(tiles, bands, href=f"{folder}/{stem}.vrt", metadata=tags[name])
        files[f"{stem}.qml"] = raster_style(name, variable, direction=plan.content.method.rules.direction)
    files["patches.qml"] = patch_style(direction=plan.content.method.rules.direction)
    return files


def write_catalogue(plan: MonitorPlan, months: set[str], variable: Variable, site: Site) -> None:
    """Update the catalogue of some months to the published images.

    A slow writer may overwrite the work of a faster one, so each writer checks afterwards whether a newer version was
    published in the meantime.
    """
    method = plan.content.method
    chain = manifest_chain(site.store, method.aoi, "monitor", method.id)
    number, body = chain.newest()
    while body is not None:
        manifest = MonitorManifest.model_validate_json(body)
        folder = f"products/{manifest.aoi}/monitor/{manifest.content_id}"
        for month in manifest.months:
            if month.month in months:
                put_if_changed(site.store, _month_key(folder, month.month), _month_document(folder, month, site))
        put_if_changed(site.store, f"{folder}/{COLLECTION}", _collection(folder, manifest, variable))
        newest, body = chain.newest()
        if newest == number:
            link_collection(site.store, manifest.aoi, f"{folder}/{COLLECTION}", _title(manifest))
            return
        number = newest


def keys_of_catalogue(manifest: MonitorManifest) -> set[str]:
    """The keys of the catalogue documents above those of images."""
    folder = f"products/{manifest.aoi}/monitor/{manifest.content_id}"
    return {f"{folder}/{COLLECTION}", *(_month_key(folder, month.month) for month in manifest.months)}


def _month_document(folder: str, month: MonitorMonth, site: Site) -> bytes:
    children = {f"{image}/{CATALOGUE}": label for label, image in folders_of_month(month, site.store).items()}
    document = stac_catalog(
        f"{_identity(folder)}_{month.month}",
        f"Images of {month.month}.",
        href=_month_key(folder, month.month),
        links=StacLinks(root=ROOT, parent=f"{folder}/{COLLECTION}", children=children),
        title=month.month,
    )
    return encode_document(document)


def _collection(folder: str, manifest: MonitorManifest, variable: Variable) -> bytes:
    """The STAC collection. Its interval is open and it links to months, so it changes only once a month."""
    children = {_month_key(folder, month.month): month.month for month in manifest.months}
    first = dt.datetime.fromisoformat(f"{manifest.months[0].month}-01T00:00:00+00:00") if manifest.months else None
    collection = stac_collection(
        _identity(folder),
        f"z-scores and change masks of {manifest.variable} in {manifest.aoi}, compared with the baseline "
        f"{manifest.settings.get('baseline_name', '')}; acd:baseline of an item is the version.",
        href=f"{folder}/{COLLECTION}",
        links=StacLinks(root=ROOT, parent=area_catalogue(manifest.aoi), children=children),
        footprint=manifest.aoi_geometry,
        interval=(first, None),
        title=_title(manifest),
        providers=[processing_provider(_lineage(variable, manifest.settings["detection"]))],
    )
    return encode_document(collection)


def _month_key(folder: str, month: str) -> str:
    return f"{folder}/stac/{month}.json"


def _identity(folder: str) -> str:
    return folder.removeprefix("products/").replace("/", "_")


def _title(manifest: MonitorManifest) -> str:
    return f"Change of {manifest.variable} ({manifest.layout}, {manifest.settings.get('name', 'monitor')})"


def _lineage(variable: Variable, detection: Mapping[str, Any]) -> str:
    """A sentence about how z and patches were computed."""
    direction = detection.get("direction", "drop")
    difference = "image - baseline mean" if direction == "rise" else "baseline mean - image"
    similar = "coherence" if is_coherence(variable.name) else "baseline mean"
    high = "high z, or of low z" if direction == "both" else "high z"
    return (
        f"z = ({difference}) / baseline standard deviation of {variable.name}, centred on the image's median "
        f"of pixels with similar {similar} if the method says so; patches are connected pixels of {high}."
    )


def _facts(image: ImageWork, variable: Variable, plan: MonitorPlan) -> dict[str, str]:
    method = plan.content.method
    direction = method.rules.direction
    return {
        "area": image.aoi,
        "baseline": image.baseline,
        **({} if direction == "drop" else {"direction": direction}),
        "image": image.label,
        "layout": method.layout,
        "method": method.profile,
        "product": method.id,
        "start": image.start.isoformat() if image.start else "",
        "variable": variable.name,
    }
