"""Consolidate: the records of a cell, gathered in time-major Zarr arrays of 64 records each."""

from __future__ import annotations

import numpy as np

from acdtask.cube.aoi import load_aoi
from acdtask.cube.local.appending import plan_containers
from acdtask.cube.local.consolidation_cell import container_key, datasets_of, write_cell
from acdtask.cube.local.cube import LocalCube
from acdtask.cube.local.stack import CHUNK_TIMES, METADATA
from acdtask.cube.model import Slice
from acdtask.cube.shared import SharedCube
from acdtask.jobs.consolidate.content import (
    CellOfWork,
    CellsWork,
    ConsolidateContent,
    ConsolidateContext,
    ConsolidatedCells,
    ConsolidatePlan,
)
from acdtask.jobs.consolidate.on_geocube import plan_on_geocube, run_on_geocube
from acdtask.jobs.consolidate.settings import ConsolidateSettings
from acdtask.jobs.contract import Draft, Estimate, Findings, Handouts, Job, Nothing, Results, Round, Site
from acdtask.jobs.costs import CONSOLIDATE
from acdtask.jobs.shards import Sharding
from acdtask.jobs.stacks import Stacks, tiles_of_aoi
from acdtask.raster.grid import Tile
from acdtask.raster.tiling import tiles_as_geojson

__all__ = ["ConsolidateJob"]


class Write(Round[CellsWork, Nothing, ConsolidatedCells]):
    """Write the arrays of each cell, then index them."""

    name = "write"

    def run(self, work: CellsWork, handout: Nothing, context: ConsolidateContext) -> ConsolidatedCells:
        """Read each cell block by block, every record of an array at once, and write its arrays."""
        site, settings = context.site, context.settings
        if site.shared is not None:
            return run_on_geocube(work, site.shared.geocube, context.progress)
        variable = site.cube.variable(settings.variable)
        written = ConsolidatedCells()
        for done, cell in enumerate(work.tiles, start=1):
            for container in cell.containers:
                checksum = write_cell(
                    site.cube, site.store, container, variable, settings.instance, settings.resampling
                )
                written.datasets += datasets_of(container, variable, settings.instance, checksum)
                written.replaced += container.replaced
                written.sources += [one for part in container.slices for one in part.datasets if not one.is_copy]
            context.progress(done)
        return written

    def gather(self, results: Results[CellsWork, ConsolidatedCells], context: ConsolidateContext) -> Handouts[Nothing]:
        """Index every array, at once. Cells that are left out stay as they were, and are in the next plan.

        Records that another consolidation put into arrays of its own meanwhile stay there, and those whose pixels an
        ingest has replaced meanwhile are in the next plan. A Geocube has done it already.
        """
        cube = context.site.cube
        if isinstance(cube, LocalCube):
            written = [part for _, part in results]
            cube.replace(
                [dataset for part in written for dataset in part.replaced],
                [dataset for part in written for dataset in part.datasets],
                [dataset for part in written for dataset in part.sources],
            )
        return Handouts()

    def files_of(self, result: ConsolidatedCells, plan: ConsolidatePlan) -> tuple[str, ...]:
        """The metadata of its arrays, which is written last; a Geocube keeps its own."""
        return tuple(f"{uri}/{METADATA}" for uri in sorted({dataset.uri for dataset in result.datasets}))


class ConsolidateJob(Job[ConsolidateSettings, ConsolidateContent]):
    """Rearrange records into time-major cells. New records are appended to those that a cell has already."""

    name = "consolidate"
    rounds = (Write(),)
    settings = ConsolidateSettings
    content = ConsolidateContent

    def plan(self, settings: ConsolidateSettings, site: Site) -> Draft[ConsolidateContent, CellsWork]:
        """The arrays of each cell that lacks records. A Geocube consolidates by itself."""
        aoi = load_aoi(settings.aoi)
        layout = site.cube.layout(settings.layout)
        variable = site.cube.variable(settings.variable)
        tiles = tiles_of_aoi(aoi, layout)
        cube = site.cube
        stacks = Stacks(cube, settings.selection(aoi, aoi.start, aoi.end))
        stacks.require_records()
        if isinstance(cube, SharedCube):
            return plan_on_geocube(settings, tuple(one.id for one in stacks.records), tiles, cube.geocube)
        work = _work_of(cube, settings, stacks, tiles)
        image_bytes = layout.cell_pixels**2 * np.dtype(variable.dformat.dtype).itemsize
        volume = sum(tile_work.images for tile_work in work) * image_bytes
        seconds = [CONSOLIDATE.seconds(tile_work.images, image_bytes) for tile_work in work]
        sharding = Sharding(settings.shard_tiles, settings.pod_start)
        keys = [container.key for tile_work in work for container in tile_work.containers]
        count = len(stacks.records)
        return Draft(
            content=ConsolidateContent(cells=tuple(keys)),
            shards=sharding.shards(work, lambda cells: CellsWork(tiles=cells), seconds),
            estimate=Estimate(
                tiles=len(work),
                dates=max((one.images for one in work), default=0),
                bytes_read=volume,
                bytes_written=volume,
                core_seconds=sum(seconds),
                memory_bytes=CONSOLIDATE.memory(layout.cell_pixels**2, count, len(work) * layout.cell_pixels**2),
            ),
            notes={"map": tiles_as_geojson([one.tile for one in work])},
            nothing_to_do="" if work else f"all {count} records are in all {len(tiles)} cells already",
        )

    def findings(self, plan: ConsolidatePlan, site: Site) -> Findings:
        """How many arrays were written; on a Geocube, how many cells of its layout were asked for."""
        cube = site.cube
        if isinstance(cube, SharedCube):
            return Findings(figures={"arrays": plan.units})
        indexed = {dataset.uri for dataset in cube.datasets_at(plan.content.cells or ())}
        return Findings(figures={"arrays": len(indexed)})


def _work_of(cube: LocalCube, settings: ConsolidateSettings, stacks: Stacks, tiles: list[Tile]) -> list[CellOfWork]:
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
        work.append(CellOfWork(tile=tile, containers=containers))
    return work
