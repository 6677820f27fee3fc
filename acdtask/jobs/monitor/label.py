"""First rounds: the scores of each tile and image, their medians over the image, and fragments joined into blobs."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Collection, Container, Iterator, Mapping, Sequence
from dataclasses import astuple
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel
from shapely.geometry.base import BaseGeometry

from acdtask.change.detect import TileChange, detect_on_ground, scene_of
from acdtask.change.fragments import FragmentTable
from acdtask.change.method import halo_of, measure, measuring
from acdtask.change.near import Near
from acdtask.change.packing import pack as pack_arrays
from acdtask.change.packing import unpack as unpack_arrays
from acdtask.change.profile import Detection
from acdtask.change.scene import Ground
from acdtask.change.seams import blobs_to_bytes, join_fragments, join_near
from acdtask.change.steps.step import Counts, Step, Whole
from acdtask.cube.local.blocks import checksum_of
from acdtask.cube.local.cog import encode_cog
from acdtask.cube.local.store import Store
from acdtask.cube.masks import inside_mask
from acdtask.cube.model import Cube, Dataset, Resampling, Slice, Variable
from acdtask.jobs.bundle import array_to_bytes, pack, unpack
from acdtask.jobs.contract import Handouts
from acdtask.jobs.monitor.around import mask_of, windows_around
from acdtask.jobs.monitor.tally import Tally, tally_of
from acdtask.jobs.monitor.work import Places, TileWork, partial_place
from acdtask.jobs.products import Z_FORMAT, Z_SCALE, Z_UNIT
from acdtask.jobs.scratch import leave_scratch

__all__ = [
    "LEFT",
    "LEFT_OUT",
    "NOTHING_MEASURED",
    "PLACES",
    "JoinedImages",
    "Left",
    "Scorer",
    "counts_to_bytes",
    "join_counts",
    "join_labels",
    "left_of",
    "left_to_bytes",
    "write_change",
]


LEFT = "left"
"""In the bundles of `label`: a `Left` for each tile and image, by the name of the part."""
PLACES = "places"
"""In the handouts of `label`: where z of partial images goes, by label."""
LEFT_OUT = "left out"
"""In the handouts of `label`, for methods with a halo: cells of tiles that failed in the previous round."""
NOTHING_MEASURED: Counts = np.zeros(0, np.int64)
"""The counts of a method without a measuring step."""


class Left(BaseModel):
    """What `label` leaves of a tile and image for `cut`: where in the scratch its labels and quality lie.

    `z_checksum` and `z_size` are those of the file of z that `label` wrote. `tally` is for the gather alone, and not
    handed on.
    """

    labels: str
    z_checksum: str
    z_size: int
    places: Places
    tally: Tally | None = None


def left_of(bundle: Mapping[str, bytes]) -> dict[str, Left]:
    """What a bundle says of each part."""
    return {part: Left.model_validate(raw) for part, raw in json.loads(bundle[LEFT]).items()}


def left_to_bytes(left: Mapping[str, Left]) -> bytes:
    """The entry of a bundle that says it."""
    return json.dumps({part: one.model_dump(exclude_none=True) for part, one in left.items()}, sort_keys=True).encode()


class Scorer:
    """Reads a tile and its baseline, and evaluates it image by image.

    Args:
        work: the tile.
        cube: where its pixels are.
        variable: that of the images.
        area: the area of interest, in longitude and latitude.
        detection: the method.
        resampling: default: the variable's.
        around: whether to read the halo of the method; measuring needs only the tile.
        left_out: quarantined cells, which are masked and not read.
    """

    def __init__(
        self,
        work: TileWork,
        cube: Cube,
        variable: Variable,
        area: BaseGeometry,
        detection: Detection,
        resampling: Resampling | None,
        *,
        around: bool = True,
        left_out: Collection[str] = (),
    ) -> None:
        self._work, self._cube, self._variable = work, cube, variable
        self._detection, self._resampling = detection, resampling
        self._halo = halo_of(detection.steps) if around else 0
        self._grid = work.tile.grid.grown(self._halo)
        neighbours = {one.cell for one in work.mean[1:]}.difference(left_out) if self._halo else set()
        self._cells = {work.tile.cell, *neighbours}
        self._windows = windows_around(work.tile, neighbours, self._halo)
        self._inside = inside_mask(area, self._grid) & mask_of(self._windows, self._grid.shape)
        dformat = variable.dformat
        self._ground = Ground(
            self._read_view(work.mean),
            self._read_view(work.standard_deviation),
            np.nan_to_num(self._read_view(work.count), nan=0.0),
            (dformat.min, dformat.max),
        )

    def measure(self, image: Slice) -> Counts:
        """Count what the method measures of an image in the tile; an empty array if it measures nothing.

        The tile is read in any case, so that an unreadable tile is quarantined before its neighbours read it.
        """
        scene, _ = scene_of(
            self._read(image),
            self._ground,
            self._detection,
            nodata=self._variable.dformat.nodata,
            inside=self._inside,
        )
        steps = self._detection.steps
        return measure(scene, steps, ()) if measuring(steps) else NOTHING_MEASURED

    def change(self, image: Slice, wholes: Sequence[Whole]) -> TileChange:
        """Scores and fragments. Pixels outside the AOI have no z, so that patches never depend on the tiles."""
        return detect_on_ground(
            self._read(image),
            self._ground,
            self._detection,
            nodata=self._variable.dformat.nodata,
            origin=self._work.tile.origin,
            inside=self._inside,
            wholes=wholes,
        )

    def tally(self, change: TileChange) -> Tally:
        """What its scores amount to."""
        ground = self._ground.without_margin(self._halo)
        return tally_of(change, ground.count, ground.std, self._detection)

    def _read(self, image: Slice) -> NDArray[Any]:
        if len(self._windows) == 1 and self._grid.shape == (self._windows[0].height, self._windows[0].width):
            return np.asarray(self._cube.read(self._grid, [image], self._variable, self._resampling)[0])
        whole = np.full(self._grid.shape, self._variable.dformat.nodata, self._variable.dformat.dtype)
        for window in self._windows:
            on = self._grid.window(window)
            whole[window.slices] = self._cube.read(on, [image], self._variable, self._resampling)[0]
        return whole

    def _read_view(self, datasets: Sequence[Dataset]) -> NDArray[np.float32]:
        variable = self._cube.variable(datasets[0].variable)
        wanted = Slice(label="", datasets=tuple(one for one in datasets if one.cell in self._cells))
        return np.asarray(self._cube.read(self._grid, [wanted], variable)[0])


def write_change(
    change: TileChange,
    tally: Tally,
    z_uri: str,
    work: TileWork,
    label: str,
    places: Places,
    tags: Mapping[str, str],
    store: Store,
    scratch: Store,
) -> Left:
    """Write the z of a tile and image, leave its labels for the next round, and say where they lie."""
    pixels = _stored_z(change.score.z)[np.newaxis]
    data = encode_cog(
        pixels, work.tile.grid, nodata=Z_FORMAT.nodata, scale=Z_SCALE, band_names=("z",), unit=Z_UNIT, tags=tags
    )
    store.put(z_uri, data)
    packed = pack_arrays(labels=change.fragments.labels, quality=change.score.quality)
    key = leave_scratch(scratch, f"labels/{work.part(label)}", packed)
    return Left(labels=key, z_checksum=checksum_of(data), z_size=len(data), places=places, tally=tally)


def counts_to_bytes(counts: Mapping[str, Counts]) -> bytes:
    """The counts of a shard's images, by label."""
    return pack({label: pack_arrays(counts=one) if one.size else b"" for label, one in counts.items()})


def join_counts(
    tables: Iterator[tuple[int, bytes]],
    steps: Sequence[Step],
    partial: Container[str],
    left_out: Collection[str],
) -> Handouts:
    """The conclusions of the method's measuring step for each image, as handouts of the next round.

    Args:
        tables: what `counts_to_bytes` made in each shard.
        steps: the method.
        partial: labels of images that lack tiles.
        left_out: cells of tiles that failed, which the next round must not read.
    """
    total: dict[str, Counts] = {}
    labels: dict[int, list[str]] = {}
    for shard, bundle in tables:
        found = unpack(bundle)
        labels[shard] = sorted(found)
        for label, table in found.items():
            if table:
                counts = unpack_arrays(table)["counts"]
                total[label] = total[label] + counts if label in total else counts
    step = next(iter(measuring(steps)), None)
    wholes = {label: array_to_bytes(step.conclude(counts)) for label, counts in total.items()} if step else {}
    every = sorted({label for some in labels.values() for label in some})
    places = {label: partial_place(wholes.get(label, b"")) for label in every if label in partial}
    shared = {LEFT_OUT: json.dumps(sorted(left_out)).encode()} if left_out and halo_of(steps) else {}

    def handout(some: list[str]) -> bytes:
        mine = {label: wholes[label] for label in some if label in wholes}
        named = {label: places[label] for label in some if label in places}
        return pack({**mine, **shared, PLACES: json.dumps(named).encode()})

    return Handouts({shard: handout(some) for shard, some in labels.items()})


def _stored_z(z: NDArray[np.float32]) -> NDArray[np.int16]:
    missing = np.isnan(z)
    stored = np.rint(
        np.clip(np.where(missing, 0.0, z).astype(np.float64) / Z_SCALE, Z_FORMAT.min, Z_FORMAT.max)
    ).astype(np.int16)
    stored[missing] = Z_FORMAT.nodata
    return stored


class JoinedImages(BaseModel):
    """The memo of `label`: by label of each image, where in the scratch its blobs lie, and how near it came to one."""

    blobs: dict[str, str]
    near: dict[str, tuple[int, ...]]


def join_labels(
    tables: Iterator[tuple[int, bytes]], partial: Container[str], scratch: Store, check: Callable[[Tally, int], None]
) -> Handouts:
    """Join the fragments of every tile, an image at a time.

    Args:
        tables: for each shard a bundle of tables of fragments, named `<image>/<tile>`, and `LEFT`.
        partial: labels of images that lack tiles.
        scratch: gets the blobs of each image.
        check: is given the tally of everything and the number of images; it may raise.

    Returns:
        For each shard, a bundle that maps the labels of each of its tiles and images to blobs, and `LEFT`; as a memo,
        `JoinedImages`.
    """
    images: dict[str, list[tuple[int, str, bytes]]] = defaultdict(list)
    left: dict[int, dict[str, Left]] = {}
    for shard, table in tables:
        bundle = unpack(table)
        left[shard] = left_of(bundle)
        for part in left[shard]:
            images[part.partition("/")[0]].append((shard, part, bundle[part]))
    tallies = {part: one.tally or Tally() for parts in left.values() for part, one in parts.items()}
    if tallies:
        check(sum(tallies.values(), Tally()), len(images))
    handouts: dict[int, dict[str, bytes]] = {shard: {} for shard in left}
    memo = JoinedImages(blobs={}, near={})
    for label, parts in sorted(images.items()):
        fragments = [FragmentTable.from_bytes(table) for _, _, table in parts]
        joined = join_fragments(fragments)
        memo.blobs[label] = leave_scratch(scratch, f"blobs/{label}", blobs_to_bytes(joined.blobs))
        memo.near[label] = astuple(join_near(fragments, [Near(*tallies[part].near) for _, part, _ in parts]))
        place = ""
        if label in partial:
            place = partial_place(*(left[shard][part].labels.encode() + table for shard, part, table in parts))
        for (shard, part, _), blob_ids in zip(parts, joined.blob_ids, strict=True):
            handouts[shard][part] = array_to_bytes(blob_ids)
            places = left[shard][part].places.model_copy(update={"change": place})
            left[shard][part] = left[shard][part].model_copy(update={"places": places, "tally": None})
    return Handouts(
        {shard: pack({**parts, LEFT: left_to_bytes(left[shard])}) for shard, parts in handouts.items()},
        memo.model_dump_json().encode(),
    )
