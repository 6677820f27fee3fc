"""Files that a cube's documents refer to and that must be kept as long as the document is."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import unquote, urlsplit

from pydantic import ValidationError

from acdtask.errors import AcdError, ErrorCode
from acdtask.jobs.catalogue import COLLECTION
from acdtask.jobs.fuse.content import FusionManifest
from acdtask.jobs.fuse.months import keys_of as keys_of_fusion
from acdtask.jobs.manifests import NumberedChain
from acdtask.jobs.monitor.documents import keys_of_catalogue
from acdtask.jobs.monitor.months import keys_of as keys_of_monitor
from acdtask.jobs.products import MonitorManifest
from acdtask.jobs.report.edition import Edition
from acdtask.jobs.report.edition import keys_of as keys_of_edition
from acdtask.storage.store import Store

__all__ = ["PRODUCT", "Names", "key_of", "names_in_json", "names_of_manifest", "read_version", "unsure_if_damaged"]

OWN = ("data/", "consolidated/", "products/")
"""Folders of a cube whose files documents refer to."""

PRODUCT = re.compile(r"products/.+?/(?P<job>baseline|monitor|report|fuse)/[0-9a-f]{16}(-partial)?/")
"""Matches the folder of a product at the beginning of a key."""


class Names:
    """A set of keys and folders of a store. It contains a key if that, or a folder above it, was added.

    >>> names = Names(["products/a/z.tif", "consolidated/utm/b.zarr"])
    >>> [key in names for key in ("products/a/z.tif", "consolidated/utm/b.zarr/c/0", "products/a/y.tif")]
    [True, True, False]
    """

    def __init__(self, keys: Iterable[str] = ()) -> None:
        self._keys: set[str] = set()
        self._folders: set[str] = set()
        self.add(keys)

    def add(self, keys: Iterable[str]) -> None:
        """Add keys, or folders without trailing slash."""
        for key in keys:
            self._keys.add(key)
            self._folders.add(key.rpartition("/")[0])

    def __contains__(self, key: str) -> bool:
        end = len(key)
        while end > 0:
            if key[:end] in self._keys:
                return True
            end = key.rfind("/", 0, end)
        return False

    def __iter__(self) -> Iterator[str]:
        return iter(self._keys)

    def has_beside(self, key: str) -> bool:
        """Whether a key in the same folder was added."""
        return key.rpartition("/")[0] in self._folders


def names_in_json(body: bytes, store: Store, key: str = "") -> set[str]:
    """The keys that appear anywhere in a JSON document; absolute addresses below the store count as keys.

    TIDY_UNSURE, naming the document's key, if it is not JSON.
    """
    try:
        document = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise AcdError(ErrorCode.TIDY_UNSURE, f"{store.address_of(key)} is damaged") from error
    return {name for text in _texts(document) for name in _keys_of(text, store)}


def names_of_manifest(store: Store, key: str) -> set[str]:
    """The keys below `products/` that a product's document refers to, directly or through its months.

    The document is a manifest of a baseline, monitor or fusion, or an edition of a report. Input images are not
    included: the index knows where their pixels are. TIDY_UNSURE if the document or one of its months is damaged. A
    missing document refers to nothing: another tidy has removed it.
    """
    with unsure_if_damaged():
        body = read_version(store, key)
        if body is None:
            return set()
        names = names_in_json(body, store, key) | _names_of_months(body, key, store)
    if "/baseline/" in key:
        names.add(f"{key.rpartition('/manifests/')[0]}/{COLLECTION}")
    return {name for name in names if name.startswith("products/")}


@contextmanager
def unsure_if_damaged() -> Iterator[None]:
    """Turn CUBE_DAMAGED and PRODUCT_DAMAGED into TIDY_UNSURE."""
    try:
        yield
    except AcdError as error:
        if error.code in (ErrorCode.CUBE_DAMAGED, ErrorCode.PRODUCT_DAMAGED):
            raise AcdError(ErrorCode.TIDY_UNSURE, error.detail) from error
        raise


def read_version(store: Store, key: str) -> bytes | None:
    """Read a version of a product's document as jobs do; None if it is missing. PRODUCT_DAMAGED."""
    parent, _, name = key.removeprefix("products/").rpartition("/")
    area, job, content_id, folder = parent.rsplit("/", 3)
    number, _, ending = name.partition(".")
    return NumberedChain(store, area, job, f"{content_id}/{folder}", f".{ending}").version(int(number))


def _names_of_months(body: bytes, key: str, store: Store) -> set[str]:
    """The keys that the months of a product refer to; empty for acd 0.1.0, which has no months."""
    try:
        if "/monitor/" in key:
            manifest = MonitorManifest.model_validate_json(body)
            return keys_of_monitor(manifest, store) | keys_of_catalogue(manifest)
        if "/report/" in key:
            return keys_of_edition(Edition.model_validate_json(body), store)
        if "/fuse/" in key:
            return keys_of_fusion(FusionManifest.model_validate_json(body), store)
    except ValidationError:
        pass
    return set()


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for member in value.values():
            yield from _texts(member)
    elif isinstance(value, list):
        for member in value:
            yield from _texts(member)


def key_of(uri: str, store: Store) -> str:
    """The key of a file of the cube given by its address, also through a symlink. Others are returned unchanged.

    >>> key_of("file:///cubes/my%20cube/data/a.tif", Store.at("/cubes/my cube"))
    'data/a.tif'
    >>> key_of("s3://other/data/a.tif", Store.at("s3://bucket"))
    's3://other/data/a.tif'
    """
    if not store.is_folder or not uri.startswith(("/", "file://")):
        return uri.removeprefix(f"{store.url}/")
    path = os.path.normpath(unquote(urlsplit(uri).path) if uri.startswith("file://") else uri)
    root = f"{store.url}/"
    if path.startswith(root):
        return path.removeprefix(root)
    return os.path.realpath(path).removeprefix(f"{os.path.realpath(store.url)}/")


def _keys_of(text: str, store: Store) -> Iterator[str]:
    key = key_of(text, store)
    if key.startswith(OWN):
        yield key.rstrip("/")
