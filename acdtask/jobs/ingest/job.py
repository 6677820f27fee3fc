"""Ingest: plan looks at names and headers, `check` reads every pixel, `write` makes COGs, the last gather indexes them.

Two rounds, so that nothing is written into the cube before every value of every input was found good, or the input was
left out.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from pydantic import BaseModel
from shapely.geometry import shape

from acdtask.cube.aoi import load_aoi
from acdtask.cube.grid import Grid, Layout
from acdtask.cube.layout_rules import regular_grid_like, require_usable
from acdtask.cube.local.blocks import checksum_of
from acdtask.cube.local.cog import encode_cog
from acdtask.cube.local.stac import stac_item
from acdtask.cube.local.store import Store
from acdtask.cube.model import Dataset, Instance, Record
from acdtask.engine import log
from acdtask.errors import AcdError, ErrorCode
from acdtask.jobs.comparable import composition_of, counts_text, grids_text
from acdtask.jobs.contract import Draft, Estimate, Findings, Handouts, Job, LeftOutShard, Plan, RoundResult, Shard, Site
from acdtask.jobs.ingest.access import Access
from acdtask.jobs.ingest.catalogue import ImageCatalogue
from acdtask.jobs.ingest.changed import folder_of, note_inputs, refuse_other_pixels
from acdtask.jobs.ingest.checks import check_headers, readings_of
from acdtask.jobs.ingest.counts import PixelCounts, keep_counts, pixel_notes
from acdtask.jobs.ingest.ingester import plan_with_ingester
from acdtask.jobs.ingest.known import KnownFiles, holds
from acdtask.jobs.ingest.leftout import LeftOutRaster, keep_left_out
from acdtask.jobs.ingest.pixels import Input, each_good_one, judge, read_again
from acdtask.jobs.ingest.reading import Reading, readings_in_words
from acdtask.jobs.ingest.replaced import keep_replaced, lines_on_replaced, replaced_records
from acdtask.jobs.ingest.settings import INGESTER, ON_GEOCUBE, IngestSettings
from acdtask.jobs.ingest.source_notes import source_lines, source_notes
from acdtask.jobs.ingest.sources import Candidate, Found, access_to, find_candidates
from acdtask.jobs.ingest.there import layout_shards, plan_of_records_there
from acdtask.jobs.ingest.verified import (
    State,
    finish_verification,
    keep_repaired,
    known_checksums,
    repaired_files,
    state_of,
    verification_number,
)
from acdtask.jobs.quarantine import Failure
from acdtask.jobs.shards import shards_of

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

BYTES_PER_CORE_SECOND = 25e6
"""Source pixels' bytes that one core checks and writes in a second (measured on the demo)."""


class _Checked(BaseModel):
    """What `check` found in a good raster: the digest of its stored pixels."""

    address: str
    digest: str


class _Written(BaseModel):
    """What `write` made of a raster, and what the cube's file was before."""

    record: Record
    dataset: Dataset
    state: State
    valid: int = 0
    zeros: int = 0


class IngestJob(Job[IngestSettings]):
    """Bring GeoTIFFs into the cube."""

    name = "ingest"
    unit = "files"
    rounds = ("check", "write")
    checks = frozenset({"check"})
    settings = IngestSettings

    def plan(self, settings: IngestSettings, site: Site) -> Draft:
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
        inputs = [
            Input(
                address=one.address,
                fingerprint=one.fingerprint,
                grid=one.grid,
                record=one.record,
                reading=reading,
                beside=dict(one.header.beside) if one.header else {},
                signed=one.signed,
            )
            for one, reading in readings
        ]
        pixels = sum(one.grid.width * one.grid.height for one in todo)
        read = 2 * sum(one.grid.width * one.grid.height * np.dtype(how.dtype).itemsize for one, how in readings)
        content: dict[str, Any] = {
            "settings": settings.science(),
            "inputs": [[one.record.id, one.address, one.fingerprint] for one in todo],
            "layout": layout.model_dump(mode="json") if layout else None,
        }
        if unfit:
            content["left out"] = [[one.address, one.record.model_dump(mode="json")] for one in unfit]
        if settings.on_known == "verify":
            content["verification"] = verification_number(content, site.runs)
        compared = known.datasets(one.record.id for one in todo) if known.compares else {}
        if compared:
            content["compared"] = {one: [dataset.version, dataset.uri] for one, dataset in sorted(compared.items())}
        if given := known.changed_on_geocube((one.record, one.fingerprint) for one in todo):
            content["given"] = dict(sorted(given.items()))
        not_noted = sum(standings[one.record.id] == "not noted" for one in candidates) if known.compares else 0
        return Draft(
            content=content,
            shards=shards_of([one.model_dump(mode="json") for one in inputs], settings.shard_files, "inputs")
            or layout_shards(make=to_make),
            estimate=Estimate(
                tiles=len(todo),
                dates=len({one.record.datetime for one in todo}),
                bytes_read=read,
                bytes_written=pixels * np.dtype(variable.dformat.dtype).itemsize,
                core_seconds=read / BYTES_PER_CORE_SECOND,
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

    def run(
        self, plan: Plan, round_name: str, shard: Shard, handout: bytes, site: Site, progress: Callable[[int], None]
    ) -> bytes:
        """`check`: read and judge each raster. `write`: a COG and a STAC item for each good one."""
        settings = IngestSettings.model_validate(plan.settings)
        inputs = [Input.model_validate(raw) for raw in shard.work["inputs"]]
        access = access_to(settings, signed=any(one.signed for one in inputs))
        if round_name == "check":
            dformat = settings.definition().dformat

            def checked(one: Input) -> _Checked:
                return _Checked(address=one.address, digest=judge(one, dformat, access).digest)

            return each_good_one(inputs, checked, _table, progress)
        digests: dict[str, str] = json.loads(handout)
        ids = [one.record.id for one in inputs]
        checksums = known_checksums(settings, ids, site)
        files = KnownFiles(settings, site)
        current = files.datasets(ids) if files.compares else {}

        def written(one: Input) -> _Written | None:
            digest, stored = digests.get(one.address), current.get(one.record.id)
            if digest is None:
                return None
            if stored is not None and holds(stored, digest):
                return _Written(record=one.record, dataset=stored, state="same")
            made = _write(one, digest, settings, site.store, access, checksums.get(one.record.id))
            return _in_the_place_of(stored, made)

        return each_good_one(inputs, written, _table, progress)

    def gather(self, plan: Plan, round_name: str, result: RoundResult, site: Site) -> Handouts:
        """`check`: hand out the digests. `write`: make the variable and index everything, at once.

        Where the records are a Geocube's they are indexed there, and by others too: a variable is left as it is.
        """
        if round_name == "check":
            checked = {
                shard: {row["address"]: row["digest"] for row in json.loads(table)} for shard, table in result.tables
            }
            refuse_other_pixels({key: digest for rows in checked.values() for key, digest in rows.items()}, plan, site)
            return Handouts({shard: json.dumps(rows).encode() for shard, rows in checked.items()})
        written = [_Written.model_validate(row) for _, table in result.tables for row in json.loads(table)]
        settings = IngestSettings.model_validate(plan.settings)
        keep_left_out([*_left_out_by_plan(plan, settings), *_left_out(result.left_out, settings)], site)
        made = bool(plan.content["inputs"])
        described = site.shared is not None and any(one.name == settings.variable for one in site.cube.variables())
        note_inputs([(one.record, one.dataset.uri) for one in written], plan, settings, site)
        images = ImageCatalogue(settings.definition(), settings.instance)
        images.add([(one.record, one.dataset.uri) for one in written], site)
        commit = site.create_cube().supersede if settings.on_known == "replace" else site.commit_inputs
        commit(
            [one.record for one in written],
            [one.dataset for one in written],
            variables=[settings.definition()] if made and not described else [],
            instances=[Instance(variable=settings.variable, name=settings.instance)] if made else [],
            layouts=[Layout.model_validate(plan.content["layout"])] if plan.content["layout"] else [],
        )
        keep_counts(
            PixelCounts(
                pixels=sum(one.dataset.grid.width * one.dataset.grid.height for one in written),
                valid=sum(one.valid for one in written),
                zeros=sum(one.zeros for one in written),
            ),
            plan,
            site,
        )
        if settings.on_known == "replace":
            keep_replaced([one.record for one in written if one.state == "replaced"], plan, site)
        if settings.on_known == "verify":
            keep_repaired({one.dataset.uri: one.state for one in written}, plan, site)
            finish_verification(plan, site)
        return Handouts()

    def names(self, shard: Shard) -> tuple[str, ...]:
        """The addresses of its rasters."""
        return tuple(raw["address"] for raw in shard.work["inputs"])

    def notes(self, plan: Plan, site: Site) -> list[str]:
        """How the files were read, how much of them is valid, which were left out, and which were repaired."""
        repaired = [
            f"repaired: {site.store.address_of(key)} was {state}"
            for key, state in sorted(repaired_files(plan, site).items())
        ]
        settings = IngestSettings.model_validate(plan.settings)
        said = [f"{name}: {plan.notes[name]}" for name in NOTES_TO_SAY if plan.notes.get(name)]
        read = [*plan.notes.get(READ_NOTE, []), *pixel_notes(plan, site)]
        return [*read, *source_lines(plan.notes), *said, *repaired, *lines_on_replaced(plan, settings, site)]

    def findings(self, plan: Plan, site: Site) -> Findings:
        """How many rasters were brought in, or verified and repaired."""
        settings = IngestSettings.model_validate(plan.settings)
        planned = [record_id for record_id, _, _ in plan.content["inputs"]]
        there = site.cube.having(settings.variable, settings.instance, planned) if planned else ()
        repaired = repaired_files(plan, site)
        figures = {"repaired": len(repaired)} if settings.on_known == "verify" else {}
        figures |= {"replaced": len(replaced_records(plan, site))} if settings.on_known == "replace" else {}
        return Findings(
            figures={"files": len(there), **figures},
            files={f"repaired {number}": site.store.address_of(key) for number, key in enumerate(sorted(repaired), 1)},
        )


def _table(rows: Sequence[BaseModel]) -> bytes:
    return json.dumps([row.model_dump(mode="json") for row in rows]).encode()


def _left_out_by_plan(plan: Plan, settings: IngestSettings) -> list[LeftOutRaster]:
    """The files whose headers the plan could not use."""
    return [
        LeftOutRaster(
            address=address,
            record=Record.model_validate(record),
            variable=settings.variable,
            instance=settings.instance,
            failure=plan.left_out[address],
        )
        for address, record in plan.content.get("left out", [])
    ]


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


def _in_the_place_of(stored: Dataset | None, written: _Written) -> _Written:
    """What was written, as the next version of what the cube has of the record."""
    if stored is None:
        return written
    dataset = written.dataset.model_copy(update={"version": stored.version + 1})
    return written.model_copy(update={"dataset": dataset, "state": "replaced"})


def _left_out(shards: tuple[LeftOutShard, ...], settings: IngestSettings) -> list[LeftOutRaster]:
    return [
        LeftOutRaster(
            address=one.address,
            record=one.record,
            variable=settings.variable,
            instance=settings.instance,
            failure=shard.why.parts.get(one.address, shard.why.failure),
        )
        for shard in shards
        for one in map(Input.model_validate, shard.shard.work["inputs"])
        if not shard.why.parts or one.address in shard.why.parts
    ]


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


def _write(
    one: Input, digest: str, settings: IngestSettings, store: Store, access: Access, known: str | None
) -> _Written:
    """Write the COG and the STAC item of a raster, unless the cube has the very file.

    `known` is the checksum that the index has of the record's file, or None.
    """
    variable = settings.definition()
    pixels, judged = read_again(one, digest, variable.dformat, access)
    key = f"{folder_of(settings)}/{one.record.name}-{digest}"
    data = encode_cog(pixels[np.newaxis], one.grid, nodata=variable.dformat.nodata, scale=variable.scale)
    dataset = Dataset(
        record_id=one.record.id,
        variable=variable.name,
        instance=settings.instance,
        uri=f"{key}.tif",
        dformat=variable.dformat,
        grid=one.grid,
        checksum=checksum_of(data),
    )
    state = state_of(store, dataset, data, pixels, known)
    if state == "intact":
        dataset = dataset.model_copy(update={"checksum": known})
    elif state != "same":
        store.put(dataset.uri, data)
    place = ImageCatalogue(variable, settings.instance)
    item = stac_item(
        one.record,
        [dataset],
        [variable],
        item_id=key.rpartition("/")[2],
        href=f"{key}.json",
        links=place.above(one.record),
    )
    store.put(f"{key}.json", json.dumps(item, indent=1).encode())
    return _Written(record=one.record, dataset=dataset, state=state, valid=judged.valid, zeros=judged.zeros)
