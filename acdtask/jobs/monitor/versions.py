"""What to tell of the baseline versions that the images of a series were judged against."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import datetime

from acdtask.jobs.monitor.images import ImageWork
from acdtask.jobs.products import BaselineManifest, MonitorManifest

__all__ = ["images_by_version", "notes_on_period", "notes_on_versions"]


def images_by_version(manifest: MonitorManifest) -> dict[str, int]:
    """How many images of a result were judged against each baseline version."""
    versions: Counter[str] = Counter()
    for month in manifest.months:
        versions.update(month.baselines)
    return dict(sorted(versions.items()))


def notes_on_versions(manifest: MonitorManifest | None, baseline: BaselineManifest, anew: int) -> list[str]:
    """Sentences about images that stay judged against other versions than the plan's, and how to judge them anew.

    Args:
        manifest: of the series; None before its first publication.
        baseline: the version of the plan.
        anew: how many images the plan judges anew.
    """
    others = {v: n for v, n in images_by_version(manifest).items() if v != baseline.content_id} if manifest else {}
    count = sum(others.values())
    if not count:
        return []
    versions = ", ".join(f"{version} ({images})" for version, images in others.items())
    told = (
        f"{count} image{'' if count == 1 else 's'} of this series {'was' if count == 1 else 'were'} judged against"
        f" other versions of the baseline {baseline.name}: {versions}; this is version {baseline.content_id}"
    )
    if anew:
        return [f"{told}; {anew} of the series' images are judged anew"]
    return [f"{told}. To judge them anew: --again, with --start and --end for some of them"]


def notes_on_period(
    baseline: BaselineManifest, since: datetime, pending: Sequence[ImageWork], given: datetime | None
) -> list[str]:
    """Sentences about a baseline that ends elsewhere than the series begins.

    Args:
        baseline: the version of the plan.
        since: where the series begins.
        pending: the images of the plan.
        given: the start that was asked for, if it was.
    """
    inside = [image.label for image in pending if image.datetime <= baseline.end]
    notes = []
    if inside and given is None:
        notes.append(
            f"{len(inside)} of these images lie in the period of their baseline, so their changes are partly in it: "
            f"{inside[0]}{' and others' if len(inside) > 1 else ''}"
        )
    if given is None and baseline.end.date() < since.date() and baseline.end < since:
        notes.append(
            f"the baseline ends on {baseline.end.date()}, and this series begins on {since.date()}: images in between "
            f"are judged with --start {baseline.end.date()}"
        )
    return notes
