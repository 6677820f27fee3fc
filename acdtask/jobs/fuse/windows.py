"""The members of a fusion, and the windows of time into which their images fall."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence

from shapely.geometry import shape

from acdtask.change.fusion import WindowImage, windows_of
from acdtask.cube.aoi import Aoi
from acdtask.errors import AcdError, ErrorCode
from acdtask.jobs.contract import Site
from acdtask.jobs.fuse.content import Member, MemberImage, PlannedWindow
from acdtask.jobs.fuse.settings import FuseSettings
from acdtask.jobs.manifests import find_manifest
from acdtask.jobs.monitor.months import documents_of_month, images_of_month
from acdtask.jobs.products import MonitorManifest
from acdtask.storage.store import Store

__all__ = ["find_members", "judged_by", "planned_windows"]


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


def planned_windows(
    members: Sequence[Member], manifests: Sequence[MonitorManifest], days: float, store: Store
) -> list[PlannedWindow]:
    """The windows of all images of the members, by time. PRODUCT_DAMAGED.

    Args:
        members: the members.
        manifests: their manifests, in the same order.
        days: length of a window.
        store: store of the cube.
    """
    images: list[WindowImage] = []
    documents: dict[tuple[int, str], str] = {}
    for number, manifest in enumerate(manifests):
        for month in manifest.months:
            keys = documents_of_month(month, store)
            documents |= {(number, label): key for label, key in keys.items()}
            products = images_of_month(month, store)
            images += [WindowImage(number, product.datetime, product.label) for product in products]
    windows = windows_of(images, days)
    labels = _labels(windows)
    return [_planned(label, window, members, documents) for label, window in zip(labels, windows, strict=True)]


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


def _labels(windows: Sequence[tuple[WindowImage, ...]]) -> list[str]:
    """The label of each window: its days, and a number if earlier windows have the same."""
    seen: Counter[str] = Counter()
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
        MemberImage(member=image.member, label=image.label, document=documents[image.member, image.label])
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
