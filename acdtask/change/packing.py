"""Small tables as bytes. Equal arrays give equal bytes."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["pack", "pack_rows", "unpack", "unpack_rows"]


def pack(**arrays: NDArray[Any]) -> bytes:
    """Pack arrays as a compressed npz without timestamps or pickles."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()


def unpack(data: bytes) -> dict[str, NDArray[Any]]:
    """The arrays packed by `pack`, by name."""
    with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
        return dict(arrays)


def pack_rows(rows: NDArray[np.void]) -> NDArray[np.uint8]:
    """Transpose a structured array to (bytes per row, rows). Equal bytes are then adjacent and compress far better."""
    return np.ascontiguousarray(rows.view(np.uint8).reshape(len(rows), rows.dtype.itemsize).T)


def unpack_rows(packed: NDArray[np.uint8], dtype: np.dtype[np.void]) -> NDArray[np.void]:
    """The structured array packed by `pack_rows`.

    >>> import numpy as np
    >>> rows = np.array([(1, 2.5), (3, 4.5)], dtype=[("a", "<i4"), ("b", "<f8")])
    >>> unpack_rows(pack_rows(rows), rows.dtype).tolist()
    [(1, 2.5), (3, 4.5)]
    """
    if packed.shape[0] != dtype.itemsize:
        raise ValueError(f"rows have {packed.shape[0]} bytes; {dtype} has {dtype.itemsize}")
    return np.ascontiguousarray(packed.T).view(dtype).reshape(-1)
