"""What rounds hand to each other keeps its values, its types and its bytes."""

from __future__ import annotations

import subprocess
import sys
from typing import Annotated, Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pydantic import BaseModel
from pydantic_core import PydanticSerializationError

from acdtask.change.evidence import Evidence
from acdtask.change.fragments import FragmentTable, find_fragments
from acdtask.jobs.codec import ArrayOf, DataclassOfArrays, Packed, decode, encode
from acdtask.raster.data_format import DataFormat

ROWS = np.dtype([("id", "<i4"), ("high", "?"), ("sum", "<f8")])
Table = Annotated[FragmentTable, DataclassOfArrays()]


class Tile(BaseModel):
    label: str
    counts: dict[str, int]
    dformat: DataFormat | None = None
    mask: Annotated[NDArray[np.uint8], ArrayOf(np.uint8, 2)] = np.zeros((0, 0), np.uint8)
    rows: Annotated[NDArray[np.void], ArrayOf(ROWS)] = np.zeros(0, ROWS)
    wholes: list[Annotated[NDArray[Any], ArrayOf(None, None)]] = []


class Shard(BaseModel):
    tiles: dict[str, Packed[Tile]]
    fragments: Packed[Table] | None = None


def tile() -> Tile:
    rng = np.random.default_rng(3)
    rows = np.zeros(7, ROWS)
    rows["id"], rows["high"], rows["sum"] = np.arange(7), np.arange(7) % 2, rng.normal(size=7)
    return Tile(
        label="Köln",
        counts={"b": 2, "a": 1},
        dformat=DataFormat(dtype="float32", nodata=float("nan"), min=0, max=1),
        mask=rng.integers(0, 255, (5, 3), np.uint8),
        rows=rows,
        wholes=[rng.normal(size=4).astype(np.float32), np.arange(6).reshape(1, 2, 3)],
    )


def table() -> FragmentTable:
    rng = np.random.default_rng(5)
    z = rng.normal(1.5, 1, (40, 30)).astype(np.float32)
    evidence = Evidence(extent=z, seed=z, z=z, drop=z.astype(np.float64), count=np.full(z.shape, 20))
    return find_fragments(evidence, low=1.0, high=3.0, min_area=3, origin=(-7, 12)).table


def assert_same(tile: Tile, other: Tile) -> None:
    assert (tile.label, tile.counts) == (other.label, other.counts)
    assert tile.dformat is not None
    assert other.dformat is not None
    assert tile.dformat.nodata is not None
    assert np.isnan(tile.dformat.nodata)
    assert tile.dformat.model_dump_json() == other.dformat.model_dump_json()
    for left, right in zip([tile.mask, tile.rows, *tile.wholes], [other.mask, other.rows, *other.wholes], strict=True):
        assert left.dtype == right.dtype
        np.testing.assert_array_equal(left, right)


def test_values_types_and_shapes_come_back() -> None:
    assert_same(decode(encode(tile(), Tile), Tile), tile())


def test_equal_values_have_equal_bytes_whatever_order_they_were_built_in() -> None:
    turned = tile().model_copy(update={"counts": {"a": 1, "b": 2}})
    assert [*turned.counts] != [*tile().counts]
    assert encode(turned, Tile) == encode(tile(), Tile)
    other = tile().model_copy(update={"counts": {"a": 1, "b": 3}})
    assert encode(other, Tile) != encode(tile(), Tile)


def test_every_array_counts() -> None:
    changed = tile()
    changed.wholes[1][0, 1, 2] += 1
    assert encode(changed, Tile) != encode(tile(), Tile)


def test_another_process_makes_the_same_bytes() -> None:
    """With other hashes, at another time."""
    code = (
        "import sys; from tests.jobs.test_codec import Tile, tile; from acdtask.jobs.codec import encode; "
        "sys.stdout.buffer.write(encode(tile(), Tile))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, env={"PYTHONHASHSEED": "7"})
    assert done.stdout == encode(tile(), Tile)


def test_what_is_packed_comes_back_when_it_is_opened() -> None:
    shard = Shard(tiles={"1/2": Packed.of(tile())}, fragments=Packed.of(table(), Table))
    back = decode(encode(shard, Shard), Shard)
    assert_same(back.tiles["1/2"].open(), tile())
    assert back.tiles["1/2"].data == shard.tiles["1/2"].data
    assert back.fragments is not None
    assert encode(back, Shard) == encode(shard, Shard)
    opened, expected = back.fragments.open(), table()
    assert (opened.origin, opened.shape, opened.min_area) == (expected.origin, expected.shape, expected.min_area)
    for name in ("fragments", "diagonals", "border"):
        assert getattr(opened, name).dtype == getattr(expected, name).dtype
        np.testing.assert_array_equal(getattr(opened, name), getattr(expected, name))
    assert len(expected.fragments) > 3


def test_rows_of_several_fields_are_as_small_as_they_were() -> None:
    rows = np.zeros(5000, ROWS)
    rows["id"] = np.arange(5000)
    size = len(encode(Tile(label="", counts={}, rows=rows), Tile))
    assert size < 0.15 * rows.nbytes


def test_another_type_is_refused_when_it_is_encoded() -> None:
    class Other(BaseModel):
        label: str

    with pytest.raises(TypeError, match="expected Tile, got Other"):
        encode(Other(label=""), Tile)


@pytest.mark.parametrize(
    "data", [b"", b"{}", encode(Shard(tiles={}), Shard), encode(tile(), Tile)[:-40]], ids=["no", "json", "other", "cut"]
)
def test_other_bytes_are_refused_when_they_are_decoded(data: bytes) -> None:
    with pytest.raises(ValueError, match="not a valid Tile"):
        decode(data, Tile)


@pytest.mark.parametrize(
    ("mask", "why"),
    [
        (np.zeros((2, 2), np.int16), "expected 2 x uint8, got 2 x int16"),
        (np.zeros(2, np.uint8), "expected 2 x uint8, got 1 x uint8"),
        ([[1, 2]], "expected an array, got list"),
    ],
)
def test_an_array_of_another_type_or_shape_is_refused(mask: Any, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        Tile(label="", counts={}, mask=mask)


def test_an_array_is_no_json() -> None:
    with pytest.raises(PydanticSerializationError, match="arrays are not JSON"):
        tile().model_dump(mode="json")
