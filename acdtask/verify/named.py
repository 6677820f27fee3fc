"""The files that a cube names, in its index and in the manifests of its products."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

from acdtask.cube.local.blocks import SHA256
from acdtask.cube.local.cube import LocalCube
from acdtask.cube.local.seal import unseal
from acdtask.cube.local.store import Store
from acdtask.cube.model import Dataset
from acdtask.jobs.parts import read_part

__all__ = ["Kind", "NamedFile", "named_files", "product_folder"]

Kind = Literal["image", "consolidated", "baseline", "monitor", "other"]

PRODUCT = re.compile(r"products/.+?/(?P<job>baseline|monitor)/[0-9a-f]{16}(?=/)")
MANIFEST = re.compile(PRODUCT.pattern + r"/manifests/(?P<number>\d+)\.json")
PART = re.compile(r"-([0-9a-f]{32})\.[a-z]+$")
DOCUMENTS = (".parquet", ".geojson")


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
    for dataset in datasets:
        _add(files, dataset)
    for manifest in _manifests(cube.store):
        for name in _names_in(cube.store, manifest, product_folder(manifest)):
            if isinstance(name, Dataset):
                _add(files, name)
            elif name.digest or name.key not in files:
                files[name.key] = name
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


def _names_in(store: Store, key: str, folder: str) -> Iterator[Dataset | NamedFile]:
    """The product's own datasets and documents that a JSON document names, and those that its parts name.

    CUBE_DAMAGED if the document, or a part of it, is damaged.
    """
    for value in _values(_read_document(store, key)):
        if isinstance(value, Dataset):
            if value.uri.startswith(f"{folder}/"):
                yield value
        elif isinstance(value, NamedFile):
            yield value
        elif value.endswith(DOCUMENTS):
            name = _key_of(value, folder)
            part = PART.search(name)
            yield NamedFile(name, _kind_of(name), digest=SHA256 + part[1] if part else "")
        elif value.endswith(".json") and store.exists(_key_of(value, folder)):
            yield from _names_in(store, _key_of(value, folder), folder)


def _read_document(store: Store, key: str) -> Any:
    """A manifest, whose last member is its checksum, or a part, whose name ends with its digest. CUBE_DAMAGED."""
    if PART.search(key):
        return json.loads(read_part(store, key))
    return json.loads(unseal(store.get(key), store.address_of(key)))


def _key_of(text: str, folder: str) -> str:
    return text if text.startswith("products/") else f"{folder}/{text}"


def _values(value: Any) -> Iterator[Dataset | NamedFile | str]:
    """The datasets, tables with their digests, and texts anywhere in a document."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict) and {"uri", "dformat", "record_id"} <= value.keys():
        yield Dataset.model_validate(value)
    else:
        if isinstance(value, dict) and {"patches", "checksums"} <= value.keys():
            yield from _tables(value)
        members: Iterable[Any] = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
        for member in members:
            yield from _values(member)


def _tables(product: dict[str, Any]) -> Iterator[NamedFile]:
    """The tables of an image's patches."""
    folder = str(product["patches"]).rpartition("/")[0]
    for name, digest in product["checksums"].items():
        key = f"{folder}/{name}"
        yield NamedFile(key, _kind_of(key), digest=f"{SHA256}{digest}")
