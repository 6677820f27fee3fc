"""What a monitor takes from its baseline and requires of it, and notes on the versions of it in a series."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import datetime

from acdtask.change.methods import BASELINE_CLIPS, PROFILES
from acdtask.errors import AcdError, ErrorCode
from acdtask.jobs.monitor.images import ImageWork
from acdtask.jobs.monitor.settings import MonitorSettings
from acdtask.jobs.products import BaselineManifest, MonitorManifest

__all__ = [
    "images_by_version",
    "notes_on_clip",
    "notes_on_period",
    "notes_on_versions",
    "profile_of",
    "require_fitting",
]


def require_fitting(baseline: BaselineManifest, settings: MonitorSettings) -> None:
    """Require that a baseline is of the settings' variable, layout and transform. BASELINE_UNFIT."""
    for what, of_baseline, wanted in (
        ("variable", baseline.variable, settings.variable),
        ("layout", baseline.layout, settings.layout),
    ):
        if of_baseline != wanted:
            raise AcdError(
                ErrorCode.BASELINE_UNFIT,
                f"the baseline {baseline.content_id} is of the {what} {of_baseline}, but the monitor of {wanted}",
                f"Give --{what} {of_baseline}, or the content id of a baseline of {wanted}.",
            )
    of_baseline = baseline.settings.get("transform", "none")
    if of_baseline != settings.transform:
        raise AcdError(
            ErrorCode.BASELINE_UNFIT,
            f"the baseline {baseline.name} was computed with transform {of_baseline}, but the monitor has transform "
            f"{settings.transform}",
            f"Give --transform {of_baseline}, or compute the baseline with --transform {settings.transform}.",
        )


def profile_of(settings: MonitorSettings, baseline: BaselineManifest) -> str:
    """The method's name: as set, or that of the baseline.

    A method that judges candidates knows only drops, so other changes are looked for with `standard` by default.
    """
    is_for_drops = PROFILES[baseline.profile].judging is not None
    return settings.profile or ("standard" if is_for_drops and settings.direction != "drop" else baseline.profile)


def images_by_version(manifest: MonitorManifest) -> dict[str, int]:
    """Number of images of a result judged against each baseline version."""
    versions: Counter[str] = Counter()
    for month in manifest.months:
        versions.update(month.baselines)
    return dict(sorted(versions.items()))


def notes_on_versions(manifest: MonitorManifest | None, baseline: BaselineManifest, anew: int) -> list[str]:
    """Sentences about images judged against versions other than the plan's, and how to judge them again.

    Args:
        manifest: manifest of the series; None before its first publication.
        baseline: baseline version of the plan.
        anew: number of images that the plan judges again.
    """
    others = {v: n for v, n in images_by_version(manifest).items() if v != baseline.content_id} if manifest else {}
    count = sum(others.values())
    if not count:
        return []
    versions = ", ".join(f"{version} ({images})" for version, images in others.items())
    note = (
        f"{count} image{'' if count == 1 else 's'} of this series {'was' if count == 1 else 'were'} judged against"
        f" other versions of the baseline {baseline.name}: {versions}; this is version {baseline.content_id}"
    )
    if anew:
        return [f"{note}; this run judges {anew} images of the series again"]
    return [f"{note}. To judge them again, use --again; --start and --end restrict it"]


def notes_on_period(
    baseline: BaselineManifest, since: datetime, pending: Sequence[ImageWork], given: datetime | None
) -> list[str]:
    """Sentences about a baseline that does not end where the series begins.

    Args:
        baseline: baseline version of the plan.
        since: start of the series.
        pending: images of the plan.
        given: requested start, or None.
    """
    inside = [image.label for image in pending if image.datetime <= baseline.end]
    notes = []
    if inside and given is None:
        notes.append(
            f"{len(inside)} of these images are in the period of their baseline, which contains part of their changes: "
            f"{inside[0]}{' and others' if len(inside) > 1 else ''}"
        )
    if given is None and baseline.end.date() < since.date() and baseline.end < since:
        notes.append(
            f"the baseline ends on {baseline.end.date()}, but this series begins on {since.date()}: judge the images "
            f"in between with --start {baseline.end.date()}"
        )
    return notes


def notes_on_clip(baseline: BaselineManifest, profile: str) -> list[str]:
    """A warning if the baseline was made for a method that treats unusually low values in another way."""
    wanted = BASELINE_CLIPS.get(profile, 0.0)
    used = baseline.settings.get("clip", BASELINE_CLIPS.get(baseline.profile, 0.0))
    if bool(wanted) == bool(used):
        return []
    what = "keeps" if wanted else "leaves out"
    return [
        f"warning: the baseline {baseline.name} {what} unusually low values, unlike those that {profile} is made for;"
        f" to get one, run 'acdtask baseline local --profile {profile}' with a --name of its own, and give that as"
        " --baseline-name"
    ]
