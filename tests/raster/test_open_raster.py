"""Rasters are opened in one place, with allowed drivers only."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from acdtask.errors import AcdError, ErrorCode
from acdtask.raster.open_raster import open_raster
from acdtask.storage.roots import Roots
from acdtask.storage.store import Store
from tests.conftest import CHECKOUT
from tests.jobs.rasters import good_pixels, write_tiff

OPENS = re.compile(r"rasterio\.open\(|DatasetReader\(|rasterio\.shutil\.copy\(|WarpedVRT\(")
MAY_OPEN = {"acdtask/raster/open_raster.py", "acdtask/raster/cog.py"}
"""cog.py only writes rasters, and copies those that it wrote."""


def test_no_other_module_opens_a_raster() -> None:
    opening = {
        path.relative_to(CHECKOUT).as_posix()
        for path in (CHECKOUT / "acdtask").rglob("*.py")
        if OPENS.search(path.read_text())
    }
    assert opening == MAY_OPEN


@pytest.mark.parametrize("path", ["/vsicurl/http://127.0.0.1:1/a.tif", "/vsizip/a.zip", "/vsistdin/"])
def test_a_virtual_path_of_gdal_is_refused_even_without_roots(path: str) -> None:
    with pytest.raises(AcdError) as caught:
        open_raster(path)
    assert caught.value.code is ErrorCode.ADDRESS_MALFORMED


def test_the_error_for_a_file_that_cannot_be_opened_has_the_given_path(tmp_path: Path) -> None:
    (tmp_path / "text.tif").write_text("not a raster")
    for path in (tmp_path / "text.tif", tmp_path / "lost.tif"):
        with pytest.raises(OSError, match=re.escape(str(path))) as caught:
            open_raster(str(path), roots=Roots((str(tmp_path),)))
        assert "/proc/" not in str(caught.value)


def test_a_root_may_be_a_link_or_the_whole_disk(tmp_path: Path) -> None:
    path = write_tiff(tmp_path / "disk/a.tif", good_pixels())
    (tmp_path / "data").symlink_to(tmp_path / "disk")
    for root in (str(tmp_path / "data"), "/"):
        store = Store.at(str(tmp_path / "cube")).confined([root])
        resolved = store.gdal_path(str(tmp_path / "data/a.tif"))
        assert resolved == str(path)
        with open_raster(resolved, roots=store.roots) as raster:
            assert raster.shape == (32, 32)
