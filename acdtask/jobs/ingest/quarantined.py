"""Rasters that an ingest went on without, as later jobs ask for them: `runs/ingest/left-out/<record>.json`."""

from __future__ import annotations

import hashlib

from pydantic import BaseModel
from shapely.geometry import shape
from shapely.geometry.base import BaseGeometry

from acdtask.cube.model import Record
from acdtask.errors import ErrorCode
from acdtask.jobs.contract import Site
from acdtask.jobs.quarantine import Failure
from acdtask.storage.seal import parse_sealed, seal

__all__ = ["LeftOutRaster", "keep_left_out", "left_out_of"]

FOLDER = "ingest/left-out"


class LeftOutRaster(BaseModel):
    """A raster that failed for good the last time it was to be ingested."""

    address: str
    record: Record
    variable: str
    instance: str
    failure: Failure


def keep_left_out(rasters: list[LeftOutRaster], site: Site) -> None:
    """Remember them, each under its record."""
    for one in rasters:
        digest = hashlib.sha256(f"{one.variable}\n{one.instance}\n{one.record.id}".encode()).hexdigest()[:32]
        key = f"{FOLDER}/{digest}.json"
        site.runs.put(key, seal(one.model_dump_json(indent=1).encode()))


def _read(site: Site, key: str) -> LeftOutRaster:
    fix = "Delete the file, and ingest again: a raster that fails again is noted again."
    return parse_sealed(LeftOutRaster, site.runs.get(key), site.runs.address_of(key), ErrorCode.RUN_DAMAGED, fix)


def left_out_of(site: Site, variable: str, instance: str, area: BaseGeometry) -> list[LeftOutRaster]:
    """Those that meet an area (longitude, latitude) and are not in the cube by now, by datetime and address.

    A raster whose header cannot be read may lie anywhere, and counts.
    """
    found = [_read(site, key) for key in site.runs.list(FOLDER)]
    found = [one for one in found if (one.variable, one.instance) == (variable, instance)]
    found = [one for one in found if not one.record.footprint or shape(one.record.footprint).intersects(area)]
    there = site.cube.having(variable, instance, [one.record.id for one in found]) if found else frozenset()
    found = [one for one in found if one.record.id not in there]
    return sorted(found, key=lambda one: (one.record.datetime, one.address))
