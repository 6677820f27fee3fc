"""What a file's numbers mean: bands, ranges and validity, each as (the file as made) -> (stored pixels or error)."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from numpy.typing import NDArray
from rasterio.enums import ColorInterp

from acdtask.errors import AcdError, ErrorCode
from tests.jobs.unusual_rasters import NAME, SIZE, ingest, stored, write_item, write_mask_beside, write_odd

NAN = math.nan
UNSURE = (ErrorCode.INPUT_BANDS, ErrorCode.INPUT_RANGE_UNKNOWN, ErrorCode.INPUT_NODATA_UNKNOWN)


def flat(value: float, dtype: str = "float32") -> NDArray[Any]:
    return np.full((SIZE, SIZE), value, dtype)


def rows(*values: float, dtype: str = "float32") -> NDArray[Any]:
    """An image whose rows from the top have these values; the last one goes on to the bottom."""
    image = flat(values[-1], dtype)
    for row, value in enumerate(values):
        image[row] = value
    return image


def all_but_row(row: int) -> NDArray[np.bool_]:
    mask = np.ones((SIZE, SIZE), bool)
    mask[row] = False
    return mask


def first_rows(cube: Path, count: int, variable: str = "CoherenceVV") -> list[float]:
    """The stored value of each of the first rows, which have one value each."""
    (image,) = stored(cube, variable).values()
    assert all(len(np.unique(image[row])) == 1 for row in range(count))
    return [float(value) for value in image[:count, 0]]


# --- Which band ---

SNAP = ["coh_VH", "Intensity_ifg_VH", "Phase_ifg_VH", "coh_VV", "Intensity_ifg_VV", "Phase_ifg_VV"]
SIX = np.stack([flat(0.2), flat(0.5), flat(0.5), flat(0.7), flat(0.5), flat(0.5)])
TWO = np.stack([flat(0.2), flat(0.7)])

BANDS: dict[str, tuple[NDArray[Any], list[str], dict[str, Any], float | ErrorCode]] = {
    "SNAP's names": (SIX, SNAP, {}, 700),
    "SNAP's names, the other variable": (SIX, SNAP, {"variable": "CoherenceVH"}, 200),
    "SNAP's names, told otherwise": (SIX, SNAP, {"band": 1}, 200),
    "no names": (SIX, [], {}, ErrorCode.INPUT_BANDS),
    "no names, told": (SIX, [], {"band": 4}, 700),
    "swath and dates in the name": (TWO, ["coh_IW2_VH_04Jan2020_16Jan2020", "coh_IW2_VV_04Jan2020_16Jan2020"], {}, 700),
    "the variable's own name": (TWO, ["other", "CoherenceVV"], {}, 700),
    "words apart": (TWO, ["coherence VH", "coherence VV"], {}, 700),
    "GAMMA's and ISCE's words": (TWO, ["cc_vh", "corr vv"], {}, 700),
    "two of the same name": (TWO, ["coh_VV_a", "coh_VV_b"], {}, ErrorCode.INPUT_BANDS),
    "a deviation beside it": (TWO, ["coh_VV_std", "coh_VV"], {}, 700),
    "coherence without a polarisation": (TWO, ["amplitude", "coherence"], {}, ErrorCode.INPUT_BANDS),
    "polarisations without a quantity": (TWO, ["VH", "VV"], {}, ErrorCode.INPUT_BANDS),
    "a variable without a polarisation": (TWO, ["amplitude", "coherence"], {"variable": "Coherence"}, 700),
    "only the other polarisation": (flat(0.2), ["coh_VH"], {}, ErrorCode.INPUT_BANDS),
    "only the other polarisation, told": (flat(0.2), ["coh_VH"], {"band": 1}, 200),
    "one band of any name": (flat(0.7), ["whatever"], {}, 700),
    "a band that is not there": (TWO, [], {"band": 3}, ErrorCode.INPUT_BANDS),
}


@pytest.mark.parametrize(("pixels", "names", "settings", "right"), BANDS.values(), ids=BANDS)
def test_a_band_is_read_where_it_is_clear_and_asked_for_where_not(
    pixels: NDArray[Any], names: list[str], settings: dict[str, Any], right: float | ErrorCode, tmp_path: Path
) -> None:
    write_odd(tmp_path / "in" / NAME.replace("_VV", ""), pixels, nodata=-1, descriptions=names)
    if isinstance(right, ErrorCode):
        with pytest.raises(AcdError) as raised:
            ingest(tmp_path / "cube", tmp_path / "in", **settings)
        assert raised.value.code is right
        assert all(name in raised.value.detail for name in names)
        return
    outcome = ingest(tmp_path / "cube", tmp_path / "in", **settings)
    assert first_rows(tmp_path / "cube", 1, settings.get("variable", "CoherenceVV")) == [right]
    assert any(line.startswith("1 file: band") for line in outcome.lines) == (pixels.ndim == 3)


@pytest.mark.parametrize("key", ["eo:bands", "raster:bands", "bands"])
def test_a_stac_item_names_bands_too(key: str, tmp_path: Path) -> None:
    raster = write_odd(tmp_path / "in" / NAME, TWO, nodata=-1)
    item = write_item(tmp_path, raster, {key: [{"name": "coh_VH"}, {"name": "coh_VV"}]})
    ingest(tmp_path / "cube", item)
    assert first_rows(tmp_path / "cube", 1) == [700]


def test_a_file_and_an_item_that_name_a_band_differently_are_asked_about(tmp_path: Path) -> None:
    raster = write_odd(tmp_path / "in" / NAME, TWO, nodata=-1, descriptions=["coh_VV", "coh_VH"])
    item = write_item(tmp_path, raster, {"eo:bands": [{"name": "coh_VH"}, {"name": "coh_VV"}]})
    with pytest.raises(AcdError, match="1: coh_VV / coh_VH, 2: coh_VH / coh_VV") as raised:
        ingest(tmp_path / "cube", item)
    assert raised.value.code is ErrorCode.INPUT_BANDS


def test_the_advised_band_is_read(tmp_path: Path) -> None:
    write_odd(tmp_path / "in" / NAME, TWO, nodata=-1)
    with pytest.raises(AcdError, match="--band 1") as raised:
        ingest(tmp_path / "cube", tmp_path / "in")
    assert "1: no name, 2: no name" in raised.value.detail
    ingest(tmp_path / "cube", tmp_path / "in", band=1)
    assert first_rows(tmp_path / "cube", 1) == [200]


# --- What the numbers mean ---

RANGES: dict[str, tuple[NDArray[Any], dict[str, Any], dict[str, Any], list[float] | ErrorCode]] = {
    "bytes, nothing said": (rows(0, 230, 76, dtype="uint8"), {}, {}, ErrorCode.INPUT_RANGE_UNKNOWN),
    "bytes, told": (rows(0, 230, 76, dtype="uint8"), {}, {"source_minimum": 0, "source_maximum": 255}, [-1, 902, 298]),
    "bytes, only the maximum told": (rows(0, 230, dtype="uint8"), {}, {"source_maximum": 255}, [-1, 902]),
    "bytes with a scale": (rows(0, 230, 76, dtype="uint8"), {"scale": 1 / 255}, {}, [-1, 902, 298]),
    "percent in bytes": (rows(0, 90, 30, dtype="uint8"), {"scale": 0.01}, {}, [-1, 900, 300]),
    "int16, nothing said": (rows(0, 9000, dtype="int16"), {}, {}, ErrorCode.INPUT_RANGE_UNKNOWN),
    "int16 0..1000, nothing said": (rows(0, 900, dtype="int16"), {}, {}, ErrorCode.INPUT_RANGE_UNKNOWN),
    "int16 with the variable's scale": (rows(0, 900, 300, dtype="int16"), {"scale": 0.001}, {}, [-1, 900, 300]),
    "int16 with another scale": (rows(0, 9000, 3000, dtype="int16"), {"scale": 1e-4}, {}, [-1, 900, 300]),
    "uint16 with scale and offset": (rows(0, 9000, dtype="uint16"), {"scale": 1e-4, "offset": -0.1}, {}, [-1, 800]),
    "decorrelation": (rows(0, 100, 700, dtype="int16"), {"scale": -0.001, "offset": 1.0}, {}, [-1, 900, 300]),
    "the setting wins": (rows(0, 90, dtype="uint8"), {"scale": 1 / 255}, {"source_maximum": 100}, [-1, 900]),
    "int8": (rows(0, 90, 30, dtype="int8"), {"scale": 0.01}, {}, [-1, 900, 300]),
    "uint64": (rows(0, 90, 30, dtype="uint64"), {"scale": 0.01}, {}, [-1, 900, 300]),
    "floats": (rows(0, 0.9, 0.3), {}, {}, [-1, 900, 300]),
    "doubles": (rows(0, 0.9, 0.3, dtype="float64"), {}, {}, [-1, 900, 300]),
    "percent in floats": (rows(0, 90, 30), {}, {}, ErrorCode.INPUT_OUT_OF_RANGE),
    "percent in floats, told": (rows(0, 90, 30), {}, {"source_maximum": 100}, [-1, 900, 300]),
    "percent in floats with a scale": (rows(0, 90, 30), {"scale": 0.01}, {}, [-1, 900, 300]),
    "floats of another quantity": (
        rows(0, -12.5),
        {},
        {"minimum": -3000, "maximum": 500, "scale": 0.01, "nodata": -9999},
        ErrorCode.INPUT_RANGE_UNKNOWN,
    ),
    "floats of another quantity, told": (
        rows(0, -12.5),
        {},
        {"minimum": -3000, "maximum": 500, "scale": 0.01, "nodata": -9999}
        | {"source_minimum": -30, "source_maximum": 5},
        [-9999, -1250],
    ),
    "integers of a single step": (rows(0, 0.9), {}, {"maximum": 1, "scale": 1}, ErrorCode.SETTING_INVALID),
    "a scale of nothing": (rows(0, 90, dtype="uint8"), {"scale": 0.0}, {}, ErrorCode.INPUT_CONTRADICTORY),
    "a scale that is no number": (rows(0, 90, dtype="uint8"), {"scale": NAN}, {}, ErrorCode.INPUT_CONTRADICTORY),
}


@pytest.mark.parametrize(("pixels", "file", "settings", "right"), RANGES.values(), ids=RANGES)
def test_a_range_is_read_where_it_is_said_and_asked_for_where_not(
    pixels: NDArray[Any], file: dict[str, Any], settings: dict[str, Any], right: list[float] | ErrorCode, tmp_path: Path
) -> None:
    write_odd(tmp_path / "in" / NAME, pixels, nodata=0, **file)
    if isinstance(right, ErrorCode):
        with pytest.raises(AcdError) as raised:
            ingest(tmp_path / "cube", tmp_path / "in", **settings)
        assert raised.value.code is right
        assert not stored(tmp_path / "cube")
    else:
        ingest(tmp_path / "cube", tmp_path / "in", **settings)
        assert first_rows(tmp_path / "cube", len(right)) == right


STAC: dict[str, tuple[dict[str, Any], dict[str, Any], list[float] | ErrorCode]] = {
    "raster:bands": ({"raster:bands": [{"scale": 0.01, "nodata": 255, "data_type": "uint8"}]}, {}, [900, 300, -1]),
    "STAC 1.1, bands": ({"bands": [{"raster:scale": 0.01, "nodata": 255}]}, {}, [900, 300, -1]),
    "STAC 1.1, the asset": ({"raster:scale": 0.01, "nodata": 255, "data_type": "uint8"}, {}, [900, 300, -1]),
    "with an offset": ({"raster:bands": [{"scale": 0.01, "offset": -0.1, "nodata": 255}]}, {}, [800, 200, -1]),
    "identity says nothing": ({"raster:bands": [{"scale": 1, "offset": 0}]}, {}, ErrorCode.INPUT_RANGE_UNKNOWN),
    "the same as the file": ({"raster:bands": [{"scale": 0.01, "nodata": 255}]}, {"scale": 0.01}, [900, 300, -1]),
    "another than the file": ({"raster:bands": [{"scale": 0.02}]}, {"scale": 0.01}, ErrorCode.INPUT_CONTRADICTORY),
    "another data type": ({"raster:bands": [{"data_type": "float32"}]}, {}, ErrorCode.INPUT_CONTRADICTORY),
    "another number of bands": ({"raster:bands": [{}, {}]}, {}, ErrorCode.STAC_INVALID),
    "a scale that is a text": ({"raster:bands": [{"scale": "0.01"}]}, {}, ErrorCode.STAC_INVALID),
    "no list": ({"raster:bands": "one"}, {}, ErrorCode.STAC_INVALID),
}


@pytest.mark.parametrize(("asset", "file", "right"), STAC.values(), ids=STAC)
def test_a_stac_item_says_what_numbers_mean(
    asset: dict[str, Any], file: dict[str, Any], right: list[float] | ErrorCode, tmp_path: Path
) -> None:
    nodata = None if isinstance(right, list) else 255
    raster = write_odd(tmp_path / "in" / NAME, rows(90, 30, 255, 30, dtype="uint8"), nodata=nodata, **file)
    item = write_item(tmp_path, raster, asset)
    if isinstance(right, ErrorCode):
        with pytest.raises(AcdError) as raised:
            ingest(tmp_path / "cube", item)
        assert raised.value.code is right
    else:
        ingest(tmp_path / "cube", item)
        assert first_rows(tmp_path / "cube", 3) == right


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "int32"])
def test_the_advised_range_and_the_advised_scale_give_the_same_pixels(dtype: str, tmp_path: Path) -> None:
    path = write_odd(tmp_path / "in" / NAME, rows(0, 90, 30, dtype=dtype), nodata=0)
    with pytest.raises(AcdError, match=r"--source-minimum 0 --source-maximum .*gdal_edit -a_scale") as raised:
        ingest(tmp_path / "cube", tmp_path / "in")
    assert raised.value.code is ErrorCode.INPUT_RANGE_UNKNOWN
    ingest(tmp_path / "told", tmp_path / "in", source_minimum=0, source_maximum=100)
    with rasterio.open(path, "r+") as raster:
        raster.scales = (0.01,)
    ingest(tmp_path / "scaled", tmp_path / "in")
    assert first_rows(tmp_path / "told", 3) == first_rows(tmp_path / "scaled", 3) == [-1, 900, 300]


def test_the_cubes_own_files_come_out_as_they_are(tmp_path: Path) -> None:
    pixels = np.random.default_rng(3).uniform(0, 1, (SIZE, SIZE)).astype(np.float32)
    write_odd(tmp_path / "in" / NAME, pixels, nodata=-1)
    ingest(tmp_path / "cube", tmp_path / "in")
    (path,) = (tmp_path / "cube/data").rglob("*.tif")
    ingest(tmp_path / "other", path.with_suffix(".json"))
    (first,), (second,) = stored(tmp_path / "cube").values(), stored(tmp_path / "other").values()
    np.testing.assert_array_equal(first, second)


# --- Which pixels are valid ---

HALF = rows(0.0, NAN, -5.0, 0.5)
ALPHA = np.stack([rows(0.2, 0.5), all_but_row(0).astype(np.float32) * 255])
GREY_ALPHA = (ColorInterp.gray, ColorInterp.alpha)

VALIDITY: dict[str, tuple[NDArray[Any], dict[str, Any], dict[str, Any], list[float] | ErrorCode]] = {
    "nodata 0 and NaN": (rows(0, NAN, 0.5), {"nodata": 0}, {}, [-1, -1, 500]),
    "nodata 0 and NaN, told nan": (rows(0, NAN, 0.5), {"nodata": 0}, {"source_nodata": NAN}, [-1, -1, 500]),
    "nodata nan, told 0": (rows(0, NAN, 0.5), {"nodata": NAN}, {"source_nodata": 0}, [-1, -1, 500]),
    "nodata nan": (rows(0, NAN, 0.5), {"nodata": NAN}, {}, [0, -1, 500]),
    "two values, one told": (HALF, {"nodata": 0}, {"source_nodata": -5}, [-1, -1, -1, 500]),
    "the file's nodata overruled": (
        rows(0, NAN, 0.5),
        {"nodata": 0},
        {"file_nodata": False, "source_nodata": NAN},
        [0, -1, 500],
    ),
    "NaN alone": (rows(NAN, 0.5), {}, {}, [-1, 500]),
    "NaN and zeros, nothing said": (rows(0, NAN, 0.5), {}, {}, ErrorCode.INPUT_NODATA_UNKNOWN),
    "NaN and zeros, told 0": (rows(0, NAN, 0.5), {}, {"source_nodata": 0}, [-1, -1, 500]),
    "NaN and zeros, told nan": (rows(0, NAN, 0.5), {}, {"source_nodata": NAN}, [0, -1, 500]),
    "nothing at all": (rows(0.2, 0.5), {}, {}, ErrorCode.INPUT_NODATA_UNKNOWN),
    "nothing at all, told nan": (rows(0.2, 0.5), {}, {"source_nodata": NAN}, [200, 500]),
    "nothing at all, no nodata of files": (rows(0.2, 0.5), {}, {"file_nodata": False}, [200, 500]),
    "bytes, nothing at all": (rows(0, 90, dtype="uint8"), {"scale": 0.01}, {}, ErrorCode.INPUT_NODATA_UNKNOWN),
    "a mask inside": (rows(0.2, 0.5), {"mask": all_but_row(0)}, {}, [-1, 500]),
    "a mask inside and a nodata value": (
        rows(0.2, 0.5, 0, 0.5),
        {"mask": all_but_row(0), "nodata": 0},
        {},
        [-1, 500, -1],
    ),
    "a mask inside and NaN": (rows(0.2, NAN, 0.5), {"mask": all_but_row(0)}, {}, [-1, -1, 500]),
    "a mask beside": (rows(0.2, 0.5), {"mask_beside": all_but_row(0)}, {}, [-1, 500]),
    "a mask beside and a nodata value": (
        rows(0.2, 0.5, 0, 0.5),
        {"mask_beside": all_but_row(0), "nodata": 0},
        {},
        [-1, 500, -1],
    ),
    "both masks": (
        rows(0.2, 0.3, 0.5),
        {"mask": all_but_row(0), "mask_beside": all_but_row(1)},
        {},
        [-1, -1, 500],
    ),
    "a mask overruled": (rows(0.2, 0.5), {"mask": all_but_row(0)}, {"file_nodata": False}, [200, 500]),
    "an alpha band": (ALPHA, {"colours": GREY_ALPHA}, {}, [-1, 500]),
    "an alpha band and a nodata value": (ALPHA, {"colours": GREY_ALPHA, "nodata": 0.5}, {}, ErrorCode.INPUT_ALL_NODATA),
    "an alpha band overruled": (ALPHA, {"colours": GREY_ALPHA}, {"file_nodata": False}, [200, 500]),
    "a nodata value beside": (rows(0, 0.5), {"pam": "<NoDataValue>0</NoDataValue>"}, {}, [-1, 500]),
    "a NaN beside": (rows(NAN, 0, 0.5), {"pam": "<NoDataValue>nan</NoDataValue>"}, {}, [-1, 0, 500]),
    "values inside and beside": (HALF, {"nodata": 0, "pam": "<NoDataValue>-5</NoDataValue>"}, {}, [-1, -1, -1, 500]),
    "a scale beside": (
        rows(0, 90, dtype="uint8"),
        {"nodata": 0, "pam": "<Scale>0.01</Scale>"},
        {},
        [-1, 900],
    ),
    "a nodata value that bytes cannot hold": (
        rows(0, 90, dtype="uint8"),
        {"scale": 0.01, "pam": "<NoDataValue>-9999</NoDataValue>"},
        {},
        ErrorCode.INPUT_NODATA_UNKNOWN,
    ),
    "told a value that bytes cannot hold": (
        rows(0, 90, dtype="uint8"),
        {"scale": 0.01, "nodata": 0},
        {"source_nodata": -1},
        ErrorCode.SETTING_INVALID,
    ),
    "a huge nodata value": (rows(-3.4028234663852886e38, 0.5), {"nodata": -3.4028234663852886e38}, {}, [-1, 500]),
    "an infinite nodata value": (rows(-np.inf, 0.5), {"nodata": -np.inf}, {}, [-1, 500]),
    "infinite values": (rows(np.inf, 0.5), {"nodata": 0}, {}, ErrorCode.INPUT_NOT_FINITE),
    "infinite values, told": (rows(np.inf, 0.5), {"nodata": 0}, {"source_nodata": np.inf}, [-1, 500]),
    "infinite values under a mask": (rows(np.inf, 0.5), {"mask": all_but_row(0)}, {}, [-1, 500]),
    "int64": (rows(-9999, 90, dtype="int64"), {"scale": 0.01, "nodata": -9999}, {}, [-1, 900]),
    "only nodata": (flat(0), {"nodata": 0}, {}, ErrorCode.INPUT_ALL_NODATA),
    "only masked": (flat(0.5), {"mask": np.zeros((SIZE, SIZE), bool)}, {}, ErrorCode.INPUT_ALL_NODATA),
}


@pytest.mark.parametrize(("pixels", "file", "settings", "right"), VALIDITY.values(), ids=VALIDITY)
def test_a_pixel_is_valid_if_nothing_says_that_it_is_not(
    pixels: NDArray[Any], file: dict[str, Any], settings: dict[str, Any], right: list[float] | ErrorCode, tmp_path: Path
) -> None:
    write_odd(tmp_path / "in" / NAME, pixels, **file)
    if isinstance(right, ErrorCode):
        with pytest.raises(AcdError) as raised:
            ingest(tmp_path / "cube", tmp_path / "in", **settings)
        assert raised.value.code is right
        assert not stored(tmp_path / "cube")
    else:
        ingest(tmp_path / "cube", tmp_path / "in", **settings)
        assert first_rows(tmp_path / "cube", len(right)) == right


def test_the_mask_of_one_band_is_not_that_of_another(tmp_path: Path) -> None:
    write_odd(tmp_path / "in" / NAME, TWO, descriptions=["coh_VH", "coh_VV"])
    beside = write_mask_beside(tmp_path / "in" / NAME, all_but_row(0))
    how = {"count": 2, "height": SIZE, "width": SIZE, "dtype": "uint8"}
    with rasterio.open(beside) as one:
        place, crs = one.transform, one.crs
    with rasterio.open(beside, "w", driver="GTiff", crs=crs, transform=place, **how) as raster:
        raster.write(np.stack([all_but_row(0), all_but_row(1)]).astype(np.uint8) * 255)
    ingest(tmp_path / "cube", tmp_path / "in")
    assert first_rows(tmp_path / "cube", 3) == [700, -1, 700]


@pytest.mark.parametrize("damage", ["text", "cut", "other size", "other bands"])
def test_a_damaged_mask_is_named_and_not_passed_over(damage: str, tmp_path: Path) -> None:
    path = write_odd(tmp_path / "in" / NAME, rows(0.2, 0.5), nodata=-1, mask_beside=all_but_row(0))
    beside = path.with_name(f"{path.name}.msk")
    if damage == "text":
        beside.write_text("<html>")
    elif damage == "cut":
        beside.write_bytes(beside.read_bytes()[:100])
    elif damage == "other size":
        write_mask_beside(path, np.ones((SIZE + 1, SIZE), bool))
    else:
        write_odd(beside, np.ones((3, SIZE, SIZE), np.uint8))
    with pytest.raises(AcdError, match=r"\.msk") as raised:
        ingest(tmp_path / "cube", tmp_path / "in")
    assert raised.value.code is ErrorCode.INPUT_UNREADABLE


@pytest.mark.parametrize("text", ["<PAM", "<!DOCTYPE a [<!ENTITY b 'c'>]><PAMDataset/>", "\x00", "NoDataValue"])
def test_damaged_metadata_beside_are_named(text: str, tmp_path: Path) -> None:
    path = write_odd(tmp_path / "in" / NAME, rows(0.2, 0.5), nodata=-1)
    path.with_name(f"{path.name}.aux.xml").write_text(text)
    with pytest.raises(AcdError, match=r"\.aux\.xml") as raised:
        ingest(tmp_path / "cube", tmp_path / "in")
    assert raised.value.code is ErrorCode.INPUT_UNREADABLE


def test_it_is_said_how_much_is_valid_and_that_zeros_are_values(tmp_path: Path) -> None:
    write_odd(tmp_path / "in" / NAME, rows(0, NAN, 0.5), nodata=NAN)
    lines = ingest(tmp_path / "cube", tmp_path / "in").lines
    assert lines[1:3] == [
        "valid pixels: 56 of 64 (87.5 %)",
        "8 pixels are exactly 0 and count as values; if they mean nodata, ingest again with --source-nodata 0 "
        "--on-known replace",
    ]


@pytest.mark.parametrize("dtype", ["float32", "float64", "int32"])
def test_a_variable_that_has_no_baseline_says_so(dtype: Any, tmp_path: Path) -> None:
    write_odd(tmp_path / "in" / NAME, rows(0, 0.5), nodata=0)
    outcome = ingest(tmp_path / "cube", tmp_path / "in", dtype=dtype)
    note = f"CoherenceVV is {dtype}: a baseline needs an integer type of 8 or 16 bits, such as --dtype int16"
    assert note in outcome.lines
    assert first_rows(tmp_path / "cube", 2) == [-1, 500]
