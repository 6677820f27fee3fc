"""Lay out the scenes and tiles of an AOI for a drawing: a row per scene, a column per chain of tiles.

A tile is processed with the same burst of the previous scene, so chains run down a column and rarely cross. Too many
scenes or tiles are counted instead: a row per date, month or year.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace

from acdtask.ingester.model import Scene, Status, Tile

__all__ = ["Cell", "Chart", "Fold", "Link", "chart_of"]

MAX_ROWS, MAX_COLUMNS, MAX_CELLS = 120, 60, 3000
"""With more scenes, chains or tiles, they are counted by period."""

PERIODS = (("date", "%Y-%m-%d"), ("month", "%Y-%m"), ("year", "%Y"))


@dataclass(frozen=True)
class Cell:
    """A tile with its row and column."""

    tile: Tile
    row: int
    column: int


@dataclass(frozen=True)
class Link:
    """An arrow between tiles that are processed together; `reference` if it starts at the reference tile."""

    start: Cell
    end: Cell
    reference: bool


@dataclass(frozen=True)
class Fold:
    """Numbers of scenes and tiles by status, for a date, month or year."""

    label: str
    scenes: Counter[Status]
    tiles: Counter[Status]


@dataclass(frozen=True)
class Chart:
    """The content of a drawing: either scenes, columns, cells and links, or folds.

    Attributes:
        aoi: name of the AOI.
        totals: numbers of scenes and of tiles by status.
        bad_scenes, bad_tiles: those in RETRY or FAILED.
        names: names of the scenes by id.
        scenes: scenes by date and name, one per row.
        columns: swath and number of each column of tiles.
        folds: counts by period.
        period: period of the folds: "date", "month", "year" or "all"; empty without folds.
    """

    aoi: str
    totals: tuple[Counter[Status], Counter[Status]]
    bad_scenes: tuple[Scene, ...]
    bad_tiles: tuple[Tile, ...]
    names: dict[int, str]
    scenes: tuple[Scene, ...] = ()
    columns: tuple[str, ...] = ()
    cells: tuple[Cell, ...] = ()
    links: tuple[Link, ...] = ()
    folds: tuple[Fold, ...] = ()
    period: str = ""


def chart_of(aoi: str, scenes: Iterable[Scene], tiles: Iterable[Tile]) -> Chart:
    """Lay out an AOI. The order of scenes and tiles does not matter."""
    rows = sorted(scenes, key=lambda scene: (scene.data.date, scene.source_id, scene.id))
    row_of = {scene.id: row for row, scene in enumerate(rows)}
    in_rows = sorted((tile for tile in tiles if tile.scene.id in row_of), key=lambda tile: tile.id)
    bad = (Status.FAILED, Status.RETRY)
    bad_scenes = tuple(scene for scene in rows if scene.status in bad)
    bad_ids = {scene.id for scene in bad_scenes}
    chart = Chart(
        aoi=aoi,
        totals=(Counter(scene.status for scene in rows), Counter(tile.status for tile in in_rows)),
        bad_scenes=bad_scenes,
        bad_tiles=tuple(tile for tile in in_rows if tile.status in bad and tile.scene.id not in bad_ids),
        names={scene.id: scene.source_id for scene in rows},
    )
    if len(rows) <= MAX_ROWS and len(in_rows) <= MAX_CELLS:
        columns, cells = _placed(in_rows, row_of)
        if len(columns) <= MAX_COLUMNS:
            return replace(chart, scenes=tuple(rows), columns=columns, cells=cells, links=_links(cells))
    period, folds = _folded(rows, in_rows)
    return replace(chart, folds=folds, period=period)


def _placed(tiles: list[Tile], row_of: dict[int, int]) -> tuple[tuple[str, ...], tuple[Cell, ...]]:
    """Assign columns and cells. Chains of the same burst share a column if they do not overlap."""
    lanes: dict[tuple[str, int], list[list[Tile]]] = defaultdict(list)
    for chain in _chains(tiles, row_of):
        lanes[chain[0].data.swath_id, chain[0].data.tile_nr].append(chain)
    columns: list[str] = []
    cells: list[Cell] = []
    for (swath, number), chains in sorted(lanes.items()):
        ends: list[int] = []
        first = len(columns)
        for chain in sorted(chains, key=lambda chain: (row_of[chain[0].scene.id], chain[0].id)):
            rows = [row_of[tile.scene.id] for tile in chain]
            lane = next((lane for lane, end in enumerate(ends) if end < rows[0]), len(ends))
            ends[lane : lane + 1] = [rows[-1]]
            cells += [Cell(tile, row, first + lane) for tile, row in zip(chain, rows, strict=True)]
        columns += [f"{swath} {number}".strip() if swath else "tile"] * len(ends)
    return tuple(columns), tuple(sorted(cells, key=lambda cell: (cell.row, cell.column)))


def _chains(tiles: list[Tile], row_of: dict[int, int]) -> list[list[Tile]]:
    """Group tiles into chains with at most one tile per row; a tile that fits no chain starts one."""
    chain_of: dict[int, list[Tile]] = {}
    chains: list[list[Tile]] = []
    for tile in sorted(tiles, key=lambda tile: (row_of[tile.scene.id], tile.id)):
        candidates = [chain_of[number] for number in (tile.previous, tile.reference) if number in chain_of]
        chain = next((c for c in candidates if row_of[c[-1].scene.id] < row_of[tile.scene.id]), [])
        if not chain:
            chains.append(chain)
        chain.append(tile)
        chain_of[tile.id] = chain
    return chains


def _links(cells: tuple[Cell, ...]) -> tuple[Link, ...]:
    """Link each tile to its predecessor, or to its reference if there is no predecessor."""
    by_id = {cell.tile.id: cell for cell in cells}
    links = []
    for cell in cells:
        previous = by_id.get(cell.tile.previous or 0)
        start = previous or by_id.get(cell.tile.reference or 0)
        if start is not None and start is not cell:
            links.append(Link(start, cell, reference=previous is None))
    return tuple(links)


def _folded(scenes: list[Scene], tiles: list[Tile]) -> tuple[str, tuple[Fold, ...]]:
    """Count by the shortest period whose rows fit."""
    labels = {name: {scene.id: f"{scene.data.date:{form}}" for scene in scenes} for name, form in PERIODS}
    period = next((name for name, label_of in labels.items() if len(set(label_of.values())) <= MAX_ROWS), "all")
    label_of = labels.get(period, {scene.id: "all scenes" for scene in scenes})
    of_scenes: dict[str, Counter[Status]] = defaultdict(Counter)
    of_tiles: dict[str, Counter[Status]] = defaultdict(Counter)
    for scene in scenes:
        of_scenes[label_of[scene.id]][scene.status] += 1
    for tile in tiles:
        of_tiles[label_of[tile.scene.id]][tile.status] += 1
    return period, tuple(Fold(label, of_scenes[label], of_tiles[label]) for label in sorted(of_scenes))
