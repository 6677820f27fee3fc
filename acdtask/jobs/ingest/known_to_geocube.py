"""The plan for records that are already on a Geocube: at most its layout has to be created."""

from __future__ import annotations

from acdtask.cube.aoi import load_aoi
from acdtask.cube.model import RecordQuery
from acdtask.errors import AcdError, ErrorCode
from acdtask.jobs.contract import Draft, Estimate, Shard, Site
from acdtask.jobs.ingest.content import FilesWork, IngestContent
from acdtask.jobs.ingest.settings import ON_GEOCUBE, IngestSettings
from acdtask.raster.grid import Layout

__all__ = ["layout_shards", "plan_records_on_geocube"]


def layout_shards(*, create: bool) -> list[Shard[FilesWork]]:
    """One shard without files if there is a layout to create, so that the last gather creates it."""
    return [Shard(units=1, work=FilesWork(inputs=[]))] if create else []


def plan_records_on_geocube(
    settings: IngestSettings, layout: Layout | None, site: Site, *, create_layout: bool
) -> Draft[IngestContent, FilesWork]:
    """Plan for records that are already on the Geocube.

    SETTING_INVALID if there is no Geocube, VARIABLE_UNKNOWN, INSTANCE_UNKNOWN, AOI_OUTSIDE.
    """
    if site.shared is None:
        raise AcdError(
            ErrorCode.SETTING_INVALID,
            f"--source is {ON_GEOCUBE}, but no Geocube is configured",
            "Set ACD_GEOCUBE_ADDRESS, or give the folder or s3:// prefix of the files.",
        )
    images = f"{settings.variable}:{settings.instance}"
    if settings.aoi:
        aoi = load_aoi(settings.aoi)
        record_ids = [record.id for record in site.cube.records(RecordQuery(area=aoi.geojson))]
        count = len(site.cube.having(settings.variable, settings.instance, record_ids))
        if not count:
            raise AcdError(ErrorCode.AOI_OUTSIDE, f"no record of {images} on the Geocube touches the AOI {aoi.name}")
        summary = f"{count} records of {images} are on the Geocube"
    else:
        site.cube.having(settings.variable, settings.instance, [])
        summary = f"the records of {images} are on the Geocube"
    return Draft(
        content=IngestContent(layout=layout),
        shards=layout_shards(create=create_layout),
        estimate=Estimate(),
        nothing_to_do="" if create_layout else summary,
    )
