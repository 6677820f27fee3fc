"""Report of `--on-known replace`: records with new pixels, and results made from the old ones."""

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
from acdtask.jobs.manifests import manifest_chain
from acdtask.jobs.products import BaselineManifest, MonitorManifest
from acdtask.jobs.stacks import image_label

__all__ = ["replaced_lines", "replaced_records", "store_replaced"]

REPLACED = "replaced.json"
NAMES_SHOWN = 10


def store_replaced(records: Iterable[Record], plan: PlanHead, site: Site) -> None:
    """Store the records whose pixels were replaced."""
    body = json.dumps([record.model_dump(mode="json") for record in records]).encode()
    site.scratch(plan).put(REPLACED, body)


def replaced_records(plan: PlanHead, site: Site) -> list[Record]:
    """The records whose pixels were replaced."""
    body = site.scratch(plan).find(REPLACED)
    return [Record.model_validate(raw) for raw in json.loads(body)] if body else []


def replaced_lines(plan: IngestPlan, site: Site) -> list[str]:
    """Sentences naming the replaced records, and the baselines and images that used their old pixels."""
    records = replaced_records(plan, site)
    if not records:
        return []
    lines = [f"replaced the pixels of {len(records)} records: {_shortened(record.name for record in records)}"]
    lines += [
        f"made with the old pixels: baseline {baseline.name} of AOI {baseline.aoi}, layout {baseline.layout}"
        f" ({baseline.content_id}); 'acdtask baseline local' makes it again"
        for baseline in _baselines(records, plan.settings, site)
    ]
    lines += [
        f"judged with the old pixels: {len(labels)} images of {name} of AOI {aoi}: {_shortened(labels)};"
        " 'acdtask monitor local' judges them again"
        for (aoi, name), labels in sorted(_judged_labels(records, plan.settings, site).items())
    ]
    return lines


def _baselines(records: list[Record], settings: IngestSettings, site: Site) -> list[BaselineManifest]:
    """The published baselines that include images of the records."""
    labels = {image_label(record, mixed=mixed) for record in records for mixed in (False, True)}
    baselines: dict[str, BaselineManifest] = {}
    for product in site.published(RecordQuery(tags={"acd:job": "baseline"})):
        aoi, content = product.tags["acd:aoi"], product.tags["acd:content"]
        if content in baselines or not _overlaps(product, records):
            continue
        body = _manifest(site, aoi, "baseline", content)
        if body is None:
            continue
        manifest = BaselineManifest.model_validate_json(body)
        if _is_of(manifest, settings) and labels.intersection(manifest.images):
            baselines[content] = manifest
    return [baselines[content] for content in sorted(baselines)]


def _judged_labels(records: list[Record], settings: IngestSettings, site: Site) -> dict[tuple[str, str], list[str]]:
    """The labels of monitored images that include the records, by AOI and name of the monitoring result."""
    labels = {image_label(record, mixed=mixed) for record in records for mixed in (False, True)}
    labels_by_result: dict[tuple[str, str], set[str]] = defaultdict(set)
    result_of: dict[str, tuple[str, str] | None] = {}
    for product in site.published(RecordQuery(tags={"acd:job": "monitor"})):
        label, content = product.name.rpartition("/")[2], product.tags["acd:monitor"]
        if label not in labels or not _overlaps(product, records):
            continue
        if content not in result_of:
            body = _manifest(site, product.tags["acd:aoi"], "monitor", content)
            manifest = MonitorManifest.model_validate_json(body) if body else None
            is_of = manifest is not None and _is_of(manifest, settings)
            result_of[content] = (manifest.aoi, str(manifest.settings["name"])) if manifest and is_of else None
        result = result_of[content]
        if result is not None:
            labels_by_result[result].add(label)
    return {result: sorted(names) for result, names in labels_by_result.items()}


def _overlaps(product: Record, records: list[Record]) -> bool:
    area = shape(product.footprint)
    return any(shape(record.footprint).intersects(area) for record in records)


def _is_of(manifest: BaselineManifest | MonitorManifest, settings: IngestSettings) -> bool:
    return (manifest.variable, manifest.instance) == (settings.variable, settings.instance)


def _manifest(site: Site, aoi: str, job: str, content_id: str) -> bytes | None:
    """The newest manifest of a product; None if it is missing or damaged."""
    try:
        return manifest_chain(site.store, aoi, job, content_id).newest()[1]
    except AcdError as error:
        if error.code is ErrorCode.PRODUCT_DAMAGED:
            return None
        raise


def _shortened(names: Iterable[str]) -> str:
    names = list(names)
    more = f" and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else ""
    return ", ".join(names[:NAMES_SHOWN]) + more
