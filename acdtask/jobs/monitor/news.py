"""News of a series: images that are published, after its watermark, and not announced yet."""

from __future__ import annotations

from collections.abc import Iterable

from acdtask.jobs.contract import ImageFindings, Series, Site
from acdtask.jobs.manifests import manifest_chain
from acdtask.jobs.monitor.content import MonitorPlan
from acdtask.jobs.monitor.findings import findings_of_image, name_in_news
from acdtask.jobs.monitor.months import images_of_month
from acdtask.jobs.news import News, news_key
from acdtask.jobs.products import ImageProduct, MonitorManifest

__all__ = ["add_news", "pending_images"]


def add_news(plan: MonitorPlan, products: Iterable[ImageProduct], site: Site) -> None:
    """Mark the products of a plan as pending news, except for images that were announced before."""
    if plan.series is not None:
        News(site.store, plan.series).add((product.datetime, name_in_news(product)) for product in products)


def pending_images(series: Series, site: Site) -> tuple[list[ImageFindings], list[str]]:
    """The images to announce as currently published, by datetime and label, and the keys of all pending news.

    Keys without an image belong to replaced products, such as a partial image that is now complete.
    """
    keys = News(site.store, series).pending()
    if not keys:
        return [], []
    _, body = manifest_chain(site.store, series.aoi, "monitor", series.id).newest()
    months = {key.partition("/")[0] for key in keys}
    products = [
        product
        for month in (MonitorManifest.model_validate_json(body).months if body else ())
        if month.month in months
        for product in images_of_month(month, site.store)
        if news_key(product.datetime, name_in_news(product)) in keys
    ]
    products.sort(key=lambda product: (product.datetime, product.label))
    return [findings_of_image(product, site) for product in products], keys
