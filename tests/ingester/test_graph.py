"""The drawing of an AOI: complete, well laid out, and without anything that a browser would run or fetch."""

from __future__ import annotations

import random
import re
from collections import Counter
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from acdtask.ingester.graph import MAX_CELLS, MAX_COLUMNS, MAX_ROWS, chart_of
from acdtask.ingester.model import Scene, Status, Tile
from acdtask.ingester.svg import draw
from tests.ingester.charts import many, scene, series, tile

SVG = "{http://www.w3.org/2000/svg}"
STATUS = st.sampled_from(list(Status))


@st.composite
def graphs(draw_: st.DrawFn) -> tuple[list[Scene], list[Tile]]:
    """Arbitrary scenes and tiles, whose previous and reference tiles may be anywhere or missing."""
    scenes = [
        scene(number, draw_(st.integers(0, 5)), f"S{number}", draw_(STATUS))
        for number in range(1, draw_(st.integers(2, 7)))
    ]
    count = draw_(st.integers(0, 14))
    link = st.none() | st.integers(1, 16)
    tiles = [
        tile(
            number,
            draw_(st.integers(1, len(scenes))),
            draw_(st.integers(1, 2)),
            draw_(link),
            draw_(link),
            draw_(STATUS),
            draw_(st.sampled_from(["", "IW1", "IW2"])),
        )
        for number in range(1, count + 1)
    ]
    return scenes, tiles


@given(graphs())
@settings(deadline=None, max_examples=40)
def test_every_tile_has_a_place_of_its_own_in_the_row_of_its_scene(graph: tuple[list[Scene], list[Tile]]) -> None:
    scenes, tiles = graph
    chart = chart_of("koln", scenes, tiles)
    assert sorted(cell.tile.id for cell in chart.cells) == [tile.id for tile in tiles]
    assert len({(cell.row, cell.column) for cell in chart.cells}) == len(tiles)
    assert all(chart.scenes[cell.row].id == cell.tile.scene.id for cell in chart.cells)
    assert {cell.column for cell in chart.cells} == set(range(len(chart.columns)))
    linked = {tile.id for tile in tiles if tile.previous in range(1, len(tiles) + 1) and tile.previous != tile.id}
    assert {link.end.tile.id for link in chart.links if not link.reference} == linked
    ET.fromstring(draw(chart))  # noqa: S314  # ours


@given(graphs(), st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=40)
def test_the_order_of_scenes_and_tiles_changes_nothing(
    graph: tuple[list[Scene], list[Tile]], dice: random.Random
) -> None:
    scenes, tiles = graph
    before = draw(chart_of("koln", scenes, tiles))
    dice.shuffle(scenes)
    dice.shuffle(tiles)
    assert draw(chart_of("koln", scenes, tiles)) == before


def test_a_chain_runs_down_one_column() -> None:
    chart = chart_of("koln", *series(5, 6))
    assert chart.columns == ("IW1 1", "IW1 2", "IW1 3", "IW2 1", "IW2 2", "IW2 3")
    assert {(link.start.column, link.end.column) for link in chart.links} == {(n, n) for n in range(6)}
    assert [cell.row for cell in chart.cells if cell.column == 2] == [0, 1, 2, 3, 4]
    assert not any(link.reference for link in chart.links)


def test_a_tile_without_the_one_before_is_linked_to_its_reference() -> None:
    scenes, tiles = series(3, 1)
    tiles[2] = tiles[2].model_copy(update={"previous": None})
    links = chart_of("koln", scenes, tiles).links
    assert [(link.start.tile.id, link.end.tile.id, link.reference) for link in links] == [(1, 2, False), (1, 3, True)]


def words(text: str) -> list[str]:
    return ["".join(element.itertext()) for element in ET.fromstring(text).iter(f"{SVG}text")]  # noqa: S314  # ours


def test_every_status_is_told_in_words_and_not_by_colour_alone() -> None:
    kinds = [Status.DONE, Status.PENDING, Status.NEW, Status.RETRY, Status.FAILED]
    scenes, tiles = series(5, 3, status=lambda row, _nr: kinds[row])
    scenes = [scene.model_copy(update={"status": kinds[row]}) for row, scene in enumerate(scenes)]
    counted = Counter(words(draw(chart_of("koln", scenes, tiles))))
    for kind in kinds:
        in_trouble = 1 if kind in (Status.RETRY, Status.FAILED) else 0  # a scene's tiles are not told again
        assert counted[kind.value.lower()] == 1 + 1 + 3 + in_trouble, kind


def test_what_went_wrong_is_told_with_its_message() -> None:
    scenes, tiles = series(3, 2)
    scenes[1] = scenes[1].model_copy(update={"status": Status.FAILED, "message": "no product"})
    tiles[5] = tiles[5].model_copy(update={"status": Status.RETRY, "message": "storage\nis away"})
    told = words(draw(chart_of("koln", scenes, tiles)))
    assert any(line.endswith(": no product") and scenes[1].source_id in line for line in told)
    assert any(line.startswith("T15_IW1_2 of ") and line.endswith(": storage is away") for line in told)


HOSTILE = st.text(st.characters(codec="utf-8"), max_size=40) | st.sampled_from(
    ["</text><script>alert(1)</script>", '" onload="alert(1)', "]]>&#0;", "<!--", "\x00\x1b\u2028\ufffe", "{w} {0}"]
)


@given(HOSTILE, HOSTILE, HOSTILE)
@settings(deadline=None, max_examples=40)
def test_text_of_others_stays_text(name: str, message: str, swath: str) -> None:
    one = scene(1, 0, name or "S", Status.FAILED, message)
    part = tile(1, 1, 1, swath=swath, status=Status.RETRY, message=message)
    other = scene(2, 1, "S2")
    text = draw(chart_of(name, [one, other], [part, tile(2, 2, 1, 1, status=Status.FAILED, message=message)]))
    root = ET.fromstring(text)  # noqa: S314  # ours
    kinds = {element.tag.removeprefix(SVG) for element in root.iter()}
    assert kinds <= {"svg", "title", "style", "defs", "marker", "path", "rect", "text"}
    names = {attribute for element in root.iter() for attribute in element.attrib}
    assert not any(attribute.startswith("on") or "href" in attribute or attribute == "style" for attribute in names)


def test_nothing_is_fetched_from_elsewhere() -> None:
    text = draw(chart_of("koln", *series(3, 3)))
    assert re.findall(r"https?://[^\"]*", text) == ["http://www.w3.org/2000/svg"]
    assert set(re.findall(r"url\(([^)]*)\)", text)) == {"#acd-ingester-arrow"}
    assert "@import" not in text


@pytest.mark.parametrize(
    ("scenes", "bursts", "period"),
    [
        (MAX_ROWS, 9, ""),
        (MAX_ROWS + 1, 9, "month"),
        (100, MAX_CELLS // 100 + 1, "date"),
        (20, MAX_COLUMNS + 1, "date"),
        (1000, 9, "month"),
        (5000, 9, "year"),
    ],
)
def test_what_is_too_much_is_folded_and_counted_in_full(scenes: int, bursts: int, period: str) -> None:
    made, tiles = many(scenes, bursts)
    chart = chart_of("germany", made, tiles)
    assert chart.period == period
    text = draw(chart)
    assert len(text) < 1_000_000 if not period else len(text) < 150_000
    root = ET.fromstring(text)  # noqa: S314  # ours
    assert float(root.attrib["height"]) < 6000
    assert float(root.attrib["width"]) < 6000
    if period:
        assert len(chart.folds) <= MAX_ROWS
        assert sum((fold.scenes for fold in chart.folds), Counter()) == Counter(item.status for item in made)
        assert sum((fold.tiles for fold in chart.folds), Counter()) == Counter(tile.status for tile in tiles)
        assert any("There are too many scenes to draw" in line for line in words(text))


def test_an_aoi_without_scenes_has_a_picture() -> None:
    told = words(draw(chart_of("koln", [], [])))
    assert "AOI koln" in told
    assert "0 scenes: none. 0 tiles: none." in told
