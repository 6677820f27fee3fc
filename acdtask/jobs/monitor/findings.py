"""Findings of a monitoring plan, as figures and sentences."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from acdtask.jobs.cautions import Caution, caution_lines, merged
from acdtask.jobs.contract import Findings, ImageFindings, Series, Site
from acdtask.jobs.coverage import ENOUGH, JudgedPixels
from acdtask.jobs.monitor.content import MonitorPlan
from acdtask.jobs.monitor.months import images_of_month, patches_of_image
from acdtask.jobs.near_misses import Closest
from acdtask.jobs.news import Announced, Box, News, news_key
from acdtask.jobs.parts import month_of
from acdtask.jobs.patch_files import LocatedPatch
from acdtask.jobs.products import ImageProduct, MonitorManifest
from acdtask.storage.store import Store

__all__ = [
    "box_of",
    "findings_of",
    "findings_of_image",
    "is_news",
    "judged_lines",
    "name_in_news",
    "sentences_of",
    "sentences_without_patches",
]


def findings_of(plan: MonitorPlan, published: MonitorManifest, files: Mapping[str, str], site: Site) -> Findings:
    """The findings of a published plan.

    Args:
        plan: a plan whose last round is gathered. The figures `news_` count its images that are to be announced.
        published: newest manifest of the series.
        files: keys of files by name.
        site: where the plan was published.
    """
    products = _products_of(plan, published, site)
    images = [findings_of_image(product, site) for product in products]
    pending = (_pending_findings(product, plan.series, site) for product in products)
    news = [image for image in pending if image is not None]
    return Findings(
        figures={
            "images": len(images),
            "patches": sum(image.patches or 0 for image in images),
            "changed_area_m2": round(sum(image.changed_area_m2 or 0.0 for image in images), 1),
            "news_patches": sum(image.patches or 0 for image in news),
            "news_area_m2": round(sum(image.changed_area_m2 or 0.0 for image in news), 1),
            "tiles_left_out": sum(len(product.quarantined) for product in products),
            **_judged(products).figures,
        },
        images=images,
        files={name: site.store.address_of(key) for name, key in files.items()},
        warnings=tuple(merged(_cautions_of(plan, products))),
    )


def sentences_of(plan: MonitorPlan, published: MonitorManifest, site: Site) -> list[str]:
    """Sentences about a published plan: patches, the share that was judged, the closest near miss."""
    products = _products_of(plan, published, site)
    if not products:
        return []
    patches = sum(product.patch_count for product in products)
    lines = [f"{_plural(patches, 'patch', 'patches')} in {_plural(len(products), 'image')}"]
    held_back = sum(product.rejected_count for product in products)
    if held_back:
        where = "'acdtask show patches --held-back' lists them with the reasons"
        lines.append(f"{_plural(held_back, 'candidate')} held back; {where}")
    if not patches:
        near = [(product.closest.rank, product.label, product.closest) for product in products if product.closest]
        lines += _closest(near, published.settings["detection"])
    judged, cautions = judged_lines(_judged(products)), _cautions_of(plan, products)
    if len(products) == 1:  # its share is that of the run, which has a line already
        cautions = [caution for caution in cautions if caution.kind != "little judged"]
    return [*lines, *judged, *caution_lines(cautions)]


def _cautions_of(plan: MonitorPlan, products: Sequence[ImageProduct]) -> list[Caution]:
    """Warnings about a plan's images, with those about images that have no product."""
    of_products = [caution for product in products for caution in product.warnings]
    return [*of_products, *(caution for caution in plan.content.warnings if caution.kind == "no tiles")]


def sentences_without_patches(published: MonitorManifest, date: str, store: Store) -> list[str]:
    """Sentences about a result, or a date, month or year of it, that has no patches."""
    months = [month for month in published.months if month.month.startswith(date[:7])]
    if len(date) > len("2018-07"):
        products = [product for month in months for product in images_of_month(month, store)]
        products = [product for product in products if product.datetime.isoformat().startswith(date)]
        images, judged = len(products), _judged(products)
        near = [(product.closest.rank, product.label, product.closest) for product in products if product.closest]
    else:
        images, judged = (
            sum(month.images for month in months),
            JudgedPixels(_summed(month.quality_px for month in months)),
        )
        near = [(month.closest.rank, month.closest_image, month.closest) for month in months if month.closest]
    if not images:
        return [f"no image of {date} was monitored"] if date else []
    return [*_closest(near, published.settings["detection"]), *judged_lines(judged)]


def judged_lines(judged: JudgedPixels) -> list[str]:
    """A sentence about the share that was judged, as a warning if it is small; empty if pixels were not counted."""
    if not judged.area_px:
        return []
    return [f"warning: {judged.sentence}" if judged.share < ENOUGH else judged.sentence]


def _closest(near: Sequence[tuple[tuple[float, ...], str, Closest]], detection: Mapping[str, Any]) -> list[str]:
    """A sentence about the closest of (rank, image label, near miss); empty if there are none."""
    if not near:
        return []
    _, label, closest = max(near, key=lambda candidate: candidate[:2])
    return [f"closest, in {label}: {closest.sentence(detection)}"]


def _summed(qualities: Iterable[Mapping[str, int]]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for quality in qualities:
        total.update(quality)
    return dict(total)


def _products_of(plan: MonitorPlan, published: MonitorManifest, site: Site) -> list[ImageProduct]:
    """The published images of a plan, by datetime and label."""
    images = sorted(plan.content.images, key=lambda image: (image.datetime, image.label))
    months = {month_of(image.datetime) for image in images}
    products = {
        product.folder: product
        for month in published.months
        if month.month in months
        for product in images_of_month(month, site.store)
    }
    return [products[image.folder] for image in images if image.folder in products]


def is_news(product: ImageProduct, series: Series, site: Site) -> bool:
    """Whether something of an image after the watermark is to be announced.

    An image is announced once. If its records or pixels change, or a partial image is completed, it is announced again
    if it has patches where none were announced. Another series of the same watch announces nothing of it.
    """
    news = News(site.store, series)
    announced = news.find_announced(news_key(product.datetime, product.label))
    if announced is None:
        return not news.was_announced_in_series(product.datetime, name_in_news(product))
    if announced.series != series.id or name_in_news(product) in announced.products:
        return False
    return any(not announced.knows(box_of(located)) for located in patches_of_image(product, site.store))


def _pending_findings(product: ImageProduct, series: Series | None, site: Site) -> ImageFindings | None:
    """The findings about an image that are to be announced; None if it is not pending."""
    key = news_key(product.datetime, product.label)
    news = News(site.store, series) if series else None
    pending = news.find_pending(key) if news else None
    if news is None or series is None or pending is None or pending.series != series.id:
        return None
    return findings_of_image(product, site, news.find_announced(key))


def box_of(located: LocatedPatch) -> Box:
    """The bounding box of a patch."""
    return Box(*located.geometry.bounds)


def name_in_news(product: ImageProduct) -> str:
    """The identity of a product in the news: image, inputs, and for a partial image its tiles."""
    partial = product.patches.split("/")[-2] if product.quarantined else ""
    return f"{product.content}-{partial}" if partial else product.content


def _judged(products: Sequence[ImageProduct]) -> JudgedPixels:
    return JudgedPixels(_summed(product.quality_px for product in products))


def findings_of_image(product: ImageProduct, site: Site, announced: Announced | None = None) -> ImageFindings:
    """The findings about a published image, without patches where some were announced. PRODUCT_DAMAGED."""
    patches = [
        located
        for located in patches_of_image(product, site.store)
        if announced is None or not announced.knows(box_of(located))
    ]
    judged = JudgedPixels(product.quality_px)
    return ImageFindings(
        label=product.label,
        datetime=product.datetime,
        patches=len(patches),
        changed_area_m2=round(sum(located.patch.area_m2 for located in patches), 1),
        area_px=judged.area_px,
        judged_px=judged.judged_px,
        z_max=product.closest.z_max if product.closest else None,
        warnings=product.warnings,
    )


def _plural(count: int, singular: str, plural: str = "") -> str:
    return f"{count} {singular if count == 1 else plural or f'{singular}s'}"
