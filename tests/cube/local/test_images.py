"""Images of a cube: which datasets they are made of, in which order, and which ones a damaged container affects."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from acdtask.cube.local import images as images_module
from acdtask.cube.local.cube import LocalCube
from acdtask.cube.local.read import read_mosaics
from acdtask.cube.local.stack import StackWriter
from acdtask.cube.model import Addition, Cube, CubeRequest, Dataset, Image, Outcome
from acdtask.errors import AcdError, ErrorCode
from acdtask.raster.data_format import Pixels, Resampling
from acdtask.raster.grid import Grid, Window
from acdtask.storage.store import Store
from tests.cube.builders import COHERENCE, dataset, grid, image, one_slice, put_image, record
from tests.cube.local.test_index import UTM32, ready

NODATA = -1
OF = grid(300, 280)
DATES = 7


def put(cube: LocalCube, number: int, key: str, pixels: Pixels, of: Grid, **changes: Any) -> Dataset:
    """Write and index a dataset of a record."""
    stored = put_image(cube.store, key, pixels, of).model_copy(update={"record_id": record(number).id, **changes})
    cube.index([record(number)], [stored])
    return stored


def request(of: Grid, *groups: tuple[int, ...], **changes: Any) -> CubeRequest:
    ids = tuple(tuple(record(number).id for number in group) for group in groups)
    return CubeRequest(variable="CoherenceVV", instance="master", grid=of, groups=ids, **changes)


def outcomes(found: Iterator[Image]) -> list[Outcome]:
    return [result.outcome for result in found]


def put_stack(cube: LocalCube, of: Grid, pixels: Pixels, **changes: Any) -> list[Dataset]:
    """Write images of the first records to a consolidated container, without indexing it."""
    records = [record(number) for number in range(len(pixels))]
    writer = StackWriter(cube.store, "stack.zarr", of, records, COHERENCE)
    writer.write(Window(row=0, column=0, height=of.height, width=of.width), pixels)
    writer.finish()
    place = {"grid": of, "layout": "utm32", "cell": "1/1", **changes}
    return [dataset(owner, "stack.zarr", subdir=str(number), **place) for number, owner in enumerate(records)]


def test_groups_come_in_order_with_their_outcomes(place: str) -> None:
    cube: Cube = ready(place)
    local = LocalCube.open(place)
    first, second = image(OF, 1), image(OF, 2)
    second[:, 150:] = NODATA
    put(local, 1, "1.tif", first, OF)
    put(local, 2, "2.tif", second, OF)
    put(local, 3, "3.tif", np.full(OF.shape, NODATA, dtype="int16"), OF)
    local.index([record(4)], [])
    far = OF.window(Window(row=5000, column=0, height=10, width=10))
    put(local, 5, "5.tif", np.ones((10, 10), dtype="int16"), far)
    groups = [(2,), (1,), (3,), (4,), (5,), (9,), (), (1, 2), (2, 1), (3, 9, 2), (1,)]
    found = list(cube.images(request(OF, *groups)))
    data, absent = Outcome.DATA, Outcome.ABSENT
    assert [result.outcome for result in found] == [data, data, Outcome.NODATA, *[absent] * 4, *[data] * 4]
    assert [result.records for result in found] == list(request(OF, *groups).groups)
    assert [result.pixels is None for result in found] == [result.outcome is not data for result in found]
    for place_of, expected in {0: second, 1: first, 8: first, 9: second, 10: first}.items():
        np.testing.assert_array_equal(found[place_of].pixels, expected)
    np.testing.assert_array_equal(found[7].pixels, np.where(second == NODATA, first, second))
    assert [[stored.uri for stored in datasets] for _, datasets in local.groups(request(OF, *groups))] == [
        *(["2.tif"], ["1.tif"], ["3.tif"], [], [], [], [], ["1.tif", "2.tif"], ["2.tif", "1.tif"], ["3.tif", "2.tif"]),
        ["1.tif"],
    ]


def test_unknown_names_are_refused_at_once(place: str) -> None:
    cube = ready(place)
    for changes, code in (
        ({"variable": "Z"}, ErrorCode.VARIABLE_UNKNOWN),
        ({"instance": "z"}, ErrorCode.INSTANCE_UNKNOWN),
    ):
        for ask in (cube.images, cube.groups):
            with pytest.raises(AcdError) as caught:
                ask(request(OF, (1,)).model_copy(update=changes))
            assert caught.value.code is code


def test_a_broken_container_fails_only_its_groups(place: str) -> None:
    cube = ready(place)
    for number in range(DATES):
        put(cube, number, f"{number}.tif", image(OF, number), OF)
    cube.store.delete("2.tif")
    cube.store.put("5.tif", b"no raster")
    found = list(cube.images(request(OF, *((number,) for number in range(DATES)), (9,), (1, 2), (2, 9))))
    failed = [place_of for place_of, result in enumerate(found) if result.outcome is Outcome.FAILED]
    assert failed == [2, 5, 8, 9]
    assert "2.tif is missing" in found[2].reason
    assert "5.tif is damaged" in found[5].reason
    assert found[7].outcome is Outcome.ABSENT
    for number in (0, 1, 3, 4, 6):
        np.testing.assert_array_equal(found[number].pixels, image(OF, number))


def test_the_next_batch_is_read_when_the_last_one_is_used_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cube = ready(str(tmp_path / "cube"))
    for number in range(DATES):
        put(cube, number, f"{number}.tif", image(OF, number), OF)
    monkeypatch.setattr(images_module, "BYTES_AT_ONCE", 2 * 300 * 280 * 2)
    read: list[int] = []

    def counted(store: Store, of: Grid, mosaics: list[list[Dataset]], *rest: Any) -> Pixels:
        read.append(len(mosaics))
        return read_mosaics(store, of, mosaics, *rest)

    monkeypatch.setattr("acdtask.cube.local.images.read_mosaics", counted)
    found = cube.images(request(OF, *((number,) for number in range(DATES))))
    assert read == []
    next(found)
    assert read == [2]
    next(found)
    assert read == [2]
    next(found)
    assert read == [2, 2]
    assert outcomes(found) == [Outcome.DATA] * 4
    assert read == [2, 2, 2, 1]


def test_an_unreachable_store_is_an_error_and_not_an_outcome(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cube = ready(str(tmp_path / "cube"))
    put(cube, 1, "1.tif", image(OF), OF)

    def away(*_: Any) -> Pixels:
        raise AcdError(ErrorCode.STORE_UNREACHABLE, "the bucket does not answer")

    monkeypatch.setattr("acdtask.cube.local.images.read_mosaics", away)
    with pytest.raises(AcdError, match="does not answer"):
        list(cube.images(request(OF, (1,))))


def test_a_copy_is_read_where_it_has_the_requested_pixels(place: str) -> None:
    cube = ready(place)
    pixels = np.stack([image(OF, number) for number in range(DATES)])
    for number in range(DATES):
        put(cube, number, f"{number}.tif", pixels[number], OF)
    inner = Window(row=24, column=44, height=256, width=256)
    cube.index([], put_stack(cube, OF.window(inner), pixels[:, *inner.slices]))

    def container(of: Grid, resampling: Resampling | None = None) -> str:
        ((_, (chosen,)),) = cube.groups(request(of, (3,), resampling=resampling))
        return chosen.uri

    part = OF.window(Window(row=30, column=50, height=100, width=90))
    assert container(part) == "stack.zarr"
    assert container(part, "bilinear") == "stack.zarr"
    assert container(part, "cubic") == "3.tif"
    assert container(OF) == "3.tif"
    assert container(part.model_copy(update={"transform": (20, 0, 401007, 0, -20, 5599400)})) == "3.tif"
    for of, window in ((OF.window(inner), inner), (part, Window(row=30, column=50, height=100, width=90))):
        found = cube.images(request(of, *((number,) for number in range(DATES))))
        np.testing.assert_array_equal(
            np.stack([result.pixels for result in found if result.pixels is not None]), pixels[:, *window.slices]
        )


def test_a_copy_does_not_replace_a_container_outside_the_cube(place: str, tmp_path: Path) -> None:
    cube, outside = ready(place), Store.at(str(tmp_path / "outside"))
    pixels = image(OF)[np.newaxis]
    at = {"record_id": record(0).id, "uri": outside.address_of("a.tif")}
    stored = put_image(outside, "a.tif", pixels[0], OF).model_copy(update=at)
    cube.index([record(0)], [stored, *put_stack(cube, OF, pixels)])
    assert list(cube.groups(request(OF, (0,)))) == [((record(0).id,), [stored])]


def test_exchanged_datasets_are_read_on_any_grid(place: str) -> None:
    cube = ready(place)
    pixels = np.stack([image(OF, number) for number in range(DATES)])
    natives = [put(cube, number, f"{number}.tif", pixels[number], OF) for number in range(DATES)]
    aside = OF.model_copy(update={"transform": (20, 0, 400007, 0, -20, 5599991), "width": 290, "height": 270})
    wanted = [request(of, *((number,) for number in range(DATES))) for of in (OF, aside)]
    before = [[result.pixels for result in cube.images(asked)] for asked in wanted]
    cube.exchange(natives, put_stack(cube, OF, pixels))
    for number in range(DATES):
        cube.store.delete(f"{number}.tif")
    for asked, expected in zip(wanted, before, strict=True):
        np.testing.assert_array_equal([image.pixels for image in cube.images(asked)], expected)
    more = put(
        cube,
        0,
        "more.tif",
        np.full((10, 10), 7, dtype="int16"),
        OF.window(Window(row=0, column=0, height=10, width=10)),
    )
    ((_, datasets),) = cube.groups(request(OF, (0,)))
    assert more in datasets
    assert len(datasets) == 2
    tile = UTM32.tile(0, 0).model_copy(update={"grid": aside, "layout": "other"})
    ((found),) = cube.where("CoherenceVV", "master", [record(1).id], [tile.grid])
    assert [chosen.uri for chosen in found] == ["stack.zarr"]


def test_a_record_with_tiles_only_is_read_from_them(place: str) -> None:
    """Products are like that: they only have tiles of a layout."""
    cube = ready(place)
    pixels = image(OF)
    for left, key in ((0, "left"), (150, "right")):
        half = Window(row=0, column=left, height=280, width=150)
        put(cube, 0, f"{key}.tif", pixels[half.slices], OF.window(half), layout="utm32", cell=f"{left}/0")
    (found,) = cube.images(request(OF, (0,)))
    np.testing.assert_array_equal(found.pixels, pixels)


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> LocalCube:
    """Records as COGs, side by side, in a stack, and in another data format; one of them is damaged."""
    cube = ready(str(tmp_path_factory.mktemp("mixed") / "cube"))
    outside = Store.at(str(tmp_path_factory.mktemp("outside")))
    pixels = np.stack([image(OF, number) for number in range(DATES)])
    pixels[:, :40, :50] = NODATA
    cube.commit(Addition([record(number) for number in range(DATES)], put_stack(cube, OF, pixels, exchanged=True)[:3]))
    for number in range(3, DATES):
        put(cube, number, f"{number}.tif", pixels[number], OF, exponent=1.0 + (number == 4))
    for number in (1, 5):
        shifted = OF.model_copy(update={"transform": (20, 0, 402010 + number, 0, -20, 5599000)})
        at = {"record_id": record(number).id, "uri": outside.address_of(f"{number}.tif"), "real": (0.0, 900.0)}
        cube.index([], [put_image(outside, f"{number}.tif", pixels[number], shifted).model_copy(update=at)])
    cube.store.put("6.tif", b"no raster")
    return cube


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.lists(st.integers(0, DATES), max_size=3).map(tuple), min_size=1, max_size=9),
    st.tuples(st.integers(-40, 200), st.integers(-40, 200), st.integers(1, 300), st.integers(1, 300)),
    st.booleans(),
    st.sampled_from(["nearest", "bilinear", "cubic", "max"]),
    st.integers(1, 400_000),
)
def test_batches_change_no_pixel(
    mixed: LocalCube,
    groups: list[tuple[int, ...]],
    window: tuple[int, int, int, int],
    is_aligned: bool,
    resampling: Resampling,
    at_once: int,
) -> None:
    row, column, height, width = window
    of = OF.window(Window(row=row, column=column, height=height, width=width))
    if not is_aligned:
        a, b, c, d, e, f = of.transform
        of = of.model_copy(update={"transform": (a, b, c + 3.7, d, e, f - 8.1)})
    with pytest.MonkeyPatch.context() as patch:
        together = list(mixed.images(request(of, *groups, resampling=resampling)))
        patch.setattr(images_module, "BYTES_AT_ONCE", at_once)
        apart = list(mixed.images(request(of, *groups, resampling=resampling)))
    alone = [result for group in groups for result in mixed.images(request(of, group, resampling=resampling))]
    for batched in (together, apart):
        assert [(result.records, result.outcome, result.reason) for result in batched] == [
            (result.records, result.outcome, result.reason) for result in alone
        ]
        for result, other in zip(batched, alone, strict=True):
            if result.pixels is not None and other.pixels is not None:
                np.testing.assert_array_equal(result.pixels, other.pixels)
    for result, (_, datasets) in zip(alone, mixed.groups(request(of, *groups)), strict=True):
        assert (result.outcome is Outcome.ABSENT) == (not datasets)
        if result.pixels is not None:
            read = mixed.read(of, [one_slice(*datasets)], COHERENCE, resampling)[0]
            np.testing.assert_array_equal(result.pixels, read)


def test_chunks_of_many_kinds_of_windows(place: str) -> None:
    """Stacks of several chunks in each direction: consecutive images, parts, one time, the same time twice."""
    cube = ready(place)
    of = grid(300, 270)
    pixels = np.stack([image(of, number) for number in range(70)])
    pixels[:, :256, :256] = NODATA  # a chunk that is not written
    stack = put_stack(cube, of, pixels)
    cube.commit(Addition([record(number) for number in range(70)]))
    cube.index([], stack)
    corner = of.window(Window(row=0, column=256, height=256, width=44))
    for part, numbers in (
        (of, list(range(70))),
        (corner, [5, 5, 69, 0, 64, 63]),
        (of.window(Window(row=0, column=0, height=256, width=256)), list(range(70))),
        (of.window(Window(row=250, column=250, height=20, width=50)), [3, 2, 1]),
        (of.window(Window(row=-5, column=290, height=20, width=50)), [66, 1]),
    ):
        found = cube.images(request(part, *((number,) for number in numbers)))
        expected = cube.read(part, [one_slice(stack[number]) for number in numbers], COHERENCE)
        top, left = round((5600000 - part.transform[5]) / 20), round((part.transform[2] - 400000) / 20)
        padded = np.pad(pixels, ((0, 0), (60, 60), (60, 60)), constant_values=NODATA)
        plain = padded[numbers, top + 60 : top + 60 + part.height, left + 60 : left + 60 + part.width]
        np.testing.assert_array_equal(expected, plain)
        for result, other in zip(found, plain, strict=True):
            if (other == NODATA).all():
                assert result.outcome is Outcome.NODATA
            else:
                np.testing.assert_array_equal(result.pixels, other)


def test_an_image_of_more_pixels_than_fit_in_memory_is_refused_before_a_file_is_opened(place: str) -> None:
    """Half a country of 20 m pixels as one of 200 px."""
    cube = ready(place)
    local, wide = LocalCube.open(place), grid(30_000, 20_000)
    cube.index([record(0)], [dataset(record(0), "away.tif", grid=wide)])
    put(local, 1, "b.tif", image(OF, 1), OF)
    far = grid(200, 150, transform=(3000, 0, 400000, 0, -3000, 5600000))
    first, second = cube.images(request(far, (0,), (1,), resampling="average"))
    assert (first.outcome, second.outcome) == (Outcome.FAILED, Outcome.DATA)
    assert "ACD-712: an image of 200 x 150 px needs 1144 MiB of pixels from 1 dataset" in first.reason
    with pytest.raises(AcdError) as raised:
        local.read(far, [one_slice(dataset(record(0), "away.tif", grid=wide))], COHERENCE)
    assert raised.value.code is ErrorCode.GRID_TOO_COARSE
