"""VRTs to be ingested may only refer to rasters below their folder."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from acdtask.errors import AcdError, ErrorCode
from acdtask.raster.source_files import Masks, read_header, read_masked_strips
from acdtask.raster.vrt import check_vrt
from acdtask.storage.store import Store
from tests.jobs.rasters import good_pixels, write_tiff
from tests.storage.forbidden import SECRET_TEXT, canary_server, mosaic_vrt, raw_vrt

SIZE = 32
PYTHON = (
    "<PixelFunctionType>f</PixelFunctionType><PixelFunctionLanguage>Python</PixelFunctionLanguage>"
    "<PixelFunctionCode>import os; os.system('touch /tmp/owned')</PixelFunctionCode>"
)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A folder with a GeoTIFF, and a secret beside the folder."""
    write_tiff(tmp_path / "source/a.tif", good_pixels(1, SIZE))
    write_tiff(tmp_path / "outside/secret.tif", good_pixels(2, SIZE))
    (tmp_path / "outside/secret.txt").write_text(SECRET_TEXT * 100)
    return tmp_path / "source"


def write(source: Path, text: str, name: str = "a.vrt") -> str:
    path = source / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    return str(path)


def refusal(address: str, source: Path) -> str:
    with pytest.raises(AcdError) as caught:
        check_vrt(address, str(source))
    assert caught.value.code is ErrorCode.INPUT_REFERS_OUTSIDE, caught.value
    return caught.value.detail


def mosaic(name: Path | str, *, relative: bool = True, more: str = "") -> str:
    return mosaic_vrt(name, SIZE, SIZE, relative=relative, dtype="Float32", more=more)


@pytest.mark.parametrize("name", ["a.tif", "./a.tif", "sub/../a.tif", "../source/a.tif"])
def test_a_mosaic_of_files_below_the_folder_is_read(source: Path, name: str) -> None:
    (source / "sub").mkdir()
    address = write(source, mosaic(name))
    store = Store.at(str(source))
    assert read_header(store, address, str(source)).grid.shape == (SIZE, SIZE)
    ((_, strip, _),) = read_masked_strips(store, address, 1, Masks(), str(source))
    np.testing.assert_array_equal(strip, good_pixels(1, SIZE))


def test_an_absolute_path_and_a_vrt_within_a_vrt_are_followed(source: Path) -> None:
    write(source, mosaic(source / "a.tif", relative=False), "sub/inner.vrt")
    address = write(source, mosaic("sub/inner.vrt"))
    ((_, strip, _),) = read_masked_strips(Store.at(str(source)), address, 1, Masks(), str(source))
    np.testing.assert_array_equal(strip, good_pixels(1, SIZE))


def test_without_a_folder_no_vrt_is_read(source: Path) -> None:
    address = write(source, mosaic("a.tif"))
    with pytest.raises(AcdError) as caught:
        read_header(Store.at(str(source)), address)
    assert caught.value.code is ErrorCode.INPUT_UNREADABLE


@pytest.mark.parametrize(
    "name",
    [
        "../outside/secret.tif",
        "sub/../../outside/secret.tif",
        "link.tif",
        "folder/secret.tif",
        "GTIFF_DIR:1:a.tif",
        "vrt://a.tif",
        " a.tif",
        "a.tif&#10;",
        "a.tif&#47;..&#47;..&#47;outside/secret.tif",
    ],
)
def test_a_relative_reference_that_leads_out_is_refused(source: Path, name: str) -> None:
    (source / "link.tif").symlink_to(source.parent / "outside/secret.tif")
    (source / "folder").symlink_to(source.parent / "outside")
    address = write(source, mosaic(name))
    assert refusal(address, source).startswith(f"{address} refers to ")


@pytest.mark.parametrize(
    "name",
    [
        "{outside}/secret.tif",
        "/vsicurl/{web}/a.tif",
        "/vsizip/{outside}/a.zip/a.tif",
        "/vsisubfile/0,{outside}/secret.tif",
        "{web}/a.tif",
        "s3://bucket/a.tif",
        "a.tif",
        "&lt;VRTDataset/&gt;",
        "",
    ],
)
def test_a_reference_to_anywhere_else_is_refused(source: Path, name: str) -> None:
    with canary_server() as canary:
        text = mosaic(name.format(web=canary.address, outside=source.parent / "outside"), relative=False)
        address = write(source, text)
        assert refusal(address, source).startswith(f"{address} refers to ")
        assert canary.requests == []


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ("<VRTDataset ", '<VRTDataset subClass="VRTWarpedDataset" ', "VRTDataset VRTWarpedDataset"),
        ("<VRTDataset ", '<vrtdataset SUBCLASS="VRTPansharpenedDataset" ', "vrtdataset VRTPansharpenedDataset"),
        ("<VRTDataset ", '<VRTDataset subClass="VRTProcessedDataset" ', "VRTDataset VRTProcessedDataset"),
        ("<VRTRasterBand ", '<VRTRasterBand subClass="VRTRawRasterBand" ', "VRTRasterBand VRTRawRasterBand"),
        ("<VRTRasterBand ", '<VRTRasterBand subclass="VRTDerivedRasterBand" ', "VRTRasterBand VRTDerivedRasterBand"),
        ("<SimpleSource>", f"{PYTHON}<SimpleSource>", "PixelFunctionType"),
        (
            "<SimpleSource>",
            "<Overview><SourceFilename>/etc/passwd</SourceFilename></Overview><SimpleSource>",
            "Overview",
        ),
        ("<SimpleSource>", "<SimpleSource><OpenOptions><OOI key='X'>1</OOI></OpenOptions>", "OpenOptions"),
        (
            "<SRS>",
            "<GDALWarpOptions><SourceDataset>/etc/passwd</SourceDataset></GDALWarpOptions><SRS>",
            "GDALWarpOptions",
        ),
    ],
)
def test_a_vrt_that_is_more_than_a_mosaic_is_refused(source: Path, old: str, new: str, named: str) -> None:
    text = mosaic("a.tif").replace(old, new)
    text = text.replace("</VRTDataset>", "</vrtdataset>") if "<vrtdataset" in text else text
    address = write(source, text)
    assert refusal(address, source) == f"{address} contains {named}"


def test_the_sources_of_a_mask_are_checked(source: Path) -> None:
    mask = mosaic("../outside/secret.tif").partition("<VRTRasterBand")[2].rpartition("</VRTDataset>")[0]
    text = mosaic("a.tif").replace("</VRTDataset>", f"<MaskBand><VRTRasterBand{mask}</MaskBand></VRTDataset>")
    assert "outside/secret.tif" in refusal(write(source, text), source)


@pytest.mark.parametrize("name", ["inner.vrt", "inner.tif"])
def test_a_vrt_within_a_vrt_may_not_lead_out_under_any_name(source: Path, name: str) -> None:
    inner = write(source, raw_vrt(source.parent / "outside/secret.txt", SIZE, SIZE), name)
    address = write(source, mosaic(name))
    assert refusal(address, source) == f"{inner} contains VRTRasterBand VRTRawRasterBand"


def test_a_vrt_that_refers_to_itself_ends(source: Path) -> None:
    check_vrt(write(source, mosaic("a.vrt")), str(source))


def test_files_that_are_not_vrts_or_too_large_are_refused(source: Path) -> None:
    bomb = '<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;">]>'
    assert "document type" in refusal(write(source, bomb + mosaic("&b;")), source)
    (source / "a.csv").write_text(SECRET_TEXT)
    assert "neither a GeoTIFF nor a VRT" in refusal(write(source, mosaic("a.csv")), source)
    assert "bytes" in refusal(write(source, mosaic("a.tif") + " " * 17 * 1024 * 1024), source)
    assert "not below" in refusal(write(source, mosaic("a.tif")), source / "sub")
    assert "not a local file" in refusal("s3://bucket/a.vrt", source)
    os.mkfifo(source / "pipe.tif")
    for text in ("<VRTDataset", "\xff", mosaic("lost.tif"), mosaic("pipe.tif")):
        with pytest.raises(AcdError) as caught:
            check_vrt(write(source, text), str(source))
        assert caught.value.code is ErrorCode.INPUT_UNREADABLE
