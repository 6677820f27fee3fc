"""Which images of a series are news: published, after its watermark, and not announced."""

from __future__ import annotations

from collections.abc import Iterable

from acdtask.jobs.contract import FoundImage, Series, Site
from acdtask.jobs.monitor.content import MonitorPlan
from acdtask.jobs.monitor.findings import found_image
from acdtask.jobs.monitor.months import images_of_month
from acdtask.jobs.news import News, news_key
from acdtask.jobs.products import ImageProduct, MonitorManifest, manifest_chain

__all__ = ["add_news", "pending_images"]


def add_news(plan: MonitorPlan, products: Iterable[ImageProduct], site: Site) -> None:
    """Let the products of a plan be announced. An image that was announced, by whatever version, is not news."""
    if plan.series is not None:
        News(site.store, plan.series).add((product.datetime, _name(product)) for product in products)


def pending_images(series: Series, site: Site) -> tuple[list[FoundImage], list[str]]:
    """The images to announce as they are published now, by datetime and label, and the keys of all pending news.

    A key without an image is of a product that another one has replaced, such as a partial image that is complete now.
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
        if news_key(product.datetime, _name(product)) in keys
    ]
    products.sort(key=lambda product: (product.datetime, product.label))
    return [found_image(product, site) for product in products], keys


def _name(product: ImageProduct) -> str:
    """The image, its inputs, and for a partial one which tiles it has: what is told once."""
    partial = product.patches.split("/")[-2] if product.quarantined else ""
    return f"{product.content}-{partial}" if partial else product.content
