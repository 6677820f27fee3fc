"""Damaged pixels: a flipped bit in a file is detected, or changes no pixel that acd reads."""

from __future__ import annotations

import random
import shutil
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import rasterio

from acdtask.cube.local.containers import read_window
from acdtask.cube.local.cube import LocalCube
from acdtask.cube.local.stack import METADATA, StackWriter
from acdtask.cube.model import Addition, CubeRequest, Dataset, Outcome, Variable
from acdtask.errors import AcdError, ErrorCode
from acdtask.maintenance.verify.check import check_files
from acdtask.maintenance.verify.files import named_files
from acdtask.raster.data_format import DataFormat, Pixels
from acdtask.raster.grid import Grid, Window
from acdtask.storage.store import Store
from tests.cube.builders import COHERENCE, MASTER, dataset, grid, image, one_slice, record
from tests.raster.cogs import write_cog

# rasterio warns when a damaged header has no georeference, and when it cannot log GDAL's message.
pytestmark = [
    pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

FLIPS = 200
MEAN = Variable(name="Mean", dformat=DataFormat(dtype="float32", nodata=float("nan"), min=0, max=1000))
Z = Variable(name="Z", dformat=DataFormat(dtype="int16", nodata=-32768, min=-32767, max=32767))
MOMENTS = Variable(
    name="Moments", dformat=DataFormat(dtype="int64", nodata=-1, min=0, max=2**40), bands=("count", "sum", "squares")
)
MASK = Variable(name="Mask", dformat=DataFormat(dtype="uint8", nodata=255, min=0, max=254), bands=("change", "why"))


@dataclass(frozen=True)
class StoredDataset:
    """A dataset in a store, with its expected pixels."""

    store: Store
    dataset: Dataset
    variable: Variable
    pixels: Pixels

    def read(self) -> Pixels:
        """Read the whole image like a job does."""
        (pixels,) = LocalCube(self.store).read(self.dataset.grid, [one_slice(self.dataset)], self.variable)
        return np.asarray(pixels)


def pixels_of(variable: Variable, of: Grid) -> Pixels:
    """Make noise of the variable's type, with nodata in a corner."""
    draw = np.random.default_rng(5)
    noise = draw.normal(120, 40, (len(variable.bands), *of.shape)).clip(0, 250)
    bands: Pixels = noise.astype(np.dtype(variable.dformat.dtype))
    bands[:, :40, :30] = variable.dformat.nodata
    return bands


def stored_cog(folder: Path, variable: Variable, of: Grid) -> StoredDataset:
    """Store an image with `write_cog`."""
    store, bands = Store.at(str(folder)), pixels_of(variable, of)
    checksum = write_cog(store, "image.tif", bands, of, nodata=variable.dformat.nodata, blocksize=128)
    numbers = tuple(range(1, len(bands) + 1))
    fields = {"variable": variable.name, "dformat": variable.dformat, "bands": numbers, "checksum": checksum}
    return StoredDataset(
        store,
        dataset(record(0), "image.tif", grid=of, **fields),
        variable,
        bands if len(bands) > 1 else bands[0],
    )


def stored_stack(folder: Path) -> StoredDataset:
    """Store a consolidated container, and take an image with two chunks, one of them all nodata."""
    of, store = grid(300, 100), Store.at(str(folder))
    records = [record(number) for number in range(3)]
    stack = np.stack([image(of, seed) for seed in range(3)])
    stack[:, :, 256:] = -1
    writer = StackWriter(store, "a.zarr", of, records, COHERENCE, "master")
    writer.write(Window(row=0, column=0, height=100, width=300), stack)
    middle = dataset(records[1], "a.zarr", subdir="1", grid=of, layout="utm", cell="0/0", checksum=writer.finish())
    return StoredDataset(store, middle, COHERENCE, stack[1])


def flipped(data: bytes, bit: int) -> bytes:
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def bits_of(data: bytes, seed: int) -> list[int]:
    """Draw bits all over a file, a quarter of them in its headers, directories and tables."""
    draw = random.Random(seed)  # noqa: S311 - not used for secrets
    head = min(len(data), 1500) * 8
    return [draw.randrange(head if number % 4 == 0 else len(data) * 8) for number in range(FLIPS)]


def outcomes(stored: StoredDataset, key: str, bits: Sequence[int]) -> list[str]:
    """Result of each flip: "noticed", "harmless", or a description of undetected damage."""
    whole = stored.store.get(key)
    results = []
    for bit in bits:
        stored.store.put(key, flipped(whole, bit))
        try:
            same = np.array_equal(stored.read(), stored.pixels, equal_nan=stored.variable.dformat.dtype == "float32")
        except AcdError as error:
            named = key.removesuffix(f"/{METADATA}").partition("/CoherenceVV/c/")[0] in error.detail
            results.append("noticed" if error.code is ErrorCode.CUBE_DAMAGED and named else f"bit {bit}: {error}")
        else:
            results.append("harmless" if same else f"bit {bit} is silent")
    stored.store.put(key, whole)
    return results


@pytest.mark.parametrize("variable", [COHERENCE, MEAN, Z, MOMENTS, MASK], ids=lambda variable: str(variable.name))
def test_no_flipped_bit_of_a_cog_gives_other_pixels(tmp_path: Path, variable: Variable) -> None:
    stored = stored_cog(tmp_path, variable, grid(300, 200))
    np.testing.assert_array_equal(stored.read(), stored.pixels)
    results = outcomes(stored, "image.tif", bits_of(stored.store.get("image.tif"), seed=1))
    assert set(results) == {"noticed", "harmless"}
    assert results.count("noticed") > FLIPS // 2


def test_no_flipped_bit_of_a_consolidated_container_gives_other_pixels(tmp_path: Path) -> None:
    stored = stored_stack(tmp_path)
    np.testing.assert_array_equal(stored.read(), stored.pixels)
    metadata, chunk = "a.zarr/zarr.json", "a.zarr/CoherenceVV/c/0/0/0"
    assert set(outcomes(stored, metadata, bits_of(stored.store.get(metadata), seed=2))) == {"noticed"}
    # The image is the second of three. The index and its own block are checked; other blocks are not read.
    data = stored.store.get(chunk)
    offset, size = struct.unpack_from("<2Q", data, 16)
    read = [*range(3 * 16 + 4), *range(offset, offset + size)]
    assert 0.3 < len(read) / len(data) < 0.4
    bits = bits_of(data, seed=2)
    expected = ["noticed" if bit // 8 in set(read) else "harmless" for bit in bits]
    assert outcomes(stored, chunk, bits) == expected


def test_a_missing_chunk_is_an_error_and_not_nodata(tmp_path: Path) -> None:
    stored = stored_stack(tmp_path)
    assert stored.store.list("a.zarr/CoherenceVV/c") == ["a.zarr/CoherenceVV/c/0/0/0"]  # the other one is all nodata
    stored.store.delete("a.zarr/CoherenceVV/c/0/0/0")
    with pytest.raises(AcdError, match=r"a\.zarr is damaged") as raised:
        stored.read()
    assert raised.value.code is ErrorCode.CUBE_DAMAGED


def without_table(stored: StoredDataset) -> None:
    with rasterio.open(stored.store.gdal_path("image.tif")) as source:
        bands = source.read()
    path = Path(stored.store.gdal_path("image.tif"))
    plain = path.with_suffix(".plain.tif")
    with (
        rasterio.open(path) as source,
        rasterio.open(plain, "w", **{**source.profile, "driver": "GTiff"}) as target,
    ):
        target.write(bands)
    plain.replace(path)


def of_another_size(stored: StoredDataset) -> None:
    bigger = stored_cog(Path(stored.store.url) / "bigger", stored.variable, grid(301, 200))
    shutil.copy(bigger.store.gdal_path("image.tif"), stored.store.gdal_path("image.tif"))


def of_another_type(stored: StoredDataset) -> None:
    unsigned = stored.variable.model_copy(update={"dformat": DataFormat(dtype="uint16", nodata=65535, min=0, max=1000)})
    other = stored_cog(Path(stored.store.url) / "other", unsigned, stored.dataset.grid)
    shutil.copy(other.store.gdal_path("image.tif"), stored.store.gdal_path("image.tif"))


@pytest.mark.parametrize(
    ("damage", "says"),
    [(without_table, "no checksum table"), (of_another_size, "200 x 301"), (of_another_type, "uint16, not int16")],
)
def test_a_replaced_file_counts_as_damaged(tmp_path: Path, damage: Callable[[StoredDataset], None], says: str) -> None:
    stored = stored_cog(tmp_path, COHERENCE, grid(300, 200))
    damage(stored)
    with pytest.raises(AcdError, match=says) as raised:
        stored.read()
    assert raised.value.code is ErrorCode.CUBE_DAMAGED
    assert "image.tif" in raised.value.detail


def test_a_dataset_without_a_checksum_is_read_unchecked(tmp_path: Path) -> None:
    stored = stored_cog(tmp_path, COHERENCE, grid(300, 200))
    without_table(stored)
    plain = stored.dataset.model_copy(update={"checksum": ""})
    (pixels,) = LocalCube(stored.store).read(stored.dataset.grid, [one_slice(plain)], COHERENCE)
    np.testing.assert_array_equal(pixels, stored.pixels)


def test_any_window_of_any_bands_is_checked_and_right(tmp_path: Path) -> None:
    stored = stored_cog(tmp_path, MOMENTS, grid(300, 200))
    draw = random.Random(3)  # noqa: S311 - not used for secrets
    for _ in range(60):
        row, column = draw.randrange(200), draw.randrange(300)
        window = Window(
            row=row, column=column, height=draw.randrange(1, 201 - row), width=draw.randrange(1, 301 - column)
        )
        bands = tuple(draw.sample([1, 2, 3], draw.randrange(1, 4)))
        part = stored.dataset.model_copy(update={"bands": bands})
        (pixels,) = read_window(stored.store, "image.tif", [(part, window)])
        expected = stored.pixels[[band - 1 for band in bands], *window.slices]
        np.testing.assert_array_equal(pixels, expected)


def overview_bits(path: Path) -> list[int]:
    """Draw bits from the first block of the file's first overview."""
    with rasterio.open(path) as whole:
        offset, size = (
            int(whole.get_tag_item(f"BLOCK_{item}_0_0", "TIFF", bidx=1, ovr=0)) for item in ("OFFSET", "SIZE")
        )
    draw = random.Random(4)  # noqa: S311 - not used for secrets
    return [draw.randrange(offset * 8, (offset + size) * 8) for _ in range(40)]


def test_an_overview_is_checked_when_a_map_tile_is_made_from_it(tmp_path: Path) -> None:
    store, of = Store.at(str(tmp_path)), grid(600, 400)
    checksum = write_cog(store, "a.tif", image(of)[np.newaxis], of, nodata=-1)
    cube = LocalCube.create(str(tmp_path))
    whole = dataset(record(0), "a.tif", grid=of, checksum=checksum)
    cube.commit(Addition([record(0)], [whole], variables=[COHERENCE], instances=[MASTER]))
    coarse = grid(300, 200, transform=(40, 0, 400000, 0, -40, 5600000))
    request = CubeRequest(variable="CoherenceVV", instance="master", grid=coarse, groups=((record(0).id,),))
    good = cube.picture(request)
    assert good.pixels is not None
    data = store.get("a.tif")
    noticed = 0
    for bit in overview_bits(tmp_path / "a.tif"):
        store.put("a.tif", flipped(data, bit))
        picture = cube.picture(request)
        if picture.outcome is Outcome.FAILED:
            assert "a.tif" in picture.reason
            noticed += 1
        else:
            np.testing.assert_array_equal(picture.pixels, good.pixels)
    assert noticed > 20


def test_the_index_keeps_checksums_and_takes_the_newer_one(tmp_path: Path) -> None:
    cube = LocalCube.create(str(tmp_path))
    plain = dataset(record(0), "a.tif")
    cube.commit(Addition([record(0)], [plain], [COHERENCE], [MASTER]))
    segment = cube.store.list("index/datasets")
    first, second = (plain.model_copy(update={"checksum": f"1220{digit * 64}"}) for digit in "ab")
    for new, expected in ((first, first), (plain, first), (first, first), (second, second)):
        cube.commit(Addition([record(0)], [new], [COHERENCE], [MASTER]))
        assert LocalCube.open(str(tmp_path)).datasets("CoherenceVV", "master") == [expected]
    cube.exchange([plain], [dataset(record(0), "b.tif")])
    assert [dataset.uri for dataset in cube.datasets("CoherenceVV", "master")] == ["b.tif"]
    assert len(cube.store.list("index/datasets")) == 4
    assert set(segment) < set(cube.store.list("index/datasets"))


def test_verify_detects_every_kind_of_damage_in_a_folder_and_on_s3(place: str, tmp_path: Path) -> None:
    cube = LocalCube.create(place)
    cog = stored_cog(tmp_path, COHERENCE, grid(300, 200))
    stack = stored_stack(tmp_path)
    for key in Store.at(str(tmp_path)).list():
        if not key.startswith("cube/"):
            cube.store.put(key, Store.at(str(tmp_path)).get(key))
    plain = dataset(record(2), "plain.tif")
    cube.store.put("plain.tif", b"a client's file")
    datasets = [cog.dataset, stack.dataset, plain]
    cube.commit(Addition([record(number) for number in range(3)], datasets, [COHERENCE], [MASTER], []))

    def verdicts() -> dict[str, str]:
        result = check_files(cube.store, named_files(LocalCube.open(place)))
        assert result.intact + result.not_checked + len(result.faults) == 3
        return {fault.file.key: f"{fault.verdict} {fault.detail}".strip() for fault in result.faults}

    assert verdicts() == {}
    damage = {
        "image.tif": ("image.tif", "damaged", "missing"),
        "a.zarr/zarr.json": ("a.zarr", "damaged the checksum of its zarr.json does not match", "missing"),
        "a.zarr/CoherenceVV/c/0/0/0": (
            "a.zarr",
            "damaged the checksum of a chunk is wrong: 0/0/0",
            "damaged chunk 0/0/0 is missing",
        ),
    }
    for key, (file, when_flipped, when_missing) in damage.items():
        data = cube.store.get(key)
        cube.store.put(key, flipped(data, len(data) * 4))
        assert verdicts() == {file: when_flipped}
        cube.store.delete(key)
        assert verdicts() == {file: when_missing}
        cube.store.put(key, data)
    cube.store.delete("plain.tif")
    assert verdicts() == {"plain.tif": "missing"}


def test_a_damaged_block_is_noticed_on_s3_too(place: str, tmp_path: Path) -> None:
    stored = stored_cog(tmp_path / "local", COHERENCE, grid(300, 200))
    store = Store.at(place)
    data = stored.store.get("image.tif")
    store.put("image.tif", data)
    store.put("damaged.tif", flipped(data, len(data) * 4))
    intact = StoredDataset(store, stored.dataset, stored.variable, stored.pixels)
    np.testing.assert_array_equal(intact.read(), stored.pixels)
    damaged = StoredDataset(
        store, stored.dataset.model_copy(update={"uri": "damaged.tif"}), stored.variable, stored.pixels
    )
    with pytest.raises(AcdError, match=r"damaged\.tif is damaged") as raised:
        damaged.read()
    assert raised.value.code is ErrorCode.CUBE_DAMAGED
