"""Detection of source files whose pixels differ from the cube's pixels of the same records."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from acdtask.cube.local.cube import LocalCube
from acdtask.cube.model import Record
from acdtask.errors import AcdError, ErrorCode
from acdtask.jobs.contract import Site
from acdtask.jobs.ingest.content import IngestPlan
from acdtask.jobs.ingest.origins import KnownFiles, Origin, has_instance, settings_of_pixels, store_origins
from acdtask.jobs.ingest.pixels import Input
from acdtask.jobs.ingest.settings import IngestSettings
from acdtask.jobs.ingest.unusable import exceeds_half
from acdtask.jobs.quarantine import Failure

__all__ = [
    "folder_of",
    "note_sources",
    "require_few_changed",
    "require_same_pixels",
    "require_unchanged_pixels",
    "stored_pixels",
]

FILES_SHOWN = 3
ON_GEOCUBE = (
    "Keep the Geocube's pixels with --on-known keep. For the new pixels, delete the records on the Geocube and ingest"
    " again, or use another instance."
)


def folder_of(settings: IngestSettings) -> str:
    """The folder of an ingest's images in the cube."""
    return f"data/{settings.variable}/{settings.instance}"


def note_sources(written: Iterable[tuple[Record, str]], plan: IngestPlan, site: Site) -> None:
    """Note the source of each record's pixels. On a Geocube, only pixels ingested from this site are noted.

    Each record in `written` has the address of its pixels.
    """
    files = {file.record_id: file.fingerprint for file in plan.content.inputs}
    settings = plan.settings
    pixel_settings = settings_of_pixels(settings)
    origins = [(record, Origin(file=files[record.id], settings=pixel_settings, uri=uri)) for record, uri in written]
    store_origins(origins, settings, site)


def stored_pixels(record_id: str, plan: IngestPlan) -> str:
    """The address of a known record's pixels when the plan was made; empty if the file is not compared with any."""
    _, uri = plan.content.compared.get(record_id, (0, ""))
    return uri or plan.content.given.get(record_id, "")


def require_same_pixels(file: Input, digest: str, plan: IngestPlan) -> None:
    """Require that a known record's file still has the cube's pixels, unless it may replace them. SOURCE_DIFFERS."""
    stored = stored_pixels(file.record.id, plan)
    if plan.settings.on_known == "skip" and stored and not stored.endswith(f"-{digest}.tif"):
        raise AcdError(
            ErrorCode.SOURCE_DIFFERS,
            f"{file.address} was replaced: its pixels differ from the cube's, which are kept",
            ON_GEOCUBE if plan.content.given else None,
        )


def require_few_changed(unusable: Mapping[str, Failure], plan: IngestPlan, site: Site) -> None:
    """Require that few files were replaced, and that other settings are not the cause.

    SOURCE_DIFFERS, naming them, and the settings that changed.
    """
    number = ErrorCode.SOURCE_DIFFERS.value.number
    changed = [
        (file.record_id, file.address)
        for file in plan.content.inputs
        if file.address in unusable and unusable[file.address].number == number
    ]
    if not changed:
        return
    known = KnownFiles(plan.settings, site)
    if exceeds_half(len(changed), plan.content.files) or _changed_settings(changed, known, site):
        fix = ON_GEOCUBE if site.shared else None
        raise AcdError(ErrorCode.SOURCE_DIFFERS, _changed_text(changed, known, site), fix)


def require_unchanged_pixels(digests: dict[str, str], plan: IngestPlan, site: Site) -> None:
    """Require that sources have the cube's pixels of the same records, unless they are to replace them.

    Records on a Geocube are compared with the pixels ingested from this site. A record that was not ingested from here
    fails a verification, and is not compared otherwise.
    SOURCE_DIFFERS, or DATASET_CONFLICT when verifying.
    """
    settings = plan.settings
    cube = site.find_cube()
    if cube is None or settings.on_known in ("keep", "replace"):
        return
    if not has_instance(cube, settings.variable, settings.instance):
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
        stored_name = files[0] if len(files) == 1 else f"the files in {site.store.url}"
        raise AcdError(
            ErrorCode.DATASET_CONFLICT,
            f"the pixels of {address} differ from those of {stored_name}, the same record",
            "Replace the cube's pixels with --on-known replace, use another instance, or leave the file out.",
        )
    raise AcdError(ErrorCode.SOURCE_DIFFERS, _changed_text(changed, known, site), ON_GEOCUBE if site.shared else None)


def _changed_text(changed: list[tuple[str, str]], known: KnownFiles, site: Site) -> str:
    """Name the files whose pixels differ from the cube's, and the settings that changed."""
    names = ", ".join(address for _, address in changed[:FILES_SHOWN])
    more = f" and {len(changed) - FILES_SHOWN} more" if len(changed) > FILES_SHOWN else ""
    settings = _changed_settings(changed, known, site)
    files = "the files or the settings changed" if site.shared else "the files changed"
    cause = f"the settings changed: {settings}" if settings else files
    count = f"{len(changed)} file{'s' if len(changed) > 1 else ''}"
    return f"{count} would give pixels that differ from the cube's, for the same records ({names}{more}); {cause}"


def _changed_settings(changed: list[tuple[str, str]], known: KnownFiles, site: Site) -> str:
    """The settings that changed since the first of these records was ingested; empty on a Geocube."""
    first = [] if site.shared else LocalCube.open(site.address).records_by_id([changed[0][0]])
    return next((text for record in first if (text := known.differences(record))), "")
