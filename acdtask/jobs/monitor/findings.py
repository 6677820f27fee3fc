"""What a monitoring plan has found, in numbers."""

from __future__ import annotations

from collections.abc import Mapping

from acdtask.jobs.contract import Findings, FoundImage, Plan, Site
from acdtask.jobs.monitor.months import images_of_month, patches_of_image
from acdtask.jobs.monitor.work import ImageWork, images_of
from acdtask.jobs.parts import month_of
from acdtask.jobs.products import ImageProduct, MonitorManifest

__all__ = ["findings_of"]


def findings_of(plan: Plan, published: MonitorManifest, files: Mapping[str, str], site: Site) -> Findings:
    """The images of a published plan, each with its patches.

    Args:
        plan: a plan whose last round is gathered.
        published: the newest manifest of its method.
        files: keys by name.
        site: where it was published.
    """
    images = sorted(images_of(plan).values(), key=lambda image: (image.datetime, image.label))
    months = {month_of(image.datetime) for image in images}
    products = {
        product.folder: product
        for month in published.months
        if month.month in months
        for product in images_of_month(month, site.store)
    }
    found = [_found(image, products[image.folder], site) for image in images if image.folder in products]
    return Findings(
        figures={
            "images": len(found),
            "patches": sum(one.patches or 0 for one in found),
            "changed_area_m2": round(sum(one.changed_area_m2 or 0.0 for one in found), 1),
        },
        images=found,
        files={name: site.store.address_of(key) for name, key in files.items()},
    )


def _found(image: ImageWork, product: ImageProduct, site: Site) -> FoundImage:
    """What is published of an image. PRODUCT_DAMAGED."""
    patches = patches_of_image(product, site.store)
    area = round(sum(one.patch.area_m2 for one in patches), 1)
    return FoundImage(label=image.label, datetime=image.datetime, patches=len(patches), changed_area_m2=area)
