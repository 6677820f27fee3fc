"""What crosses from one round to the next, as it comes out there."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from numpy.typing import NDArray

from acdtask.change.fragments import FragmentTable
from acdtask.jobs.codec import DataclassOfArrays, decode, encode
from acdtask.jobs.monitor.label import ImageBlobs

__all__ = ["blobs_crossed", "crossed", "table_bytes"]

Table = Annotated[FragmentTable, DataclassOfArrays()]


def table_bytes(table: FragmentTable) -> bytes:
    """A table as it is stored."""
    return encode(table, Table)


def crossed(table: FragmentTable) -> FragmentTable:
    """A table, stored and read."""
    return decode(table_bytes(table), Table)


def blobs_crossed(blobs: NDArray[np.void]) -> NDArray[np.void]:
    """Blobs, stored and read."""
    return decode(encode(ImageBlobs(blobs=blobs), ImageBlobs), ImageBlobs).blobs
