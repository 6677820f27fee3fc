"""The rounds of ingest: `check` reads every pixel, `write` makes COGs, and its gather indexes them.

Two rounds, so that nothing is written into the cube before every value of every input was found good, or the input was
left out.
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
from acdtask.jobs.ingest.changed_sources import folder_of, note_inputs, refuse_other_pixels
from acdtask.jobs.ingest.content import FilesWork, IngestContext
from acdtask.jobs.ingest.on_known_replace import keep_replaced
from acdtask.jobs.ingest.on_known_verify import State, finish_verification, keep_repaired, known_checksums, state_of
from acdtask.jobs.ingest.origins import KnownFiles, holds
from acdtask.jobs.ingest.pixel_counts import PixelCounts, keep_counts
from acdtask.jobs.ingest.pixels import Input, each_good_one, judge, read_again
from acdtask.jobs.ingest.quarantined import LeftOutRaster, keep_left_out
from acdtask.jobs.ingest.settings import IngestSettings
from acdtask.jobs.ingest.sources import access_to
from acdtask.raster.checksums import checksum_of
from acdtask.raster.cog import encode_cog
from acdtask.storage.store import Store

__all__ = ["Check", "Write", "WrittenFile", "WrittenFiles"]


class CheckedFile(BaseModel):
    """What `check` found in a good raster: the digest of its stored pixels."""

    address: str
    digest: str


class CheckedFiles(BaseModel):
    """The good rasters of a shard."""

    files: list[CheckedFile]


class Digests(BaseModel):
    """The digests of the stored pixels of a shard's good rasters, by address."""

    of_files: dict[str, str] = {}


class WrittenFile(BaseModel):
    """What `write` made of a raster, and what the cube's file was before."""

    record: Record
    dataset: Dataset
    state: State
    valid: int = 0
    zeros: int = 0


class WrittenFiles(BaseModel):
    """What a shard has written."""

    files: list[WrittenFile]


class Check(Round[FilesWork, Nothing, CheckedFiles]):
    """Read and judge each raster."""

    name = "check"
    checks = True

    def run(self, work: FilesWork, handout: Nothing, context: IngestContext) -> CheckedFiles:
        """The digests of the good ones."""
        dformat, access = context.settings.definition().dformat, _access(work, context)

        def checked(file: Input) -> CheckedFile:
            return CheckedFile(address=file.address, digest=judge(file, dformat, access).digest)

        return each_good_one(work.inputs, checked, lambda files: CheckedFiles(files=files), context.progress)

    def gather(self, results: Results[FilesWork, CheckedFiles], context: IngestContext) -> Handouts[Digests]:
        """Hand out the digests, unless some are not what the cube has of the same records."""
        digests = {shard: {file.address: file.digest for file in checked.files} for shard, checked in results}
        every = {address: digest for of_files in digests.values() for address, digest in of_files.items()}
        refuse_other_pixels(every, context.plan, context.site)
        return Handouts({shard: Digests(of_files=of_files) for shard, of_files in digests.items()})


class Write(Round[FilesWork, Digests, WrittenFiles]):
    """A COG and a STAC item for each good raster, then the index of all."""

    name = "write"

    def run(self, work: FilesWork, handout: Digests, context: IngestContext) -> WrittenFiles:
        """Write what the cube does not have."""
        settings, site = context.settings, context.site
        ids = [file.record.id for file in work.inputs]
        checksums = known_checksums(settings, ids, site)
        known, access = KnownFiles(settings, site), _access(work, context)
        current = known.datasets(ids) if known.compares else {}

        def written(file: Input) -> WrittenFile | None:
            digest, stored = handout.of_files.get(file.address), current.get(file.record.id)
            if digest is None:
                return None
            if stored is not None and holds(stored, digest):
                return WrittenFile(record=file.record, dataset=stored, state="same")
            made = _write(file, digest, settings, site.store, access, checksums.get(file.record.id))
            return _in_the_place_of(stored, made)

        return each_good_one(work.inputs, written, lambda files: WrittenFiles(files=files), context.progress)

    def gather(self, results: Results[FilesWork, WrittenFiles], context: IngestContext) -> Handouts[Nothing]:
        """Make the variable and index everything, at once.

        Where the records are a Geocube's they are indexed there, and by others too: a variable is left as it is.
        """
        plan, site, settings, content = context.plan, context.site, context.settings, context.content
        written = [file for _, files in results for file in files.files]
        keep_left_out([*_left_out_by_plan(context), *_left_out(results.left_out, settings)], site)
        made = bool(content.inputs)
        described = site.shared is not None and any(one.name == settings.variable for one in site.cube.variables())
        note_inputs([(file.record, file.dataset.uri) for file in written], plan, site)
        images = ImageCatalogue(settings.definition(), settings.instance)
        images.add([(file.record, file.dataset.uri) for file in written], site)
        commit = site.create_cube().supersede if settings.on_known == "replace" else site.commit_inputs
        commit(
            Addition(
                [file.record for file in written],
                [file.dataset for file in written],
                variables=[settings.definition()] if made and not described else [],
                instances=[Instance(variable=settings.variable, name=settings.instance)] if made else [],
                layouts=[content.layout] if content.layout else [],
            )
        )
        keep_counts(
            PixelCounts(
                pixels=sum(file.dataset.grid.width * file.dataset.grid.height for file in written),
                valid=sum(file.valid for file in written),
                zeros=sum(file.zeros for file in written),
            ),
            plan,
            site,
        )
        if settings.on_known == "replace":
            keep_replaced([file.record for file in written if file.state == "replaced"], plan, site)
        if settings.on_known == "verify":
            keep_repaired({file.dataset.uri: file.state for file in written}, plan, site)
            finish_verification(plan, site)
        return Handouts()


def _access(work: FilesWork, context: IngestContext) -> Access:
    """The way to the files of a shard."""
    return access_to(context.settings, signed=any(file.signed for file in work.inputs))


def _left_out_by_plan(context: IngestContext) -> list[LeftOutRaster]:
    """The files whose headers the plan could not use."""
    return [
        LeftOutRaster(
            address=file.address,
            record=file.record,
            variable=context.settings.variable,
            instance=context.settings.instance,
            failure=context.plan.left_out[file.address],
        )
        for file in context.content.left_out
    ]


def _left_out(shards: tuple[LeftOutShard[FilesWork], ...], settings: IngestSettings) -> list[LeftOutRaster]:
    return [
        LeftOutRaster(
            address=file.address,
            record=file.record,
            variable=settings.variable,
            instance=settings.instance,
            failure=shard.why.parts.get(file.address, shard.why.failure),
        )
        for shard in shards
        for file in shard.work.inputs
        if not shard.why.parts or file.address in shard.why.parts
    ]


def _in_the_place_of(stored: Dataset | None, written: WrittenFile) -> WrittenFile:
    """What was written, as the next version of what the cube has of the record."""
    if stored is None:
        return written
    dataset = written.dataset.model_copy(update={"version": stored.version + 1})
    return written.model_copy(update={"dataset": dataset, "state": "replaced"})


def _write(
    file: Input, digest: str, settings: IngestSettings, store: Store, access: Access, known: str | None
) -> WrittenFile:
    """Write the COG and the STAC item of a raster, unless the cube has the very file.

    `known` is the checksum that the index has of the record's file, or Nfile.
    """
    variable = settings.definition()
    pixels, judged = read_again(file, digest, variable.dformat, access)
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
    state = state_of(store, dataset, data, pixels, known)
    if state == "intact":
        dataset = dataset.model_copy(update={"checksum": known})
    elif state != "same":
        store.put(dataset.uri, data)
    place = ImageCatalogue(variable, settings.instance)
    item = stac_item(
        file.record,
        [dataset],
        [variable],
        item_id=key.rpartition("/")[2],
        href=f"{key}.json",
        links=place.above(file.record),
    )
    store.put(f"{key}.json", json.dumps(item, indent=1).encode())
    return WrittenFile(record=file.record, dataset=dataset, state=state, valid=judged.valid, zeros=judged.zeros)
