"""Ingest: plan looks at names and headers; its rounds are in `acdtask.jobs.ingest.rounds`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from shapely.geometry import shape

from acdtask import log
from acdtask.cube.aoi import load_aoi
from acdtask.cube.layout_rules import regular_grid_like, require_usable
from acdtask.errors import AcdError, ErrorCode
from acdtask.jobs.comparable import composition_of, counts_text, grids_text
from acdtask.jobs.contract import Draft, Estimate, Findings, Job, Site
from acdtask.jobs.costs import INGEST
from acdtask.jobs.ingest.checks import check_headers, input_of, readings_of
from acdtask.jobs.ingest.content import FilesWork, IngestContent, IngestPlan, PlannedFile, UnfitFile
from acdtask.jobs.ingest.ingester import plan_with_ingester
from acdtask.jobs.ingest.known_to_geocube import layout_shards, plan_of_records_there
from acdtask.jobs.ingest.on_known_replace import lines_on_replaced, replaced_records
from acdtask.jobs.ingest.on_known_verify import repaired_files, verification_number
from acdtask.jobs.ingest.origins import KnownFiles
from acdtask.jobs.ingest.pixel_counts import pixel_notes
from acdtask.jobs.ingest.reading import Reading, readings_in_words
from acdtask.jobs.ingest.rounds import Check, Write
from acdtask.jobs.ingest.settings import INGESTER, ON_GEOCUBE, IngestSettings
from acdtask.jobs.ingest.source_notes import source_lines, source_notes
from acdtask.jobs.ingest.sources import Candidate, Found, find_candidates
from acdtask.jobs.quarantine import Failure
from acdtask.jobs.shards import Sharding
from acdtask.raster.grid import Grid, Layout

__all__ = ["IngestJob"]

READ_NOTE = "how the files are read"

NOTES_TO_SAY = (
    "left out, other polarisation",
    "left out, outside the AOI",
    "compared with the cube's pixels",
    "not compared",
    "tracks",
    "pair lengths",
)
"""Notes of a plan that are said at its end too."""

BASELINE_DTYPES = frozenset({"uint8", "int16", "uint16"})
"""Of whose images there are exact moments."""

_events = log.events("ingest")


class IngestJob(Job[IngestSettings, IngestContent]):
    """Bring GeoTIFFs into the cube."""

    name = "ingest"
    unit = "files"
    rounds = (Check(), Write())
    settings = IngestSettings
    content = IngestContent

    def plan(self, settings: IngestSettings, site: Site) -> Draft[IngestContent, FilesWork]:
        """Names and headers checked; records that the cube has are left out, unless they are to be verified."""
        if settings.source in (INGESTER, ON_GEOCUBE):
            layout, to_make = _layout(settings, site, [])
            if settings.source == INGESTER:
                return plan_with_ingester(settings, site, layout)
            return plan_of_records_there(settings, layout, site, to_make=to_make)
        aoi_tags = load_aoi(settings.aoi).record_tags if settings.aoi else {}
        known = KnownFiles(settings, site)
        if settings.on_known == "replace" and site.shared is not None:
            raise AcdError(
                ErrorCode.SETTING_INVALID,
                "--on-known replace works on images of this cube, and these are the Geocube's",
                "Delete the records on the Geocube, then ingest them again.",
            )
        found = find_candidates(settings, aoi_tags, known)
        check_headers(found.candidates)
        candidates = _within_aoi(found.candidates, settings)
        variable = settings.definition()
        layout, to_make = _layout(settings, site, [one.grid for one in candidates])
        standings = known.standings((one.record, one.fingerprint) for one in candidates)
        wanted = [one for one in candidates if known.is_to_do(standings[one.record.id])]
        readings, unclear = readings_of(wanted, settings)
        unfit = [*found.unfit, *unclear]
        todo = [one for one, _ in readings]
        inputs = [input_of(candidate, reading) for candidate, reading in readings]
        sizes = [one.grid.width * one.grid.height for one in todo]
        pixels = sum(sizes)
        volumes = [size * np.dtype(how.dtype).itemsize for size, (_, how) in zip(sizes, readings, strict=True)]
        read = 2 * sum(volumes)
        seconds = [INGEST.seconds(1, volume) for volume in volumes]
        sharding = Sharding(settings.shard_files, settings.pod_start, otherwise=4)
        compared = known.datasets(one.record.id for one in todo) if known.compares else {}
        given = known.changed_on_geocube((one.record, one.fingerprint) for one in todo)
        content = IngestContent(
            inputs=tuple(PlannedFile(one.record.id, one.address, one.fingerprint) for one in todo),
            layout=layout,
            left_out=tuple(UnfitFile(one.address, one.record) for one in unfit),
            given=dict(sorted(given.items())),
            compared={one: (dataset.version, dataset.uri) for one, dataset in sorted(compared.items())},
        )
        if settings.on_known == "verify":
            content = content.model_copy(update={"verification": verification_number(content, settings, site.runs)})
        not_noted = sum(standings[one.record.id] == "not noted" for one in candidates) if known.compares else 0
        return Draft(
            content=content,
            shards=sharding.shards(inputs, lambda files: FilesWork(inputs=files), seconds)
            or layout_shards(make=to_make),
            estimate=Estimate(
                tiles=len(todo),
                dates=len({one.record.datetime for one in todo}),
                bytes_read=read,
                bytes_written=pixels * np.dtype(variable.dformat.dtype).itemsize,
                core_seconds=sum(seconds),
                memory_bytes=INGEST.memory(max(sizes, default=0), len(sizes), max(sizes, default=0)),
            ),
            notes={
                "files that match": len(found.candidates),
                **source_notes(found),
                **_polarisation_note(found.other_polarisations),
                "left out, outside the AOI": len(found.candidates) - len(candidates),
                "left out, in the cube already": len(candidates) - len(todo) - len(unclear),
                **({"compared with the cube's pixels": len(compared or given)} if compared or given else {}),
                **({"not compared": not_noted} if not_noted and settings.on_known == "skip" else {}),
                **composition_of([one.record for one in todo]).notes(),
                **({"grids": grids_text(one.grid for one in todo)} if todo else {}),
                "map": _map(todo),
                READ_NOTE: _notes_of_reading([reading for _, reading in readings], settings),
            },
            nothing_to_do=""
            if todo or to_make
            else _why_nothing(len(candidates) - len(unclear), len(unfit), not_noted, found),
            left_out={one.address: Failure.of(one.error) for one in unfit},
        )

    def notes(self, plan: IngestPlan, site: Site) -> list[str]:
        """How the files were read, how much of them is valid, which were left out, and which were repaired."""
        repaired = [
            f"repaired: {site.store.address_of(key)} was {state}"
            for key, state in sorted(repaired_files(plan, site).items())
        ]
        said = [f"{name}: {plan.notes[name]}" for name in NOTES_TO_SAY if plan.notes.get(name)]
        read = [*plan.notes.get(READ_NOTE, []), *pixel_notes(plan, site)]
        return [*read, *source_lines(plan.notes), *said, *repaired, *lines_on_replaced(plan, site)]

    def findings(self, plan: IngestPlan, site: Site) -> Findings:
        """How many rasters were brought in, or verified and repaired."""
        settings, planned = plan.settings, plan.content.record_ids
        there = site.cube.having(settings.variable, settings.instance, planned) if planned else ()
        repaired = repaired_files(plan, site)
        figures = {"repaired": len(repaired)} if settings.on_known == "verify" else {}
        figures |= {"replaced": len(replaced_records(plan, site))} if settings.on_known == "replace" else {}
        return Findings(
            figures={"files": len(there), **figures},
            files={f"repaired {number}": site.store.address_of(key) for number, key in enumerate(sorted(repaired), 1)},
        )


def _notes_of_reading(readings: list[Reading], settings: IngestSettings) -> list[str]:
    """What the user should know of how the files are read, and of what they become."""
    notes = readings_in_words(readings)
    if readings and settings.dtype not in BASELINE_DTYPES:
        kind = f"{settings.variable} is {settings.dtype}"
        notes.append(f"{kind}: a baseline needs an integer type of 8 or 16 bits, such as --dtype int16")
    for note in notes:
        _events.info("input.reading", note=note)
    return notes


def _why_nothing(known: int, unfit: int, not_noted: int, found: Found) -> str:
    others = "other " if unfit else ""
    lines = [f"all {known} {others}records are in the cube already" if known or not unfit else "no file can be used"]
    if found.other_polarisations:
        lines.append(f"left out, other polarisation: {counts_text(found.other_polarisations)}")
    if not_noted:
        lines.append(
            f"{not_noted} of them were not compared with their files, since it was not noted what they were made of"
            " (--on-known verify compares them and notes it)"
        )
    return "; ".join([*lines, *source_lines(source_notes(found))])


def _polarisation_note(others: Mapping[str, int]) -> dict[str, str]:
    return {"left out, other polarisation": counts_text(others)} if others else {}


def _layout(settings: IngestSettings, site: Site, images: list[Grid]) -> tuple[Layout | None, bool]:
    """The layout to have, if any, and whether it is not there yet: that of the AOI's graph_config, or of the images.

    LAYOUT_INVALID if neither says a grid, LAYOUT_CONFLICT.
    """
    if not settings.make_layout:
        return None, False
    cube = site.find_cube()
    known = {one.name: one for one in cube.layouts()} if cube else {}
    there = known.get(settings.make_layout)
    grid = load_aoi(settings.aoi).layout_grid(settings.cell_size) if settings.aoi else None
    if grid is None:
        if there:
            return None, False
        if not images:
            raise AcdError(
                ErrorCode.LAYOUT_INVALID,
                f"the layout {settings.make_layout} is not there, and no AOI says CRS and resolution in graph_config",
                "Make the layout with 'acdtask layout create', or give both in the AOI's graph_config.",
            )
        grid = regular_grid_like(images, settings.cell_size, f"{settings.variable}:{settings.instance}")
    layout = Layout(name=settings.make_layout, grid=grid)
    require_usable(layout)
    if there and there != layout:
        raise AcdError(ErrorCode.LAYOUT_CONFLICT, f"the layout {layout.name} is {there.grid.model_dump_json()}")
    return layout, there is None


def _within_aoi(candidates: list[Candidate], settings: IngestSettings) -> list[Candidate]:
    if not settings.aoi:
        return candidates
    aoi = load_aoi(settings.aoi)
    inside = [one for one in candidates if shape(one.record.footprint).intersects(aoi.geometry)]
    if not inside:
        raise AcdError(ErrorCode.AOI_OUTSIDE, f"none of {len(candidates)} rasters touches the AOI {aoi.name}")
    return inside


def _map(candidates: list[Candidate]) -> dict[str, Any]:
    """The outlines of the rasters, as GeoJSON."""
    features = [
        {"type": "Feature", "properties": {"name": one.record.name}, "geometry": one.record.footprint}
        for one in candidates
    ]
    return {"type": "FeatureCollection", "features": features}
