"""Products: old versions of manifests and pointers, files that no manifest names, and old reports."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime

from acdtask.maintenance.references import PRODUCT, Names, names_of_manifest
from acdtask.maintenance.tidy.deletion import CURRENT, NAMED, YOUNG, Broom
from acdtask.maintenance.tidy.retention import Retention, superseded
from acdtask.maintenance.tidy.runs import Runs
from acdtask.storage.listing import Entry
from acdtask.storage.store import Store

__all__ = ["Products", "read_products", "sweep_products"]

VERSION = re.compile(r"(?P<chain>products/.+/(?:manifests|editions|[^/]+\.latest))/(?P<number>\d{6})(?:\.json)?")
KNOWN = {
    "baseline": re.compile(
        r"-?\d+_-?\d+/(mean|standard_deviation|count|moments)\.tif|collection\.json|[\w-]+\.(tif|json|vrt|qml)"
    ),
    "monitor": re.compile(
        r"[\d_-]+-[0-9a-f]{12}/(partial/[0-9a-f]{12}/)?"
        r"(patches\.(parquet|geojson|qml)|item\.json|[\w-]+\.(tif|json|vrt|qml))"
        r"|collection\.json|stac/\d{4}-\d\d\.json|patches-[0-9a-f]{12}\.(parquet|geojson)|(months|patches)/\d{4}-\d\d-[0-9a-f]{32}\.(json|parquet)"
    ),
    "report": re.compile(r"[\w./-]+\.(png|jpg|html|json|parquet|geojson|qml)"),
}
"""The files of a product that acd makes, by job."""

NEWS = re.compile(r"news/(watermark|(pending|announced)/\d{4}-\d\d/[\w.-]+)\.json")
"""What of a series was announced. It stays: an image that nothing remembers would be announced once more."""

BESIDE = re.compile(r"/(?!product-)[\w-]+\.(json|vrt|qml)$")
"""STAC documents, mosaics and styles, which lie beside the pixels that they are of."""

CATALOGUES = re.compile(r"products/.+/catalog\.json")

KINDS = {"baseline": "files of baselines", "monitor": "files of monitors", "report": "files of reports"}


@dataclass
class Products:
    """What is below `products/`, without the files themselves.

    Attributes:
        chains: numbered versions of manifests and pointers, by their folder.
        folders: the folders of products, each with the time when something in it was last written.
    """

    chains: dict[str, list[tuple[int, Entry]]] = field(default_factory=lambda: defaultdict(list))
    folders: dict[str, datetime] = field(default_factory=dict)


def read_products(store: Store, broom: Broom) -> Products:
    """List `products/`. Memory grows with the number of products and versions, not with their files."""
    products = Products()
    for entry in store.entries("products"):
        product = PRODUCT.match(entry.key)
        if product:
            folder = product.group()
            products.folders[folder] = max(products.folders.get(folder, entry.modified), entry.modified)
        if match := VERSION.fullmatch(entry.key):
            products.chains[match["chain"]].append((int(match["number"]), entry))
        elif not product and CATALOGUES.fullmatch(entry.key):
            broom.keep("catalogues of areas", NAMED, entry)
        elif not product:
            broom.keep_unknown(entry)
    return products


def sweep_products(
    store: Store, products: Products, runs: Runs, used: Names, retention: Retention, cutoff: datetime, broom: Broom
) -> None:
    """Remove old versions, then what no document that stays names.

    Args:
        store: of the cube.
        products: from `read_products`.
        runs: whose plans that stay may still publish.
        used: what the index and plans name.
        retention: how many versions and reports stay.
        cutoff: what is younger stays.
        broom: deletes and counts.
    """
    documents = _sweep_versions(products, retention, cutoff, broom)
    made = runs.made()
    reports = _reports_to_remove(products, made, retention, cutoff)
    for folder in sorted(products.folders):
        job, content_id = folder.rstrip("/").split("/")[-2:]
        if (job, content_id.removesuffix("-partial")) in made:
            used.add([folder.rstrip("/")])
        if folder in reports:
            entries = sorted(store.entries(folder.rstrip("/")), key=lambda entry: not entry.key.endswith(".html"))
            if all(entry.modified <= cutoff for entry in entries):
                broom.remove("old reports", entries)
                continue
        if job == "report" and f"{folder}editions" not in products.chains:
            used.add([folder.rstrip("/")])  # no document names the pictures of such a report
        named = _named_in(store, folder, job, products, documents)
        broom.remove(KINDS[job], _unnamed(store, folder, job, named, used, cutoff, broom))


def _sweep_versions(products: Products, retention: Retention, cutoff: datetime, broom: Broom) -> dict[str, list[str]]:
    """Remove old versions of manifests and pointers; returns those of results that stay, by folder of the product."""
    kept: dict[str, list[str]] = {}
    for chain, versions in sorted(products.chains.items()):
        kind = "pointers to the latest" if chain.endswith(".latest") else "versions of results"
        going = superseded(versions, retention.keep_versions, cutoff)
        broom.remove(kind, going, page=1)
        gone = {entry.key for entry in going}
        stay = [entry for _, entry in versions if entry.key not in gone]
        broom.keep(kind, CURRENT, *stay)
        if not chain.endswith(".latest"):
            kept[f"{chain.rpartition('/')[0]}/"] = [entry.key for entry in stay]
    return kept


def _named_in(store: Store, folder: str, job: str, products: Products, documents: dict[str, list[str]]) -> Names:
    """What the versions of a product name that stay, and those that were published since they were listed."""
    names = Names()
    for key in documents.get(folder, []):
        names.add(names_of_manifest(store, key))
    chain = f"{folder}{'editions' if job == 'report' else 'manifests'}"
    number = max((number for number, _ in products.chains.get(chain, [])), default=0)
    while store.exists(key := f"{chain}/{number + 1:06d}.json"):
        names.add(names_of_manifest(store, key))
        number += 1
    return names


def _unnamed(
    store: Store, folder: str, job: str, named: Names, used: Names, cutoff: datetime, broom: Broom
) -> Iterator[Entry]:
    """The old files of a product that nothing names."""
    kind = KINDS[job]
    for entry in store.entries(folder.rstrip("/")):
        key = entry.key
        rest = key[len(folder) :]
        if VERSION.fullmatch(key):
            continue
        if job == "monitor" and NEWS.fullmatch(rest):
            broom.keep("news of series", NAMED, entry)
            continue
        if not KNOWN[job].fullmatch(rest):
            broom.keep_unknown(entry)
        elif key in named or key in used or _is_beside(key, rest, job, named, used):
            broom.keep(kind, NAMED, entry)
        elif entry.modified > cutoff:
            broom.keep(kind, YOUNG, entry)
        else:
            yield entry


def _is_beside(key: str, rest: str, job: str, named: Names, used: Names) -> bool:
    """Whether a file belongs to what is in use although nothing names it: pages of a report, files beside pixels.

    In acd 0.1.0 an image had an `item.json` that no document named.
    """
    if job == "report":
        return "/" not in rest
    is_old_item = key.endswith("/item.json") and named.has_beside(key)
    return is_old_item or (bool(BESIDE.search(key)) and used.has_beside(key))


def _reports_to_remove(
    products: Products, made: set[tuple[str, str]], retention: Retention, cutoff: datetime
) -> set[str]:
    """Reports without editions, as acd 0.1.0 made them, that are old, not the newest of their AOI, and not planned."""
    by_area: dict[str, list[tuple[datetime, str]]] = defaultdict(list)
    for folder, newest in products.folders.items():
        area = folder.rstrip("/").rpartition("/")[0]
        if area.endswith("/report") and f"{folder}editions" not in products.chains:
            by_area[area].append((newest, folder))
    going = set()
    for folders in by_area.values():
        for newest, folder in sorted(folders, reverse=True)[retention.keep_versions :]:
            content_id = folder.rstrip("/").rpartition("/")[2].removesuffix("-partial")
            if newest <= cutoff and ("report", content_id) not in made:
                going.add(folder)
    return going
