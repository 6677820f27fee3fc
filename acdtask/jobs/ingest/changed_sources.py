"""Sources that give other pixels than the cube has of the same records, and the notes by which it is seen."""

from __future__ import annotations

from collections.abc import Iterable

from acdtask.cube.local.cube import LocalCube
from acdtask.cube.model import Record
from acdtask.errors import AcdError, ErrorCode
from acdtask.jobs.contract import Site
from acdtask.jobs.ingest.content import IngestPlan
from acdtask.jobs.ingest.origins import KnownFiles, Origin, has_instance, note_origins, settings_of_pixels
from acdtask.jobs.ingest.settings import IngestSettings

__all__ = ["folder_of", "note_inputs", "refuse_other_pixels"]

NAMED_AT_MOST = 3
ON_GEOCUBE = (
    "Keep the Geocube's pixels with --on-known keep; for the new ones delete the records on the Geocube and ingest them"
    " again, or use another instance."
)


def folder_of(settings: IngestSettings) -> str:
    """Where in the cube the images of an ingest lie."""
    return f"data/{settings.variable}/{settings.instance}"


def note_inputs(written: Iterable[tuple[Record, str]], plan: IngestPlan, site: Site) -> None:
    """Note what the pixels of records are made of. On a Geocube this says what this site brought, and no other.

    Args:
        written: records, each with the address of its pixels.
        plan: with the files that they are made of.
        site: whose cube has, or will have, the records.
    """
    files = {file.record_id: file.fingerprint for file in plan.content.inputs}
    settings = plan.settings
    made_with = settings_of_pixels(settings)
    origins = [(record, Origin(file=files[record.id], settings=made_with, uri=uri)) for record, uri in written]
    note_origins(origins, settings, site)


def refuse_other_pixels(digests: dict[str, str], plan: IngestPlan, site: Site) -> None:
    """Refuse a source that has other pixels than the cube has of the same record, unless it is to replace them.

    Where the records are a Geocube's, they are compared with what this site brought. A record that it did not bring is
    refused when it is to be verified, and not compared otherwise.
    SOURCE_DIFFERS, DATASET_CONFLICT.
    """
    settings = plan.settings
    cube = site.find_cube()
    if cube is None or settings.on_known in ("keep", "replace") or not has_instance(cube, settings):
        return
    known = KnownFiles(settings, site)
    planned = plan.content.record_ids
    if site.shared is None:
        stored = {record_id: [dataset.uri] for record_id, dataset in known.datasets(planned).items()}
    elif settings.on_known == "verify":
        files = [key for key in site.store.list(folder_of(settings)) if key.endswith(".tif")]
        stored = dict.fromkeys(cube.having(settings.variable, settings.instance, planned), files)
    else:
        stored = {record_id: [uri] for record_id, uri in plan.content.given.items()}
    changed = [
        (record_id, address)
        for record_id, address, _ in plan.content.inputs
        if record_id in stored
        and address in digests
        and not any(uri.endswith(f"-{digests[address]}.tif") for uri in stored[record_id])
    ]
    if not changed:
        return
    record_id, address = changed[0]
    if settings.on_known == "verify":
        files = stored[record_id]
        what = files[0] if len(files) == 1 else f"what was brought into {site.store.url}"
        raise AcdError(
            ErrorCode.DATASET_CONFLICT,
            f"{address} has other pixels than {what}, the same record",
            "Replace the cube's pixels with --on-known replace, use another instance, or leave the file out.",
        )
    raise AcdError(ErrorCode.SOURCE_DIFFERS, _changed_text(changed, known, site), ON_GEOCUBE if site.shared else None)


def _changed_text(changed: list[tuple[str, str]], known: KnownFiles, site: Site) -> str:
    """Which files give other pixels than the cube has, and with which settings they were ingested."""
    names = ", ".join(address for _, address in changed[:NAMED_AT_MOST])
    more = f" and {len(changed) - NAMED_AT_MOST} more" if len(changed) > NAMED_AT_MOST else ""
    first = [] if site.shared else LocalCube.open(site.address).records_by_id([changed[0][0]])
    settings = next((text for record in first if (text := known.differences(record))), "")
    files = "the files or the settings changed" if site.shared else "the files changed"
    cause = f"the settings changed: {settings}" if settings else files
    count = f"{len(changed)} file{'s' if len(changed) > 1 else ''}"
    return f"{count} would give other pixels than the cube has of the same records ({names}{more}); {cause}"
