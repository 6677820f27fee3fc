"""Consolidate: the records of a cell, gathered in one time-major Zarr array."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime

import numpy as np
from pydantic import Field

from acdtask.cube.aoi import load_aoi
from acdtask.cube.local.consolidation_cell import CellWork, container_key, datasets_of, write_cell
from acdtask.cube.model import Dataset, Name, Resampling
from acdtask.cube.tiling import tiles_as_geojson
from acdtask.jobs.consolidate.on_geocube import plan_on_geocube, run_on_geocube
from acdtask.jobs.contract import Draft, Estimate, Findings, Handouts, Job, Plan, RoundResult, Settings, Shard, Site
from acdtask.jobs.shards import cells_of, shards_of
from acdtask.jobs.stacks import Stacks, tiles_of_aoi

__all__ = ["ConsolidateJob", "ConsolidateSettings"]

BYTES_PER_CORE_SECOND = 30e6
"""Stored pixels read, compressed and written (measured on the demo)."""


class ConsolidateSettings(Settings):
    """Which records to consolidate, and into which layout."""

    aoi: str = Field(description="AOI file (a Geocube ingester payload)")
    layout: Name = Field(description="layout whose cells are filled")
    variable: Name = Field(default="CoherenceVV", description="variable to consolidate")
    instance: Name = Field(default="master", description="instance to consolidate")
    start: datetime | None = Field(default=None, description="first datetime; default: the AOI's start")
    end: datetime | None = Field(default=None, description="last datetime; default: the AOI's end")
    resampling: Resampling | None = Field(default=None, description="default: the variable's")
    shard_tiles: int = Field(default=1, ge=1, description="cells that one shard does")


class ConsolidateJob(Job[ConsolidateSettings]):
    """Rearrange records into time-major cells; records that a cell has already are left alone."""

    name = "consolidate"
    rounds = ("write",)
    settings = ConsolidateSettings

    def plan(self, settings: ConsolidateSettings, site: Site) -> Draft:
        """One array a cell, with the records that the cell does not have yet. A Geocube does it by itself."""
        aoi = load_aoi(settings.aoi)
        layout = site.cube.layout(settings.layout)
        variable = site.cube.variable(settings.variable)
        tiles = tiles_of_aoi(aoi, layout)
        start, end = settings.start or aoi.start, settings.end or aoi.end
        stacks = Stacks(site.cube, settings.variable, settings.instance, aoi, start, end)
        stacks.require_records(aoi)
        if site.shared is not None:
            return plan_on_geocube(settings, tuple(one.id for one in stacks.records), tiles, site.shared.geocube)
        records = {record.id: record for record in stacks.records}
        cells = []
        for tile, slices in zip(tiles, stacks.by_record(tiles), strict=True):
            missing = [one for one in slices if all(not each.layout for each in one.datasets)]
            if missing:
                key = container_key(settings.variable, settings.instance, tile, missing, settings.resampling)
                chosen = [records[one.label] for one in missing]
                cells.append(CellWork(tile=tile, key=key, records=chosen, slices=missing))
        volume = sum(len(cell.slices) for cell in cells)
        volume *= layout.cell_pixels**2 * np.dtype(variable.dformat.dtype).itemsize
        return Draft(
            content={"settings": settings.science(), "cells": [cell.key for cell in cells]},
            shards=shards_of([cell.model_dump(mode="json") for cell in cells], settings.shard_tiles, "tiles"),
            estimate=Estimate(
                tiles=len(cells),
                dates=max((len(cell.slices) for cell in cells), default=0),
                bytes_read=volume,
                bytes_written=volume,
                core_seconds=volume / BYTES_PER_CORE_SECOND,
            ),
            notes={"map": tiles_as_geojson([cell.tile for cell in cells])},
            nothing_to_do="" if cells else f"all {len(records)} records are in all {len(tiles)} cells already",
        )

    def run(
        self, plan: Plan, round_name: str, shard: Shard, handout: bytes, site: Site, progress: Callable[[int], None]
    ) -> bytes:
        """Read each cell block by block, every record of a block at once, and write its array."""
        if site.shared is not None:
            return run_on_geocube(shard, site.shared.geocube, progress)
        settings = ConsolidateSettings.model_validate(plan.settings)
        variable = site.cube.variable(settings.variable)
        datasets: list[Dataset] = []
        for done, raw in enumerate(shard.work["tiles"], start=1):
            cell = CellWork.model_validate(raw)
            checksum = write_cell(site.cube, site.store, cell, variable, settings.instance, settings.resampling)
            datasets += datasets_of(cell, variable, settings.instance, checksum)
            progress(done)
        return json.dumps([one.model_dump(mode="json") for one in datasets]).encode()

    def gather(self, plan: Plan, round_name: str, result: RoundResult, site: Site) -> Handouts:
        """Index every array, at once. Cells that are left out stay as they were, and are in the next plan.

        A Geocube has done it already.
        """
        if site.shared is None:
            rows = [row for _, table in result.tables for row in json.loads(table)]
            site.cube.index([], [Dataset.model_validate(row) for row in rows])
        return Handouts()

    def names(self, shard: Shard) -> tuple[str, ...]:
        """Its cells."""
        return cells_of(shard)

    def findings(self, plan: Plan, site: Site) -> Findings:
        """How many arrays were written; on a Geocube, how many cells of its layout were asked for."""
        if site.shared is not None:
            return Findings(figures={"arrays": plan.units})
        settings = ConsolidateSettings.model_validate(plan.settings)
        there = {one.uri for one in site.cube.datasets(settings.variable, settings.instance)}
        return Findings(figures={"arrays": len(there.intersection(plan.content["cells"]))})
