"""News of a series: images that are published, after the watermark of its watch, and not announced yet."""

from __future__ import annotations

from collections.abc import Iterable

from acdtask.jobs.contract import Series, Site
from acdtask.jobs.manifests import manifest_chain
from acdtask.jobs.monitor.content import MonitorPlan
from acdtask.jobs.monitor.findings import box_of, findings_of_image, is_news, name_in_news
from acdtask.jobs.monitor.months import images_of_month, patches_of_image
from acdtask.jobs.news import Announced, Announcement, News, PendingImage, news_key
from acdtask.jobs.products import ImageProduct, MonitorManifest

__all__ = ["add_news", "news_of_images"]


def add_news(plan: MonitorPlan, products: Iterable[ImageProduct], site: Site) -> None:
    """Mark the products of a plan as pending news if there is something to announce."""
    if plan.series is None:
        return
    news = News(site.store, plan.series)
    news.open()
    watermark = news.watermark()
    for product in products:
        if product.datetime > watermark and is_news(product, plan.series, site):
            news.add(news_key(product.datetime, product.label), name_in_news(product))


def news_of_images(series: Series, run: str, site: Site) -> list[Announcement]:
    """The images to announce as currently published, by datetime and label.

    Pending images that are not published any more are forgotten. PRODUCT_DAMAGED.
    """
    news = News(site.store, series)
    images: list[tuple[ImageProduct, Announcement]] = []
    by_series: dict[str, list[PendingImage]] = {}
    for pending in news.pending():
        by_series.setdefault(pending.series, []).append(pending)
    for series_id, of_series in by_series.items():
        published = _published(series.aoi, series_id, {image.key.partition("/")[0] for image in of_series}, site)
        for pending in of_series:
            product = published.get(pending.key)
            if product is None:
                news.drop(pending.key)
            else:
                images.append((product, _news_of_image(product, pending, news, run, site)))
    images.sort(key=lambda image: (image[0].datetime, image[0].label))
    return [image for _, image in images]


def _published(aoi: str, series: str, months: set[str], site: Site) -> dict[str, ImageProduct]:
    """The published images of some months, by key."""
    _, body = manifest_chain(site.store, aoi, "monitor", series).newest()
    return {
        news_key(product.datetime, product.label): product
        for month in (MonitorManifest.model_validate_json(body).months if body else ())
        if month.month in months
        for product in images_of_month(month, site.store)
    }


def _news_of_image(product: ImageProduct, pending: PendingImage, news: News, run: str, site: Site) -> Announcement:
    boxes = tuple(box_of(located) for located in patches_of_image(product, site.store))
    announced = Announced(
        key=pending.key,
        run=run,
        series=pending.series,
        products=tuple(dict.fromkeys((pending.product, name_in_news(product)))),
        boxes=boxes,
    )
    return Announcement(findings_of_image(product, site, news.find_announced(pending.key)), (announced,))
