"""What `--on-known replace` says: which records got other pixels, and what was judged with the old ones."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable

from shapely.geometry import shape

from acdtask.cube.model import Record, RecordQuery
from acdtask.errors import AcdError, ErrorCode
from acdtask.jobs.contract import PlanHead, Site
from acdtask.jobs.ingest.content import IngestPlan
from acdtask.jobs.ingest.settings import IngestSettings
from acdtask.jobs.products import BaselineManifest, MonitorManifest, manifest_chain
from acdtask.jobs.stacks import image_label

__all__ = ["keep_replaced", "lines_on_replaced", "replaced_records"]

REPLACED = "replaced.json"
NAMED_AT_MOST = 10


def keep_replaced(records: Iterable[Record], plan: PlanHead, site: Site) -> None:
    """Remember which records got other pixels."""
    body = json.dumps([record.model_dump(mode="json") for record in records]).encode()
    site.scratch(plan).put(REPLACED, body)


def replaced_records(plan: PlanHead, site: Site) -> list[Record]:
    """The records that got other pixels."""
    body = site.scratch(plan).find(REPLACED)
    return [Record.model_validate(raw) for raw in json.loads(body)] if body else []


def lines_on_replaced(plan: IngestPlan, site: Site) -> list[str]:
    """Sentences that name the records that got other pixels, and the baselines and images judged with the old ones."""
    records = replaced_records(plan, site)
    if not records:
        return []
    lines = [f"replaced the pixels of {len(records)} records: {_some(record.name for record in records)}"]
    lines += [
        f"made with the old pixels: baseline {baseline.name} of AOI {baseline.aoi}, layout {baseline.layout}"
        f" ({baseline.content_id}); 'acdtask baseline local' makes it again"
        for baseline in _baselines(records, plan.settings, site)
    ]
    lines += [
        f"judged with the old pixels: {len(labels)} images of {name} of AOI {aoi}: {_some(labels)};"
        " 'acdtask monitor local' judges them again"
        for (aoi, name), labels in sorted(_judged(records, plan.settings, site).items())
    ]
    return lines


def _baselines(records: list[Record], settings: IngestSettings, site: Site) -> list[BaselineManifest]:
    """The published baselines that have images of the records."""
    labels = {image_label(record, mixed=mixed) for record in records for mixed in (False, True)}
    found: dict[str, BaselineManifest] = {}
    for product in site.published(RecordQuery(tags={"acd:job": "baseline"})):
        aoi, content = product.tags["acd:aoi"], product.tags["acd:content"]
        if content in found or not _touch(product, records):
            continue
        body = _manifest(site, aoi, "baseline", content)
        if body is None:
            continue
        manifest = BaselineManifest.model_validate_json(body)
        if _is_of(manifest, settings) and labels.intersection(manifest.images):
            found[content] = manifest
    return [found[content] for content in sorted(found)]


def _judged(records: list[Record], settings: IngestSettings, site: Site) -> dict[tuple[str, str], list[str]]:
    """The labels of monitored images that have the records, by AOI and name of the monitoring result."""
    labels = {image_label(record, mixed=mixed) for record in records for mixed in (False, True)}
    found: dict[tuple[str, str], set[str]] = defaultdict(set)
    results: dict[str, tuple[str, str] | None] = {}
    for product in site.published(RecordQuery(tags={"acd:job": "monitor"})):
        label, method = product.name.rpartition("/")[2], product.tags["acd:monitor"]
        if label not in labels or not _touch(product, records):
            continue
        if method not in results:
            body = _manifest(site, product.tags["acd:aoi"], "monitor", method)
            manifest = MonitorManifest.model_validate_json(body) if body else None
            is_of = manifest is not None and _is_of(manifest, settings)
            results[method] = (manifest.aoi, str(manifest.settings["name"])) if manifest and is_of else None
        place = results[method]
        if place is not None:
            found[place].add(label)
    return {place: sorted(some) for place, some in found.items()}


def _touch(product: Record, records: list[Record]) -> bool:
    area = shape(product.footprint)
    return any(shape(record.footprint).intersects(area) for record in records)


def _is_of(manifest: BaselineManifest | MonitorManifest, settings: IngestSettings) -> bool:
    return (manifest.variable, manifest.instance) == (settings.variable, settings.instance)


def _manifest(site: Site, aoi: str, job: str, content_id: str) -> bytes | None:
    """The newest manifest of a product; None if it is gone or damaged, so that nothing can be said of it."""
    try:
        return manifest_chain(site.store, aoi, job, content_id).newest()[1]
    except AcdError as error:
        if error.code is ErrorCode.PRODUCT_DAMAGED:
            return None
        raise


def _some(names: Iterable[str]) -> str:
    names = list(names)
    more = f" and {len(names) - NAMED_AT_MOST} more" if len(names) > NAMED_AT_MOST else ""
    return ", ".join(names[:NAMED_AT_MOST]) + more
