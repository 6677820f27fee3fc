"""Where the scenes and tiles of an AOI go in a picture: a row for each scene, a column for each chain of tiles.

A tile is processed with the same burst of the scene before it, so chains run down a column and hardly ever cross. What
is too much for a picture is folded: a row for each date, month or year, with tiles counted.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from acdtask.ingester.model import Scene, Status, Tile

__all__ = ["Cell", "Chart", "Fold", "Link", "chart_of"]

MAX_ROWS, MAX_COLUMNS, MAX_CELLS = 120, 60, 3000
"""More scenes, chains or tiles are folded."""

PERIODS = (("date", "%Y-%m-%d"), ("month", "%Y-%m"), ("year", "%Y"))


@dataclass(frozen=True)
class Cell:
    """A tile in its place."""

    tile: Tile
    row: int
    column: int


@dataclass(frozen=True)
class Link:
    """An arrow from a tile to the one that is processed with it; `reference` if it is only the first of its chain."""

    start: Cell
    end: Cell
    reference: bool


@dataclass(frozen=True)
class Fold:
    """The scenes of a date, month or year, and their tiles, by status."""

    label: str
    scenes: Counter[Status]
    tiles: Counter[Status]


@dataclass(frozen=True)
class Chart:
    """What to draw: either scenes, columns, cells and links, or folds.

    Attributes:
        aoi: its name.
        scenes: by date and name; a row each.
        columns: swath and number of each column of tiles.
        period: what is folded: "date", "month", "year" or "all"; empty if nothing is.
        bad_scenes, bad_tiles: those in RETRY or FAILED.
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
    """The picture of an AOI; the same scenes and tiles in any order give the same one."""
    rows = sorted(scenes, key=lambda one: (one.data.date, one.source_id, one.id))
    row_of = {scene.id: row for row, scene in enumerate(rows)}
    every = sorted((tile for tile in tiles if tile.scene.id in row_of), key=lambda one: one.id)
    bad = (Status.FAILED, Status.RETRY)
    bad_scenes = tuple(scene for scene in rows if scene.status in bad)
    told = {scene.id for scene in bad_scenes}
    chart = Chart(
        aoi=aoi,
        totals=(Counter(one.status for one in rows), Counter(one.status for one in every)),
        bad_scenes=bad_scenes,
        bad_tiles=tuple(tile for tile in every if tile.status in bad and tile.scene.id not in told),
        names={scene.id: scene.source_id for scene in rows},
    )
    if len(rows) <= MAX_ROWS and len(every) <= MAX_CELLS:
        columns, cells = _placed(every, row_of)
        if len(columns) <= MAX_COLUMNS:
            return _with(chart, scenes=tuple(rows), columns=columns, cells=cells, links=_links(cells))
    period, folds = _folded(rows, every)
    return _with(chart, folds=folds, period=period)


def _with(chart: Chart, **changes: object) -> Chart:
    return Chart(**{**chart.__dict__, **changes})


def _placed(tiles: list[Tile], row_of: dict[int, int]) -> tuple[tuple[str, ...], tuple[Cell, ...]]:
    """The columns and the cells. Chains of the same burst share a column where they do not overlap."""
    lanes: dict[tuple[str, int], list[list[Tile]]] = defaultdict(list)
    for chain in _chains(tiles, row_of):
        lanes[chain[0].data.swath_id, chain[0].data.tile_nr].append(chain)
    columns: list[str] = []
    cells: list[Cell] = []
    for (swath, number), chains in sorted(lanes.items()):
        ends: list[int] = []
        first = len(columns)
        for chain in sorted(chains, key=lambda one: (row_of[one[0].scene.id], one[0].id)):
            rows = [row_of[tile.scene.id] for tile in chain]
            lane = next((lane for lane, end in enumerate(ends) if end < rows[0]), len(ends))
            ends[lane : lane + 1] = [rows[-1]]
            cells += [Cell(tile, row, first + lane) for tile, row in zip(chain, rows, strict=True)]
        columns += [f"{swath} {number}".strip() if swath else "tile"] * len(ends)
    return tuple(columns), tuple(sorted(cells, key=lambda one: (one.row, one.column)))


def _chains(tiles: list[Tile], row_of: dict[int, int]) -> list[list[Tile]]:
    """Tiles that follow each other, each chain by row with one tile a row; what does not fit starts a chain."""
    chain_of: dict[int, list[Tile]] = {}
    chains: list[list[Tile]] = []
    for tile in sorted(tiles, key=lambda one: (row_of[one.scene.id], one.id)):
        before = [chain_of[number] for number in (tile.previous, tile.reference) if number in chain_of]
        open_ones = [chain for chain in before if row_of[chain[-1].scene.id] < row_of[tile.scene.id]]
        chain = open_ones[0] if open_ones else []
        if not chain:
            chains.append(chain)
        chain.append(tile)
        chain_of[tile.id] = chain
    return chains


def _links(cells: tuple[Cell, ...]) -> tuple[Link, ...]:
    """From the tile before; from the reference where there is none before."""
    by_id = {cell.tile.id: cell for cell in cells}
    links = []
    for cell in cells:
        previous = by_id.get(cell.tile.previous or 0)
        start = previous or by_id.get(cell.tile.reference or 0)
        if start is not None and start is not cell:
            links.append(Link(start, cell, reference=previous is None))
    return tuple(links)


def _folded(scenes: list[Scene], tiles: list[Tile]) -> tuple[str, tuple[Fold, ...]]:
    """The finest periods that fit into the picture."""
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
