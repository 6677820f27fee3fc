"""Save baselines and changes: arrays and metadata in one file, with equal bytes for equal content."""

from __future__ import annotations

import json
import os
import zipfile
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from acdtask.change.packing import pack, unpack
from acdtask.errors import AcdError, ErrorCode
from acdtask.raster.grid import Grid
from acdtask.storage.store import Store

__all__ = ["Address", "read_saved", "store_and_name", "write_saved"]

Address: TypeAlias = str | os.PathLike[str]
"""A path, or an s3:// address."""

FORMAT = 1
METADATA = "acd"


def write_saved(address: Address, kind: str, metadata: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> None:
    """Write a file atomically. ADDRESS_INVALID, STORE_DENIED, DISK_FULL.

    `kind` is the kind of the content, such as "baseline". `metadata` are JSON values, and a `Grid` under "grid".
    """
    store, name = store_and_name(address)
    grid = metadata.get("grid")
    document = {**metadata, "kind": kind, "format": FORMAT, "grid": grid.model_dump(mode="json") if grid else None}
    text = np.frombuffer(json.dumps(document, sort_keys=True).encode(), np.uint8)
    store.put(name, pack(**{METADATA: text}, **arrays))


def read_saved(address: Address, kind: str) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Read metadata and arrays written by `write_saved`. INPUT_MISSING, SAVED_UNREADABLE."""
    store, name = store_and_name(address)
    body = store.find(name)
    if body is None:
        raise AcdError(ErrorCode.INPUT_MISSING, f"there is no file {os.fspath(address)}", "Check the path.")
    try:
        arrays = unpack(body)
        metadata = json.loads(arrays.pop(METADATA).tobytes())
        version, saved_kind = int(metadata["format"]), str(metadata["kind"])
        metadata["grid"] = Grid.model_validate(metadata["grid"]) if metadata["grid"] else None
    except (ValueError, KeyError, TypeError, EOFError, OSError, zipfile.BadZipFile) as error:
        raise AcdError(ErrorCode.SAVED_UNREADABLE, f"{os.fspath(address)} cannot be read") from error
    if version > FORMAT:
        raise AcdError(
            ErrorCode.SAVED_UNREADABLE,
            f"{os.fspath(address)} was written by a newer acd",
            "Use that version, or a newer one.",
        )
    if saved_kind != kind:
        raise AcdError(ErrorCode.SAVED_UNREADABLE, f"{os.fspath(address)} is a {saved_kind}, not a {kind}")
    return metadata, arrays


def store_and_name(address: Address) -> tuple[Store, str]:
    """Split an address into the store of its folder and the name of the file. ADDRESS_INVALID."""
    text = os.fspath(address)
    folder, _, name = text.rpartition("/")
    if not name:
        raise AcdError(ErrorCode.ADDRESS_INVALID, f"{text!r} names no file", "Give the path of a file.")
    return Store.at(folder or ("/" if text.startswith("/") else ".")), name
