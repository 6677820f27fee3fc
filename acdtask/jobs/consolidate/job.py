"""Consolidate: the records of a cell, gathered in time-major Zarr arrays of 64 records each."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from pydantic import BaseModel, Field

from acdtask.cube.aoi import load_aoi
from acdtask.cube.grid import Tile
from acdtask.cube.local.appending import plan_containers
from acdtask.cube.local.consolidation_cell import CellWork, container_key, datasets_of, write_cell
from acdtask.cube.local.cube import LocalCube
from acdtask.cube.local.stack import CHUNK_TIMES, METADATA
from acdtask.cube.model import Dataset, Name, Resampling, Slice
from acdtask.cube.shared import SharedCube
from acdtask.cube.tiling import tiles_as_geojson
from acdtask.dates import LastMoment, Moment
from acdtask.jobs.consolidate.on_geocube import plan_on_geocube, run_on_geocube
from acdtask.jobs.contract import Draft, Estimate, Findings, Handouts, Job, Plan, RoundResult, Settings, Shard, Site
from acdtask.jobs.costs import CONSOLIDATE
from acdtask.jobs.shards import BY_COST, POD_START, Cut, cells_of
from acdtask.jobs.stacks import ONE_TRACK, TAGS, RecordChoice, Stacks, tiles_of_aoi

__all__ = ["ConsolidateJob", "ConsolidateSettings"]


class ConsolidateSettings(Settings):
    """Which records to consolidate, and into which layout."""

    aoi: str = Field(description="AOI file (a Geocube ingester payload)")
    layout: Name = Field(description="layout whose cells are filled")
    variable: Name = Field(default="CoherenceVV", description="variable to consolidate")
    instance: Name = Field(default="master", description="instance to consolidate")
    start: Moment | None = Field(default=None, description="first datetime; default: the AOI's start")
    end: LastMoment | None = Field(
        default=None, description="last datetime (of a day, 00:00 UTC); default: the AOI's end"
    )
    resampling: Resampling | None = Field(default=None, description="default: the variable's")
    shard_tiles: int | None = Field(default=None, ge=1, description=f"cells per shard; {BY_COST}")
    tags: dict[str, str] = Field(default={}, description=TAGS)
    track: str = Field(default="", description=ONE_TRACK)
    pod_start: float = Field(default=0, ge=0, allow_inf_nan=False, description=POD_START)


class _TileWork(BaseModel):
    tile: Tile
    containers: list[CellWork]

    @property
    def images(self) -> int:
        """Number of images to write: the new ones, and those of the containers that they are appended to."""
        return sum(len(container.slices) for container in self.containers)


class _Written(BaseModel):
    """What a shard has written, which copies in older containers it replaces, and of which images it was made."""

    datasets: list[Dataset] = []
    replaced: list[Dataset] = []
    sources: list[Dataset] = []


class ConsolidateJob(Job[ConsolidateSettings]):
    """Rearrange records into time-major cells. New records are appended to those that a cell has already."""

    name = "consolidate"
    rounds = ("write",)
    settings = ConsolidateSettings

    def plan(self, settings: ConsolidateSettings, site: Site) -> Draft:
        """The arrays of each cell that lacks records. A Geocube consolidates by itself."""
        aoi = load_aoi(settings.aoi)
        layout = site.cube.layout(settings.layout)
        variable = site.cube.variable(settings.variable)
        tiles = tiles_of_aoi(aoi, layout)
        start, end = settings.start or aoi.start, settings.end or aoi.end
        cube = site.cube
        choice = RecordChoice(tags=settings.tags, track=settings.track)
        stacks = Stacks(cube, settings.variable, settings.instance, aoi, start, end, choice)
        stacks.require_records(aoi)
        if isinstance(cube, SharedCube):
            return plan_on_geocube(settings, tuple(one.id for one in stacks.records), tiles, cube.geocube)
        work = _work_of(cube, settings, stacks, tiles)
        image_bytes = layout.cell_pixels**2 * np.dtype(variable.dformat.dtype).itemsize
        volume = sum(tile_work.images for tile_work in work) * image_bytes
        seconds = [CONSOLIDATE.seconds(tile_work.images, image_bytes) for tile_work in work]
        cut = Cut(settings.shard_tiles, settings.pod_start)
        keys = [container.key for tile_work in work for container in tile_work.containers]
        count = len(stacks.records)
        return Draft(
            content={"settings": settings.science(), "cells": keys},
            shards=cut.shards([one.model_dump(mode="json") for one in work], "tiles", seconds),
            estimate=Estimate(
                tiles=len(work),
                dates=max((one.images for one in work), default=0),
                bytes_read=volume,
                bytes_written=volume,
                core_seconds=sum(seconds),
                memory_bytes=CONSOLIDATE.memory(layout.cell_pixels**2, volume // image_bytes, layout.cell_pixels**2),
            ),
            notes={"map": tiles_as_geojson([one.tile for one in work])},
            nothing_to_do="" if work else f"all {count} records are in all {len(tiles)} cells already",
        )

    def run(
        self, plan: Plan, round_name: str, shard: Shard, handout: bytes, site: Site, progress: Callable[[int], None]
    ) -> bytes:
        """Read each cell block by block, every record of an array at once, and write its arrays."""
        if site.shared is not None:
            return run_on_geocube(shard, site.shared.geocube, progress)
        settings = ConsolidateSettings.model_validate(plan.settings)
        variable = site.cube.variable(settings.variable)
        written = _Written()
        for done, raw in enumerate(shard.work["tiles"], start=1):
            for container in _TileWork.model_validate(raw).containers:
                checksum = write_cell(
                    site.cube, site.store, container, variable, settings.instance, settings.resampling
                )
                written.datasets += datasets_of(container, variable, settings.instance, checksum)
                written.replaced += container.replaced
                written.sources += [one for part in container.slices for one in part.datasets if not one.is_copy]
            progress(done)
        return written.model_dump_json().encode()

    def gather(self, plan: Plan, round_name: str, result: RoundResult, site: Site) -> Handouts:
        """Index every array, at once. Cells that are left out stay as they were, and are in the next plan.

        Records that another consolidation put into arrays of its own meanwhile stay there, and those whose pixels an
        ingest has replaced meanwhile are in the next plan. A Geocube has done it already.
        """
        cube = site.cube
        if isinstance(cube, LocalCube):
            written = [_Written.model_validate_json(table) for _, table in result.tables]
            cube.replace(
                [dataset for part in written for dataset in part.replaced],
                [dataset for part in written for dataset in part.datasets],
                [dataset for part in written for dataset in part.sources],
            )
        return Handouts()

    def names(self, shard: Shard) -> tuple[str, ...]:
        """Its cells."""
        return cells_of(shard)

    def files_of(self, plan: Plan, table: bytes) -> tuple[str, ...]:
        """The metadata of its arrays, which is written last; a Geocube keeps its own."""
        datasets = _Written.model_validate_json(table).datasets if "cells" in plan.content else []
        return tuple(f"{uri}/{METADATA}" for uri in sorted({dataset.uri for dataset in datasets}))

    def findings(self, plan: Plan, site: Site) -> Findings:
        """How many arrays were written; on a Geocube, how many cells of its layout were asked for."""
        cube = site.cube
        if isinstance(cube, SharedCube):
            return Findings(figures={"arrays": plan.units})
        indexed = {dataset.uri for dataset in cube.datasets_at(plan.content["cells"])}
        return Findings(figures={"arrays": len(indexed)})


def _work_of(cube: LocalCube, settings: ConsolidateSettings, stacks: Stacks, tiles: list[Tile]) -> list[_TileWork]:
    """The tiles that lack records, and the containers to write for each."""
    consolidated = cube.records_by_cell(settings.variable, settings.instance, settings.layout)
    not_everywhere = [
        record for record in stacks.records if any(record.id not in consolidated.get(tile.cell, ()) for tile in tiles)
    ]
    new = {}
    for tile, slices in zip(tiles, stacks.by_record(tiles, not_everywhere), strict=True):
        lacking = [part for part in slices if not any(dataset.layout for dataset in part.datasets)]
        if lacking:
            new[tile.cell] = tile, lacking
    lacking_tiles = [tile for tile, _ in new.values()]
    copies = cube.copies_with_room(settings.variable, settings.instance, lacking_tiles, CHUNK_TIMES)
    older = sorted({copy.record_id for cell in copies.values() for copy in cell})
    records = {record.id: record for record in (*cube.records_by_id(older), *stacks.records)}
    dformat = cube.variable(settings.variable).dformat
    work = []
    for cell, (tile, lacking) in new.items():

        def key_of(slices: list[Slice], tile: Tile = tile) -> str:
            return container_key(settings.variable, settings.instance, tile, slices, settings.resampling)

        containers = plan_containers(tile, lacking, copies[cell], records, dformat, key_of)
        work.append(_TileWork(tile=tile, containers=containers))
    return work
