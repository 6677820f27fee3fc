"""A monitor's series: its identity, its images, and which of them have been judged.

A series id is made from what the user asked for. The baseline version that an image was judged against belongs to the
image's product, not to the series (docs/decisions/0027).
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from acdtask.change.methods import detection_for
from acdtask.cube.aoi import Aoi
from acdtask.cube.model import Cube, Record, RecordQuery, Variable
from acdtask.jobs.contract import Series, Site, content_id_of
from acdtask.jobs.manifests import manifest_chain
from acdtask.jobs.monitor.content import Method
from acdtask.jobs.monitor.images import TAG_BASELINE, TAG_CONTENT, ImageWork
from acdtask.jobs.monitor.models import models_id
from acdtask.jobs.monitor.months import images_of_month
from acdtask.jobs.monitor.settings import MonitorSettings
from acdtask.jobs.parts import month_of
from acdtask.jobs.products import (
    BaselineManifest,
    MonitorManifest,
    MonitorMonth,
)
from acdtask.jobs.stacks import Stacks, area_of, start_of
from acdtask.jobs.tracks import normal_track
from acdtask.jobs.transformed import transformed

__all__ = [
    "ALGORITHM",
    "Judgements",
    "images_of_stack",
    "judgements_of",
    "method_of",
    "newest_manifest",
    "series_of",
    "start_of_series",
    "watch_of",
]

ALGORITHM = 2
"""Raise it when the same images, baseline and settings give different results."""

WATCH_ALGORITHM = 1
"""Stays: a change would announce images again."""


def method_of(settings: MonitorSettings, aoi: Aoi, variable: Variable, profile: str) -> Method:
    """The method that the settings ask for, with the series id.

    The period, `records` and `leave_out` are not part of it, since they only select images of the series.
    """
    compared = transformed(variable, settings.transform)
    valid_range = (compared.dformat.min, compared.dformat.max)
    detection = detection_for(profile, valid_range, compared.scale, settings.rules_given())
    method: dict[str, Any] = {
        "aoi": aoi.name,
        "area": area_of(aoi),
        "baseline_name": settings.baseline_name,
        "detection": {**detection.recorded(), **({"models": models_id()} if detection.judging else {})},
        "instance": settings.instance,
        "layout": settings.layout,
        "name": settings.name,
        "profile": profile,
        "resampling": settings.resampling,
        "variable": settings.variable,
        "mixed": settings.mixed,
        "pair_days": sorted(set(settings.pair_days)),
        "tags": settings.tags,
        "track": normal_track(settings.track),
    }
    return Method(**method, id=content_id_of("monitor", ALGORITHM, method))


def newest_manifest(method: Method, site: Site) -> MonitorManifest | None:
    """The newest manifest of the series; None before its first publication. PRODUCT_DAMAGED."""
    _, body = manifest_chain(site.store, method.aoi, "monitor", method.id).newest()
    return MonitorManifest.model_validate_json(body) if body else None


def start_of_series(baseline: BaselineManifest, manifest: MonitorManifest | None) -> datetime:
    """The default start of the series: the end of the first baseline version that it was judged against.

    A later baseline with another period neither adds images to the series nor removes any.
    """
    return manifest.since if manifest and manifest.since else baseline.end + timedelta(microseconds=1)


def images_of_stack(stacks: Stacks, aoi: Aoi, method: Method, baseline: BaselineManifest) -> dict[str, ImageWork]:
    """The images of a stack, by label, to be judged against a baseline version.

    If an image's records or their pixels change, so does its `content`, and it must be judged again.
    """
    grouped: dict[str, list[Record]] = {}
    for record in stacks.records:
        grouped.setdefault(stacks.label_of(record), []).append(record)
    images, replaced = {}, stacks.replaced()
    for label, records in sorted(grouped.items()):
        ids = [record.id for record in records]
        inputs = [*ids, *(replaced[record_id] for record_id in ids if record_id in replaced)]
        content = f"{label}-{_digest([method.id, label, inputs])}"
        product = f"{label}-{_digest([content, baseline.content_id])}"
        images[label] = ImageWork(
            label=label,
            datetime=max(record.datetime for record in records),
            start=start_of(records[0]),
            folder=f"{method.folder}/{product}",
            content=content,
            baseline=baseline.content_id,
            records=ids,
            area=area_of(aoi),
            aoi=aoi.name,
            method=method.id,
        )
    return images


def series_of(
    method: Method,
    start: datetime,
    manifest: MonitorManifest | None,
    stacks: Stacks,
    cube: Cube,
) -> Series:
    """The series, with the watermark to use if this plan opens it: the datetime of the newest image.

    Args:
        method: the method.
        start: start of the stack's period.
        manifest: newest manifest of the series; None before its first publication.
        stacks: the stack.
        cube: cube with the records.
    """
    selection, choice = stacks.selection, stacks.selection.choice
    if manifest is None and (selection.end or choice.records or choice.exclude):
        stacks = Stacks(cube, replace(selection, end=None, choice=replace(choice, records="", exclude=())))
    newest = max((record.datetime for record in stacks.records), default=start - timedelta(microseconds=1))
    return Series(aoi=method.aoi, id=method.id, watermark=newest, watch=watch_of(method))


def watch_of(method: Method) -> str:
    """The id of a method's watch: what its user watches, without thresholds, versions, baseline and polygon."""
    names = ("aoi", "variable", "instance", "layout", "name", "pair_days", "tags", "track")
    return content_id_of("watch", WATCH_ALGORITHM, method.model_dump(mode="json", include=set(names)))


@dataclass(frozen=True)
class Judgements:
    """The images of a series that have been judged.

    Attributes:
        complete: `content` of the images in both the index and the newest manifest.
        indexed: `content` of all images in the index.
    """

    complete: frozenset[str]
    indexed: frozenset[str]
    _pairs: dict[str, set[tuple[str, str]]]
    _months: dict[str, MonitorMonth]
    _site: Site

    def against(self, baseline: str, images: Sequence[ImageWork]) -> set[str]:
        """Labels of the images that are complete and were judged against a baseline version."""
        wanted = {image.content: image.label for image in images}
        months = {month_of(image.datetime) for image in images}.intersection(self._months)
        pairs = {pair for name in months for pair in _complete(self._months[name], self._pairs[name], self._site)}
        return {wanted[content] for content, version in pairs if version == baseline and content in wanted}


def judgements_of(method: Method, manifest: MonitorManifest | None, site: Site) -> Judgements:
    """Determine which images of a series have been judged. PRODUCT_DAMAGED.

    Months in which the counts of manifest and index agree are not read, so the cost does not grow with the history.
    """
    pairs: dict[str, set[tuple[str, str]]] = defaultdict(set)
    for record in site.published(RecordQuery(tags={"acd:monitor": method.id})):
        pairs[month_of(record.datetime)].add((record.tags[TAG_CONTENT], record.tags[TAG_BASELINE]))
    months = {month.month: month for month in manifest.months} if manifest else {}
    complete: set[str] = set()
    for name, month in months.items():
        agrees = _agrees(month, pairs[name])
        judged = pairs[name] if agrees else _complete(month, pairs[name], site)
        complete |= {content for content, _ in judged}
    indexed = frozenset(content for of_month in pairs.values() for content, _ in of_month)
    return Judgements(frozenset(complete), indexed, pairs, months, site)


def _agrees(month: MonitorMonth, pairs: set[tuple[str, str]]) -> bool:
    """Whether index and manifest have equally many images of a month, per baseline version."""
    versions = [version for _, version in pairs]
    same = all(versions.count(version) == images for version, images in month.baselines.items())
    return same and len(pairs) == len({content for content, _ in pairs}) == month.images and not month.partial


def _complete(month: MonitorMonth, pairs: set[tuple[str, str]], site: Site) -> set[tuple[str, str]]:
    return pairs & {(product.content, product.baseline) for product in images_of_month(month, site.store)}


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:12]
