"""What is to do for records that a Geocube has already: nothing, but for a layout that it may lack."""

from __future__ import annotations

from acdtask.cube.aoi import load_aoi
from acdtask.cube.model import RecordQuery
from acdtask.errors import AcdError, ErrorCode
from acdtask.jobs.contract import Draft, Estimate, Shard, Site
from acdtask.jobs.ingest.content import FilesWork, IngestContent
from acdtask.jobs.ingest.settings import ON_GEOCUBE, IngestSettings
from acdtask.jobs.stacks import area_of
from acdtask.raster.grid import Layout

__all__ = ["layout_shards", "plan_of_records_there"]


def layout_shards(*, make: bool) -> list[Shard[FilesWork]]:
    """One shard without a file if there is a layout to make, so that the last gather makes it."""
    return [Shard(units=1, work=FilesWork(inputs=[]))] if make else []


def plan_of_records_there(
    settings: IngestSettings, layout: Layout | None, site: Site, *, to_make: bool
) -> Draft[IngestContent, FilesWork]:
    """The plan for the records of the Geocube.

    SETTING_INVALID if there is no Geocube, VARIABLE_UNKNOWN, INSTANCE_UNKNOWN, AOI_OUTSIDE.
    """
    if site.shared is None:
        raise AcdError(
            ErrorCode.SETTING_INVALID,
            f"--source is {ON_GEOCUBE}, and no Geocube is named",
            "Set ACD_GEOCUBE_ADDRESS, or give the folder or s3:// prefix of the files.",
        )
    what = f"{settings.variable}:{settings.instance}"
    if settings.aoi:
        aoi = load_aoi(settings.aoi)
        there = [one.id for one in site.cube.records(RecordQuery(area=area_of(aoi)))]
        count = len(site.cube.having(settings.variable, settings.instance, there))
        if not count:
            raise AcdError(ErrorCode.AOI_OUTSIDE, f"no record of {what} on the Geocube touches the AOI {aoi.name}")
        said = f"{count} records of {what} are on the Geocube"
    else:
        site.cube.having(settings.variable, settings.instance, [])
        said = f"the records of {what} are on the Geocube"
    return Draft(
        content=IngestContent(layout=layout),
        shards=layout_shards(make=to_make),
        estimate=Estimate(),
        nothing_to_do="" if to_make else said,
    )
