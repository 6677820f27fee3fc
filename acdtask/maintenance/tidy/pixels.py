"""Pixels: ingested images and consolidated containers that the index does not name, and unfinished files."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime

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


def sweep_images(store: Store, used: Names, managed: Names, cutoff: datetime, broom: Broom) -> None:
    """Remove images, and their STAC items, that no head names.

    Where no head names any image of an instance, its images stay: a Geocube may have indexed them instead.
    """
    indexed = {key.rpartition("/")[0] for key in used if key.startswith("data/") and key.endswith(".tif")}
    months: list[str] = []
    going = list(_unused_images(store, used, managed, indexed, cutoff, broom, months))
    items = {entry.key for entry in going if entry.key.endswith(".json")}
    if broom.apply and items:
        forget_items(store, months, items)
    broom.remove(IMAGES, going)


def _unused_images(
    store: Store, used: Names, managed: Names, indexed: set[str], cutoff: datetime, broom: Broom, months: list[str]
) -> Iterator[Entry]:
    """The old images that nothing names; `months` gets the keys of the catalogues that may link to them."""
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
        elif entry.modified > cutoff:
            broom.keep(IMAGES, YOUNG, entry)
        else:
            yield entry


def sweep_containers(store: Store, used: Names, managed: Names, cutoff: datetime, broom: Broom) -> None:
    """Remove consolidated containers that neither a head nor an unfinished job names, each once all of it is old."""
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
        # The container's own zarr.json first: without it there is no container, whatever a killed process leaves.
        entries = sorted(store.entries(container), key=lambda entry: (entry.key.count("/"), entry.key))
        if any(entry.modified > cutoff for entry in entries):
            broom.keep(CONTAINERS, YOUNG, *entries)
        elif tally.objects:
            broom.remove(CONTAINERS, entries[:1])
            broom.remove(CONTAINERS, entries[1:])


def sweep_staged(store: Store, cutoff: datetime, broom: Broom) -> None:
    """Remove what killed writers left half-written in a folder."""
    for prefix in OWN:
        broom.remove("unfinished files", (entry for entry in store.staged(prefix) if entry.modified <= cutoff))
