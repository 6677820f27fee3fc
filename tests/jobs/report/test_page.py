"""The page's text: what it says, what it never says, and its bytes."""

from __future__ import annotations

import datetime
import itertools
import re
from html.parser import HTMLParser
from itertools import pairwise
from typing import Any

import pytest
from pydantic import ValidationError

from acdtask.jobs.report.model import DatePage, HeldBackRow, LeftOutRow, PatchRow, QualityReason, ReportPage, TileShape
from acdtask.jobs.report.page import MAX_ROWS, render, verdict
from acdtask.jobs.report.score import score
from acdtask.jobs.report.svgmap import MAX_DOTS, svg_map
from acdtask.jobs.report.timeline import Bar, svg_timeline

FIRST, LAST = datetime.date(2021, 8, 6), datetime.date(2021, 8, 12)
NO_DATA = QualityReason(code=1, words="no image here")
SQUARE = {"type": "Polygon", "coordinates": [[[6, 50], [7, 50], [7, 51], [6, 51], [6, 50]]]}
EVIL = "<script>alert(1)</script>\"'&{{ 7*7 }}"


def day(date: datetime.date = LAST, **changes: Any) -> DatePage:
    return DatePage(
        **{"date": date, "pair_start": date - datetime.timedelta(6), "pixels": 100, "valid_fraction": 1.0, **changes}
    )


NUMBERS = itertools.count(1)


def patch(name: str = "P1", **changes: Any) -> PatchRow:
    values = {
        "id": name,
        "number": next(NUMBERS),
        "date": LAST,
        "pair_start": changes.get("date", LAST) - datetime.timedelta(6),
        "area_px": 60,
        "area_ha": 2.4,
        "z_max": 7.1,
        "z_mean": 4.0,
        "mean_drop": 0.3,
        "baseline_count": 60,
        "lon": 6.5,
        "lat": 50.5,
    }
    return PatchRow(**{**values, **changes})


def page(**changes: Any) -> ReportPage:
    values = {"aoi": "koln", "variable": "CoherenceVV", "geometry": SQUARE, "start": FIRST, "end": LAST}
    return ReportPage(**{**values, "low": 1.7, "high": 3.0, "inputs": 5, "dates": (day(),), **changes})


class Elements(HTMLParser):
    """Every start tag, with its attributes; void and SVG elements included; and whether tags are balanced."""

    VOID = frozenset({"meta", "img", "br", "link"})

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def elements(html: bytes) -> list[tuple[str, dict[str, str | None]]]:
    parser = Elements()
    parser.feed(html.decode())
    parser.close()
    assert parser.open == []
    return parser.found


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"dates": ()}, "No date was monitored."),
        ({"dates": (day(valid_fraction=0.0),)}, "No pixel of 2021-08-12 could be judged."),
        ({}, "Nothing abnormal on 2021-08-12."),
        (
            {"dates": (day(valid_fraction=0.412),)},
            "Nothing abnormal on 2021-08-12 in the 41.2\u00a0% of the area that could be judged.",
        ),
        ({"patches": (patch(),)}, "1 patch on 2021-08-12: 2.4 ha, z up to 7.1."),
        (
            {
                "patches": (
                    patch("A", area_px=5, area_ha=0.2, z_max=9.96),
                    patch("B"),
                    patch("C", area_px=10, area_ha=0.4),
                )
            },
            "3 patches on 2021-08-12, the largest 2.4 ha, z up to 10.0.",
        ),
        (
            {"dates": (day(LAST), day(FIRST)), "patches": (patch(date=FIRST),)},
            "Nothing abnormal on 2021-08-12.",
        ),
    ],
)
def test_the_verdict_is_about_the_last_pass(changes: dict[str, Any], sentence: str) -> None:
    assert verdict(page(**changes)) == sentence
    assert sentence.encode() in re.sub(rb"</?time>", b"", render(page(**changes)))


def test_the_same_page_gives_the_same_bytes_whatever_the_order(made_up: Any) -> None:
    first = render(made_up.page)
    turned = made_up.page.model_copy(
        update={
            "dates": made_up.page.dates[::-1],
            "patches": made_up.page.patches[::-1],
            "settings": dict(reversed(made_up.page.settings.items())),
        }
    )
    assert first == render(made_up.page) == render(turned)
    assert first == render(ReportPage.model_validate_json(made_up.page.model_dump_json()))


def test_the_page_has_no_script_and_asks_for_nothing_but_its_pictures(made_up: Any) -> None:
    html = render(made_up.page)
    found = elements(html)
    assert not {"script", "link", "iframe", "object", "base", "form"} & {tag for tag, _ in found}
    assert not [name for _, attributes in found for name in attributes if name.startswith("on")]
    sources = [value for _, attributes in found for name, value in attributes.items() if name in ("src", "srcset")]
    assert sorted(map(str, sources)) == sorted(made_up.pictures)
    assert b"url(" not in html
    assert b"@import" not in html
    links = [str(attributes["href"]) for tag, attributes in found if tag == "a"]
    outside = [link for link in links if "//" in link]
    assert len(outside) == len(made_up.page.patches)
    assert all(link.startswith("https://www.openstreetmap.org/?mlat=") for link in outside)
    assert html.count(b"http") == len(outside)


def test_nothing_interactive_lies_in_something_interactive(made_up: Any) -> None:
    class Nesting(HTMLParser):
        inside: tuple[str, ...] = ()
        faults: tuple[str, ...] = ()

        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            if tag in ("a", "summary", "button"):
                self.faults += (tag,) if self.inside else ()
                self.inside += (tag,)
            if self.inside and ("tabindex" in dict(attrs)):
                self.faults += (tag,)
            if dict(attrs).get("role") == "img" and tag == "svg":
                self.faults += (tag,)

        def handle_endtag(self, tag: str) -> None:
            if tag in ("a", "summary", "button"):
                self.inside = self.inside[:-1]

    parser = Nesting()
    parser.feed(render(made_up.page).decode())
    assert parser.faults == ()
    assert parser.inside == ()


def test_names_from_users_are_text_and_never_markup() -> None:
    tile = TileShape(cell=EVIL, ring=((6, 50), (7, 50), (7, 51), (6, 51)))
    dangerous = page(
        aoi=EVIL,
        variable=EVIL,
        tiles=(tile,),
        patches=(patch(EVIL),),
        settings={EVIL: EVIL, "list": [EVIL]},
        versions={EVIL: EVIL},
        patch_files=(EVIL,),
        score=score([], [], [LAST]),
    )
    html = render(dangerous)
    assert not [tag for tag, _ in elements(html) if tag == "script"]
    assert b"<script" not in html
    assert b"&lt;script&gt;alert(1)" in html
    assert b"{{ 7*7 }}" in html


def test_ids_with_any_character_can_be_linked() -> None:
    found = elements(render(page(patches=(patch("koln/2021 ü#1%"),))))
    ids = {attributes.get("id") for _, attributes in found}
    links = {str(attributes["href"]) for tag, attributes in found if tag == "a" and "href" in attributes}
    assert "patch-koln/2021 ü#1%" in ids
    assert any(link.startswith("#patch-koln") and "#1" not in link[1:] for link in links)


def test_a_page_without_dates_patches_baseline_and_truth_is_still_a_page() -> None:
    html = render(page(dates=())).decode()
    elements(html.encode())
    assert "There is no patch." in html
    assert 'id="dates"' not in html
    assert 'id="baseline"' not in html
    assert 'id="truth"' not in html
    assert "#truth" not in re.sub(r"<style>.*</style>", "", html, flags=re.DOTALL)


def test_dates_without_any_valid_pixel_say_so() -> None:
    dates = tuple(day(date, valid_fraction=0.0, quality=((1, 100),)) for date in (FIRST, LAST))
    html = render(page(dates=dates, quality_reasons=(NO_DATA,))).decode()
    assert html.count("There is no picture of this date.") == 2
    assert "A dashed bar is a date without any valid pixel." in html
    assert html.count(">100\u00a0%</td>") == 2
    assert html.count("0\u00a0% of the area was judged. Not judged: 100\u00a0% (no image here).") == 3


def test_a_date_without_pixels_divides_by_nothing() -> None:
    assert b"0\xc2\xa0%" in render(
        page(dates=(day(pixels=0, valid_fraction=0.0, quality=((1, 0),)),), quality_reasons=(NO_DATA,))
    )


def test_tables_are_by_date_newest_first_then_by_area() -> None:
    patches = (
        patch("old-small", date=FIRST, area_px=5),
        patch("new-small", area_px=6),
        patch("old-large", date=FIRST, area_px=500),
        patch("new-large", area_px=50),
    )
    found = elements(render(page(dates=(day(FIRST), day(LAST)), patches=patches)))
    rows = [attributes["id"] for tag, attributes in found if tag == "tr" and "id" in attributes]
    assert rows == ["patch-new-large", "patch-new-small", "patch-old-large", "patch-old-small"]


def test_a_long_table_names_the_files_with_the_rest_and_no_link_is_dead() -> None:
    patches = tuple(patch(f"P{n}", area_px=n + 1) for n in range(MAX_ROWS + 1600))
    html = render(page(patches=patches))
    found = elements(html)
    ids = {attributes["id"] for _, attributes in found if "id" in attributes}
    rows = [name for name in ids if str(name).startswith("patch-")]
    assert len(rows) == MAX_ROWS
    assert b'<a href="patches.parquet">' in html
    assert "The table shows 500 of 2\u202f100 patches." in html.decode()
    assert "The map shows the 2\u202f000 largest of 2\u202f100 patches." in html.decode()
    links = [str(at["href"]) for tag, at in found if tag == "a" and "href" in at]
    assert [link for link in links if link[0] == "#" and link[1:] not in ids] == []


def test_false_patches_and_missed_events_are_named(made_up: Any) -> None:
    html = render(made_up.page).decode()
    result = made_up.page.score
    assert result.missed
    assert result.false_ids
    section = html[html.index('id="truth"') :]
    for missed in result.missed:
        row = next(row for row in section.split("</tr>") if f">{missed.id}</th>" in row)
        assert '<span class="bad">missed</span>' in row
    assert html.count('<span class="bad">false</span>') == len(result.false_ids)
    assert section.count('<span class="bad">missed</span>') == len(result.missed)
    assert section.count('<span class="good">found</span>') == len(result.found)
    assert "1 more event could not be seen" in section


def test_what_is_left_out_is_named_and_a_whole_page_does_not_speak_of_it() -> None:
    rows = (
        LeftOutRow(job="monitor", what="tile 3/-7", start=LAST, end=LAST, error="ACD-312", sentence=f"{EVIL} is gone."),
        LeftOutRow(job="baseline", what="tile 4/-7", start=FIRST, end=LAST, error="", sentence="It did not say why."),
    )
    text = render(page(left_out=rows, dates=(day(tiles_left_out=1),))).decode()
    section = text[text.index('<section id="left-out">') :].partition("</section>")[0]
    for part in ("tile 3/-7", "ACD-312", "tile 4/-7", "It did not say why.", str(FIRST), "&lt;script&gt;"):
        assert part in section
    assert EVIL not in text
    assert text.count('href="#left-out"') == 2
    assert "2 parts" in text
    assert "nothing abnormal; 1 tile left out" in text
    assert "left out" not in render(page()).decode().lower().replace("tile left out", "")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dates": (day(), day())}, "two dates have the same pair"),
        ({"patches": (patch(), patch())}, "two patches have the same id"),
        ({"patches": (patch("A", number=3), patch("B", number=3))}, "two patches have the same number"),
        ({"patches": (patch(date=FIRST),)}, "not a date of the page"),
        ({"dates": (day(quality=((77, 3),)),)}, "quality code 77 has no reason"),
    ],
)
def test_a_page_that_contradicts_itself_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        page(**changes)


@pytest.mark.parametrize(
    "name",
    ["/a.png", "../a.png", "a/../../b.png", "http://x/a.png", "data:a.png", "a.svg", "//x/a.png", 'a".png', ".png"],
)
def test_pictures_outside_the_folder_are_refused(name: str) -> None:
    with pytest.raises(ValidationError, match="relative name of a PNG"):
        day(image=name)


def numbers(svg: str) -> list[float]:
    return [float(number) for number in re.findall(r'(?:cx|cy|x|y)="(-?[\d.]+)"', svg)]


@pytest.mark.parametrize("size", [1e-4, 0.02, 1.0, 40.0])
@pytest.mark.parametrize(("lon", "lat"), [(0.0, 0.0), (6.9, 50.9), (-70.5, -55.0), (25.0, 78.0)])
def test_the_map_keeps_inside_its_frame_for_areas_of_any_size(size: float, lon: float, lat: float) -> None:
    high = min(size, 85 - lat)
    ring = ((lon, lat), (lon + size, lat), (lon + size, lat + high), (lon, lat + high), (lon, lat))
    area = {"type": "Polygon", "coordinates": [ring]}
    dots = [patch(f"P{n}", lon=x, lat=y) for n, (x, y) in enumerate(ring[:4])]
    svg = str(svg_map(area, [TileShape(cell="0/0", ring=ring)], dots, LAST, frozenset()))
    height = float(re.findall(r'viewBox="0 0 640 ([\d.]+)"', svg)[0])
    assert min(numbers(svg)) >= 0
    assert max(numbers(svg)) <= max(640, height)
    assert re.search(r">\d+ k?m</text>", svg)
    assert len(re.findall(r'class="degree"', svg)) >= 1
    assert "nan" not in svg
    assert "e-" not in svg


def test_the_map_draws_holes_and_many_parts_and_at_most_so_many_dots() -> None:
    hole = [[[0, 0], [4, 0], [4, 4], [0, 4], [0, 0]], [[1, 1], [2, 1], [2, 2], [1, 2], [1, 1]]]
    area = {"type": "MultiPolygon", "coordinates": [hole, [[[6, 0], [7, 0], [7, 1], [6, 0]]]]}
    dots = [patch(f"P{n}", area_px=n + 1, lon=3, lat=3) for n in range(MAX_DOTS + 5)]
    svg = str(svg_map(area, [], dots, LAST, frozenset()))
    outline = re.findall(r'class="aoi"[^>]* d="([^"]*)"', svg)[0]
    assert outline.count("M") == outline.count("Z") == 3
    assert svg.count("<title>Patch ") == MAX_DOTS
    assert f">Patch {dots[0].number}:" not in svg
    assert f">Patch {dots[-1].number}:" in svg


def test_dots_grow_with_area_and_the_last_pass_lies_on_top() -> None:
    dots = [patch("big", number=7, area_px=400, date=FIRST), patch("small", number=8, area_px=100)]
    svg = str(svg_map(SQUARE, [], dots, LAST, frozenset({"big"})))
    radii = dict(re.findall(r'r="([\d.]+)"><title>Patch (\d):', svg))
    assert {number: float(radius) for radius, number in radii.items()} == {"7": 13.0, "8": 6.5}
    assert re.findall(r'href="([^"]*)"', svg) == ["#patch-big"]
    assert svg.index(">Patch 7:") < svg.index(">Patch 8:")


def test_numbers_stand_beside_the_dots_of_the_last_pass_where_there_is_room() -> None:
    dots = [
        patch("large", number=1, area_px=900, lon=6.5),
        patch("beneath", number=2, area_px=400, lon=6.501),
        patch("edge", number=3, area_px=300, lon=6.999, lat=50.2),
        patch("earlier", number=4, area_px=300, date=FIRST, lat=50.8),
    ]
    svg = str(svg_map(SQUARE, [], dots, LAST, frozenset()))
    found = re.findall(r'class="number" x="([\d.]+)" y="[\d.]+" text-anchor="(\w+)">(\d)</text>', svg)
    assert sorted((number, anchor) for _, anchor, number in found) == [("1", "start"), ("3", "start")]
    assert max(float(x) for x, _, _ in found) < 640
    assert svg_map(SQUARE, [], [], LAST, frozenset()).count("Size = area") == 0
    assert svg.count("Size = area") == 1
    assert "<text" in svg[svg.index("Size = area") :]
    assert ">2.4 ha</text>" in svg


def test_a_patch_has_one_number_in_the_table_the_map_and_its_date() -> None:
    html = render(page(patches=(patch("P", number=41),))).decode()
    assert '<th scope="row" class="n" title="P">41</th>' in html
    assert '<text class="number"' in html
    assert ">41</text>" in html
    assert '<a href="#patch-P">Patch 41</a>: 2.4 ha' in html


def test_a_patch_links_to_its_place_on_a_web_map() -> None:
    found = elements(render(page(patches=(patch(lon=-6.95831, lat=50.94128),))))
    (link,) = [at for tag, at in found if tag == "a" and "//" in str(at.get("href"))]
    assert link == {
        "href": "https://www.openstreetmap.org/?mlat=50.94128&mlon=-6.95831#map=16/50.94128/-6.95831",
        "rel": "noreferrer",
    }


def test_files_beside_the_page_can_be_downloaded() -> None:
    html = render(page(patches=(patch(),), more_files=("quicklook.png", "a b&c.json"))).decode()
    links = [str(at["href"]) for tag, at in elements(html.encode()) if tag == "a" and "." in str(at.get("href"))]
    assert links[:4] == ["patches.geojson", "patches.parquet", "quicklook.png", "a%20b%26c.json"]
    assert ">patches.geojson</a>" in render(page()).decode()


def test_the_page_says_how_much_was_judged_and_what_came_closest() -> None:
    day_with = day(valid_fraction=0.6, quality=((1, 40),), closest="highest z 2.7; --high 2.6 would show it")
    html = render(page(dates=(day_with,), quality_reasons=(NO_DATA,))).decode()
    assert html.count("60.0\u00a0% of the area was judged. Not judged: 40.0\u00a0% (no image here).") == 2
    assert html.count("What came closest: highest z 2.7; --high 2.6 would show it.") == 2
    found = render(page(dates=(day_with,), quality_reasons=(NO_DATA,), patches=(patch(),))).decode()
    assert "What came closest" not in found
    assert "100\u00a0% of the area was judged." in render(page()).decode()
    assert "What came closest" not in render(page()).decode()


def test_bars_stand_on_a_true_time_axis_and_are_as_high_as_their_area() -> None:
    days = [FIRST + datetime.timedelta(days=offset) for offset in (0, 6, 18, 24)]
    svg = str(
        svg_timeline(
            [
                Bar(days[0], 10.0, 1, "a"),
                Bar(days[1], 5.0, 1, "b"),
                Bar(days[2], None, 0, "c"),
                Bar(days[3], 0.0, 0, "d"),
            ]
        )
    )
    bars = re.findall(r'class="(bar[a-z ]*)" x="([\d.]+)" y="[\d.]+" width="[\d.]+" height="([\d.]+)"', svg)
    assert [kind for kind, _, _ in bars] == ["bar", "bar", "bar unknown", "bar calm"]
    places = [float(x) for _, x, _ in bars]
    assert (places[2] - places[1]) / (places[1] - places[0]) == pytest.approx(2.0, abs=0.01)
    assert float(bars[0][2]) == pytest.approx(2 * float(bars[1][2]), abs=0.15)
    assert "no valid pixel" in svg


@pytest.mark.parametrize("count", [1, 2, 60, 400])
def test_a_timeline_of_any_length_keeps_inside_and_its_labels_apart(count: int) -> None:
    bars = [Bar(FIRST + datetime.timedelta(days=6 * n), float(n), n, str(n)) for n in range(count)]
    svg = str(svg_timeline(bars))
    assert max(numbers(svg)) <= 640
    labels = sorted(float(x) for x in re.findall(r'x="([\d.]+)" y="[\d.]+" text-anchor="middle"', svg))
    assert labels
    assert all(after - before >= 70 for before, after in pairwise(labels))
    assert str(bars[-1].date) in svg


def test_a_judged_patch_shows_probability_and_reason_and_a_date_what_was_held_back() -> None:
    reason = "fell by 0.31, 4 times its largest drop in the baseline (0.08 on 2020-05-06); its surroundings did not"
    held = HeldBackRow(area_px=33, probability=0.03, reason=f"held back {EVIL}", lon=6.5, lat=50.5)
    settings = {"judged_by": "model", "false_per_1000km2": 20.0, "smooth": 1.2}
    shown = render(
        page(
            dates=(day(held_back=7, held_back_rows=(held,)),),
            patches=(patch(probability=0.974, reason=reason),),
            settings=settings,
        )
    ).decode()
    assert '<td class="n">0.97</td>' in shown
    assert f"<td>{reason}</td>" in shown
    assert "Held back: 7 candidates" in shown
    assert EVIL not in shown
    assert "as many as contain 20 false ones in 1000 square kilometres" in shown
    plain = render(page(patches=(patch(),))).decode()
    assert "Probability" not in plain
    assert "Held back" not in plain
    assert "Reason" not in plain
