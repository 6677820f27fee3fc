"""File names of products: product, area, variable, date and tile."""

from __future__ import annotations

import datetime as dt

from acdtask.raster.grid import Tile

__all__ = ["cell_part", "date_part", "period_part", "product_stem"]

LONGEST_PART = 80
"""Maximum length of an area's or variable's name in a file name. The folder has the full name."""


def product_stem(area: str, variable: str, product: str, when: str, cell: str = "") -> str:
    """The file name of a product without its extension. Without the cell, it is the same for all tiles of a date.

    >>> product_stem("koln", "CoherenceVV", "z", date_part("2020-01-04_2020-01-16"), "3_5")
    'z_koln_CoherenceVV_20200104_20200116_3_5'
    >>> product_stem("de/koln", "CoherenceVV", "", "20200116")
    'de_koln_CoherenceVV_20200116'
    """
    return "_".join(part for part in (product, _plain(area), _plain(variable), when, cell) if part)


def date_part(label: str) -> str:
    """The label of an image without hyphens.

    >>> date_part("2018-05-06_2018-06-11")
    '20180506_20180611'
    """
    return label.replace("-", "")


def period_part(start: dt.datetime, end: dt.datetime) -> str:
    """The first and the last day of a period, in UTC."""
    return "_".join(f"{moment.astimezone(dt.UTC):%Y%m%d}" for moment in (start, end))


def cell_part(tile: Tile) -> str:
    """The cell of a tile, for file names.

    >>> from acdtask.raster.grid import Layout, RegularGrid
    >>> cell_part(Layout(name="utm32", grid=RegularGrid(crs="EPSG:32632", resolution=20, cell_size=64)).tile(3, -5))
    '3_-5'
    """
    return f"{tile.i}_{tile.j}"


def _plain(name: str) -> str:
    """A name without '/' and ':', which not all file systems allow."""
    return name.replace("/", "_").replace(":", "_")[:LONGEST_PART]
