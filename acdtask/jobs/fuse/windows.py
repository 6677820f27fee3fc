"""The members of a fusion, and the windows of time into which their images fall."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from shapely.geometry import shape

from acdtask.change.fusion import WindowImage, in_order, windows_of
from acdtask.cube.aoi import Aoi
from acdtask.errors import AcdError, ErrorCode
from acdtask.jobs.contract import Site
from acdtask.jobs.fuse.content import (
    FusedWindow,
    FusionManifest,
    Member,
    MemberImage,
    MemberMonths,
    PlannedWindow,
)
from acdtask.jobs.fuse.months import read_windows, windows_since
from acdtask.jobs.fuse.settings import FuseSettings
from acdtask.jobs.manifests import find_manifest
from acdtask.jobs.monitor.months import documents_of_month, images_of_month
from acdtask.jobs.parts import month_of
from acdtask.jobs.products import MonitorManifest
from acdtask.storage.store import Store

__all__ = ["WindowsToPlan", "find_members", "judged_by", "planned_windows"]


def find_members(settings: FuseSettings, aoi: Aoi, site: Site) -> dict[str, MonitorManifest]:
    """The newest manifest of each member, by its name in the settings, sorted.

    MONITOR_UNKNOWN, MEMBERS_UNFIT.
    """
    repeated = sorted(name for name, count in Counter(settings.members).items() if count > 1)
    if repeated:
        raise AcdError(
            ErrorCode.MEMBERS_UNFIT, f"members has {repeated[0]} {settings.members.count(repeated[0])} times"
        )
    if len(settings.members) < 2:
        raise AcdError(ErrorCode.MEMBERS_UNFIT, f"members has {len(settings.members)} result")
    members = {name: _manifest(name, aoi, site) for name in sorted(settings.members)}
    _require_different(members)
    _require_judged(members)
    for name, manifest in members.items():
        if not shape(manifest.aoi_geometry).equals(aoi.geometry):
            raise AcdError(
                ErrorCode.MEMBERS_UNFIT,
                f"{name} was monitored in another area than that of the AOI {aoi.name} in {settings.aoi}",
                "Monitor all members with the AOI that is given to 'acdtask fuse'.",
            )
    return members


def judged_by(manifest: MonitorManifest) -> str:
    """The name of the model that gave the probabilities of a result's candidates; empty if they have none."""
    return str(manifest.settings["detection"].get("judged_by", ""))


@dataclass(frozen=True)
class WindowsToPlan:
    """The windows from a moment on, and what is known of the others.

    Attributes:
        windows: the windows, by time.
        since: start of the first; None if there are no earlier ones.
        earlier: number of earlier windows, which have the same images as when they were fused.
        fused: those that are fused already, as of the newest manifest.
        sources: documents of the members' months since then.
    """

    windows: list[PlannedWindow]
    since: dt.datetime | None
    earlier: int
    fused: list[FusedWindow]
    sources: tuple[MemberMonths, ...]


def planned_windows(
    members: Sequence[Member],
    manifests: Sequence[MonitorManifest],
    days: float,
    known: FusionManifest | None,
    store: Store,
) -> WindowsToPlan:
    """The windows that images may have changed since the newest manifest. PRODUCT_DAMAGED.

    A window depends on the images up to the one that begins the next. So all windows before the first month that
    changed are as they were, except the last of them, which may go on: windows are made anew from its first image on,
    and only images of its month and later ones are read.

    Args:
        members: the members.
        manifests: their manifests, in the same order.
        days: length of a window.
        known: the newest manifest of the fusion; None before the first.
        store: store of the cube.
    """
    sources = _sources(members, manifests)
    resumed = _resumed(known, sources, store) if known else None
    first_month = month_of(resumed.start) if resumed else ""
    images: list[WindowImage] = []
    documents: dict[tuple[int, str], str] = {}
    for number, manifest in enumerate(manifests):
        for month in (month for month in manifest.months if month.month >= first_month):
            keys = documents_of_month(month, store)
            documents |= {(number, label): key for label, key in keys.items()}
            products = images_of_month(month, store)
            images += [WindowImage(number, product.datetime, product.label) for product in products]
    images.sort(key=in_order)
    fused = windows_since(known, first_month, store) if known else []
    before = [window for window in fused if resumed and window.start < resumed.start]
    if resumed:
        first = {
            (n, resumed.images[member.name].label) for n, member in enumerate(members) if member.name in resumed.images
        }
        images = images[next(at for at, image in enumerate(images) if (image.member, image.label) in first) :]
    windows = windows_of(images, days)
    labels = _labels(windows, before)
    total = sum(month.windows for month in known.months) if known else 0
    since = [window for window in fused if window not in before]
    return WindowsToPlan(
        windows=[_planned(label, window, members, documents) for label, window in zip(labels, windows, strict=True)],
        since=resumed.start if resumed else None,
        earlier=total - len(since),
        fused=since,
        sources=tuple(source for source in sources if source.month >= first_month),
    )


def _sources(members: Sequence[Member], manifests: Sequence[MonitorManifest]) -> list[MemberMonths]:
    """The documents of the members' months, by month."""
    documents: dict[str, dict[str, str]] = {}
    for member, manifest in zip(members, manifests, strict=True):
        for month in manifest.months:
            documents.setdefault(month.month, {})[member.name] = month.document
    return [MemberMonths(month=month, documents=documents[month]) for month in sorted(documents)]


def _resumed(known: FusionManifest, sources: Sequence[MemberMonths], store: Store) -> FusedWindow | None:
    """The last window that starts before the first changed month, or the last of all; None if there is none.

    Of several that start at the same moment, since a member has several images of it, the first. PRODUCT_DAMAGED.
    """
    seen, now = ({source.month: source for source in each} for each in (known.sources, sources))
    changed = sorted(month for month in seen | now if seen.get(month) != now.get(month))
    last: FusedWindow | None = None
    for month in reversed(known.months):
        for window in reversed(read_windows(month, store)):
            if last is not None and window.start != last.start:
                return last
            if not changed or month_of(window.start) < changed[0]:
                last = window
    return last


def _manifest(name: str, aoi: Aoi, site: Site) -> MonitorManifest:
    _, body = find_manifest(site.store, aoi.name, "monitor", name, "latest", ErrorCode.MONITOR_UNKNOWN)
    return MonitorManifest.model_validate_json(body)


def _require_different(members: Mapping[str, MonitorManifest]) -> None:
    names: dict[str, str] = {}
    for name, manifest in members.items():
        if manifest.content_id in names:
            raise AcdError(ErrorCode.MEMBERS_UNFIT, f"{names[manifest.content_id]} and {name} are the same series")
        names[manifest.content_id] = name


def _require_judged(members: Mapping[str, MonitorManifest]) -> None:
    models = {name: judged_by(manifest) for name, manifest in members.items()}
    unjudged = [name for name, model in models.items() if not model]
    if unjudged:
        raise AcdError(
            ErrorCode.MEMBERS_UNFIT,
            f"the candidates of {', '.join(unjudged)} have no probability: the profile is"
            f" {members[unjudged[0]].settings['profile']}",
        )
    if len(set(models.values())) > 1:
        judged = ", ".join(f"{name} by the {model}" for name, model in models.items())
        raise AcdError(
            ErrorCode.MEMBERS_UNFIT,
            f"their candidates are judged differently: {judged}",
            "Monitor all members with the same --judged-by.",
        )


def _labels(windows: Sequence[tuple[WindowImage, ...]], before: Sequence[FusedWindow]) -> list[str]:
    """The label of each window: its days, and a number if earlier windows have the same."""
    seen = Counter(window.label.partition("_")[0] for window in before)
    labels = []
    for window in windows:
        first, last = (image.datetime.astimezone(dt.UTC) for image in (window[0], window[-1]))
        label = f"{first:%Y%m%d}" if first.date() == last.date() else f"{first:%Y%m%d}-{last:%Y%m%d}"
        seen[label] += 1
        labels.append(label if seen[label] == 1 else f"{label}_{seen[label]}")
    return labels


def _planned(
    label: str,
    window: tuple[WindowImage, ...],
    members: Sequence[Member],
    documents: Mapping[tuple[int, str], str],
) -> PlannedWindow:
    images = tuple(
        MemberImage(
            member=image.member,
            label=image.label,
            datetime=image.datetime,
            document=documents[image.member, image.label],
        )
        for image in sorted(window, key=lambda image: image.member)
    )
    inputs = [[members[image.member].series, image.document] for image in images]
    return PlannedWindow(
        label=label,
        start=window[0].datetime,
        datetime=window[-1].datetime,
        images=images,
        inputs=hashlib.sha256(json.dumps(inputs).encode()).hexdigest()[:12],
    )
