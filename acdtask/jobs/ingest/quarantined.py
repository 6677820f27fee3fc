"""Rasters that an ingest left out, noted for later jobs in `runs/ingest/left-out/<digest>.json`."""

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

__all__ = ["LeftOutRaster", "left_out_of", "store_left_out"]

FOLDER = "ingest/left-out"


class LeftOutRaster(BaseModel):
    """A raster that failed permanently when it was last ingested."""

    address: str
    record: Record
    variable: str
    instance: str
    failure: Failure


def store_left_out(rasters: list[LeftOutRaster], site: Site) -> None:
    """Store the rasters, one note per record."""
    for raster in rasters:
        digest = hashlib.sha256(f"{raster.variable}\n{raster.instance}\n{raster.record.id}".encode()).hexdigest()[:32]
        key = f"{FOLDER}/{digest}.json"
        site.runs.put(key, seal(raster.model_dump_json(indent=1).encode()))


def _read(site: Site, key: str) -> LeftOutRaster:
    fix = "Delete the file and ingest again; a raster that fails again is noted again."
    return parse_sealed(LeftOutRaster, site.runs.get(key), site.runs.address_of(key), ErrorCode.RUN_DAMAGED, fix)


def _may_meet(record: Record, area: BaseGeometry) -> bool:
    return not record.footprint or shape(record.footprint).intersects(area)


def left_out_of(site: Site, variable: str, instance: str, area: BaseGeometry) -> list[LeftOutRaster]:
    """The rasters left out of an area (longitude, latitude) that are still not in the cube, by datetime and address.

    A raster whose header cannot be read has no known footprint and is always included.
    """
    rasters = [_read(site, key) for key in site.runs.list(FOLDER)]
    rasters = [raster for raster in rasters if (raster.variable, raster.instance) == (variable, instance)]
    rasters = [raster for raster in rasters if _may_meet(raster.record, area)]
    ids = [raster.record.id for raster in rasters]
    ingested = site.cube.having(variable, instance, ids) if ids else frozenset()
    rasters = [raster for raster in rasters if raster.record.id not in ingested]
    return sorted(rasters, key=lambda raster: (raster.record.datetime, raster.address))
