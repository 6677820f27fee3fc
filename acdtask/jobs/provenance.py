"""What a product's files say of their making: TIFF tags, and fields of STAC's processing extension.

Files say nothing of the version of acd that wrote them: a release that changes no pixels changes no file.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Any

from acdtask import __version__

__all__ = ["SOFTWARE", "processing_fields", "processing_provider", "tiff_tags"]

SOFTWARE = "acd"


def tiff_tags(title: str, datetime: dt.datetime, facts: Mapping[str, str]) -> dict[str, str]:
    """The metadata of a GeoTIFF.

    Args:
        title: a sentence for people.
        datetime: of the image, or the end of the period.
        facts: what it was made from and how, by lower-case names; empty values are left out.

    >>> tiff_tags("z", dt.datetime(2020, 1, 16, tzinfo=dt.UTC), {"baseline": "0f"})["ACD_BASELINE"]
    '0f'
    """
    return {
        "TIFFTAG_DATETIME": f"{datetime.astimezone(dt.UTC):%Y:%m:%d %H:%M:%S}",
        "TIFFTAG_SOFTWARE": SOFTWARE,
        "TIFFTAG_IMAGEDESCRIPTION": title,
        **{f"ACD_{name.upper()}": value for name, value in facts.items() if value},
    }


def processing_fields(lineage: str, facts: Mapping[str, str], algorithm: str) -> dict[str, Any]:
    """Properties of a STAC item.

    Args:
        lineage: how it was made, for people.
        facts: as for `tiff_tags`.
        algorithm: the job and its `ALGORITHM`.
    """
    return {
        "processing:software": {SOFTWARE: algorithm},
        "processing:lineage": lineage,
        **{f"acd:{name}": value for name, value in facts.items() if value},
    }


def processing_provider(lineage: str) -> dict[str, Any]:
    """Who made a collection, in its `providers`."""
    return {
        "name": SOFTWARE,
        "roles": ["processor"],
        "processing:software": {SOFTWARE: __version__},
        "processing:lineage": lineage,
    }
