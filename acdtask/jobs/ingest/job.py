"""The job ingest: plans from names and headers; its rounds are in `acdtask.jobs.ingest.rounds`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from shapely.geometry import shape

from acdtask import log
from acdtask.cube.aoi import load_aoi
from acdtask.cube.layout_rules import regular_grid_like, require_usable
from acdtask.errors import AcdError, ErrorCode
from acdtask.jobs.comparable import composition_of, counts_text, grids_text
from acdtask.jobs.contract import AGAIN, Draft, Estimate, Findings, Job, Shard, Site
from acdtask.jobs.costs import INGEST
from acdtask.jobs.ingest.changed_sources import require_few_changed
from acdtask.jobs.ingest.checks import check_headers, input_of, readings_of
from acdtask.jobs.ingest.content import FilesWork, IngestContent, IngestPlan, PlannedFile, UnusableInput
from acdtask.jobs.ingest.ingester import plan_with_ingester
from acdtask.jobs.ingest.known_to_geocube import layout_shards, plan_records_on_geocube
from acdtask.jobs.ingest.on_known_replace import replaced_lines, replaced_records
from acdtask.jobs.ingest.on_known_verify import repaired_files, verification_number
from acdtask.jobs.ingest.origins import KnownFiles
from acdtask.jobs.ingest.pixel_counts import pixel_notes
from acdtask.jobs.ingest.reading import Reading, describe_readings
from acdtask.jobs.ingest.rounds import Check, Write
from acdtask.jobs.ingest.settings import INGESTER, ON_GEOCUBE, IngestSettings
from acdtask.jobs.ingest.source_notes import source_lines, source_notes
from acdtask.jobs.ingest.sources import Candidate, SourceRasters, find_candidates
from acdtask.jobs.ingest.unusable import Unusable, require_few
from acdtask.jobs.ingest.unusable_notes import noted_files
from acdtask.jobs.quarantine import Failure
from acdtask.jobs.shards import Sharding
from acdtask.raster.grid import Grid, Layout

__all__ = ["IngestJob"]

READING_NOTE = "how the files are read"

NOTES_AT_END = (
    "excluded, other polarisation",
    "excluded, outside the AOI",
    "compared with the cube's pixels",
    "not compared",
    "tracks",
    "pair lengths",
)
"""Notes of a plan that are repeated when it is done."""

BASELINE_DTYPES = frozenset({"uint8", "int16", "uint16"})
"""Data types of images for which a baseline has exact moments."""

_events = log.events("ingest")


class IngestJob(Job[IngestSettings, IngestContent]):
    """Ingest GeoTIFFs into the cube."""

    name = "ingest"
    unit = "files"
    rounds = (Check(), Write())
    settings = IngestSettings
    content = IngestContent

    def plan(self, settings: IngestSettings, site: Site) -> Draft[IngestContent, FilesWork]:
        """Check names and headers, and plan the files that are new, changed, or to be verified."""
        if settings.source in (INGESTER, ON_GEOCUBE):
            layout, create_layout = _layout(settings, site, [])
            if settings.source == INGESTER:
                return plan_with_ingester(settings, site, layout)
            return plan_records_on_geocube(settings, layout, site, create_layout=create_layout)
        if settings.on_known == "replace" and site.shared is not None:
            raise AcdError(
                ErrorCode.SETTING_INVALID,
                "--on-known replace works only on images of this cube, and these are on the Geocube",
                "Delete the records on the Geocube, then ingest them again.",
            )
        return _plan_files(settings, site)

    def notes(self, plan: IngestPlan, site: Site) -> list[str]:
        """Sentences on how files were read, their valid pixels, excluded files, and repaired or replaced ones."""
        repaired = [
            f"repaired: {site.store.address_of(key)} was {state}"
            for key, state in sorted(repaired_files(plan, site).items())
        ]
        repeated = [f"{name}: {plan.notes[name]}" for name in NOTES_AT_END if plan.notes.get(name)]
        readings = [*plan.notes.get(READING_NOTE, []), *pixel_notes(plan, site)]
        return [*readings, *source_lines(plan.notes), *repeated, *repaired, *replaced_lines(plan, site)]

    def require_usable(self, plan: IngestPlan, unusable: Mapping[str, Failure], site: Site) -> None:
        """Require that few files are unusable or were replaced. UNUSABLE_FILES, SOURCE_DIFFERS, errors of the files."""
        require_few_changed(unusable, plan, site)
        require_few(unusable, plan.content.files, plan.settings.unusable_files)

    def findings(self, plan: IngestPlan, site: Site) -> Findings:
        """The number of rasters ingested, repaired and replaced."""
        settings, planned = plan.settings, plan.content.record_ids
        record_ids = site.cube.having(settings.variable, settings.instance, planned) if planned else ()
        repaired = repaired_files(plan, site)
        figures = {"repaired": len(repaired)} if settings.on_known == "verify" else {}
        figures |= {"replaced": len(replaced_records(plan, site))} if settings.on_known == "replace" else {}
        return Findings(
            figures={"files": len(record_ids), **figures},
            files={f"repaired {number}": site.store.address_of(key) for number, key in enumerate(sorted(repaired), 1)},
        )


def _plan_files(settings: IngestSettings, site: Site) -> Draft[IngestContent, FilesWork]:
    """Plan the files of a folder, bucket, catalogue or web address.

    UNUSABLE_FILES, or the errors of the files if most cannot be used.
    """
    aoi_tags = load_aoi(settings.aoi).record_tags if settings.aoi else {}
    known = KnownFiles(settings, site)
    rasters = find_candidates(settings, aoi_tags, known)
    files = len(rasters.candidates) + len(rasters.unusable)
    fitting, unfitting = check_headers(rasters.candidates)
    _require_few([*rasters.unusable, *unfitting], files, settings)
    candidates = _within_aoi(fitting, settings)
    grids = [file.grid for file in candidates]
    layout, create_layout = _layout(settings, site, grids) if grids else (None, False)
    statuses = known.statuses((file.record, file.fingerprint) for file in candidates)
    to_read = [file for file in candidates if known.must_read(statuses[file.record.id])]
    readings, unclear = readings_of(to_read, settings)
    unusable = [*rasters.unusable, *unfitting, *unclear]
    _require_few(unusable, files, settings)
    planned = [file for file, _ in readings]
    inputs = [input_of(file, reading) for file, reading in readings]
    estimate, seconds = _estimate(readings, settings)
    sharding = Sharding(settings.shard_files, settings.pod_start, otherwise=4)
    compared = known.datasets(file.record.id for file in planned) if known.compares else {}
    given = known.changed_on_geocube((file.record, file.fingerprint) for file in planned)
    content = IngestContent(
        inputs=tuple(PlannedFile(file.record.id, file.address, file.fingerprint) for file in planned),
        layout=layout,
        unusable=tuple(UnusableInput(file.address, file.record) for file in unusable),
        files=files,
        given=dict(sorted(given.items())),
        compared={record_id: (dataset.version, dataset.uri) for record_id, dataset in sorted(compared.items())},
    )
    if settings.on_known == "verify":
        content = content.model_copy(update={"verification": verification_number(content, settings, site.runs)})
    is_news = not planned and _are_news(unusable, settings, site)
    untraced = sum(statuses[file.record.id] == "not noted" for file in candidates) if known.compares else 0
    return Draft(
        content=content,
        shards=sharding.shards(inputs, lambda files: FilesWork(inputs=files), seconds)
        or layout_shards(create=create_layout)
        or ([Shard(units=0, work=FilesWork(inputs=[]))] if is_news else []),
        estimate=estimate,
        notes={
            "files that match": len(rasters.candidates),
            **({AGAIN: "files that cannot be used are noted for the report"} if is_news and not create_layout else {}),
            **source_notes(rasters),
            **_polarisation_note(rasters.other_polarisations),
            "excluded, outside the AOI": len(rasters.candidates) - len(candidates),
            "already in the cube": len(candidates) - len(planned) - len(unclear),
            **({"compared with the cube's pixels": len(compared or given)} if compared or given else {}),
            **({"not compared": untraced} if untraced and settings.on_known == "skip" else {}),
            **composition_of([file.record for file in planned]).notes(),
            **({"grids": grids_text(file.grid for file in planned)} if planned else {}),
            "map": _outlines(planned),
            READING_NOTE: _reading_notes([reading for _, reading in readings], settings),
        },
        nothing_to_do=""
        if planned or create_layout or is_news
        else _nothing_to_do_text(len(candidates) - len(unclear), len(unusable), untraced, rasters),
        unusable=_failures(unusable),
    )


def _failures(unusable: Sequence[Unusable]) -> dict[str, Failure]:
    return {file.address: Failure.of(file.error) for file in unusable}


def _require_few(unusable: Sequence[Unusable], files: int, settings: IngestSettings) -> None:
    require_few(_failures(unusable), files, settings.unusable_files)


def _are_news(unusable: Sequence[Unusable], settings: IngestSettings, site: Site) -> bool:
    """Whether the unusable files are not those of the latest run, so that the report must learn of them."""
    noted = {file.address: file.failure for file in noted_files(settings, site)}
    return noted != _failures(unusable)


def _estimate(readings: Sequence[tuple[Candidate, Reading]], settings: IngestSettings) -> tuple[Estimate, list[float]]:
    """The expected cost of files, and the seconds of each."""
    sizes = [file.grid.width * file.grid.height for file, _ in readings]
    volumes = [size * np.dtype(reading.dtype).itemsize for size, (_, reading) in zip(sizes, readings, strict=True)]
    seconds = [INGEST.seconds(1, volume) for volume in volumes]
    estimate = Estimate(
        tiles=len(readings),
        dates=len({file.record.datetime for file, _ in readings}),
        bytes_read=2 * sum(volumes),
        bytes_written=sum(sizes) * np.dtype(settings.dtype).itemsize,
        core_seconds=sum(seconds),
        memory_bytes=INGEST.memory(max(sizes, default=0), len(sizes), max(sizes, default=0)),
    )
    return estimate, seconds


def _reading_notes(readings: list[Reading], settings: IngestSettings) -> list[str]:
    """Remarks on how the files are read and stored."""
    notes = describe_readings(readings)
    if readings and settings.dtype not in BASELINE_DTYPES:
        kind = f"{settings.variable} is {settings.dtype}"
        notes.append(f"{kind}: a baseline needs an integer type of 8 or 16 bits, such as --dtype int16")
    for note in notes:
        _events.info("input.reading", note=note)
    return notes


def _nothing_to_do_text(known: int, unusable: int, untraced: int, rasters: SourceRasters) -> str:
    others = "other " if unusable else ""
    reasons = [
        f"all {known} {others}records are already in the cube" if known or not unusable else "no file can be used"
    ]
    if rasters.other_polarisations:
        reasons.append(f"excluded, other polarisation: {counts_text(rasters.other_polarisations)}")
    if untraced:
        reasons.append(
            f"{untraced} of them were not compared with their files, because their sources were not noted"
            " (--on-known verify compares and notes them)"
        )
    return "; ".join([*reasons, *source_lines(source_notes(rasters))])


def _polarisation_note(others: Mapping[str, int]) -> dict[str, str]:
    return {"excluded, other polarisation": counts_text(others)} if others else {}


def _layout(settings: IngestSettings, site: Site, images: list[Grid]) -> tuple[Layout | None, bool]:
    """The layout to create or confirm, if any, and whether it is new. Its grid is from the AOI, else the images.

    LAYOUT_INVALID if neither gives a grid, LAYOUT_CONFLICT.
    """
    if not settings.make_layout:
        return None, False
    cube = site.find_cube()
    known = {layout.name: layout for layout in cube.layouts()} if cube else {}
    existing = known.get(settings.make_layout)
    grid = load_aoi(settings.aoi).layout_grid(settings.cell_size) if settings.aoi else None
    if grid is None:
        if existing:
            return None, False
        if not images:
            raise AcdError(
                ErrorCode.LAYOUT_INVALID,
                f"there is no layout {settings.make_layout}, and no AOI gives CRS and resolution in graph_config",
                "Create the layout with 'acdtask layout create', or give both in the AOI's graph_config.",
            )
        grid = regular_grid_like(images, settings.cell_size, f"{settings.variable}:{settings.instance}")
    layout = Layout(name=settings.make_layout, grid=grid)
    require_usable(layout)
    if existing and existing != layout:
        raise AcdError(ErrorCode.LAYOUT_CONFLICT, f"the layout {layout.name} is {existing.grid.model_dump_json()}")
    return layout, existing is None


def _within_aoi(candidates: list[Candidate], settings: IngestSettings) -> list[Candidate]:
    if not settings.aoi or not candidates:
        return candidates
    aoi = load_aoi(settings.aoi)
    inside = [candidate for candidate in candidates if shape(candidate.record.footprint).intersects(aoi.geometry)]
    if not inside:
        raise AcdError(ErrorCode.AOI_OUTSIDE, f"none of {len(candidates)} rasters touches the AOI {aoi.name}")
    return inside


def _outlines(candidates: list[Candidate]) -> dict[str, Any]:
    """Outlines of the rasters, as GeoJSON."""
    features = [
        {"type": "Feature", "properties": {"name": candidate.record.name}, "geometry": candidate.record.footprint}
        for candidate in candidates
    ]
    return {"type": "FeatureCollection", "features": features}
