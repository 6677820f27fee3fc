"""Ingest: plan looks at names and headers, `check` reads every pixel, `write` makes COGs, the last gather indexes them.

Two rounds, so that nothing is written into the cube before every value of every input was found good, or the input was
left out.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel
from shapely.geometry import shape

from acdtask.cube.aoi import load_aoi
from acdtask.cube.grid import Grid, Layout
from acdtask.cube.local.blocks import checksum_of
from acdtask.cube.local.cog import encode_cog
from acdtask.cube.local.rasters import Header, read_strips
from acdtask.cube.local.stac import stac_item
from acdtask.cube.local.store import Store
from acdtask.cube.model import DataFormat, Dataset, Instance, Record
from acdtask.cube.quantise import Quantised, quantise
from acdtask.errors import AcdError, ErrorCode
from acdtask.jobs.comparable import composition_of, counts_text, grids_text
from acdtask.jobs.contract import Draft, Estimate, Findings, Handouts, Job, LeftOutShard, Plan, RoundResult, Shard, Site
from acdtask.jobs.ingest.changed import folder_of, note_inputs, refuse_other_pixels
from acdtask.jobs.ingest.checks import check_headers, source_nodata_of, source_range_of
from acdtask.jobs.ingest.ingester import plan_with_ingester
from acdtask.jobs.ingest.known import KnownFiles, holds
from acdtask.jobs.ingest.leftout import LeftOutRaster, keep_left_out
from acdtask.jobs.ingest.replaced import keep_replaced, lines_on_replaced, replaced_records
from acdtask.jobs.ingest.settings import INGESTER, ON_GEOCUBE, IngestSettings
from acdtask.jobs.ingest.sources import Candidate, Found, find_candidates, source_folder
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
from acdtask.jobs.quarantine import Failure, PartlyFailedError
from acdtask.jobs.shards import shards_of

__all__ = ["IngestJob"]

NOTES_TO_SAY = (
    "left out, name does not match",
    "left out, other polarisation",
    "left out, outside the AOI",
    "compared with the cube's pixels",
    "not compared",
    "tracks",
    "pair lengths",
)
"""Notes of a plan that are said at its end too."""

BYTES_PER_CORE_SECOND = 25e6
"""Source pixels' bytes that one core checks and writes in a second (measured on the demo)."""


class _Input(BaseModel):
    """A raster in a shard's work."""

    address: str
    grid: Grid
    record: Record
    nodata: float
    range: tuple[float, float]


class _Checked(BaseModel):
    """What `check` found in a good raster: the digest of its stored pixels."""

    address: str
    digest: str


class _Written(BaseModel):
    """What `write` made of a raster, and what the cube's file was before."""

    record: Record
    dataset: Dataset
    state: State


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
            layout, to_make = _layout(settings, site)
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
        check_headers(found.candidates, settings)
        candidates = _within_aoi(found.candidates, settings)
        variable = settings.definition()
        layout, to_make = _layout(settings, site)
        standings = known.standings((one.record, one.fingerprint) for one in candidates)
        opened = [
            (one, one.header)
            for one in candidates
            if one.header is not None and known.is_to_do(standings[one.record.id])
        ]
        todo = [one for one, _ in opened]
        inputs = [_input_of(one, header, settings, variable.dformat) for one, header in opened]
        pixels = sum(one.grid.width * one.grid.height for one in todo)
        read = 2 * sum(one.grid.width * one.grid.height * np.dtype(header.dtype).itemsize for one, header in opened)
        content: dict[str, Any] = {
            "settings": settings.science(),
            "inputs": [[one.record.id, one.address, one.fingerprint] for one in todo],
            "layout": layout.model_dump(mode="json") if layout else None,
        }
        if settings.on_known == "verify":
            content["verification"] = verification_number(content, site.runs)
        compared = known.datasets(one.record.id for one in todo) if known.compares else {}
        if compared:
            content["compared"] = {one: [dataset.version, dataset.uri] for one, dataset in sorted(compared.items())}
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
                "left out, name does not match": found.unmatched,
                **_polarisation_note(found.other_polarisations),
                "left out, outside the AOI": len(found.candidates) - len(candidates),
                "left out, in the cube already": len(candidates) - len(todo),
                **({"compared with the cube's pixels": len(compared)} if compared else {}),
                **({"not compared": not_noted} if not_noted and settings.on_known == "skip" else {}),
                **composition_of([one.record for one in todo]).notes(),
                **({"grids": grids_text(one.grid for one in todo)} if todo else {}),
                "map": _map(todo),
            },
            nothing_to_do="" if todo or to_make else _why_nothing(len(candidates), not_noted, found),
        )

    def run(
        self, plan: Plan, round_name: str, shard: Shard, handout: bytes, site: Site, progress: Callable[[int], None]
    ) -> bytes:
        """`check`: read and judge each raster. `write`: a COG and a STAC item for each good one."""
        settings = IngestSettings.model_validate(plan.settings)
        inputs = [_Input.model_validate(raw) for raw in shard.work["inputs"]]
        if round_name == "check":
            return _check_all(inputs, settings, progress)
        digests: dict[str, str] = json.loads(handout)
        ids = [one.record.id for one in inputs]
        checksums = known_checksums(settings, ids, site)
        files = KnownFiles(settings, site)
        current = files.datasets(ids) if files.compares else {}
        rows = []
        for done, one in enumerate(inputs, start=1):
            if one.address in digests:
                digest, stored = digests[one.address], current.get(one.record.id)
                if stored is not None and holds(stored, digest):
                    rows.append(_Written(record=one.record, dataset=stored, state="same"))
                else:
                    written = _write(one, digest, settings, site.store, checksums.get(one.record.id))
                    rows.append(_in_the_place_of(stored, written))
            progress(done)
        return _table(rows)

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
        keep_left_out(_left_out(result.left_out, settings), site)
        made = bool(plan.content["inputs"])
        described = site.shared is not None and any(one.name == settings.variable for one in site.cube.variables())
        note_inputs([(one.record, one.dataset.uri) for one in written], plan, settings, site)
        commit = site.create_cube().supersede if settings.on_known == "replace" else site.commit_inputs
        commit(
            [one.record for one in written],
            [one.dataset for one in written],
            variables=[settings.definition()] if made and not described else [],
            instances=[Instance(variable=settings.variable, name=settings.instance)] if made else [],
            layouts=[Layout.model_validate(plan.content["layout"])] if plan.content["layout"] else [],
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
        """What was ingested and what was passed over, and the files that were repaired or replaced."""
        repaired = [
            f"repaired: {site.store.address_of(key)} was {state}"
            for key, state in sorted(repaired_files(plan, site).items())
        ]
        settings = IngestSettings.model_validate(plan.settings)
        said = [f"{name}: {plan.notes[name]}" for name in NOTES_TO_SAY if plan.notes.get(name)]
        return [*said, *repaired, *lines_on_replaced(plan, settings, site)]

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
        for one in map(_Input.model_validate, shard.shard.work["inputs"])
        if not shard.why.parts or one.address in shard.why.parts
    ]


def _layout(settings: IngestSettings, site: Site) -> tuple[Layout | None, bool]:
    """The layout to have, if any, and whether it is not there yet.

    LAYOUT_INVALID if the AOI does not say a grid, LAYOUT_CONFLICT.
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
        raise AcdError(
            ErrorCode.LAYOUT_INVALID,
            f"the layout {settings.make_layout} is not there, and no AOI's graph_config says its CRS and resolution",
            "Make the layout with 'acdtask layout create', or give both in the AOI's graph_config.",
        )
    layout = Layout(name=settings.make_layout, grid=grid)
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


def _polarisation_note(others: Mapping[str, int]) -> dict[str, str]:
    return {"left out, other polarisation": counts_text(others)} if others else {}


def _why_nothing(count: int, not_noted: int, found: Found) -> str:
    said = f"all {count} records are in the cube already"
    if others := found.other_polarisations:
        said += f"; left out, other polarisation: {counts_text(others)}"
    if not_noted:
        said += (
            f"; {not_noted} of them were not compared with their files, since it was not noted what they were made of"
            " (--on-known verify compares them and notes it)"
        )
    return said


def _in_the_place_of(stored: Dataset | None, written: _Written) -> _Written:
    """What was written, as the next version of what the cube has of the record."""
    if stored is None:
        return written
    dataset = written.dataset.model_copy(update={"version": stored.version + 1})
    return written.model_copy(update={"dataset": dataset, "state": "replaced"})


def _input_of(one: Candidate, header: Header, settings: IngestSettings, dformat: DataFormat) -> _Input:
    return _Input(
        address=one.address,
        grid=one.grid,
        record=one.record,
        nodata=source_nodata_of(one.address, header, settings),
        range=source_range_of(header.dtype, settings, dformat),
    )


def _quantised_strips(one: _Input, settings: IngestSettings) -> Iterator[tuple[int, Quantised]]:
    dformat = settings.definition().dformat
    store, folder = Store.at(one.address.rpartition("/")[0]), source_folder(settings)
    for row, strip in read_strips(store, one.address, settings.band, folder):
        yield row, quantise(strip, one.nodata, one.range, dformat)


def _check_all(inputs: list[_Input], settings: IngestSettings, progress: Callable[[int], None]) -> bytes:
    """The table of the good rasters; the error of the first bad one, with that table, if there is one."""
    good: list[_Checked] = []
    bad: dict[str, AcdError] = {}
    for done, one in enumerate(inputs, start=1):
        try:
            good.append(_Checked(address=one.address, digest=_check(one, settings)))
        except AcdError as error:
            if error.code.value.retryable:
                raise
            bad[one.address] = error
        progress(done)
    if bad:
        first = next(iter(bad.values()))
        more = f" (and {len(bad) - 1} more files of the shard are bad)" if len(bad) > 1 else ""
        parts = {address: Failure.of(error) for address, error in bad.items()}
        raise PartlyFailedError(AcdError(first.code, first.detail + more, first.fix), _table(good), parts)
    return _table(good)


def _check(one: _Input, settings: IngestSettings) -> str:
    """The digest of a raster's stored pixels. INPUT_NOT_FINITE, INPUT_OUT_OF_RANGE, INPUT_ALL_NODATA."""
    digest = hashlib.sha256(one.grid.model_dump_json().encode())
    valid = not_finite = outside = 0
    extreme = math.nan
    for _, strip in _quantised_strips(one, settings):
        digest.update(strip.pixels.tobytes())
        valid += strip.valid
        not_finite += strip.not_finite
        outside += strip.outside
        extreme = extreme if math.isnan(strip.extreme) else strip.extreme
    least, greatest = one.range
    if not_finite:
        detail = f"{one.address} has {not_finite} pixels that are NaN or infinite"
        raise AcdError(ErrorCode.INPUT_NOT_FINITE, detail)
    if outside:
        detail = f"{one.address} has {outside} pixels outside {least:g} to {greatest:g}, such as {extreme:g}"
        raise AcdError(ErrorCode.INPUT_OUT_OF_RANGE, detail)
    if not valid:
        raise AcdError(ErrorCode.INPUT_ALL_NODATA, f"{one.address} has only nodata")
    return digest.hexdigest()[:16]


def _write(one: _Input, digest: str, settings: IngestSettings, store: Store, known: str | None) -> _Written:
    """Write the COG and the STAC item of a raster, unless the cube has the very file.

    `known` is the checksum that the index has of the record's file, or None.
    """
    variable = settings.definition()
    pixels: NDArray[Any] = np.empty(one.grid.shape, variable.dformat.dtype)
    for row, strip in _quantised_strips(one, settings):
        pixels[row : row + strip.pixels.shape[0]] = strip.pixels
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
    item = stac_item(one.record, [dataset], [variable], item_id=key.rpartition("/")[2])
    store.put(f"{key}.json", json.dumps(item, indent=1).encode())
    return _Written(record=one.record, dataset=dataset, state=state)
