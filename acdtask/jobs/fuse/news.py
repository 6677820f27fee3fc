"""News of a fusion: windows that are published, after the watermark of its watch, and not announced yet.

A window may change: the image of another member joins it, or a late image divides it. So what was announced of a window
is recorded for each of its images too, and a patch is not announced again where one of these images had one.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from acdtask.jobs.contract import ImageFindings, Series, Site, content_id_of
from acdtask.jobs.fuse.content import FusedWindow, FusePlan, FusionManifest, Member
from acdtask.jobs.fuse.files import FusedPatch
from acdtask.jobs.fuse.months import findings_of_windows, parse_fusion, windows_since
from acdtask.jobs.manifests import manifest_chain
from acdtask.jobs.news import Announced, Announcement, Box, News, PendingImage, news_key

__all__ = [
    "add_news",
    "findings_of_window",
    "news_of_windows",
    "pending_findings",
    "series_of_fusion",
]

WATCH_ALGORITHM = 1


def series_of_fusion(
    aoi: str, fusion: str, name: str, members: Iterable[Member], newest: datetime | None
) -> Series | None:
    """The series of a fusion, with the watermark to use if this plan opens it; None without images.

    Its watch is what its user watches: the members by name and the name of the result, without settings and versions.
    """
    if newest is None:
        return None
    watched = {"aoi": aoi, "name": name, "members": [member.name for member in members]}
    watch = content_id_of("watch of a fusion", WATCH_ALGORITHM, watched)
    return Series(aoi=aoi, id=fusion, watermark=newest, watch=watch)


def add_news(plan: FusePlan, windows: Iterable[FusedWindow], site: Site) -> None:
    """Mark the windows of a plan as pending news if there is something to announce. PRODUCT_DAMAGED."""
    if plan.series is None:
        return
    news = News(site.store, plan.series)
    news.open()
    watermark = news.watermark()
    for window in windows:
        if window.datetime > watermark and _is_news(window, plan.series, news, site):
            news.add(news_key(window.datetime, window.label), window.inputs)


def news_of_windows(series: Series, run: str, site: Site) -> list[Announcement]:
    """The windows to announce as currently published, by time.

    Pending windows that are not published any more are forgotten. PRODUCT_DAMAGED.
    """
    news = News(site.store, series)
    windows: list[tuple[FusedWindow, Announcement]] = []
    for pending in news.pending():
        _, body = manifest_chain(site.store, series.aoi, "fuse", pending.series).newest()
        manifest = parse_fusion(body, site.store) if body else None
        window = _published(pending, manifest, site)
        if window is None:
            news.drop(pending.key)
        else:
            windows.append((window, _news_of_window(window, pending, news, run, site)))
    windows.sort(key=lambda pair: (pair[0].datetime, pair[0].label))
    return [window for _, window in windows]


def findings_of_window(window: FusedWindow, site: Site, announced: Iterable[Announced] = ()) -> ImageFindings:
    """The findings about a window, without patches where some were announced. CUBE_DAMAGED."""
    known = [*announced]
    patches = [patch for patch in _patches_of(window, site) if not _is_known(patch, known)]
    return ImageFindings(
        label=window.label,
        datetime=window.datetime,
        patches=len(patches),
        changed_area_m2=round(sum(patch.area_m2 for patch in patches), 1),
    )


def pending_findings(windows: Iterable[FusedWindow], series: Series | None, site: Site) -> list[ImageFindings]:
    """The findings about windows that are to be announced."""
    if series is None:
        return []
    news = News(site.store, series)
    pending = [(window, news.find_pending(news_key(window.datetime, window.label))) for window in windows]
    return [
        findings_of_window(window, site, _known_of(window, news))
        for window, image in pending
        if image is not None and image.series == series.id
    ]


def _is_news(window: FusedWindow, series: Series, news: News, site: Site) -> bool:
    """Whether something of a window after the watermark is to be announced, as for the image of a monitor."""
    announced = news.find_announced(news_key(window.datetime, window.label))
    if announced is not None and (announced.series != series.id or window.inputs in announced.products):
        return False
    known = _known_of(window, news)
    if not known:
        return True
    return any(not _is_known(patch, known) for patch in _patches_of(window, site))


def _known_of(window: FusedWindow, news: News) -> list[Announced]:
    """What was announced of a window and of its images."""
    records = (news.find_announced(key) for key in (news_key(window.datetime, window.label), *_image_keys(window)))
    return [record for record in records if record is not None]


def _image_keys(window: FusedWindow) -> list[str]:
    """The keys of a window's images in the news."""
    return [
        news_key(image.datetime, f"image-{content_id_of('member', WATCH_ALGORITHM, {'name': member})}-{image.label}")
        for member, image in sorted(window.images.items())
    ]


def _is_known(patch: FusedPatch, announced: Iterable[Announced]) -> bool:
    return any(record.knows(_box_of(patch)) for record in announced)


def _box_of(patch: FusedPatch) -> Box:
    return Box(*patch.geometry.bounds)


def _patches_of(window: FusedWindow, site: Site) -> list[FusedPatch]:
    return [patch for patch in findings_of_windows([window], site.store) if patch.kept]


def _published(pending: PendingImage, manifest: FusionManifest | None, site: Site) -> FusedWindow | None:
    """The published window of a key."""
    month = pending.key.partition("/")[0]
    windows = windows_since(manifest, month, site.store) if manifest else []
    return next((window for window in windows if news_key(window.datetime, window.label) == pending.key), None)


def _news_of_window(window: FusedWindow, pending: PendingImage, news: News, run: str, site: Site) -> Announcement:
    boxes = tuple(_box_of(patch) for patch in _patches_of(window, site))
    products = tuple(dict.fromkeys((pending.product, window.inputs)))
    announced = tuple(
        Announced(key=key, run=run, series=pending.series, products=products, boxes=boxes)
        for key in (pending.key, *_image_keys(window))
    )
    return Announcement(findings_of_window(window, site, _known_of(window, news)), announced)
