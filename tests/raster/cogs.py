"""Images of tests, in a store."""

from __future__ import annotations

from typing import Any

from acdtask.raster.checksums import checksum_of
from acdtask.raster.cog import encode_cog
from acdtask.raster.data_format import Pixels
from acdtask.raster.grid import Grid
from acdtask.storage.store import Store


def write_cog(store: Store, key: str, bands: Pixels, grid: Grid, **options: Any) -> str:
    """Write an array with `encode_cog`, which gets the options; returns the checksum of the file."""
    data = encode_cog(bands, grid, **options)
    store.put(key, data)
    return checksum_of(data)
