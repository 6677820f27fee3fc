"""Joining the fragments of tiles into the blobs of the whole image, from tables alone, without pixels."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise, product

import numpy as np
from numpy.typing import NDArray

from acdtask.change.components import components
from acdtask.change.fragments import EVIDENCE, MEASURES, FragmentTable
from acdtask.change.near_misses import NO_SCORE, Near

__all__ = ["BLOB", "JoinedBlobs", "join_fragments", "join_near", "neighbours_within"]

BLOB = np.dtype([("id", "<i4"), *MEASURES.descr, *EVIDENCE.descr])
"""A blob: its id, from 1 in raster order of the first pixel, its measures and its evidence.

z_max, z_sum and drop_sum of a rise that was found beside drops are negative; z_max is then its lowest z."""


@dataclass(frozen=True, eq=False)
class JoinedBlobs:
    """The blobs of the whole image.

    Attributes:
        blobs: BLOB rows; bit-for-bit identical regardless of tiling.
        tiles_spanned: shape (blobs,), int32, number of tiles in which each blob has pixels; depends on the tiling.
        blob_ids: for each input table, in the same order, an int32 array that maps labels to blob ids, or to 0 if the
            fragment belongs to no blob; `blob_ids[k][fragments.labels]` is the blob image of the tile.
    """

    blobs: NDArray[np.void]
    tiles_spanned: NDArray[np.int32]
    blob_ids: list[NDArray[np.int32]]


def join_fragments(tables: Sequence[FragmentTable]) -> JoinedBlobs:
    """Join the fragments of tiles, then apply hysteresis and min_area.

    Fragments of neighbouring tiles that share a pixel edge become one region (4 neighbours), unless one is a drop and
    the other a rise. Regions that never exceed
    `high` are dropped. The others form blobs where they touch, corners included (8 neighbours). Blobs of more than
    min_area pixels are kept.

    Args:
        tables: one per tile, in any order. Tiles are non-overlapping rectangles of any size; there is no change
            outside of them.

    Raises:
        ValueError: tiles overlap, or were pruned with different values of min_area.
    """
    if len({table.min_area for table in tables}) > 1:
        raise ValueError("the tables were made with different values of min_area")
    sizes = [len(table.fragments) for table in tables]
    total = sum(sizes)
    if not total:
        return JoinedBlobs(np.zeros(0, BLOB), np.zeros(0, np.int32), [np.zeros(size + 1, np.int32) for size in sizes])
    starts = np.concatenate([[0], np.cumsum(sizes)])
    fragments = np.concatenate([table.fragments for table in tables])
    groups = _groups(tables, fragments, starts)
    kept = np.flatnonzero(groups.survives[groups.region] & (groups.area[groups.group] > tables[0].min_area))
    return _number(fragments, groups.group, kept, starts)


def join_near(tables: Sequence[FragmentTable], tiles: Sequence[Near]) -> Near:
    """Near misses of the whole image, from the tables of its tiles and the near misses inside each tile.

    The result does not depend on the tiling.
    """
    near = sum(tiles, Near())
    sizes = [len(table.fragments) for table in tables]
    if not sum(sizes):
        return near
    fragments = np.concatenate([table.fragments for table in tables])
    groups = _groups(tables, fragments, np.concatenate([[0], np.cumsum(sizes)]))
    region_px = np.zeros(len(fragments), np.int64)
    np.add.at(region_px, groups.region, fragments["area"])
    seed_max = np.full(len(fragments), NO_SCORE)
    np.maximum.at(seed_max, groups.region, fragments["seed_max"])
    wide = ~groups.survives & (region_px > tables[0].min_area)
    return near + Near(
        region_px=int(region_px.max()),
        group_px=int(groups.area.max()),
        wide_z_max=int(seed_max[wide].max(initial=NO_SCORE)),
    )


@dataclass(frozen=True, eq=False)
class _Groups:
    """The region and group of each fragment, and facts about each region and group.

    Attributes:
        region: number of the region of each fragment; its fragments share pixel edges.
        group: number of the group of each fragment; its surviving regions touch each other.
        survives: whether each region exceeds `high` somewhere.
        area: area of each group in pixels; 0 for regions that do not survive.
    """

    region: NDArray[np.int64]
    group: NDArray[np.int64]
    survives: NDArray[np.bool_]
    area: NDArray[np.int64]


def _groups(tables: Sequence[FragmentTable], fragments: NDArray[np.void], starts: NDArray[np.int64]) -> _Groups:
    total = len(fragments)
    edges, corners = (_of_one_sign(pairs, fragments) for pairs in _touching(tables, starts))
    # Hysteresis comes before corners, as in find_fragments. Example: S and T exceed `high`, b does not, | is a seam.
    #   S . | . .    b is one region across the seam, and touches S and T at corners. It has no seed, so it goes, and S
    #   . b | b .    and T are two blobs. Joining corners first would make one blob of all three.
    #   . . | . T
    region = components(total, edges)
    survives = np.zeros(total, np.bool_)
    survives[region[fragments["has_high"]]] = True
    corners = region[corners]
    corners = corners[survives[corners].all(axis=1)]
    # `corners` has numbers of regions, so the components are of regions too; [region] makes them those of fragments.
    group = components(total, corners)[region]
    area = np.zeros(total, np.int64)
    alive = survives[region]
    np.add.at(area, group[alive], fragments["area"][alive])
    return _Groups(region, group, survives, area)


def _touching(
    tables: Sequence[FragmentTable], starts: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pairs of fragments, numbered across all tables, that share a pixel edge, and pairs that touch at a corner."""
    border = np.concatenate([table.border for table in tables])
    lengths = [len(table.border) for table in tables]
    fragment = border["label"].astype(np.int64) - 1 + np.repeat(starts[:-1], lengths)
    tile = np.repeat(np.arange(len(tables)), lengths)
    row, column = border["row"], border["column"]
    if len(border):
        row, column = row - row.min(), column - column.min()
    # One column to spare on either side, so that the end of a row does not touch the start of the next.
    width = int(column.max(initial=0)) + 3
    if (int(row.max(initial=0)) + 2) * width > np.iinfo(np.int64).max:
        raise ValueError("the tiles are too far apart to form one image")
    # A pixel's neighbours then have the keys key + 1, key + width, key + width + 1 and key + width - 1.
    key = (row + 1) * width + column + 1
    order = np.argsort(key, kind="stable")
    key, fragment, tile = key[order], fragment[order], tile[order]
    if (key[1:] == key[:-1]).any():
        raise ValueError("tiles overlap")

    def pairs(step: int) -> NDArray[np.int64]:
        # Neighbours within a tile are one fragment already, or a pair in its `diagonals`.
        neighbour = np.minimum(np.searchsorted(key, key + step), max(len(key) - 1, 0))
        across = (key[neighbour] == key + step) & (tile[neighbour] != tile)
        return np.stack([fragment[across], fragment[neighbour[across]]], axis=1)

    inside = [table.diagonals.astype(np.int64) - 1 + start for table, start in zip(tables, starts[:-1], strict=True)]
    return (
        np.concatenate([pairs(1), pairs(width)]),
        np.concatenate([pairs(width + 1), pairs(width - 1), *inside]),
    )


def _of_one_sign(pairs: NDArray[np.int64], fragments: NDArray[np.void]) -> NDArray[np.int64]:
    """The pairs of fragments that are both drops or both rises: a rise beside a drop is another change."""
    same: NDArray[np.int64] = pairs[fragments["rises"][pairs[:, 0]] == fragments["rises"][pairs[:, 1]]]
    return same


def _number(
    fragments: NDArray[np.void], blob: NDArray[np.int64], kept: NDArray[np.int64], starts: NDArray[np.int64]
) -> JoinedBlobs:
    """Sum the kept fragments of each blob, and number the blobs by their first pixel."""
    # In raster order the first fragment of a blob has the blob's first pixel, so ids depend on pixels alone and not on
    # the order of the tables.
    kept = kept[np.lexsort((fragments["first_column"][kept], fragments["first_row"][kept]))]
    part = fragments[kept]
    _, first, index = np.unique(blob[kept], return_index=True, return_inverse=True)
    rank = np.empty(len(first), np.int64)
    rank[np.argsort(first)] = np.arange(len(first))
    index = rank[index]

    blobs = np.zeros(len(first), BLOB)
    blobs["id"] = np.arange(1, len(first) + 1)
    for name in ("area", "z_sum", "drop_sum", "count_sum", "extent_sum"):
        np.add.at(blobs[name], index, part[name])
    for name, start in (("min_row", np.iinfo(np.int64).max), ("min_column", np.iinfo(np.int64).max)):
        blobs[name] = start
        np.minimum.at(blobs[name], index, part[name])
    for name in ("z_max", "max_row", "max_column", "seed_max"):
        blobs[name] = np.iinfo(np.int64).min
        np.maximum.at(blobs[name], index, part[name])
    rises = np.zeros(len(first), np.bool_)
    rises[index] = part["rises"]
    for name in ("z_max", "z_sum", "drop_sum"):
        blobs[name][rises] *= -1
    first.sort()
    blobs["first_row"], blobs["first_column"] = part["first_row"][first], part["first_column"][first]

    ids = np.zeros(len(fragments), np.int32)
    ids[kept] = blobs["id"][index]
    blob_ids = [np.concatenate([np.zeros(1, np.int32), ids[start:stop]]) for start, stop in pairwise(starts)]
    tile = np.searchsorted(starts, kept, side="right") - 1
    spans = np.unique(np.stack([index, tile], axis=1), axis=0)[:, 0]
    return JoinedBlobs(blobs, np.bincount(spans, minlength=len(first)).astype(np.int32), blob_ids)


def neighbours_within(
    tables: Sequence[FragmentTable], blob_ids: Sequence[NDArray[np.int32]], reach: int
) -> list[list[int]]:
    """For each tile, the numbers of the other tiles that may have a blob within `reach` pixels of it, ascending.

    Bounding boxes of fragments decide, so some of these tiles may have no blob that near.

    Args:
        tables: one per tile, in any order.
        blob_ids: `JoinedBlobs.blob_ids` of the tables.
        reach: in pixels, along rows and columns.
    """
    height, width = (max((table.shape[axis] for table in tables), default=1) for axis in (0, 1))
    squares: dict[tuple[int, int], list[int]] = defaultdict(list)
    for number, table in enumerate(tables):
        for square in _squares(_box(table), height, width):
            squares[square].append(number)
    near: list[set[int]] = [set() for _ in tables]
    for number, (table, ids) in enumerate(zip(tables, blob_ids, strict=True)):
        parts = table.fragments[ids[1:] > 0]
        boxes = np.stack([parts[name] for name in ("min_row", "min_column", "max_row", "max_column")], axis=1)
        boxes += np.array([-reach, -reach, reach, reach])
        own = _box(table)
        # Most fragments are far from the edges of their tile.
        outside = (boxes[:, :2] < own[:2]).any(axis=1) | (boxes[:, 2:] > own[2:]).any(axis=1)
        for box in boxes[outside].tolist():
            for other in {tile for square in _squares(box, height, width) for tile in squares[square]}:
                first_row, first_column, last_row, last_column = _box(tables[other])
                if box[0] <= last_row and box[2] >= first_row and box[1] <= last_column and box[3] >= first_column:
                    near[other].add(number)
    return [sorted(others - {number}) for number, others in enumerate(near)]


def _box(table: FragmentTable) -> list[int]:
    """First row, first column, last row and last column of a tile."""
    (row, column), (height, width) = table.origin, table.shape
    return [row, column, row + height - 1, column + width - 1]


def _squares(box: Sequence[int], height: int, width: int) -> Iterator[tuple[int, int]]:
    """The squares of a grid of this size that a box overlaps, so that few tiles need a closer look."""
    return product(range(box[0] // height, box[2] // height + 1), range(box[1] // width, box[3] // width + 1))
