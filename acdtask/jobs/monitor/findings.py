"""What a monitoring plan has found, in numbers and in sentences."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from acdtask.jobs.contract import Findings, FoundImage, Site
from acdtask.jobs.coverage import ENOUGH, Judged
from acdtask.jobs.monitor.content import MonitorPlan
from acdtask.jobs.monitor.months import images_of_month, patches_of_image
from acdtask.jobs.near_misses import Closest
from acdtask.jobs.parts import month_of
from acdtask.jobs.products import ImageProduct, MonitorManifest
from acdtask.storage.store import Store

__all__ = ["findings_of", "found_image", "judged_lines", "sentences_of", "sentences_without_patches"]


def findings_of(plan: MonitorPlan, published: MonitorManifest, files: Mapping[str, str], site: Site) -> Findings:
    """The images of a published plan, each with its patches.

    Args:
        plan: a plan whose last round is gathered.
        published: the newest manifest of its method.
        files: keys by name.
        site: where it was published.
    """
    products = _products_of(plan, published, site)
    found = [found_image(product, site) for product in products]
    return Findings(
        figures={
            "images": len(found),
            "patches": sum(one.patches or 0 for one in found),
            "changed_area_m2": round(sum(one.changed_area_m2 or 0.0 for one in found), 1),
            "tiles_left_out": sum(len(product.quarantined) for product in products),
            **_judged(products).figures,
        },
        images=found,
        files={name: site.store.address_of(key) for name, key in files.items()},
    )


def sentences_of(plan: MonitorPlan, published: MonitorManifest, site: Site) -> list[str]:
    """What a person should know of a published plan: patches, the share that was judged, what came closest."""
    products = _products_of(plan, published, site)
    if not products:
        return []
    patches = sum(product.patch_count for product in products)
    lines = [f"{_plural(patches, 'patch', 'patches')} in {_plural(len(products), 'image')}"]
    if not patches:
        near = [(one.closest.rank, one.label, one.closest) for one in products if one.closest]
        lines += _closest(near, published.settings["detection"])
    return lines + judged_lines(_judged(products))


def sentences_without_patches(published: MonitorManifest, date: str, store: Store) -> list[str]:
    """What a person should know of a result, or of a date, month or year of it, in which there is no patch."""
    months = [month for month in published.months if month.month.startswith(date[:7])]
    if len(date) > len("2018-07"):
        products = [product for month in months for product in images_of_month(month, store)]
        products = [product for product in products if product.datetime.isoformat().startswith(date)]
        images, judged = len(products), _judged(products)
        near = [(one.closest.rank, one.label, one.closest) for one in products if one.closest]
    else:
        images, judged = sum(month.images for month in months), Judged(_added(month.quality_px for month in months))
        near = [(one.closest.rank, one.closest_image, one.closest) for one in months if one.closest]
    if not images:
        return [f"no image of {date} was monitored"] if date else []
    return [*_closest(near, published.settings["detection"]), *judged_lines(judged)]


def judged_lines(judged: Judged) -> list[str]:
    """The share that was judged; a warning if it is small; nothing if pixels were not counted."""
    if not judged.area_px:
        return []
    return [f"warning: {judged.sentence}" if judged.share < ENOUGH else judged.sentence]


def _closest(near: Sequence[tuple[tuple[float, ...], str, Closest]], detection: Mapping[str, Any]) -> list[str]:
    """The closest of (rank, label of the image, what came closest in it), in a sentence; nothing if there is none."""
    if not near:
        return []
    _, label, closest = max(near, key=lambda one: one[:2])
    return [f"closest, in {label}: {closest.sentence(detection)}"]


def _added(every: Iterable[Mapping[str, int]]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for quality in every:
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


def _judged(products: Sequence[ImageProduct]) -> Judged:
    return Judged(_added(product.quality_px for product in products))


def found_image(product: ImageProduct, site: Site) -> FoundImage:
    """What is published of an image. PRODUCT_DAMAGED."""
    patches = patches_of_image(product, site.store)
    judged = Judged(product.quality_px)
    return FoundImage(
        label=product.label,
        datetime=product.datetime,
        patches=len(patches),
        changed_area_m2=round(sum(one.patch.area_m2 for one in patches), 1),
        area_px=judged.area_px,
        judged_px=judged.judged_px,
        z_max=product.closest.z_max if product.closest else None,
    )


def _plural(count: int, one: str, many: str = "") -> str:
    return f"{count} {one if count == 1 else many or f'{one}s'}"
