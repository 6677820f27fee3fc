"""Images of a cube: exact pixels, or the reason why there are none."""

from __future__ import annotations

import uuid
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from acdtask.cube.model import CubeRequest, Dataset, Instance, Outcome, Slice
from acdtask.errors import AcdError, ErrorCode
from acdtask.raster.grid import Grid, Tile, Window
from tests.cube.builders import COHERENCE, box, grid, image
from tests.cube.conformance.images import NODATA, ground, shown, window
from tests.cube.conformance.rooms import Room, dformat


def grids_of(tiles: list[Tile]) -> list[Grid]:
    return [tile.grid for tile in tiles]


FAR = grid(50, 40, transform=(20, 0, 700000, 0, -20, 5000000))


@pytest.mark.parametrize(
    "part",
    [
        Window(row=0, column=0, height=200, width=300),
        Window(row=17, column=250, height=50, width=50),
        Window(row=-30, column=-40, height=300, width=400),
        Window(row=199, column=299, height=1, width=1),
        Window(row=3, column=35, height=1, width=70),
    ],
)
def test_aligned_pixels_are_copied_bit_for_bit(room: Room, part: Window) -> None:
    instance, pixels = room.instance(), ground(grid())
    (record,) = room.stack(instance, [pixels], grid())
    found = room.image(instance, grid().window(part), record)
    assert found.records == (record.id,)
    np.testing.assert_array_equal(shown(found), window(pixels, part))
    assert shown(found).dtype == np.int16


@pytest.mark.parametrize(
    ("dtype", "nodata"),
    [
        ("uint8", 255),
        ("int16", -32768),
        ("uint16", 65535),
        ("int32", -(2**31)),
        ("float32", -9999.5),
        ("float32", float("nan")),
        ("float64", float("nan")),
    ],
)
def test_every_data_type_comes_bit_for_bit(room: Room, dtype: str, nodata: float) -> None:
    format_ = dformat(dtype, nodata=nodata, max=200)
    instance = room.instance(room.variable("v", dformat=format_))
    random = np.random.default_rng(3)
    pixels = random.uniform(0, 200, (60, 70)).astype(dtype)
    pixels[10:20, :30] = nodata
    (record,) = room.stack(instance, [pixels], grid(70, 60), dformat=format_)
    found = shown(room.image(instance, grid(70, 60), record))
    assert found.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(found, pixels)


@pytest.mark.needs("int64")
def test_64_bit_integers_come_bit_for_bit(room: Room) -> None:
    format_ = dformat("int64", max=2.0**62)
    instance = room.instance(room.variable("v", dformat=format_))
    pixels = np.random.default_rng(3).integers(0, 2**62, (60, 70), dtype="int64")
    (record,) = room.stack(instance, [pixels], grid(70, 60), dformat=format_)
    np.testing.assert_array_equal(shown(room.image(instance, grid(70, 60), record)), pixels)


def test_several_bands_come_in_the_order_of_the_dataset(room: Room) -> None:
    instance = room.instance(room.variable("v", bands=("VV", "VH")))
    bands = np.stack([ground(grid(90, 70), seed) for seed in range(3)])
    (record,) = room.stack(instance, [bands], grid(90, 70), bands=(3, 1))
    found = shown(room.image(instance, grid(90, 70), record))
    np.testing.assert_array_equal(found, bands[[2, 0]])
    part = Window(row=5, column=33, height=64, width=17)
    np.testing.assert_array_equal(
        shown(room.image(instance, grid(90, 70).window(part), record)), bands[[2, 0]][:, 5:69, 33:50]
    )


def test_images_come_in_the_order_of_the_groups(room: Room) -> None:
    instance = room.instance()
    records = room.stack(instance, [np.full((40, 50), n, "int16") for n in range(1, 6)], grid(50, 40))
    ids = [record.id for record in records]
    for order in ([4, 3, 2, 1, 0], [2], [1, 3, 0], [0, 1, 0]):
        found = room.images(instance, grid(50, 40), *((ids[n],) for n in order))
        assert [result.records for result in found] == [(ids[n],) for n in order]
        assert [np.unique(shown(result)).tolist() for result in found] == [[n + 1] for n in order]
    assert room.images(instance, grid(50, 40)) == []


def test_the_later_record_of_a_group_lies_on_top_where_it_is_valid(room: Room) -> None:
    instance = room.instance()
    low, high = np.full((200, 300), 100, "int16"), np.full((200, 300), 900, "int16")
    high[:, :150] = NODATA
    bottom, top = room.stack(instance, [low, high], grid())
    both = room.images(instance, grid(), (bottom.id, top.id), (top.id, bottom.id), (top.id,))
    np.testing.assert_array_equal(shown(both[0]), np.where(high == NODATA, low, high))
    np.testing.assert_array_equal(shown(both[1]), low)
    np.testing.assert_array_equal(shown(both[2]), high)
    assert [result.records for result in both] == [(bottom.id, top.id), (top.id, bottom.id), (top.id,)]


def test_a_group_joins_adjacent_records(room: Room) -> None:
    instance, pixels = room.instance(), ground(grid())
    records = [room.record(number) for number in range(3)]
    parts = [Window(row=0, column=c, height=200, width=100) for c in (0, 100, 200)]
    datasets = [
        room.container(record, instance, window(pixels, part), grid().window(part))
        for record, part in zip(records, parts, strict=True)
    ]
    room.cube.index(records, datasets)
    np.testing.assert_array_equal(shown(room.image(instance, grid(), *records)), pixels)
    np.testing.assert_array_equal(shown(room.image(instance, grid(), *records[::-1])), pixels)
    hole = shown(room.image(instance, grid(), records[0], records[2]))
    np.testing.assert_array_equal(hole[:, 100:200], NODATA)


def test_the_outcome_says_why_an_image_has_no_pixels(room: Room) -> None:
    """Nothing is omitted silently: every group has its outcome, in order."""
    instance = room.instance()
    data, empty, gone, elsewhere, bare = (room.record(number) for number in range(5))
    full, none = np.full((40, 50), 7, "int16"), np.full((40, 50), NODATA, "int16")
    datasets = [
        room.container(data, instance, full, grid(50, 40)),
        room.container(empty, instance, none, grid(50, 40)),
        room.container(gone, instance, full, grid(50, 40)),
        room.container(elsewhere, instance, full, FAR, dformat=COHERENCE.dformat),
    ]
    room.cube.index([data, empty, gone, elsewhere, bare], datasets)
    Path(datasets[2].uri).unlink()
    unknown = str(uuid.uuid4())
    groups = [(gone.id,), (data.id,), (empty.id,), (elsewhere.id,), (bare.id,), (unknown,), (data.id, empty.id), ()]
    found = room.images(instance, grid(50, 40), *groups)
    assert [result.records for result in found] == groups
    assert [result.outcome.name for result in found] == [
        "FAILED",
        "DATA",
        "NODATA",
        "ABSENT",
        "ABSENT",
        "ABSENT",
        "DATA",
        "ABSENT",
    ]
    assert datasets[2].uri in found[0].reason
    assert [result.pixels is None for result in found] == [result.outcome is not Outcome.DATA for result in found]


def test_a_group_with_a_file_that_is_gone_fails_as_a_whole(room: Room) -> None:
    """Without the record on top, it would be a different image."""
    instance = room.instance()
    records = [room.record(number) for number in range(2)]
    datasets = [room.container(record, instance, np.full((40, 50), 7, "int16"), grid(50, 40)) for record in records]
    room.cube.index(records, datasets)
    Path(datasets[1].uri).unlink()
    assert room.image(instance, grid(50, 40), *records).outcome is Outcome.FAILED
    assert room.image(instance, grid(50, 40), records[0]).outcome is Outcome.DATA


def test_a_file_that_is_not_a_raster_any_more_fails(room: Room) -> None:
    instance = room.instance()
    record = room.record()
    dataset = room.put(record, instance, np.full((40, 50), 7, "int16"), grid(50, 40))
    Path(dataset.uri).write_bytes(b"not a raster")
    found = room.image(instance, grid(50, 40), record)
    assert found.outcome is Outcome.FAILED
    assert dataset.uri in found.reason


def test_only_nodata_below_the_window_is_no_data(room: Room) -> None:
    instance, pixels = room.instance(), ground(grid())
    (record,) = room.stack(instance, [pixels], grid())
    part = Window(row=2, column=2, height=10, width=10)
    assert room.image(instance, grid().window(part), record).outcome is Outcome.NODATA


def test_unknown_variable_and_instance_are_refused(room: Room) -> None:
    variable = room.variable()
    for name, instance, code in [
        (room.name("unknown"), "master", ErrorCode.VARIABLE_UNKNOWN),
        (variable.name, "unknown", ErrorCode.INSTANCE_UNKNOWN),
    ]:
        request = CubeRequest(variable=name, instance=instance, grid=grid(5, 4), groups=((str(uuid.uuid4()),),))
        with pytest.raises(AcdError) as error:
            list(room.cube.images(request))
        assert error.value.code is code


@pytest.mark.parametrize("crs", ["EPSG:999999", "nonsense"])
def test_an_invalid_crs_is_refused(room: Room, crs: str) -> None:
    instance = room.instance()
    (record,) = room.stack(instance, [np.full((40, 50), 7, "int16")], grid(50, 40))
    with pytest.raises(AcdError) as error:
        room.image(instance, grid(50, 40, crs=crs), record)
    assert error.value.code is ErrorCode.LAYOUT_INVALID


def test_an_image_of_many_chunks(room: Room) -> None:
    large = grid(1500, 1300)
    pixels = [image(large, seed, low=1) for seed in range(2)]
    instance = room.instance()
    records = room.stack(instance, pixels, large)
    found = room.images(instance, large, *((record.id,) for record in records))
    for result, given in zip(found, pixels, strict=True):
        np.testing.assert_array_equal(shown(result), given)


@pytest.mark.needs("wire")
@pytest.mark.parametrize("compression", [-3, -2, -1, 0, 1, 6, 9])
def test_compression_on_the_way_changes_no_pixel(room: Room, compression: int) -> None:
    assert room.reopen is not None
    instance, on, large = room.instance(), grid(150, 100), grid(900, 800)
    small = [ground(on, seed) for seed in range(3)]
    records = room.stack(instance, small, on)
    record = room.record(7)
    room.put(record, instance, image(large), large)
    again = replace(room, cube=room.reopen(compression=compression))
    found = again.images(instance, on, *((record.id,) for record in records))
    for result, given in zip(found, small, strict=True):
        np.testing.assert_array_equal(shown(result), given)
    np.testing.assert_array_equal(shown(again.image(instance, large, record)), image(large))


@pytest.mark.needs("wire")
def test_a_downloader_gives_the_same_images(room: Room) -> None:
    if not room.downloader:
        pytest.skip("GEOCUBE_DOWNLOADER is unset: no downloader to test with")
    assert room.reopen is not None
    instance, on = room.instance(), grid(150, 100)
    records = room.stack(instance, [ground(on, seed) for seed in range(3)], on)
    gone = room.record(8)
    Path(room.put(gone, instance, ground(on), on).uri).unlink()
    groups = [
        (gone.id,),
        *((record.id,) for record in records),
        (str(uuid.uuid4()),),
        tuple(record.id for record in records),
    ]
    shifted = grid(150, 100, transform=(20, 0, 400007, 0, -20, 5599993))
    near = replace(room, cube=room.reopen(downloader=room.downloader))
    for target in (on, shifted):
        for result, other in zip(
            room.images(instance, target, *groups), near.images(instance, target, *groups), strict=True
        ):
            assert (result.records, result.outcome) == (other.records, other.outcome)
            if result.pixels is not None:
                np.testing.assert_array_equal(other.pixels, result.pixels)


def test_read_gives_the_same_as_images(room: Room) -> None:
    """The datasets of `where` are the input of `read`."""
    instance = room.instance()
    layout = room.layout()
    records = room.stack(instance, [ground(grid(150, 100), seed) for seed in range(4)], grid(150, 100))
    ids = [record.id for record in records]
    tiles = [layout.tile(1, 1), layout.tile(2, 0), layout.tile(9, 9)]
    variable = room.cube.variable(instance.variable)
    for tile, found in zip(tiles, room.cube.where(instance.variable, "master", ids, grids_of(tiles)), strict=True):
        assert [dataset.record_id for dataset in found] == (ids if tile.i < 9 else [])
        by_record: dict[str, tuple[Dataset, ...]] = {
            record_id: tuple(d for d in found if d.record_id == record_id) for record_id in ids
        }
        slices = [Slice(label=record_id, datasets=by_record[record_id]) for record_id in ids] + [
            Slice(label="", datasets=tuple(found))
        ]
        stack = room.cube.read(tile.grid, slices, variable)
        assert (stack.shape, stack.dtype) == ((5, 64, 64), np.dtype("int16"))
        images = room.images(instance, tile.grid, *((record_id,) for record_id in ids), tuple(ids))
        for pixels, result in zip(stack, images, strict=True):
            expected = result.pixels if result.pixels is not None else np.full((64, 64), NODATA)
            np.testing.assert_array_equal(pixels, expected)


@pytest.mark.needs("outlines")
def test_where_returns_the_records_of_a_tile(room: Room) -> None:
    found, expected = lying(room)
    assert found == expected


def test_where_misses_no_record_and_keeps_their_order(room: Room) -> None:
    found, expected = lying(room)
    order = expected["0/0"] + [record_id for record_id in expected["1/0"] if record_id not in expected["0/0"]]
    for cell, ids in expected.items():
        assert set(found[cell]) >= set(ids)
        assert found["2/2"] == []
        assert len(found[cell]) == len(set(found[cell]))
    assert sorted(order) == sorted(set(found["0/0"]) | set(found["1/0"]))


def lying(room: Room) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """The records that `where` returns for each cell, and those with pixels in it."""
    instance, layout = room.instance(), room.layout()
    records = [room.record(number, footprint=box(7, 50, 8, 51)) for number in range(3)]
    places = [layout.tile(0, 0).grid, layout.tile(1, 0).grid, layout.pixel_grid(32, 32, 64, 64)]
    datasets = [
        room.container(record, instance, image(place), place) for record, place in zip(records, places, strict=True)
    ]
    room.cube.index(records, datasets)
    ids = [record.id for record in records]
    tiles = [layout.tile(i, j) for j in (0, 1, 2) for i in (0, 1, 2)]
    found = {
        tile.cell: [dataset.record_id for dataset in near]
        for tile, near in zip(
            tiles, room.cube.where(instance.variable, "master", ids[::-1], grids_of(tiles)), strict=True
        )
    }
    a, b, c = ids
    expected = {
        "0/0": [c, a],
        "1/0": [c, b],
        "2/0": [],
        "0/1": [c],
        "1/1": [c],
        "2/1": [],
        "0/2": [],
        "1/2": [],
        "2/2": [],
    }
    (only,) = room.cube.where(instance.variable, "master", [b], [layout.tile(1, 0).grid])
    assert [dataset.record_id for dataset in only] == [b]
    return found, expected


def test_read_of_a_file_that_is_gone_is_refused(room: Room) -> None:
    instance = room.instance()
    record = room.record()
    dataset = room.put(record, instance, image(grid(50, 40)), grid(50, 40))
    tile = room.layout().tile(0, 0)
    (near,) = room.cube.where(instance.variable, "master", [record.id], [tile.grid])
    Path(dataset.uri).unlink()
    with pytest.raises(AcdError) as error:
        room.cube.read(tile.grid, [Slice(label="", datasets=tuple(near))], room.cube.variable(instance.variable))
    assert error.value.code in (ErrorCode.CUBE_DAMAGED, ErrorCode.INPUT_UNREADABLE, ErrorCode.IMAGE_FAILED)
    assert dataset.uri in error.value.detail


def test_no_slice_and_no_dataset_are_nodata(room: Room) -> None:
    variable = room.variable()
    assert room.cube.read(grid(5, 4), [], variable).shape == (0, 4, 5)
    empty = room.cube.read(grid(5, 4), [Slice(label="", datasets=())], variable)
    assert np.unique(empty).tolist() == [NODATA]
    bands = room.cube.read(
        grid(5, 4), [Slice(label="", datasets=())], variable.model_copy(update={"bands": ("a", "b")})
    )
    assert bands.shape == (1, 2, 4, 5)


def test_two_instances_do_not_mix(room: Room) -> None:
    variable = room.variable()
    first, second = room.instance(variable, "master"), room.instance(variable, "annual")
    record = room.record()
    room.put(record, first, np.full((40, 50), 1, "int16"), grid(50, 40))
    assert room.image(second, grid(50, 40), record).outcome is Outcome.ABSENT
    room.put(record, second, np.full((40, 50), 2, "int16"), grid(50, 40))
    values = [np.unique(shown(room.image(instance, grid(50, 40), record))).tolist() for instance in (first, second)]
    assert values == [[1], [2]]
    assert Instance(variable=variable.name, name="annual") in room.cube.instances(variable.name)
