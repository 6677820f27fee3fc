"""What a monitoring plan has found, in numbers."""

from __future__ import annotations

from collections.abc import Mapping

from acdtask.jobs.contract import Findings, FoundImage, Plan, Site
from acdtask.jobs.monitor.months import images_of_month
from acdtask.jobs.monitor.work import ImageWork, images_of
from acdtask.jobs.parts import month_of
from acdtask.jobs.patches import read_patches
from acdtask.jobs.products import MonitorManifest

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
    products = [
        one for month in published.months if month.month in months for one in images_of_month(month, site.store)
    ]
    partial = {product.folder: product.patches for product in products if product.quarantined}
    tables = [(image, partial.get(image.folder, f"{image.folder}/patches.parquet")) for image in images]
    found = [one for one in (_found(image, table, site) for image, table in tables) if one is not None]
    return Findings(
        figures={
            "images": len(found),
            "patches": sum(one.patches or 0 for one in found),
            "changed_area_m2": round(sum(one.changed_area_m2 or 0.0 for one in found), 1),
        },
        images=found,
        files={name: site.store.address_of(key) for name, key in files.items()},
    )


def _found(image: ImageWork, key: str, site: Site) -> FoundImage | None:
    """What is published of an image; None if it meets no tile that has a baseline."""
    table = site.store.find(key)
    if table is None:
        return None
    patches = read_patches(table)
    area = round(sum(one.patch.area_m2 for one in patches), 1)
    return FoundImage(label=image.label, datetime=image.datetime, patches=len(patches), changed_area_m2=area)
