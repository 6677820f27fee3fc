"""Files named by a cube's index and by the manifests of its products."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, cast

from acdtask.cube.local.cube import LocalCube
from acdtask.cube.model import Dataset
from acdtask.errors import AcdError, ErrorCode
from acdtask.jobs.fuse.content import FusionManifest
from acdtask.jobs.fuse.months import keys_of_month, parse_fusion
from acdtask.jobs.monitor.months import images_of_month
from acdtask.jobs.parts import digest_in
from acdtask.jobs.products import BaselineManifest, MonitorManifest
from acdtask.maintenance.references import read_version
from acdtask.raster.checksums import SHA256
from acdtask.storage.store import Store

__all__ = ["Kind", "NamedFile", "named_files", "product_folder"]

Kind = Literal["image", "consolidated", "baseline", "monitor", "fuse", "other"]

PRODUCT = re.compile(r"products/.+?/(?P<job>baseline|monitor|fuse)/[0-9a-f]{16}(?=/)")
MANIFEST = re.compile(PRODUCT.pattern + r"/manifests/(?P<number>\d+)\.json")


@dataclass(frozen=True)
class NamedFile:
    """A file or consolidated container named by a cube.

    Attributes:
        key: its key, or an address outside the cube.
        kind: what wrote it.
        dataset: a dataset in the file; None for a document.
        digest: a document's SHA-256 as a multihash, or the first half of it.
    """

    key: str
    kind: Kind
    dataset: Dataset | None = None
    digest: str = ""

    @property
    def checksum(self) -> str:
        """The file's checksum or its beginning; empty if it has none."""
        return self.dataset.checksum if self.dataset else self.digest


def named_files(cube: LocalCube) -> list[NamedFile]:
    """List each file named by the newest head and manifests once, by kind and key. CUBE_DAMAGED."""
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
    order: list[Kind] = ["image", "consolidated", "baseline", "monitor", "fuse", "other"]
    return sorted(files.values(), key=lambda file: (order.index(file.kind), file.key))


def product_folder(key: str) -> str:
    """The folder of the baseline, monitoring result or fusion that contains a key; empty if there is none.

    >>> product_folder("products/koln/baseline/0123456789abcdef/mean_koln_CoherenceVV_20200101_20201231_3_4.tif")
    'products/koln/baseline/0123456789abcdef'
    """
    match = PRODUCT.match(key)
    return match.group() if match else ""


def _add(files: dict[str, NamedFile], file: NamedFile) -> None:
    """Add a file. Of several datasets in one file, one with a checksum takes precedence."""
    known = files.get(file.key)
    if known is None or not known.checksum:
        files[file.key] = file


def _kind_of(key: str) -> Kind:
    if key.startswith("data/"):
        return "image"
    if key.startswith("consolidated/"):
        return "consolidated"
    match = PRODUCT.match(key)
    return cast("Kind", match["job"]) if match else "other"


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
    """The files named by a manifest and its months. PRODUCT_DAMAGED, CUBE_DAMAGED."""
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
    if _kind_of(key) == "fuse":
        yield from _files_of_fusion(store, parse_fusion(body, store))
        return
    for month in MonitorManifest.model_validate_json(body).months:
        yield NamedFile(month.table, "monitor", digest=SHA256 + digest_in(month.table))
        for image in images_of_month(month, store):
            yield from (_file_of(dataset) for tile in image.tiles for dataset in (tile.z, tile.change))
            folder = image.patches.rpartition("/")[0]
            for name, digest in image.checksums.items():
                yield NamedFile(f"{folder}/{name}", "monitor", digest=SHA256 + digest)


def _files_of_fusion(store: Store, manifest: FusionManifest) -> Iterator[NamedFile]:
    """The parts of a fusion, each with its digest in its name; of a month that cannot be read, without its windows."""
    for month in manifest.months:
        try:
            keys = keys_of_month(month, store)
        except AcdError as error:
            if error.code is not ErrorCode.PRODUCT_DAMAGED:
                raise
            keys = {month.document, month.parquet, month.geojson, month.rejected}
        yield from (NamedFile(key, "fuse", digest=SHA256 + digest_in(key)) for key in sorted(keys))


def _file_of(dataset: Dataset) -> NamedFile:
    return NamedFile(dataset.uri, _kind_of(dataset.uri), dataset)
