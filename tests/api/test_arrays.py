"""The Python interface on arrays: accepted and rejected inputs, and exact results."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from numpy.typing import NDArray

import acdtask
from acdtask import AcdError, ErrorCode
from acdtask.change.detect import detect_monolithic
from acdtask.change.steps.centring import Centring
from acdtask.change.steps.smooth import Smooth
from acdtask.change.thresholds import Detection, Direction

SHAPE = (60, 80)
TRANSFORM = (20.0, 0.0, 346640.0, 0.0, -20.0, 5655340.0)


def scene(images: int = 25) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """A stack of coherence, and an image with a change of 12 x 14 pixels and a corner of nodata."""
    rng = np.random.default_rng(7)
    mean = np.linspace(0.3, 0.8, SHAPE[1])[np.newaxis, :]
    stack = np.clip(rng.normal(mean, 0.04, (images, *SHAPE)), 0, 1).astype(np.float32)
    stack[3, :5] = np.nan
    image = rng.normal(mean, 0.004, SHAPE).astype(np.float32)
    image[20:32, 30:44] = 0.05
    image[:4, :4] = np.nan
    return stack, image


def stored(values: NDArray[Any]) -> NDArray[np.int16]:
    """Convert to thousandths, with -1 as nodata."""
    missing = np.isnan(values)
    return np.where(missing, -1, np.rint(np.where(missing, 0, values).astype(np.float64) * 1000)).astype(np.int16)


def data_array(values: NDArray[Any], **more: Any) -> xr.DataArray:
    """A stack with coordinates and a CRS, as rioxarray writes them."""
    days = np.datetime64("2020-01-05T06:00:00", "ns") + np.arange(len(values)) * np.timedelta64(6, "D")
    coords = {
        "time": days,
        "y": TRANSFORM[5] - 10 - 20 * np.arange(SHAPE[0]),
        "x": TRANSFORM[2] + 10 + 20 * np.arange(SHAPE[1]),
        "spatial_ref": ((), 0, {"crs_wkt": "EPSG:32632"}),
    }
    return xr.DataArray(values, coords, ("time", "y", "x"), **more)


def refused(code: ErrorCode, *words: str) -> Any:
    return pytest.raises(AcdError, match=rf"^{code.label}: .*" + ".*".join(words))


def test_floats_integers_and_xarray_are_the_same_baseline_as_plain_numpy() -> None:
    stack, image = scene()
    expected = detect_monolithic(stored(stack), stored(image), Detection(), nodata=-1)
    assert len(expected.blobs) == 1
    decoded = data_array(stack)
    integers = data_array(stored(stack), attrs={"scale_factor": 0.001, "_FillValue": -1})
    masked = np.ma.masked_invalid(stack)
    bases = [
        acdtask.baseline(stack),
        acdtask.baseline(stack.astype(np.float64)),
        acdtask.baseline(np.nan_to_num(stack, nan=-9999), nodata=-9999),
        acdtask.baseline(stored(stack), scale=0.001, nodata=-1),
        acdtask.baseline(stored(stack).astype(np.int64), scale=0.001, nodata=-1),
        acdtask.baseline(masked),
        acdtask.baseline(decoded),
        acdtask.baseline(integers),
        acdtask.baseline(decoded.transpose("y", "x", "time").rename(x="lon", y="lat").drop_vars(["lon", "lat"])),
    ]
    for usual in bases:
        assert usual.moments == bases[0].moments
        change = acdtask.monitor(image, usual)
        np.testing.assert_array_equal(change.z, expected.score.z)
        np.testing.assert_array_equal(change.quality, expected.score.quality)
        np.testing.assert_array_equal(change.detected.blob_ids, expected.blob_ids)
        np.testing.assert_array_equal(change.detected.blobs, expected.blobs)
    np.testing.assert_allclose(bases[0].mean, np.nanmean(stack, axis=0), atol=0.0005)
    assert bases[0].count.min() == 24


def test_bytes_keep_their_own_steps_and_min_std_is_of_coherence() -> None:
    stack, image = scene()
    as_bytes = np.nan_to_num(np.rint(stack * 250) + 1, nan=0).astype(np.uint8)
    usual = acdtask.baseline(as_bytes, scale=1 / 255, nodata=0)
    change = acdtask.monitor(np.nan_to_num(np.rint(image * 250) + 1, nan=0).astype(np.uint8), usual)
    expected = detect_monolithic(
        np.where(as_bytes == 0, -1, as_bytes.astype(np.int16)),
        np.where(np.isnan(image), -1, np.nan_to_num(np.rint(image * 250)) + 1).astype(np.int16),
        Detection(min_std=0.005 * 255),
        nodata=-1,
        valid_range=(0, 255),
    )
    np.testing.assert_array_equal(change.z, expected.score.z)
    assert change.mask.sum() == 12 * 14
    assert usual.mean.max() == pytest.approx(np.nanmean(as_bytes / 255, axis=0).max(), abs=0.01)


def test_adding_and_subtracting_is_exact_in_any_order() -> None:
    stack, image = scene()
    whole = acdtask.baseline(stack)
    grown = acdtask.baseline(stack[:10])
    for image in np.random.default_rng(1).permutation(stack[10:]):
        grown = grown.add(image)
    assert grown.moments == whole.moments
    assert grown.add(image).subtract(image).moments == whole.moments
    np.testing.assert_array_equal(grown.std, whole.std)


def test_an_image_is_added_once_and_subtracted_only_if_it_is_there() -> None:
    stack, image = scene()
    series = data_array(stack)
    usual = acdtask.baseline(series[:-1])
    assert usual.times[0] == "2020-01-05T06:00:00"
    with refused(ErrorCode.IMAGE_REPEATED, "2020-01-11T06:00:00 is already in the baseline"):
        usual.add(series[1])
    with refused(ErrorCode.IMAGE_REPEATED, "is not in the baseline"):
        usual.subtract(series[-1])
    assert usual.add(series[-1]).times == acdtask.baseline(series).times
    assert usual.subtract(series[0]).moments == acdtask.baseline(series[1:-1]).moments
    with refused(ErrorCode.IMAGE_REPEATED, "was added with other values"):
        acdtask.baseline(stack[:1]).subtract(image)


def test_what_is_saved_comes_back_the_same_and_twice_the_same_bytes(tmp_path: Path) -> None:
    stack, image = scene()
    usual = acdtask.baseline(data_array(stack))
    change = acdtask.monitor(data_array(image[np.newaxis])[0], usual)
    usual.save(tmp_path / "usual.npz")
    change.save(str(tmp_path / "change.npz"))
    again = acdtask.Baseline.load(tmp_path / "usual.npz")
    assert again.moments == usual.moments
    assert (again.scale, again.times, again.grid) == (usual.scale, usual.times, usual.grid)
    loaded = acdtask.Change.load(tmp_path / "change.npz")
    np.testing.assert_array_equal(loaded.z, change.z)
    assert loaded.patches == change.patches
    assert repr(loaded) == repr(change)
    again.save(tmp_path / "again.npz")
    assert (tmp_path / "again.npz").read_bytes() == (tmp_path / "usual.npz").read_bytes()
    assert np.load(tmp_path / "usual.npz")["count"].max() == 25
    with refused(ErrorCode.SAVED_UNREADABLE, "usual.npz is a baseline, not a change"):
        acdtask.Change.load(tmp_path / "usual.npz")
    (tmp_path / "half.npz").write_bytes((tmp_path / "usual.npz").read_bytes()[:5000])
    with refused(ErrorCode.SAVED_UNREADABLE, "half.npz cannot be read"):
        acdtask.Baseline.load(tmp_path / "half.npz")
    with refused(ErrorCode.INPUT_MISSING, "no file .*none.npz"):
        acdtask.Baseline.load(tmp_path / "none.npz")


def test_patches_have_areas_bounds_and_outlines_on_the_map(tmp_path: Path) -> None:
    stack, image = scene()
    image[40:48, 60:80] = 0.05
    change = acdtask.monitor(image, acdtask.baseline(stack, crs="EPSG:32632", transform=TRANSFORM))
    table = acdtask.patches(change, name="koln")
    assert [row.number for row in table] == [1, 2]
    assert [row.area_px for row in table] == [168, 160]
    first = table[0]
    assert list(first.bounds) == [346640 + 30 * 20, 5655340 - 32 * 20, 346640 + 44 * 20, 5655340 - 20 * 20]
    assert first.area == pytest.approx(168 * 400)
    assert first.area_m2 == pytest.approx(168 * 400, rel=0.001)
    assert first.id == "koln_image_r20_c30"
    document = table.to_geojson()
    assert [feature["properties"]["number"] for feature in document["features"]] == [1, 2]
    longitude, latitude = document["features"][0]["geometry"]["coordinates"][0][0]
    assert 6.7 < longitude < 6.9
    assert 51.0 < latitude < 51.1
    table.save(tmp_path / "patches.geojson")
    assert json.loads((tmp_path / "patches.geojson").read_text()) == document
    with refused(ErrorCode.FORMAT_UNKNOWN, "patches.xlsx"):
        table.save(tmp_path / "patches.xlsx")
    assert table.to_records()[1]["area_px"] == 160
    assert "168" in repr(table)
    assert table._repr_html_().count("<tr>") == 3


def test_patches_become_a_geodataframe() -> None:
    geopandas = pytest.importorskip("geopandas")
    stack, image = scene()
    usual = acdtask.baseline(data_array(stack))
    frame = acdtask.patches(acdtask.monitor(image, usual)).to_geopandas()
    assert isinstance(frame, geopandas.GeoDataFrame)
    assert frame.crs.to_epsg() == 32632
    assert frame.geometry.area.tolist() == frame["area"].tolist() == [168 * 400]
    assert len(acdtask.patches(acdtask.monitor(stack[-1], usual)).to_geopandas()) == 0


def test_without_coordinates_patches_are_in_pixels_and_say_no_square_metres() -> None:
    stack, image = scene()
    table = acdtask.patches(acdtask.monitor(image, acdtask.baseline(stack)))
    assert (table[0].bounds, table[0].area, table[0].area_m2) == ((30, 20, 44, 32), None, None)
    with refused(ErrorCode.INPUT_CRS_MISSING, "crs= and transform="):
        table.to_geojson()


def test_south_up_pixels_lie_where_they_are() -> None:
    stack, image = scene()
    usual = acdtask.baseline(data_array(stack))
    turned = acdtask.baseline(data_array(stack)[:, ::-1])
    here = acdtask.patches(acdtask.monitor(data_array(image[np.newaxis])[0], usual))[0]
    there = acdtask.patches(acdtask.monitor(data_array(image[np.newaxis])[0, ::-1], turned))[0]
    assert here.bounds == there.bounds
    assert here.geometry.equals(there.geometry)
    assert here.area_m2 == pytest.approx(there.area_m2)
    with refused(ErrorCode.PIXELS_DIFFER, "the image has the bounds"):
        acdtask.monitor(data_array(image[np.newaxis])[0, ::-1], usual)


def test_only_the_area_is_judged() -> None:
    stack, image = scene()
    usual = acdtask.baseline(stack, crs="EPSG:32632", transform=TRANSFORM)
    half = np.zeros(SHAPE, bool)
    half[:, :37] = True
    change = acdtask.monitor(image, usual, area=half, min_area=50)
    assert np.isnan(change.z[:, 37:]).all()
    assert change.mask.sum() == 12 * 7
    everywhere = {"type": "Polygon", "coordinates": [[[6, 50], [8, 50], [8, 52], [6, 52], [6, 50]]]}
    np.testing.assert_array_equal(acdtask.monitor(image, usual, area=everywhere).z, acdtask.monitor(image, usual).z)
    with refused(ErrorCode.IMAGE_UNJUDGED, "the image has no pixels in the area", "longitude comes first"):
        acdtask.monitor(image, usual, area={"type": "Point", "coordinates": [50.9, 6.9]})
    with refused(ErrorCode.INPUT_CRS_MISSING, "as a mask"):
        acdtask.monitor(image, acdtask.baseline(stack), area=everywhere)


def test_change_and_baseline_go_to_xarray_with_their_coordinates() -> None:
    stack, image = scene()
    series = data_array(stack)
    usual = acdtask.baseline(series)
    dataset = usual.to_xarray()
    np.testing.assert_allclose(dataset.x, series.x)
    np.testing.assert_allclose(dataset.y, series.y)
    assert "32632" in dataset.spatial_ref.attrs["crs_wkt"]
    change = acdtask.monitor(data_array(image[np.newaxis])[0], usual).to_xarray()
    assert change.z.dtype == np.float32
    assert int(change.mask.sum()) == 168
    assert change.attrs["time"] == "2020-01-05T06:00:00"
    assert acdtask.baseline(dataset["mean"].expand_dims("time")).grid == usual.grid


@pytest.mark.parametrize(
    ("stack", "more", "code", "words"),
    [
        (np.zeros((4, 4)), {}, ErrorCode.STACK_UNFIT, r"shape \(4, 4\), but \(time, y, x\) is needed"),
        (np.zeros((0, 4, 4)), {}, ErrorCode.STACK_UNFIT, "shape"),
        (np.zeros((2, 4, 4), complex), {}, ErrorCode.STACK_UNFIT, "complex128"),
        (np.zeros((2, 4, 4), np.int16), {}, ErrorCode.SCALE_UNKNOWN, r"integers \(int16\) without a scale"),
        (np.full((2, 4, 4), 40.0), {}, ErrorCode.INPUT_OUT_OF_RANGE, "such as 40.*nodata="),
        (np.full((2, 4, 4), 40), {"scale": 0.1}, ErrorCode.INPUT_OUT_OF_RANGE, "outside 0 to 10, such as 40"),
        (np.full((2, 4, 4), np.inf), {}, ErrorCode.INPUT_NOT_FINITE, "infinite"),
        (np.zeros((2, 4, 4)), {"scale": 0.3}, ErrorCode.SETTING_INVALID, "scale is 0.3"),
        (np.zeros((2, 4, 4)), {"scale": -1}, ErrorCode.SETTING_INVALID, "scale is -1"),
        (np.zeros((2, 4, 4)), {"crs": "no", "transform": TRANSFORM}, ErrorCode.LAYOUT_INVALID, "'no' is unknown"),
    ],
)
def test_what_is_no_stack_of_coherence_is_refused_in_a_sentence(
    stack: Any, more: dict[str, Any], code: ErrorCode, words: str
) -> None:
    with refused(code, words):
        acdtask.baseline(stack, **more)


def test_the_advised_fixes_work() -> None:
    filled = np.full((25, 12, 12), 0.5)
    filled[:, 0] = -9999
    filled[::2] += np.where(filled[::2] > 0, 0.1, 0)
    with refused(ErrorCode.INPUT_OUT_OF_RANGE, "-9999", "nodata="):
        acdtask.baseline(filled)
    usual = acdtask.baseline(filled, nodata=-9999)
    assert usual.count[0].max() == 0
    assert usual.mean[1, 1] == pytest.approx(0.552)
    image = np.full((12, 12), 0.5)
    few = acdtask.baseline(filled[:8], nodata=-9999)
    with refused(ErrorCode.IMAGE_UNJUDGED, "at most 8 images, but min_count is 20", "lower min_count to 8"):
        acdtask.monitor(image, few)
    assert acdtask.monitor(image, few, min_count=8).judged == pytest.approx(11 / 12)
    with refused(ErrorCode.IMAGE_UNJUDGED, "min_std, 0.2", r"largest standard deviation is 0\.05\d*\."):
        acdtask.monitor(image, usual, min_std=0.2)
    assert acdtask.monitor(image, usual, min_std=0.04).judged == pytest.approx(11 / 12)
    with refused(ErrorCode.IMAGE_UNJUDGED, "the image has no data"):
        acdtask.monitor(np.full((12, 12), np.nan), usual)
    with refused(ErrorCode.PIXELS_DIFFER, r"\(10, 12\)"):
        acdtask.monitor(image[:10], usual)
    with refused(ErrorCode.SETTING_INVALID, "low is 4"):
        acdtask.monitor(image, usual, low=4)


def test_dimensions_and_coordinates_that_cannot_be_understood_are_refused() -> None:
    stack, image = scene()
    series = data_array(stack)
    with refused(ErrorCode.STACK_UNFIT, r"\(time, row, x\)", "Rename"):
        acdtask.baseline(series.rename(y="row"))
    with refused(ErrorCode.STACK_UNFIT, "3 are needed"):
        acdtask.baseline(series[0])
    uneven = series.assign_coords(x=np.geomspace(1, 100, SHAPE[1]))
    with refused(ErrorCode.STACK_UNFIT, "x is not evenly spaced"):
        acdtask.baseline(uneven)
    with refused(ErrorCode.PIXELS_DIFFER, "the image is in EPSG:32631"):
        other = data_array(image[np.newaxis])[0].assign_coords(spatial_ref=((), 0, {"crs_wkt": "EPSG:32631"}))
        acdtask.monitor(other, acdtask.baseline(series))


def test_scales_of_readers_that_say_nothing_are_not_believed() -> None:
    """rioxarray writes scale_factor 1 and add_offset 0 into every array."""
    stack, _ = scene()
    plain = acdtask.baseline(stack)
    floats = data_array(stack)
    floats.encoding.update(scale_factor=1.0, add_offset=0.0)
    assert acdtask.baseline(floats).moments == plain.moments
    packed = data_array(stack)
    packed.encoding.update(scale_factor=0.0007, add_offset=0.4)
    assert acdtask.baseline(packed).moments == plain.moments
    integers = data_array(stored(stack), attrs={"scale_factor": 1.0, "add_offset": 0.0, "_FillValue": -1})
    with refused(ErrorCode.SCALE_UNKNOWN, "int16"):
        acdtask.baseline(integers)


def test_smoothing_is_that_of_the_method_and_is_kept(tmp_path: Path) -> None:
    stack, image = scene()
    smooth = acdtask.monitor(image, acdtask.baseline(stack), smooth=1.2, low=0.9, high=1.8, min_area=20)
    method = Detection(low=0.9, high=1.8, min_area=20, steps=(Centring(), Smooth(1.2)))
    expected = detect_monolithic(stored(stack), stored(image), method, nodata=-1)
    np.testing.assert_array_equal(smooth.z, acdtask.monitor(image, acdtask.baseline(stack)).z)
    np.testing.assert_array_equal(smooth.detected.blob_ids, expected.blob_ids)
    plain = acdtask.monitor(image, acdtask.baseline(stack), low=0.9, high=1.8, min_area=20)
    assert (smooth.mask != plain.mask).any()
    smooth.save(tmp_path / "smooth.npz")
    assert acdtask.Change.load(tmp_path / "smooth.npz").detection == smooth.detection == method
    with refused(ErrorCode.SETTING_INVALID, "smooth is 99"):
        acdtask.monitor(image, acdtask.baseline(stack), smooth=99)


def test_zero_can_be_nodata_as_in_the_tutorial() -> None:
    stack, image = scene()
    stack[5, 30:40], image[50:, 50:] = 0, 0
    usual = acdtask.baseline(stack, zero_is_nodata=True)
    change = acdtask.monitor(image, usual, min_count=1, min_std=0, centred=False)
    tutorial = Detection(min_count=1, min_std=0, zero_is_nodata=True, steps=())
    expected = detect_monolithic(stored(stack), stored(image), tutorial, nodata=-1)
    np.testing.assert_array_equal(change.z, expected.score.z)
    assert usual.count[30:40].max() == 24
    assert np.isnan(change.z[50:, 50:]).all()


def test_an_unknown_name_is_an_attribute_error_and_dir_has_the_known_ones() -> None:
    with pytest.raises(AttributeError, match="no attribute 'monitro'"):
        acdtask.monitro  # noqa: B018  # it is the reading that fails
    assert {*acdtask.__all__} <= {*dir(acdtask)}
    for name in acdtask.__all__:
        assert getattr(acdtask, name).__doc__


def test_importing_acdtask_is_light_and_numpy_alone_is_enough() -> None:
    light = "import sys, acdtask; assert 'numpy' not in sys.modules and 'pydantic' not in sys.modules"
    subprocess.run([sys.executable, "-c", light], check=True)
    alone = (
        "import sys; sys.modules['xarray'] = sys.modules['geopandas'] = None\n"
        "import acdtask, numpy as np\n"
        "usual = acdtask.baseline(np.random.default_rng(0).normal(0.5, 0.05, (25, 30, 30)))\n"
        "change = acdtask.monitor(np.full((30, 30), 0.5), usual)\n"
        "assert 'xarray' not in change.patches.__dict__ and len(change.patches) == 0\n"
        "for call in (usual.to_xarray, change.patches.to_geopandas):\n"
        "    try: call()\n"
        "    except acdtask.AcdError as error: assert 'pip install' in str(error), error\n"
        "    else: raise SystemExit('no error')\n"
    )
    subprocess.run([sys.executable, "-c", alone], check=True)


def test_a_rise_is_found_if_it_is_asked_for_and_its_direction_is_kept(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    usual = acdtask.baseline(rng.normal(0.5, 0.04, (30, 40, 40)))
    image = np.full((40, 40), 0.5)
    image[10:22, 5:17], image[10:22, 17:30] = 0.2, 0.9
    directions: tuple[Direction, ...] = ("drop", "rise", "both")
    drop, rise, both = (acdtask.monitor(image, usual, direction=direction) for direction in directions)
    assert [int(change.mask.sum()) for change in (drop, rise, both)] == [144, 156, 300]
    assert not rise.mask[:, :17].any()
    assert [round(patch.drop_mean, 1) for patch in both.patches] == [-0.4, 0.3]
    assert [patch.z_max < 0 for patch in both.patches] == [True, False]
    assert both.highest_z == pytest.approx(max(drop.highest_z, rise.highest_z), abs=0.011)  # medians, to 0.01
    both.save(tmp_path / "both.npz")
    again = acdtask.Change.load(tmp_path / "both.npz")
    assert again.detection.direction == "both"
    assert again.patches.to_records()[0]["z_max"] == both.patches[0].z_max
