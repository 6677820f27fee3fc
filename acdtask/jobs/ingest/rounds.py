"""The rounds of ingest: `check` reads every pixel, `write` writes COGs, and its gather indexes them.

There are two rounds so that nothing is written into the cube until every value of every input has been checked, or the
input has been left out.
"""

from __future__ import annotations

import json

import numpy as np
from pydantic import BaseModel

from acdtask.cube.model import Addition, Dataset, Instance, Record
from acdtask.cube.stac.items import stac_item
from acdtask.jobs.contract import Handouts, LeftOutShard, Nothing, Results, Round
from acdtask.jobs.ingest.access import Access
from acdtask.jobs.ingest.catalogue import ImageCatalogue
from acdtask.jobs.ingest.changed_sources import (
    folder_of,
    note_sources,
    require_same_pixels,
    require_unchanged_pixels,
    stored_pixels,
)
from acdtask.jobs.ingest.content import FilesWork, IngestContext
from acdtask.jobs.ingest.on_known_replace import store_replaced
from acdtask.jobs.ingest.on_known_verify import State, finish_verification, known_checksums, state_of, store_repaired
from acdtask.jobs.ingest.origins import KnownFiles, has_digest
from acdtask.jobs.ingest.pixel_counts import PixelCounts, store_counts
from acdtask.jobs.ingest.pixels import Input, check_pixels, process_inputs, read_checked
from acdtask.jobs.ingest.settings import IngestSettings
from acdtask.jobs.ingest.sources import access_to
from acdtask.jobs.ingest.unusable_notes import UnusableFile, store_unusable
from acdtask.raster.checksums import checksum_of
from acdtask.raster.cog import encode_cog
from acdtask.storage.store import Store

__all__ = ["Check", "Write", "WrittenFile", "WrittenFiles"]


class Digests(BaseModel):
    """The digests of the pixels of a shard's valid rasters, as they would be stored, by address."""

    of_files: dict[str, str] = {}


class WrittenFile(BaseModel):
    """A written raster, its pixel counts, and the previous state of the cube's file."""

    record: Record
    dataset: Dataset
    state: State
    valid: int = 0
    zeros: int = 0


class WrittenFiles(BaseModel):
    """The files that a shard wrote."""

    files: list[WrittenFile]


class Check(Round[FilesWork, Nothing, Digests]):
    """Read each raster and check its values."""

    name = "check"
    checks = True

    def run(self, work: FilesWork, handout: Nothing, context: IngestContext) -> Digests:
        """Return the digests of the valid rasters."""
        dformat, access = context.settings.definition().dformat, _access(work, context)

        def check(file: Input) -> tuple[str, str]:
            digest = check_pixels(file, dformat, access).digest
            require_same_pixels(file, digest, context.plan)
            return file.address, digest

        return process_inputs(work.inputs, check, lambda files: Digests(of_files=dict(files)), context.progress)

    def gather(self, results: Results[FilesWork, Digests], context: IngestContext) -> Handouts[Digests]:
        """Hand out the digests, if they agree with the cube's pixels of the same records."""
        digests = dict(results)
        every = {address: digest for shard in digests.values() for address, digest in shard.of_files.items()}
        require_unchanged_pixels(every, context.plan, context.site)
        return Handouts(digests)


class Write(Round[FilesWork, Digests, WrittenFiles]):
    """Write a COG and a STAC item for each valid raster, then index them all."""

    name = "write"

    def run(self, work: FilesWork, handout: Digests, context: IngestContext) -> WrittenFiles:
        """Write the files that the cube does not have."""
        settings, site = context.settings, context.site
        ids = [file.record.id for file in work.inputs]
        checksums = known_checksums(settings, ids, site)
        known, access = KnownFiles(settings, site), _access(work, context)
        current = known.datasets(ids) if settings.on_known != "keep" else {}

        def write(file: Input) -> WrittenFile | None:
            digest, stored = handout.of_files.get(file.address), current.get(file.record.id)
            if digest is None:
                return None
            if known.compares and stored is not None and has_digest(stored, digest):
                return WrittenFile(record=file.record, dataset=stored, state="same")
            written = _write(file, digest, settings, site.store, access, checksums.get(file.record.id))
            return _with_version(stored, written)

        return process_inputs(work.inputs, write, lambda files: WrittenFiles(files=files), context.progress)

    def gather(self, results: Results[FilesWork, WrittenFiles], context: IngestContext) -> Handouts[Nothing]:
        """Create the variable and index everything in one commit.

        Records on a Geocube are indexed there. Others use it too, so an existing variable is not changed.
        """
        plan, site, settings, content = context.plan, context.site, context.settings, context.content
        written = [file for _, files in results for file in files.files]
        store_unusable(_unusable(results.left_out, context), settings, site)
        has_inputs = bool(content.inputs)
        variables = site.cube.variables() if site.shared is not None else []
        is_described = any(variable.name == settings.variable for variable in variables)
        note_sources([(file.record, file.dataset.uri) for file in written], plan, site)
        images = ImageCatalogue(settings.definition(), settings.instance)
        images.add([(file.record, file.dataset.uri) for file in written], site)
        commit = site.create_cube().supersede if settings.on_known == "replace" else site.commit_inputs
        commit(
            Addition(
                [file.record for file in written],
                [file.dataset for file in written],
                variables=[settings.definition()] if has_inputs and not is_described else [],
                instances=[Instance(variable=settings.variable, name=settings.instance)] if has_inputs else [],
                layouts=[content.layout] if content.layout else [],
            )
        )
        store_counts(
            PixelCounts(
                pixels=sum(file.dataset.grid.width * file.dataset.grid.height for file in written),
                valid=sum(file.valid for file in written),
                zeros=sum(file.zeros for file in written),
            ),
            plan,
            site,
        )
        if settings.on_known == "replace":
            store_replaced([file.record for file in written if file.state == "replaced"], plan, site)
        if settings.on_known == "verify":
            store_repaired({file.dataset.uri: file.state for file in written}, plan, site)
            finish_verification(plan, site)
        return Handouts()


def _access(work: FilesWork, context: IngestContext) -> Access:
    """Access to the files of a shard."""
    return access_to(context.settings, signed=any(file.signed for file in work.inputs))


def _unusable(shards: tuple[LeftOutShard[FilesWork], ...], context: IngestContext) -> list[UnusableFile]:
    """The files that the plan and its shards could not use, and those of shards that were left out."""
    planned = [
        UnusableFile(address=file.address, record=file.record, failure=context.plan.unusable[file.address])
        for file in context.content.unusable
    ]
    return planned + [
        UnusableFile(
            address=file.address,
            record=file.record,
            failure=shard.why.unusable.get(file.address, shard.why.failure),
            kept=stored_pixels(file.record.id, context.plan),
        )
        for shard in shards
        for file in shard.work.inputs
        if not shard.why.unusable or file.address in shard.why.unusable
    ]


def _with_version(stored: Dataset | None, written: WrittenFile) -> WrittenFile:
    """The written file with the version of the record's dataset in the cube, or the next one if its pixels differ."""
    if stored is None:
        return written
    is_same = stored.uri == written.dataset.uri
    dataset = written.dataset.model_copy(update={"version": stored.version if is_same else stored.version + 1})
    return written.model_copy(update={"dataset": dataset, "state": written.state if is_same else "replaced"})


def _write(
    file: Input, digest: str, settings: IngestSettings, store: Store, access: Access, known_checksum: str | None
) -> WrittenFile:
    """Write the COG and the STAC item of a raster; the COG only if the cube does not have the same file.

    `known_checksum` is the checksum of the record's file in the index, or None.
    """
    variable = settings.definition()
    pixels, counts = read_checked(file, digest, variable.dformat, access)
    key = f"{folder_of(settings)}/{file.record.name}-{digest}"
    data = encode_cog(pixels[np.newaxis], file.grid, nodata=variable.dformat.nodata, scale=variable.scale)
    dataset = Dataset(
        record_id=file.record.id,
        variable=variable.name,
        instance=settings.instance,
        uri=f"{key}.tif",
        dformat=variable.dformat,
        grid=file.grid,
        checksum=checksum_of(data),
    )
    state = state_of(store, dataset, data, pixels, known_checksum)
    if state == "intact":
        dataset = dataset.model_copy(update={"checksum": known_checksum})
    elif state != "same":
        store.put(dataset.uri, data)
    catalogue = ImageCatalogue(variable, settings.instance)
    item = stac_item(
        file.record,
        [dataset],
        [variable],
        item_id=key.rpartition("/")[2],
        href=f"{key}.json",
        links=catalogue.links_of(file.record),
    )
    store.put(f"{key}.json", json.dumps(item, indent=1).encode())
    return WrittenFile(record=file.record, dataset=dataset, state=state, valid=counts.valid, zeros=counts.zeros)
