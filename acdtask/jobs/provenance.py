"""Provenance in a product's files: TIFF tags, and fields of STAC's processing extension.

Files do not contain the version of acd that wrote them, so a release that changes no pixels changes no file.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Any

from acdtask import __version__

__all__ = ["SOFTWARE", "processing_fields", "processing_provider", "tiff_tags"]

SOFTWARE = "acd"


def tiff_tags(title: str, datetime: dt.datetime, facts: Mapping[str, str]) -> dict[str, str]:
    """The TIFF tags of a GeoTIFF.

    `datetime` is that of the image, or the end of the period. `facts` are inputs and method, by lower-case names; empty
    values are omitted.

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
    """Properties of a STAC item about its processing.

    `lineage` describes the processing for people; `facts` are as in `tiff_tags`; `algorithm` is the name of the job and
    its `ALGORITHM`.
    """
    return {
        "processing:software": {SOFTWARE: algorithm},
        "processing:lineage": lineage,
        **{f"acd:{name}": value for name, value in facts.items() if value},
    }


def processing_provider(lineage: str) -> dict[str, Any]:
    """An entry of a collection's `providers` for acd."""
    return {
        "name": SOFTWARE,
        "roles": ["processor"],
        "processing:software": {SOFTWARE: __version__},
        "processing:lineage": lineage,
    }
