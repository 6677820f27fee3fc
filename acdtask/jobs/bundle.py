"""Several byte strings as one, with the same bytes for the same content: what rounds hand to each other."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["array_from_bytes", "array_to_bytes", "pack", "unpack"]

_EPOCH = (1980, 1, 1, 0, 0, 0)


def pack(parts: Mapping[str, bytes]) -> bytes:
    """A ZIP of the parts, sorted by name, without times.

    >>> unpack(pack({"b": b"2", "a": b"1"}))
    {'a': b'1', 'b': b'2'}
    """
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as bundle:
        for name in sorted(parts):
            bundle.writestr(zipfile.ZipInfo(name, _EPOCH), parts[name], zipfile.ZIP_DEFLATED, compresslevel=1)
    return buffer.getvalue()


def unpack(data: bytes) -> dict[str, bytes]:
    """What `pack` packed."""
    with zipfile.ZipFile(io.BytesIO(data)) as bundle:
        return {name: bundle.read(name) for name in bundle.namelist()}


def array_to_bytes(array: NDArray[Any]) -> bytes:
    """An array with its type and shape."""
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def array_from_bytes(data: bytes) -> NDArray[Any]:
    """What `array_to_bytes` wrote."""
    return np.asarray(np.load(io.BytesIO(data), allow_pickle=False))
