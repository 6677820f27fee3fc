"""Reads and writes the months of a monitoring result: their images, and tables of their patches."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from acdtask.errors import AcdError, ErrorCode
from acdtask.jobs.manifests import damaged_result, read_product
from acdtask.jobs.parts import month_of, read_part, write_part
from acdtask.jobs.patch_files import LocatedPatch, numbered, patches_to_parquet, read_patches
from acdtask.jobs.products import (
    ImageProduct,
    MonitorManifest,
    MonitorMonth,
    MonthImage,
    MonthOfImages,
)
from acdtask.storage.store import Store

__all__ = [
    "documents_of_month",
    "folders_of_month",
    "images_of_month",
    "join_months",
    "keys_of",
    "patches_of_image",
    "patches_of_month",
    "read_image",
    "read_images",
    "read_month_patches",
    "read_rejected",
    "rejected_of_image",
]

ModelT = TypeVar("ModelT", bound=BaseModel)

READERS = 16
"""Number of documents read concurrently."""


def images_of_month(month: MonitorMonth, store: Store) -> list[ImageProduct]:
    """The images of a month, by datetime and label. CUBE_DAMAGED."""
    return _images_of(_entries_of_month(month, store), store)


def folders_of_month(month: MonitorMonth, store: Store) -> dict[str, str]:
    """The folder of each image of a month, by label, sorted. CUBE_DAMAGED."""
    return {entry.label: entry.document.rpartition("/")[0] for entry in _entries_of_month(month, store)}


def documents_of_month(month: MonitorMonth, store: Store) -> dict[str, str]:
    """The key of the document of each image of a month, by label, sorted. CUBE_DAMAGED."""
    return {entry.label: entry.document for entry in _entries_of_month(month, store)}


def read_image(document: str, store: Store) -> ImageProduct:
    """The product of an image, by the key of its document. PRODUCT_DAMAGED."""
    return _parsed(ImageProduct, document, store)


def _entries_of_month(month: MonitorMonth, store: Store) -> list[MonthImage]:
    return _parsed(MonthOfImages, month.document, store).images


def _images_of(entries: Sequence[MonthImage], store: Store) -> list[ImageProduct]:
    with ThreadPoolExecutor(READERS) as pool:
        return list(pool.map(lambda entry: _parsed(ImageProduct, entry.document, store), entries))


def _parsed(model: type[ModelT], key: str, store: Store) -> ModelT:
    """Read a document of a result. PRODUCT_DAMAGED, with advice on how to recreate it."""
    try:
        return model.model_validate_json(read_part(store, key))
    except ValidationError as error:
        raise damaged_result(store, key, f"{store.address_of(key)} is not a valid {model.__name__}") from error
    except AcdError as error:
        if error.code is ErrorCode.CUBE_DAMAGED:
            raise damaged_result(store, key, error.detail) from error
        raise


def patches_of_month(month: MonitorMonth, store: Store) -> list[LocatedPatch]:
    """The patches of a month, ordered by image. CUBE_DAMAGED."""
    return read_patches(read_part(store, month.table))


def patches_of_image(product: ImageProduct, store: Store) -> list[LocatedPatch]:
    """The patches of an image. PRODUCT_DAMAGED."""
    return read_patches(read_product(store, product.patches, product.checksums["patches.parquet"]))


def rejected_of_image(product: ImageProduct, store: Store) -> list[LocatedPatch]:
    """The candidates of an image that are held back; empty if its method does not judge any. PRODUCT_DAMAGED."""
    if not product.rejected:
        return []
    return read_patches(read_product(store, product.rejected, product.checksums["rejected.parquet"]))


def read_rejected(manifest: MonitorManifest, store: Store, date: str = "") -> Iterator[LocatedPatch]:
    """Yield the candidates that were held back, image by image, numbered. PRODUCT_DAMAGED.

    Args:
        manifest: the monitoring result.
        store: store of the cube.
        date: restricts to images of this date, such as 2018-07-03, 2018-07 or 2018.
    """
    before = 0
    for month in manifest.months:
        if not month.month.startswith(date[:7]):
            continue
        for product in images_of_month(month, store):
            if product.datetime.isoformat().startswith(date):
                rejected = numbered(rejected_of_image(product, store), before)
                before += len(rejected)
                yield from rejected


def read_images(manifest: MonitorManifest, store: Store) -> list[ImageProduct]:
    """All images of a result. The cost grows with its history: prefer `images_of_month`. CUBE_DAMAGED."""
    return [product for month in manifest.months for product in images_of_month(month, store)]


def read_month_patches(manifest: MonitorManifest, store: Store, date: str = "") -> Iterator[list[LocatedPatch]]:
    """Yield the patches of each month that has any, in order, with their numbers in the result.

    Args:
        manifest: the monitoring result.
        store: store of the cube.
        date: restricts to months that may have images of this date, such as 2018-07-03, 2018-07 or 2018.
    """
    before = 0
    for month in manifest.months:
        if month.patches and month.month.startswith(date[:7]):
            yield numbered(patches_of_month(month, store), before)
        before += month.patches


def join_months(
    known: Sequence[MonitorMonth], products: Iterable[ImageProduct], folder: str, store: Store
) -> list[MonitorMonth]:
    """Add images to the months of an earlier version. Only the affected months are read and written.

    Args:
        known: months of the earlier version.
        products: the images to add; each replaces the one with its label unless that lacks fewer tiles.
        folder: folder of the monitoring result.
        store: store of the cube.
    """
    months = {month.month: month for month in known}
    grouped: dict[str, list[ImageProduct]] = {}
    for product in products:
        grouped.setdefault(month_of(product.datetime), []).append(product)
    for name, further in grouped.items():
        entries = {entry.label: entry for entry in _entries_of_month(months[name], store)} if name in months else {}
        for product in further:
            entries[product.label] = _fuller(entries.get(product.label), product, store)
        months[name] = _write_month(name, entries, folder, store)
    return [months[name] for name in sorted(months)]


def keys_of(manifest: MonitorManifest, store: Store) -> set[str]:
    """All keys of the cube that a manifest refers to, directly or through its months.

    Input images are not included.
    """
    keys: set[str] = set()
    for month in manifest.months:
        entries = _entries_of_month(month, store)
        keys |= {month.document, month.table, *(entry.document for entry in entries)}
        for product in _images_of(entries, store):
            folder = product.patches.rpartition("/")[0]
            keys |= {product.patches, product.patches_geojson}
            keys |= {f"{folder}/{name}" for name in product.checksums}
            keys |= {dataset.uri for tile in product.tiles for dataset in (tile.z, tile.change)}
    return keys


def _write_month(name: str, entries: Mapping[str, MonthImage], folder: str, store: Store) -> MonitorMonth:
    ordered = sorted(_images_of([*entries.values()], store), key=lambda product: (product.datetime, product.label))
    patches = [patch for product in ordered for patch in patches_of_image(product, store)]
    document = MonthOfImages(images=[entries[product.label] for product in ordered]).model_dump_json().encode()
    quality: Counter[str] = Counter()
    for product in ordered:
        quality.update(product.quality_px)
    judged = any(product.rejected for product in ordered)
    near = [(product.closest.rank, product.label, product.closest) for product in ordered if product.closest]
    _, closest_image, closest = max(near, default=((), "", None))
    return MonitorMonth(
        month=name,
        images=len(ordered),
        partial=sum(bool(product.quarantined) for product in ordered),
        changed=sum(product.patch_count > 0 for product in ordered),
        patches=len(patches),
        changed_area_m2=round(sum(located.patch.area_m2 for located in patches), 1),
        document=write_part(store, f"{folder}/months/{name}", ".json", document),
        table=write_part(store, f"{folder}/patches/{name}", ".parquet", patches_to_parquet(patches, judged=judged)),
        quality_px=dict(sorted(quality.items())),
        closest=closest,
        closest_image=closest_image,
        baselines=dict(sorted(Counter(product.baseline for product in ordered).items())),
        baseline=ordered[-1].baseline if ordered else "",
    )


def _fuller(known: MonthImage | None, product: ImageProduct, store: Store) -> MonthImage:
    """The entry of a product, or the known entry if it has the same inputs and lacks fewer tiles (a late duplicate)."""
    if known is not None:
        (earlier,) = _images_of([known], store)
        lacking, lacked = ({tile.cell for tile in image.quarantined} for image in (product, earlier))
        if earlier.content == product.content and lacked < lacking:
            return known
    stem = f"{product.patches.rpartition('/')[0]}/product"
    body = product.model_dump_json().encode()
    return MonthImage(label=product.label, document=write_part(store, stem, ".json", body))
