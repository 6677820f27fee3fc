"""Columns of text and time in the tables of the index."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, TypeAlias

import numpy as np
from arro3.core import Array, DataType, Table
from numpy.typing import NDArray

__all__ = ["EPOCH", "Strings", "column_of", "microseconds", "strings", "text_column"]

Strings: TypeAlias = NDArray[np.object_]

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def strings(values: Sequence[Any] | NDArray[Any]) -> Strings:
    """A one-dimensional array of Python objects."""
    column = np.empty(len(values), dtype=object)
    column[:] = values
    return column


def text_column(column: Strings) -> Array:
    """A column of strings for Parquet."""
    return Array(column.tolist(), type=DataType.string())


def column_of(table: Table, name: str) -> Strings:
    """The values of a table's column as Python objects."""
    return strings(table.column(name).to_pylist())


def microseconds(moment: datetime) -> int:
    """Microseconds since 1970."""
    return (moment - EPOCH) // timedelta(microseconds=1)
