"""Files and metadata for other tools in a baseline: STAC, mosaics, styles, TIFF tags."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Any

from acdtask.change.methods import BASELINE_CLIPS
from acdtask.change.moments import CLIP_ROUNDS
from acdtask.cube.model import Dataset, Record, Variable
from acdtask.cube.stac.items import Json, StacLinks, stac_collection
from acdtask.jobs.baseline.settings import ALGORITHM
from acdtask.jobs.catalogue import (
    COLLECTION,
    ROOT,
    area_catalogue,
    encode_document,
    link_collection,
    put_if_changed,
    tile_item,
)
from acdtask.jobs.filenames import cell_part, period_part, product_stem
from acdtask.jobs.manifests import NumberedChain
from acdtask.jobs.products import (
    BaselineManifest,
    BaselineTile,
    baseline_variables,
)
from acdtask.jobs.provenance import processing_fields, processing_provider, tiff_tags
from acdtask.jobs.styles import raster_style
from acdtask.raster.mosaic import MosaicBand, encode_vrt
from acdtask.storage.store import Store

__all__ = ["VIEWS", "BaselineDocuments", "files_of_baseline", "link_baseline"]

VIEWS = ("mean", "std", "count")
"""Views of a baseline for users; its moments are only for acd."""

TITLES = {"mean": "Mean", "std": "Standard deviation", "count": "Valid images", "moments": "Exact moments"}


class BaselineDocuments:
    """File names and metadata of a baseline.

    Args:
        area, content_id: area and content id of the baseline.
        variable: variable of the images.
        science: settings that affect results, with the dates `start` and `end`.
    """

    def __init__(self, area: str, content_id: str, variable: Variable, science: Mapping[str, Any]) -> None:
        self.folder = f"products/{area}/baseline/{content_id}"
        self.collection = f"{self.folder}/{COLLECTION}"
        self.identity = f"{area}_baseline_{content_id}".replace("/", "_")
        self._area, self._variable = area, variable
        self._start, self._end = (dt.datetime.fromisoformat(science[name]) for name in ("start", "end"))
        self._clip = science.get("clip", BASELINE_CLIPS.get(science["profile"], 0.0))
        self._facts = {
            "area": area,
            "baseline": content_id,
            "layout": science["layout"],
            "method": science["profile"],
            "variable": variable.name,
        }

    def stem(self, product: str, cell: str = "") -> str:
        """The file name of a product without its extension."""
        when = period_part(self._start, self._end)
        return product_stem(self._area, self._variable.name, product, when, cell)

    def tags(self, product: str) -> dict[str, str]:
        """The TIFF tags of a product."""
        days = f"{self._start.date()} to {self._end.date()}"
        facts = self._facts | {"start": self._start.isoformat()}
        return tiff_tags(f"{TITLES[product]} of {self._variable.name}, {self._area}, {days}", self._end, facts)

    def item(self, tile: BaselineTile, record: Record, sizes: Mapping[str, int]) -> tuple[str, bytes]:
        """The key and content of a tile's STAC item."""
        key = f"{self.folder}/{self.stem('', cell_part(tile.tile))}.json"
        variables = dict(zip(VIEWS, baseline_variables(self._variable), strict=False))
        assets = {name: (dataset, variables[name]) for name, dataset in _views(tile).items()}
        links = StacLinks(ROOT, self.collection, self.collection, self.identity)
        facts = {name: self._facts[name] for name in ("layout", "method", "variable")}
        properties = processing_fields(self.lineage, facts, f"baseline {ALGORITHM}")
        return key, tile_item(record, tile.tile, assets, href=key, sizes=sizes, properties=properties, links=links)

    @property
    def lineage(self) -> str:
        """A sentence about how the baseline was computed."""
        text = (
            f"Mean, population standard deviation and number of the valid images of {self._variable.name} in the "
            "period, from exact integer sums per pixel"
        )
        if self._clip:
            text += (
                f", without values more than {self._clip:g} standard deviations below the mean ({CLIP_ROUNDS} rounds)"
            )
        return f"{text}."

    @property
    def interval(self) -> tuple[dt.datetime, dt.datetime]:
        """The period."""
        return self._start, self._end


def files_of_baseline(manifest: BaselineManifest, variable: Variable) -> dict[str, bytes]:
    """Mosaics of all tiles of a baseline, and their styles, by key."""
    documents = _documents(manifest, variable)
    files = {}
    views = baseline_variables(variable)[:3]
    for product, view in zip(VIEWS, views, strict=True) if manifest.tiles else ():
        stem = f"{documents.folder}/{documents.stem(product)}"
        unit = "images" if product == "count" else view.unit
        band = MosaicBand(product, view.dformat.dtype, view.dformat.nodata, view.scale, unit)
        tiles = {_views(tile)[product].uri: tile.tile.grid for tile in manifest.tiles}
        files[f"{stem}.vrt"] = encode_vrt(tiles, [band], href=f"{stem}.vrt", metadata=documents.tags(product))
        files[f"{stem}.qml"] = raster_style(product, variable)
    return files


def link_baseline(chain: NumberedChain, variable: Variable, area: Json, store: Store) -> None:
    """Write the STAC collection of a published baseline, and link it from the root.

    A slow writer may overwrite the work of a faster one, so each writer checks afterwards whether a newer version was
    published in the meantime.

    Args:
        chain: the baseline's manifests, at least one.
        variable: variable of the images.
        area: GeoJSON geometry of the AOI.
        store: store of the cube.
    """
    number, body = chain.newest()
    while body is not None:
        manifest = BaselineManifest.model_validate_json(body)
        documents = _documents(manifest, variable)
        put_if_changed(store, documents.collection, _collection(documents, manifest, area))
        newest, body = chain.newest()
        if newest == number:
            link_collection(store, manifest.aoi, documents.collection, _title(manifest))
            return
        number = newest


def _collection(documents: BaselineDocuments, manifest: BaselineManifest, area: Json) -> bytes:
    items = {tile.item: cell_part(tile.tile) for tile in manifest.tiles if tile.item}
    collection = stac_collection(
        documents.identity,
        f"Mean, standard deviation and count of {manifest.variable} in {manifest.aoi}, of {len(manifest.images)} "
        "images.",
        href=documents.collection,
        links=StacLinks(root=ROOT, parent=area_catalogue(manifest.aoi), items=items),
        footprint=area,
        interval=documents.interval,
        title=_title(manifest),
        providers=[processing_provider(documents.lineage)],
    )
    return encode_document(collection)


def _title(manifest: BaselineManifest) -> str:
    return f"Baseline of {manifest.variable} ({manifest.layout}, {manifest.name})"


def _documents(manifest: BaselineManifest, variable: Variable) -> BaselineDocuments:
    return BaselineDocuments(manifest.aoi, manifest.content_id, variable, manifest.settings)


def _views(tile: BaselineTile) -> dict[str, Dataset]:
    return {"mean": tile.mean, "std": tile.standard_deviation, "count": tile.count}
