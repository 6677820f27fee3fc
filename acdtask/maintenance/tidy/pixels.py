"""Tidying of pixels: images and containers that the index does not name, and unfinished files."""

from __future__ import annotations

import re
from collections.abc import Iterator

from acdtask.jobs.ingest.catalogue import forget_items
from acdtask.maintenance.references import Names
from acdtask.maintenance.tidy.deletion import NAMED, YOUNG, Broom, Tally
from acdtask.storage.listing import Entry
from acdtask.storage.store import Store

__all__ = ["sweep_containers", "sweep_images", "sweep_staged"]

IMAGE = re.compile(r"(?P<stem>data/.+-[0-9a-f]{16})\.(tif|json)")
CATALOGUE = re.compile(r"data/.+/(collection|stac/\d{4}-\d\d)\.json")
CONTAINER = re.compile(r"(?P<container>consolidated/.+/-?\d+_-?\d+/[\w-]+\.zarr)/.+")

IMAGES, CONTAINERS = "ingested images", "consolidated containers"
OWN = ("runs", "jobs", "deletions", "index", "products", "data", "consolidated")


def sweep_images(store: Store, used: Names, managed: Names, broom: Broom) -> None:
    """Remove images that no head names, and their STAC items.

    If no head names any image of an instance, all its images are kept, since a Geocube may have indexed them.
    """
    indexed = {key.rpartition("/")[0] for key in used if key.startswith("data/") and key.endswith(".tif")}
    months: list[str] = []
    to_remove = list(_unused_images(store, used, managed, indexed, broom, months))
    items = {entry.key for entry in to_remove if entry.key.endswith(".json")}
    if broom.apply and items:
        forget_items(store, months, items)
    broom.remove(IMAGES, to_remove)


def _unused_images(
    store: Store, used: Names, managed: Names, indexed: set[str], broom: Broom, months: list[str]
) -> Iterator[Entry]:
    """The old images that nothing names. Adds the keys of catalogues that may link to them to `months`."""
    for entry in store.entries("data"):
        match = IMAGE.fullmatch(entry.key)
        if CATALOGUE.fullmatch(entry.key):
            broom.keep("catalogues of images", NAMED, entry)
            if "/stac/" in entry.key:
                months.append(entry.key)
        elif match is None:
            broom.keep_unknown(entry)
        elif f"{match['stem']}.tif" in used:
            broom.keep(IMAGES, NAMED, entry)
        elif f"{match['stem']}.tif" in managed:
            broom.keep(IMAGES, "managed for a client", entry)
        elif entry.key.rpartition("/")[0] not in indexed:
            broom.keep(IMAGES, "a Geocube may have indexed them", entry)
        elif entry.modified > broom.cutoff:
            broom.keep(IMAGES, YOUNG, entry)
        else:
            yield entry


def sweep_containers(store: Store, used: Names, managed: Names, broom: Broom) -> None:
    """Remove consolidated containers that no head or unfinished job names, once all their files are old."""
    unused: dict[str, Tally] = {}
    for entry in store.entries("consolidated"):
        match = CONTAINER.fullmatch(entry.key)
        if match is None:
            broom.keep_unknown(entry)
        elif match["container"] in used:
            broom.keep(CONTAINERS, NAMED, entry)
        elif match["container"] in managed:
            broom.keep(CONTAINERS, "managed for a client", entry)
        else:
            unused.setdefault(match["container"], Tally()).add(entry)
    for container, tally in sorted(unused.items()):
        # The container's zarr.json goes first: without it there is no container, even if this process is killed.
        entries = sorted(store.entries(container), key=lambda entry: (entry.key.count("/"), entry.key))
        if any(entry.modified > broom.cutoff for entry in entries):
            broom.keep(CONTAINERS, YOUNG, *entries)
        elif tally.objects:
            broom.remove(CONTAINERS, entries[:1])
            broom.remove(CONTAINERS, entries[1:])


def sweep_staged(store: Store, broom: Broom) -> None:
    """Remove files left unfinished by killed writers."""
    for prefix in OWN:
        broom.remove("unfinished files", (entry for entry in store.staged(prefix) if entry.modified <= broom.cutoff))
