"""The job consolidate: writes the records of each cell into time-major Zarr arrays of 64 records."""

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
        """Read each cell block by block, all records of an array at once, and write its arrays."""
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
                written.sources += [image for part in container.slices for image in part.datasets if not image.is_copy]
            context.progress(done)
        return written

    def gather(self, results: Results[CellsWork, ConsolidatedCells], context: ConsolidateContext) -> Handouts[Nothing]:
        """Index all arrays in one commit. Cells that are left out stay unchanged and are in the next plan.

        Records that another consolidation has written meanwhile keep its arrays. Records whose pixels an ingest has
        replaced meanwhile are in the next plan. A Geocube indexes its own arrays.
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
        """The metadata files of its arrays, which are written last; none on a Geocube."""
        return tuple(f"{uri}/{METADATA}" for uri in sorted({dataset.uri for dataset in result.datasets}))


class ConsolidateJob(Job[ConsolidateSettings, ConsolidateContent]):
    """Rearrange records into time-major arrays per cell, appending new records to existing arrays."""

    name = "consolidate"
    rounds = (Write(),)
    settings = ConsolidateSettings
    content = ConsolidateContent

    def plan(self, settings: ConsolidateSettings, site: Site) -> Draft[ConsolidateContent, CellsWork]:
        """Plan the arrays of each cell that lacks records. A Geocube consolidates by itself."""
        aoi = load_aoi(settings.aoi)
        layout = site.cube.layout(settings.layout)
        variable = site.cube.variable(settings.variable)
        tiles = tiles_of_aoi(aoi, layout)
        cube = site.cube
        stacks = Stacks(cube, settings.selection(aoi, aoi.start, aoi.end))
        stacks.require_records()
        if isinstance(cube, SharedCube):
            return plan_on_geocube(settings, tuple(record.id for record in stacks.records), tiles, cube.geocube)
        work = _work_of(cube, settings, stacks, tiles)
        image_bytes = layout.cell_pixels**2 * np.dtype(variable.dformat.dtype).itemsize
        volume = sum(cell_work.images for cell_work in work) * image_bytes
        seconds = [CONSOLIDATE.seconds(cell_work.images, image_bytes) for cell_work in work]
        sharding = Sharding(settings.shard_tiles, settings.pod_start)
        keys = [container.key for cell_work in work for container in cell_work.containers]
        count = len(stacks.records)
        return Draft(
            content=ConsolidateContent(cells=tuple(keys)),
            shards=sharding.shards(work, lambda cells: CellsWork(tiles=cells), seconds),
            estimate=Estimate(
                tiles=len(work),
                dates=max((cell_work.images for cell_work in work), default=0),
                bytes_read=volume,
                bytes_written=volume,
                core_seconds=sum(seconds),
                memory_bytes=CONSOLIDATE.memory(layout.cell_pixels**2, count, len(work) * layout.cell_pixels**2),
            ),
            notes={"map": tiles_as_geojson([cell_work.tile for cell_work in work])},
            nothing_to_do="" if work else f"all {count} records are already in all {len(tiles)} cells",
        )

    def findings(self, plan: ConsolidatePlan, site: Site) -> Findings:
        """The number of arrays written; on a Geocube, the number of cells requested."""
        cube = site.cube
        if isinstance(cube, SharedCube):
            return Findings(figures={"arrays": plan.units})
        indexed = {dataset.uri for dataset in cube.datasets_at(plan.content.cells or ())}
        return Findings(figures={"arrays": len(indexed)})


def _work_of(cube: LocalCube, settings: ConsolidateSettings, stacks: Stacks, tiles: list[Tile]) -> list[CellOfWork]:
    """Find the tiles that lack records, and the containers to write for each."""
    consolidated = cube.records_by_cell(settings.variable, settings.instance, settings.layout)
    incomplete = [
        record for record in stacks.records if any(record.id not in consolidated.get(tile.cell, ()) for tile in tiles)
    ]
    missing_by_cell = {}
    for tile, slices in zip(tiles, stacks.by_record(tiles, incomplete), strict=True):
        missing = [part for part in slices if not any(dataset.layout for dataset in part.datasets)]
        if missing:
            missing_by_cell[tile.cell] = tile, missing
    incomplete_tiles = [tile for tile, _ in missing_by_cell.values()]
    copies = cube.copies_with_room(settings.variable, settings.instance, incomplete_tiles, CHUNK_TIMES)
    older = sorted({copy.record_id for cell in copies.values() for copy in cell})
    records = {record.id: record for record in (*cube.records_by_id(older), *stacks.records)}
    dformat = cube.variable(settings.variable).dformat
    work = []
    for cell, (tile, missing) in missing_by_cell.items():

        def key_of(slices: list[Slice], tile: Tile = tile) -> str:
            return container_key(settings.variable, settings.instance, tile, slices, settings.resampling)

        containers = plan_containers(tile, missing, copies[cell], records, dformat, key_of)
        work.append(CellOfWork(tile=tile, containers=containers))
    return work
