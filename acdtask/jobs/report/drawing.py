"""Drawing of the pictures of a baseline and of dates."""

from __future__ import annotations

from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.features import geometry_mask

from acdtask.change.zscore import Quality
from acdtask.jobs.products import (
    ImageProduct,
    baseline_variables,
    change_variable,
    z_variable,
)
from acdtask.jobs.quantity import physical_range
from acdtask.jobs.report import pictures
from acdtask.jobs.report.edition import DrawnDate
from acdtask.jobs.report.model import BaselinePage
from acdtask.jobs.report.score import KnownEvent
from acdtask.jobs.report.sources import Sources
from acdtask.jobs.transformed import transform_of
from acdtask.storage.store import Store

__all__ = ["REASONS", "Drawer", "baseline_folder"]

UNSEEN_SHARE = 0.5
REASONS = {
    Quality.NO_DATA: "the image has no data",
    Quality.TOO_FEW_IMAGES: "the baseline has too few images",
    Quality.STEADY: "the baseline hardly varies, so any change would look abnormal",
    Quality.NO_BASELINE: "the baseline has no image",
}


def baseline_folder(ground: str) -> str:
    """The folder of the baseline's pictures, below the report's folder."""
    return f"baseline-{ground}"


class Drawer:
    """Draws the pictures of one shard."""

    def __init__(self, sources: Sources, folder: Store) -> None:
        self._sources, self._folder = sources, folder
        self._cube = sources.site.cube
        self._ingested, self._variable = sources.ingested, sources.compared
        self._transform = transform_of(sources.ingested, sources.detection.transform)
        self._limits = physical_range(sources.compared)
        self._view = sources.view

    def baseline(self) -> BaselinePage:
        """Draw mean and standard deviation."""
        manifest = self._sources.baseline
        mean, std, count, _ = baseline_variables(self._variable)
        tiles = manifest.tiles
        name = baseline_folder(self._sources.ground)
        picture = self._view.read_physical(self._cube, [tile.mean for tile in tiles], mean)
        self._put(f"{name}/mean.png", pictures.coherence_png(picture, self._limits))
        picture = self._view.read_physical(self._cube, [tile.standard_deviation for tile in tiles], std)
        self._put(f"{name}/std.png", pictures.std_png(picture, self._limits))
        counts = np.nan_to_num(self._view.read(self._cube, [tile.count for tile in tiles], count, "nearest"))
        return BaselinePage(
            mean=f"{name}/mean.png",
            std=f"{name}/std.png",
            start=manifest.start.date(),
            end=manifest.last.date(),
            images=len(manifest.images),
            count_min=int(counts.min()),
            count_max=int(counts.max()),
        )

    def date(self, product: ImageProduct, folder: str) -> DrawnDate:
        """Draw image, z and patches of an image."""
        tiles, view, cube = product.tiles, self._view, self._cube
        ingested = view.read_physical(cube, self._sources.datasets(product), self._ingested)
        image: NDArray[Any] = ingested if self._transform is None else self._transform.of_physical(ingested)
        z = view.read_physical(cube, [tile.z for tile in tiles], z_variable(self._variable))
        change, quality = view.read(cube, [tile.change for tile in tiles], change_variable(self._variable), "nearest")
        events = [event for event in self._sources.events([product]) if event.dates]
        truth = self._burn(events) if events else None
        self._put(f"{folder}/image.png", pictures.coherence_png(image, self._limits))
        self._put(f"{folder}/z.png", pictures.z_png(z, both=self._sources.detection.direction == "both"))
        self._put(
            f"{folder}/patches.png",
            pictures.patches_png(image, change == 1, quality, [int(reason) for reason in REASONS], truth, self._limits),
        )
        return DrawnDate(folder=folder, unseen=tuple(event.id for event in events if self._is_unseen(event, quality)))

    def _put(self, name: str, picture: bytes) -> None:
        self._folder.put(name, picture)
        self._folder.put(pictures.paper_name(name), pictures.paper_jpeg(picture))

    def _burn(self, events: list[KnownEvent]) -> NDArray[np.bool_]:
        grid = self._view.grid
        affine = rasterio.Affine(*grid.transform)
        return np.asarray(geometry_mask([event.geometry for event in events], grid.shape, affine, invert=True))

    def _is_unseen(self, event: KnownEvent, quality: NDArray[Any]) -> bool:
        inside = quality[self._burn([event])]
        return bool(inside.size) and float(np.mean(inside != Quality.VALID)) > UNSEEN_SHARE
