"""Comparing cubes that were made with other versions of Python and of libraries: a report's page names them."""

from __future__ import annotations

import re
from pathlib import Path

from tests.jobs.chain import digests

__all__ = ["NAMED_AFTER_PAGE", "digests_but_of_pages", "page_without_versions"]

NAMED_AFTER_PAGE = re.compile(r"index\.html|pages/index-\w+\.html|editions/\d+\.json")
"""In the folder of a report: the page, and what is named after its bytes or names them."""

_REPORT = re.compile(r"products/[^/]+/report/[^/]+/(?P<file>.+)")
_VERSION = re.compile(
    r'(<th scope="row">(?:acd|gdal|numpy|obstore|python|rasterio|scipy|shapely|zarr)</th><td>)\d[\w.]*(</td>)'
)


def digests_but_of_pages(cube: Path) -> dict[str, str]:
    """The digests of all files of a cube but the report's page and what is named after it."""
    return {
        name: digest
        for name, digest in digests(cube).items()
        if not ((found := _REPORT.fullmatch(name)) and NAMED_AFTER_PAGE.fullmatch(found["file"]))
    }


def page_without_versions(page: str) -> str:
    """The text of a report's page."""
    text, count = _VERSION.subn(r"\1\2", page)
    assert count >= 5, "the page says which versions it was made with"
    return text
