"""Baselines and changes as files: arrays and a few words about them, the same bytes for the same content."""

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

__all__ = ["Address", "place_of", "read_saved", "write_saved"]

Address: TypeAlias = str | os.PathLike[str]
"""A path, or an s3:// address."""

FORMAT = 1
WORDS = "acd"


def write_saved(address: Address, kind: str, words: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> None:
    """Write a file whole or not at all. ADDRESS_INVALID, STORE_DENIED, DISK_FULL.

    Args:
        address: of the file.
        kind: what it is.
        words: JSON.
        arrays: by name.
    """
    store, name = place_of(address)
    grid = words.get("grid")
    document = {**words, "kind": kind, "format": FORMAT, "grid": grid.model_dump(mode="json") if grid else None}
    text = np.frombuffer(json.dumps(document, sort_keys=True).encode(), np.uint8)
    store.put(name, pack(**{WORDS: text}, **arrays))


def read_saved(address: Address, kind: str) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """What `write_saved` was given. INPUT_MISSING, SAVED_UNREADABLE."""
    store, name = place_of(address)
    body = store.find(name)
    if body is None:
        raise AcdError(ErrorCode.INPUT_MISSING, f"there is no file {os.fspath(address)}", "Check the path.")
    try:
        arrays = unpack(body)
        words = json.loads(arrays.pop(WORDS).tobytes())
        form, found = int(words["format"]), str(words["kind"])
        words["grid"] = Grid.model_validate(words["grid"]) if words["grid"] else None
    except (ValueError, KeyError, TypeError, EOFError, OSError, zipfile.BadZipFile) as error:
        raise AcdError(ErrorCode.SAVED_UNREADABLE, f"{os.fspath(address)} cannot be read") from error
    if form > FORMAT:
        raise AcdError(
            ErrorCode.SAVED_UNREADABLE, f"{os.fspath(address)} was written by a newer acd", "Use that version of acd."
        )
    if found != kind:
        raise AcdError(ErrorCode.SAVED_UNREADABLE, f"{os.fspath(address)} is a {found}, not a {kind}")
    return words, arrays


def place_of(address: Address) -> tuple[Store, str]:
    """The store of a file, and the file's name there. ADDRESS_INVALID."""
    text = os.fspath(address)
    folder, _, name = text.rpartition("/")
    if not name:
        raise AcdError(ErrorCode.ADDRESS_INVALID, f"{text!r} names no file", "Give the path of a file.")
    return Store.at(folder or ("/" if text.startswith("/") else ".")), name
