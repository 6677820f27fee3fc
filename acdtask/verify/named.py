"""The files that a cube names, in its index and in the manifests of its products."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

from acdtask.cube.local.cube import LocalCube
from acdtask.cube.local.store import Store
from acdtask.cube.model import Dataset
from acdtask.errors import AcdError, ErrorCode

__all__ = ["Kind", "NamedFile", "named_files", "product_folder"]

Kind = Literal["image", "consolidated", "baseline", "monitor", "other"]

PRODUCT = re.compile(r"products/.+?/(?P<job>baseline|monitor)/[0-9a-f]{16}(?=/)")
MANIFEST = re.compile(PRODUCT.pattern + r"/manifests/(?P<number>\d+)\.json")
DOCUMENTS = (".parquet", ".geojson")


@dataclass(frozen=True)
class NamedFile:
    """A file, or a consolidated container, that a cube names.

    Attributes:
        key: its key, or an address outside the cube.
        kind: what wrote it.
        dataset: one that it holds; None for a document.
    """

    key: str
    kind: Kind
    dataset: Dataset | None = None

    @property
    def checksum(self) -> str:
        """Its checksum, if it has one."""
        return self.dataset.checksum if self.dataset else ""


def named_files(cube: LocalCube) -> list[NamedFile]:
    """Every file that the newest head and the newest manifests name, once, by kind and key. CUBE_DAMAGED."""
    datasets = [
        dataset
        for variable in cube.variables()
        for instance in cube.instances(variable.name)
        for dataset in cube.datasets(variable.name, instance.name)
    ]
    files: dict[str, NamedFile] = {}
    for dataset in datasets:
        _add(files, dataset)
    for manifest in _manifests(cube.store):
        for name in _names_in(cube.store, manifest, product_folder(manifest)):
            if isinstance(name, Dataset):
                _add(files, name)
            else:
                files.setdefault(name, NamedFile(name, _kind_of(name)))
    order: list[Kind] = ["image", "consolidated", "baseline", "monitor", "other"]
    return sorted(files.values(), key=lambda file: (order.index(file.kind), file.key))


def product_folder(key: str) -> str:
    """The folder of the baseline or monitoring result that a key is part of; empty if it is part of none.

    >>> product_folder("products/koln/baseline/0123456789abcdef/3_4/mean.tif")
    'products/koln/baseline/0123456789abcdef'
    """
    match = PRODUCT.match(key)
    return match.group() if match else ""


def _add(files: dict[str, NamedFile], dataset: Dataset) -> None:
    """Add the file of a dataset; of several datasets in a file one with a checksum counts."""
    known = files.get(dataset.uri)
    if known is None or not known.checksum:
        files[dataset.uri] = NamedFile(dataset.uri, _kind_of(dataset.uri), dataset)


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


def _names_in(store: Store, key: str, folder: str) -> Iterator[Dataset | str]:
    """The product's own datasets and documents that a JSON document names, and those that its parts name."""
    try:
        document = json.loads(store.get(key))
    except ValueError as error:
        raise AcdError(ErrorCode.CUBE_DAMAGED, f"{store.address_of(key)} is damaged") from error
    for value in _values(document):
        if isinstance(value, Dataset):
            if value.uri.startswith(f"{folder}/"):
                yield value
        elif value.endswith(DOCUMENTS):
            yield _key_of(value, folder)
        elif value.endswith(".json") and store.exists(_key_of(value, folder)):
            yield from _names_in(store, _key_of(value, folder), folder)


def _key_of(text: str, folder: str) -> str:
    return text if text.startswith("products/") else f"{folder}/{text}"


def _values(value: Any) -> Iterator[Dataset | str]:
    """The datasets and texts anywhere in a document."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict) and {"uri", "dformat", "record_id"} <= value.keys():
        yield Dataset.model_validate(value)
    else:
        members: Iterable[Any] = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
        for member in members:
            yield from _values(member)
