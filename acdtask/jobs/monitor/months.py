"""Reads and writes the months of a monitoring result: the images of each, and a table of their patches."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from pydantic import ValidationError

from acdtask.cube.local.store import Store
from acdtask.errors import AcdError, ErrorCode
from acdtask.jobs.parts import month_of, read_part, write_part
from acdtask.jobs.patches import LocatedPatch, patches_to_parquet, read_patches
from acdtask.jobs.products import ImageProduct, MonitorManifest, MonitorMonth, MonthOfImages

__all__ = ["images_of_month", "join_months", "keys_of", "patches_of_month", "read_images", "read_month_patches"]


def images_of_month(month: MonitorMonth, store: Store) -> list[ImageProduct]:
    """The images of a month, by datetime and label. CUBE_DAMAGED."""
    try:
        return MonthOfImages.model_validate_json(read_part(store, month.document)).images
    except ValidationError as error:
        raise AcdError(ErrorCode.CUBE_DAMAGED, f"{store.address_of(month.document)} lists no images") from error


def patches_of_month(month: MonitorMonth, store: Store) -> list[LocatedPatch]:
    """The patches of a month, in the order of its images. CUBE_DAMAGED."""
    return read_patches(read_part(store, month.table))


def read_images(manifest: MonitorManifest, store: Store) -> list[ImageProduct]:
    """All images of a result. The cost grows with its history: prefer `images_of_month`. CUBE_DAMAGED."""
    return [product for month in manifest.months for product in images_of_month(month, store)]


def read_month_patches(manifest: MonitorManifest, store: Store, date: str = "") -> Iterator[list[LocatedPatch]]:
    """The patches of each month that has some, in order.

    Args:
        manifest: the monitoring result.
        store: of the cube.
        date: only months that may have images of this date, such as 2018-07-03, 2018-07 or 2018; empty for all.
    """
    for month in manifest.months:
        if month.patches and month.month.startswith(date[:7]):
            yield patches_of_month(month, store)


def join_months(
    known: Sequence[MonitorMonth], products: Iterable[ImageProduct], folder: str, store: Store
) -> list[MonitorMonth]:
    """The months of an earlier version with further images; only the months of these are read and written.

    Args:
        known: the months of the earlier version.
        products: further images; each replaces the one with its label unless that lacks fewer tiles.
        folder: of the monitoring result.
        store: of the cube.
    """
    months = {month.month: month for month in known}
    grouped: dict[str, list[ImageProduct]] = {}
    for product in products:
        grouped.setdefault(month_of(product.datetime), []).append(product)
    for name, further in grouped.items():
        images = {one.label: one for one in images_of_month(months[name], store)} if name in months else {}
        for product in further:
            images[product.label] = _fuller(images.get(product.label), product)
        months[name] = _write_month(name, images, folder, store)
    return [months[name] for name in sorted(months)]


def keys_of(manifest: MonitorManifest, store: Store) -> set[str]:
    """Every key of the cube that a manifest names, directly or through its months.

    The images that the products were made from are inputs, and not among them.
    """
    keys: set[str] = set()
    for month in manifest.months:
        keys |= {month.document, month.table}
        for product in images_of_month(month, store):
            folder = product.patches.rpartition("/")[0]
            keys |= {product.patches, product.patches_geojson, f"{folder}/item.json"}
            keys |= {dataset.uri for tile in product.tiles for dataset in (tile.z, tile.change)}
    return keys


def _write_month(name: str, images: Mapping[str, ImageProduct], folder: str, store: Store) -> MonitorMonth:
    ordered = sorted(images.values(), key=lambda product: (product.datetime, product.label))
    patches = [patch for product in ordered for patch in read_patches(store.get(product.patches))]
    document = MonthOfImages(images=ordered).model_dump_json().encode()
    return MonitorMonth(
        month=name,
        images=len(ordered),
        partial=sum(bool(product.quarantined) for product in ordered),
        changed=sum(product.patch_count > 0 for product in ordered),
        patches=len(patches),
        changed_area_m2=round(sum(one.patch.area_m2 for one in patches), 1),
        document=write_part(store, f"{folder}/months/{name}", ".json", document),
        table=write_part(store, f"{folder}/patches/{name}", ".parquet", patches_to_parquet(patches)),
    )


def _fuller(known: ImageProduct | None, product: ImageProduct) -> ImageProduct:
    """The product, unless one of the same records that lacks fewer tiles is known: a partial one may come late."""
    if known is None or known.folder != product.folder:
        return product
    lacking, lacked = ({tile.cell for tile in one.quarantined} for one in (product, known))
    return known if lacked < lacking else product
