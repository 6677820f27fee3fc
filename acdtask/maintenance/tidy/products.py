"""Tidying of products: old versions of manifests and pointers, files that no manifest names, old reports."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

from acdtask.maintenance.references import PRODUCT, Names, names_of_manifest
from acdtask.maintenance.tidy.deletion import NAMED, YOUNG, Broom
from acdtask.maintenance.tidy.retention import Retention
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
        r"((patches|rejected)\.(parquet|geojson|qml)|[\w-]+\.(tif|json|vrt|qml))"
        r"|collection\.json|stac/\d{4}-\d\d\.json|patches-[0-9a-f]{12}\.(parquet|geojson)|(months|patches)/\d{4}-\d\d-[0-9a-f]{32}\.(json|parquet)"
    ),
    "report": re.compile(r"[\w./-]+\.(png|jpg|html|json|parquet|geojson|qml)"),
    "fuse": re.compile(r"(windows|months|patches|rejected)/[\w-]+-[0-9a-f]{32}\.(parquet|geojson|json)"),
}
"""Names of the files that acd writes into a product, by job."""

NEWS = re.compile(r"news/(watermark|(pending|announced)/\d{4}-\d\d/[\w.-]+)\.json")
"""Records of a series' announcements. They are kept, or images would be announced again."""

BESIDE = re.compile(r"/(?!product-)[\w-]+\.(json|vrt|qml)$")
"""STAC documents, mosaics and styles, which are beside their pixels."""

CATALOGUES = re.compile(r"products/.+/catalog\.json")

KINDS = {
    "baseline": "files of baselines",
    "monitor": "files of monitors",
    "report": "files of reports",
    "fuse": "files of fusions",
}


@dataclass
class Products:
    """The products of a cube, without their files.

    Attributes:
        chains: numbered versions of manifests and pointers, by folder.
        folders: folders of products.
    """

    chains: dict[str, list[tuple[int, Entry]]] = field(default_factory=lambda: defaultdict(list))
    folders: set[str] = field(default_factory=set)


def read_products(store: Store, broom: Broom) -> Products:
    """List `products/`. Memory grows with the number of products and versions, not with their files."""
    products = Products()
    for entry in store.entries("products"):
        product = PRODUCT.match(entry.key)
        if product:
            products.folders.add(product.group())
        if match := VERSION.fullmatch(entry.key):
            products.chains[match["chain"]].append((int(match["number"]), entry))
        elif not product and CATALOGUES.fullmatch(entry.key):
            broom.keep("catalogues of areas", NAMED, entry)
        elif not product:
            broom.keep_unknown(entry)
    return products


def sweep_products(
    store: Store, products: Products, runs: Runs, used: Names, retention: Retention, broom: Broom
) -> None:
    """Remove old versions, then files that neither a kept document nor `used`, the index and plans, names.

    Kept plans of runs may still publish, so their products stay.
    """
    documents = _sweep_versions(products, retention, broom)
    planned = runs.planned_products()
    for folder in sorted(products.folders):
        job, content_id = folder.rstrip("/").split("/")[-2:]
        if (job, content_id.removesuffix("-partial")) in planned:
            used.add([folder.rstrip("/")])
        named = _named_in(store, folder, job, products, documents)
        broom.remove(KINDS[job], _unnamed(store, folder, job, named, used, broom))


def _sweep_versions(products: Products, retention: Retention, broom: Broom) -> dict[str, list[str]]:
    """Remove old versions of manifests and pointers; return the kept manifests, by folder of the product."""
    kept: dict[str, list[str]] = {}
    for chain, versions in sorted(products.chains.items()):
        kind = "pointers to the latest" if chain.endswith(".latest") else "versions of results"
        staying = broom.remove_superseded(kind, versions, retention.keep_versions, page=1)
        if not chain.endswith(".latest"):
            kept[f"{chain.rpartition('/')[0]}/"] = [entry.key for entry in staying]
    return kept


def _named_in(store: Store, folder: str, job: str, products: Products, documents: dict[str, list[str]]) -> Names:
    """Files named by a product's kept versions, and by versions published since they were listed."""
    names = Names()
    for key in documents.get(folder, []):
        names.add(names_of_manifest(store, key))
    chain = f"{folder}{'editions' if job == 'report' else 'manifests'}"
    number = max((number for number, _ in products.chains.get(chain, [])), default=0)
    while store.exists(key := f"{chain}/{number + 1:06d}.json"):
        names.add(names_of_manifest(store, key))
        number += 1
    return names


def _unnamed(store: Store, folder: str, job: str, named: Names, used: Names, broom: Broom) -> Iterator[Entry]:
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
        elif key in named or key in used or _is_beside(key, rest, job, used):
            broom.keep(kind, NAMED, entry)
        elif entry.modified > broom.cutoff:
            broom.keep(kind, YOUNG, entry)
        else:
            yield entry


def _is_beside(key: str, rest: str, job: str, used: Names) -> bool:
    """Whether a file that nothing names is in use: pages of a report, and files beside pixels."""
    if job == "report":
        return "/" not in rest
    return bool(BESIDE.search(key)) and used.has_beside(key)
