"""The files that a cube names, in its index and in the manifests of its products."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from acdtask.cube.local.cube import LocalCube
from acdtask.cube.model import Dataset
from acdtask.jobs.monitor.months import images_of_month
from acdtask.jobs.parts import digest_in
from acdtask.jobs.products import BaselineManifest, MonitorManifest
from acdtask.maintenance.references import read_version
from acdtask.raster.checksums import SHA256
from acdtask.storage.store import Store

__all__ = ["Kind", "NamedFile", "named_files", "product_folder"]

Kind = Literal["image", "consolidated", "baseline", "monitor", "other"]

PRODUCT = re.compile(r"products/.+?/(?P<job>baseline|monitor)/[0-9a-f]{16}(?=/)")
MANIFEST = re.compile(PRODUCT.pattern + r"/manifests/(?P<number>\d+)\.json")


@dataclass(frozen=True)
class NamedFile:
    """A file, or a consolidated container, that a cube names.

    Attributes:
        key: its key, or an address outside the cube.
        kind: what wrote it.
        dataset: one that it holds; None for a document.
        digest: of a document: its SHA-256 as a multihash, or the first half of it.
    """

    key: str
    kind: Kind
    dataset: Dataset | None = None
    digest: str = ""

    @property
    def checksum(self) -> str:
        """Its checksum, or how that begins; empty if it has none."""
        return self.dataset.checksum if self.dataset else self.digest


def named_files(cube: LocalCube) -> list[NamedFile]:
    """Every file that the newest head and the newest manifests name, once, by kind and key. CUBE_DAMAGED."""
    datasets = [
        dataset
        for variable in cube.variables()
        for instance in cube.instances(variable.name)
        for dataset in cube.datasets(variable.name, instance.name)
    ]
    files: dict[str, NamedFile] = {}
    for file in map(_file_of, datasets):
        _add(files, file)
    for manifest in _manifests(cube.store):
        for file in _files_of_product(cube.store, manifest):
            _add(files, file)
    order: list[Kind] = ["image", "consolidated", "baseline", "monitor", "other"]
    return sorted(files.values(), key=lambda file: (order.index(file.kind), file.key))


def product_folder(key: str) -> str:
    """The folder of the baseline or monitoring result that a key is part of; empty if it is part of none.

    >>> product_folder("products/koln/baseline/0123456789abcdef/mean_koln_CoherenceVV_20200101_20201231_3_4.tif")
    'products/koln/baseline/0123456789abcdef'
    """
    match = PRODUCT.match(key)
    return match.group() if match else ""


def _add(files: dict[str, NamedFile], file: NamedFile) -> None:
    """Add a file; of several datasets in a file one with a checksum counts."""
    known = files.get(file.key)
    if known is None or not known.checksum:
        files[file.key] = file


def _kind_of(key: str) -> Kind:
    if key.startswith("data/"):
        return "image"
    if key.startswith("consolidated/"):
        return "consolidated"
    match = PRODUCT.match(key)
    if match is None:
        return "other"
    return "baseline" if match["job"] == "baseline" else "monitor"


def _manifests(store: Store) -> list[str]:
    """The newest manifest of each product."""
    newest: dict[str, tuple[int, str]] = {}
    for key in store.list("products"):
        match = MANIFEST.fullmatch(key)
        if match:
            folder = product_folder(key)
            newest[folder] = max(newest.get(folder, (0, "")), (int(match["number"]), key))
    return [key for _, key in sorted(newest.values())]


def _files_of_product(store: Store, key: str) -> Iterator[NamedFile]:
    """The files that a manifest names, through its months too. PRODUCT_DAMAGED, CUBE_DAMAGED."""
    body = read_version(store, key)
    if body is None:
        return
    if _kind_of(key) == "baseline":
        baseline = BaselineManifest.model_validate_json(body)
        for tile in baseline.tiles:
            yield from map(_file_of, (tile.mean, tile.standard_deviation, tile.count, tile.moments))
            if tile.item:
                yield NamedFile(tile.item, "baseline", digest=SHA256 + tile.item_checksum)
        for key, digest in baseline.files.items():
            yield NamedFile(key, "baseline", digest=SHA256 + digest)
        return
    for month in MonitorManifest.model_validate_json(body).months:
        yield NamedFile(month.table, "monitor", digest=SHA256 + digest_in(month.table))
        for image in images_of_month(month, store):
            yield from (_file_of(dataset) for tile in image.tiles for dataset in (tile.z, tile.change))
            folder = image.patches.rpartition("/")[0]
            for name, digest in image.checksums.items():
                yield NamedFile(f"{folder}/{name}", "monitor", digest=SHA256 + digest)


def _file_of(dataset: Dataset) -> NamedFile:
    return NamedFile(dataset.uri, _kind_of(dataset.uri), dataset)
