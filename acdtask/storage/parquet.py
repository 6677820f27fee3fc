"""Reading Parquet files that may be damaged, or something else altogether."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from arro3.io import read_parquet

from acdtask.storage.errors import is_panic

if TYPE_CHECKING:
    from arro3.core import Table

__all__ = ["read_table"]

MAGIC = b"PAR1"
SMALLEST = 12
"""Bytes of a file that has nothing but its magic numbers and a length."""


def read_table(data: bytes) -> Table:
    """The table of a Parquet file. ValueError if the file is damaged or no Parquet.

    >>> read_table(b"{}")
    Traceback (most recent call last):
    ...
    ValueError: it is not a Parquet file
    """
    if len(data) < SMALLEST or not (data.startswith(MAGIC) and data.endswith(MAGIC)):
        raise ValueError("it is not a Parquet file")
    try:
        return read_parquet(io.BytesIO(data)).read_all()
    except Exception as error:  # arro3 raises bare Exceptions of its own
        raise ValueError(f"it is damaged: {error}") from error
    except BaseException as error:
        if is_panic(error):
            raise ValueError(f"it is damaged: {error}") from error
        raise
