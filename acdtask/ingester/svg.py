"""The scenes and tiles of an AOI as an SVG file: no script, nothing from elsewhere, every status in words too."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from importlib.resources import files

from markupsafe import Markup

from acdtask.ingester.graph import Cell, Chart, Fold, Link
from acdtask.ingester.model import Status, in_one_line
from acdtask.wording import count, plural

__all__ = ["draw"]

LEFT, TOP, RIGHT, BOTTOM = 24.0, 24.0, 24.0, 24.0
HEAD = 78.0
DATE_WIDTH, SCENE_WIDTH, NARROWEST = 92.0, 372.0, 1000.0
ROW, BOX = 32.0, 22.0
COLUMN, CELL = 80.0, 62.0
BAR, BAR_WORDS = 260.0, 330.0
COLUMN_NAMES = 22.0
TROUBLES = 20
NAME_LETTERS = 41
LETTER = 6.8
"""Width of a letter of a message, about."""

ORDER = (Status.DONE, Status.PENDING, Status.NEW, Status.RETRY, Status.FAILED)


def draw(chart: Chart) -> str:
    """The file. Numbers are rounded, so the same chart gives the same text."""
    body = list(_folds(chart) if chart.period else _rows(chart))
    rows = len(chart.folds) if chart.period else len(chart.scenes)
    end = TOP + HEAD + COLUMN_NAMES + rows * ROW
    width = max(_width(chart), NARROWEST)
    body += _troubles(chart, end + 20, width)
    height = end + BOTTOM + _troubles_height(chart)
    scenes, tiles = chart.totals
    style = files(__package__).joinpath("graph.css").read_text(encoding="utf-8")
    label = f"AOI {_text(chart.aoi)}: scenes {_counted(scenes)}; tiles {_counted(tiles)}."
    return str(
        Markup(
            '<svg xmlns="http://www.w3.org/2000/svg" class="acd-ingester" width="{w}" height="{h}"'
            ' viewBox="0 0 {w} {h}" role="img" aria-label="{label}">\n<title>{label}</title>\n<style>{style}</style>\n'
            '<defs><marker id="acd-ingester-arrow" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7"'
            ' orient="auto"><path class="head" d="M0 0L8 4L0 8z"/></marker></defs>\n'
            '<rect class="page" width="{w}" height="{h}"/>\n{head}\n{body}\n</svg>\n'
        ).format(
            w=_number(width),
            h=_number(height),
            label=label,
            style=Markup(style),  # noqa: S704  # a file of ours, not of the user's
            head=Markup("\n").join(_head(chart)),
            body=Markup("\n").join(body),
        )
    )


def _head(chart: Chart) -> Iterator[Markup]:
    scenes, tiles = chart.totals
    yield _words(LEFT, TOP + 14, f"AOI {chart.aoi}", "title")
    facts = (
        f"{plural(scenes.total(), 'scene')}: {_counted(scenes)}. {plural(tiles.total(), 'tile')}: {_counted(tiles)}."
    )
    yield _words(LEFT, TOP + 36, facts, "muted")
    x = LEFT
    for status in ORDER:
        yield _box(x, TOP + 50, 20, 14, status)
        yield _words(x + 27, TOP + 61, status.value.lower(), "small")
        x += 96
    if chart.period:
        how = "all are counted together" if chart.period == "all" else f"one row is one {chart.period}"
        yield _words(x + 6, TOP + 61, f"There are too many to draw each one: {how}.", "small muted")
        return
    yield Markup('<path class="link" marker-end="url(#acd-ingester-arrow)" d="M{} {}h26"/>').format(
        _number(x), _number(TOP + 57)
    )
    yield _words(x + 34, TOP + 61, "processed with; dashed: not done yet, or with the first one only", "small")


def _rows(chart: Chart) -> Iterator[Markup]:
    first = LEFT + DATE_WIDTH + SCENE_WIDTH
    for column, name in enumerate(chart.columns):
        yield _words(first + COLUMN * column + 28 + CELL / 2, TOP + HEAD + 12, name, "small muted", "middle")
    last = {cell.row: cell for cell in chart.cells}
    shown = ""
    for row, scene in enumerate(chart.scenes):
        y = _y(row)
        if row in last:
            style = "row" if scene.status is Status.DONE else "row unfinished"
            yield Markup('<path class="{}" d="M{} {}H{}"/>').format(
                style, *map(_number, (first, y + BOX / 2, _x(last[row].column)))
            )
        date = f"{scene.data.date:%Y-%m-%d}"
        if date != shown:
            yield _words(LEFT, y + 15, date, "")
        shown = date
        title = f"{scene.source_id} (id {scene.id}): {scene.status.value.lower()}"
        yield _box(LEFT + DATE_WIDTH, y, SCENE_WIDTH, BOX, scene.status, title, scene.message)
        yield _words(LEFT + DATE_WIDTH + 8, y + 15, _shortened(scene.source_id), "name")
        yield _words(LEFT + DATE_WIDTH + SCENE_WIDTH - 8, y + 15, scene.status.value.lower(), "small", "end")
    for link in chart.links:
        yield _link(link)
    for cell in chart.cells:
        yield _cell(cell)


def _cell(cell: Cell) -> Markup:
    tile, x, y = cell.tile, _x(cell.column), _y(cell.row)
    title = f"{tile.source_id} (id {tile.id}): {tile.status.value.lower()}"
    return _box(x, y, CELL, BOX, tile.status, title, tile.message) + _words(
        x + CELL / 2, y + 15, tile.status.value.lower(), "small", "middle"
    )


def _link(link: Link) -> Markup:
    dashed = link.reference or link.end.tile.status is not Status.DONE
    return Markup('<path class="link{}" marker-end="url(#acd-ingester-arrow)" d="{}"/>').format(
        " reference" if dashed else "", _path(link)
    )


def _path(link: Link) -> str:
    """Down the column; beside it where boxes may be in the way."""
    start, end = link.start, link.end
    if link.reference or end.row <= start.row:
        right, beside = _x(end.column) + CELL, _x(end.column) + CELL + (COLUMN - CELL) / 2
        first = f"M{_number(_x(start.column) + CELL)} {_number(_y(start.row) + BOX / 2)}H{_number(beside)}"
        return f"{first}V{_number(_y(end.row) + BOX / 2)}H{_number(right)}"
    x1, y1 = _x(start.column) + CELL / 2, _y(start.row) + BOX
    x2, y2 = _x(end.column) + CELL / 2, _y(end.row)
    if start.column == end.column:
        return f"M{_number(x1)} {_number(y1)}V{_number(y2)}"
    return f"M{_number(x1)} {_number(y1)}V{_number(y2 - (ROW - BOX) / 2)}H{_number(x2)}V{_number(y2)}"


def _folds(chart: Chart) -> Iterator[Markup]:
    most_scenes = max((fold.scenes.total() for fold in chart.folds), default=1)
    most_tiles = max((fold.tiles.total() for fold in chart.folds), default=1) or 1
    first, second = LEFT + DATE_WIDTH, LEFT + DATE_WIDTH + BAR + BAR_WORDS
    yield _words(first, TOP + HEAD + 12, "scenes", "small muted")
    yield _words(second, TOP + HEAD + 12, "tiles", "small muted")
    for row, fold in enumerate(chart.folds):
        yield _words(LEFT, _y(row) + 15, fold.label, "")
        yield from _stack(fold, fold.scenes, first, row, BAR / most_scenes)
        yield from _stack(fold, fold.tiles, second, row, BAR / most_tiles)


def _stack(fold: Fold, counts: Counter[Status], x: float, row: int, unit: float) -> Iterator[Markup]:
    """A bar with a part for each status, and the same in words."""
    y = _y(row)
    for status in ORDER:
        if counts[status]:
            width = max(counts[status] * unit, 3.0)
            yield _box(x, y + 3, width, BOX - 6, status, f"{fold.label}: {counts[status]} {status.value.lower()}")
            x += width
    yield _words(x + 8, y + 15, _counted(counts), "small")


def _troubles(chart: Chart, y: float, width: float) -> Iterator[Markup]:
    lines = [(scene.status, scene.source_id, scene.message) for scene in chart.bad_scenes]
    lines += [
        (tile.status, f"{tile.source_id} of {_shortened(chart.names[tile.scene.id])}", tile.message)
        for tile in chart.bad_tiles
    ]
    if not lines:
        return
    letters = int((width - LEFT - CELL - 12 - RIGHT) / LETTER)
    yield _words(LEFT, y + 6, "What went wrong", "title")
    for number, (status, name, message) in enumerate(lines[:TROUBLES], start=1):
        below = y + 6 + number * 24
        yield _box(LEFT, below - 13, CELL, 18, status)
        yield _words(LEFT + CELL / 2, below, status.value.lower(), "small", "middle")
        yield _words(LEFT + CELL + 12, below, f"{name}: {message or 'no message'}", "small", longest=letters)
    if len(lines) > TROUBLES:
        below = y + 6 + (TROUBLES + 1) * 24
        yield _words(LEFT, below, f"and {len(lines) - TROUBLES} more", "small muted")


def _troubles_height(chart: Chart) -> float:
    lines = len(chart.bad_scenes) + len(chart.bad_tiles)
    return 40.0 + 24.0 * (min(lines, TROUBLES) + (lines > TROUBLES)) if lines else 0.0


def _width(chart: Chart) -> float:
    if chart.period:
        return LEFT + DATE_WIDTH + 2 * (BAR + BAR_WORDS) + RIGHT
    return LEFT + DATE_WIDTH + SCENE_WIDTH + 28 + COLUMN * len(chart.columns) + RIGHT


def _x(column: int) -> float:
    return LEFT + DATE_WIDTH + SCENE_WIDTH + 28 + COLUMN * column


def _y(row: int) -> float:
    return TOP + HEAD + COLUMN_NAMES + row * ROW


def _box(x: float, y: float, width: float, height: float, status: Status, title: str = "", message: str = "") -> Markup:
    more = f". {in_one_line(message)}" if message.strip() else ""
    inside = Markup("<title>{}</title>").format(_text(title + more)) if title else Markup("")
    return Markup('<rect class="box {}" x="{}" y="{}" width="{}" height="{}" rx="4">{}</rect>').format(
        status.value.lower(), *map(_number, (x, y, width, height)), inside
    )


def _words(x: float, y: float, text: str, kind: str, anchor: str = "", longest: int = 0) -> Markup:
    placed = Markup(' text-anchor="{}"').format(anchor) if anchor else Markup("")
    words = in_one_line(text, longest) if longest else _text(text)
    shown = Markup(' class="{}"').format(kind) if kind else Markup("")
    return Markup('<text{} x="{}" y="{}"{}>{}</text>').format(shown, _number(x), _number(y), placed, words)


def _text(text: str) -> str:
    """Text without what XML cannot have."""
    return "".join(letter if letter.isprintable() else " " for letter in text)


def _shortened(name: str) -> str:
    """A product's name with its middle left out: its beginning has the dates, its end tells products apart."""
    if len(name) <= NAME_LETTERS:
        return name
    return f"{name[: NAME_LETTERS - 10]}…{name[-9:]}"


def _counted(counts: Counter[Status]) -> str:
    return ", ".join(f"{count(counts[status])} {status.value.lower()}" for status in ORDER if counts[status]) or "none"


def _number(value: float) -> str:
    return f"{round(value, 1) + 0.0:g}"
