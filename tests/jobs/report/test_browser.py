"""The report as a browser shows it, under the policy of a server of workflow artifacts."""

from __future__ import annotations

import base64
import contextlib
import datetime
import subprocess
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from acdtask.demo import run_demo
from acdtask.jobs.report.model import FusedPage, FusedRow, LeftOutRow, MonthLine
from acdtask.jobs.report.page import render, verdict
from tests.browser import CHROMIUM, FLAGS, NEEDS_CHROMIUM, driven, served

if TYPE_CHECKING:
    from selenium.webdriver.chrome.webdriver import WebDriver

pytestmark = NEEDS_CHROMIUM

POLICY = (
    "sandbox allow-same-origin; base-uri 'none'; default-src 'none'; img-src 'self'; style-src 'self' 'unsafe-inline'"
)

LEFT_OUT = LeftOutRow(
    job="monitor",
    what="tile 3/-7",
    start=datetime.date(2021, 6, 19),
    end=datetime.date(2021, 6, 25),
    error="ACD-312",
    sentence="It is gone.",
)
LARGEST_PDF = 8_000_000
FUSED = FusedPage(
    members=("ascending", "descending"),
    windows=2,
    held_back=3,
    rows=(
        FusedRow(
            id="koln_20210619-20210621_0123456789",
            window="20210619-20210621",
            start=datetime.date(2021, 6, 19),
            end=datetime.date(2021, 6, 21),
            area_ha=2.5,
            probability=0.93,
            found_by=("ascending", "descending"),
            reason="ascending finds it with probability 0.71; descending finds it with probability 0.66",
            lon=6.84,
            lat=50.98,
            outline=(((6.83, 50.97), (6.85, 50.97), (6.85, 50.99), (6.83, 50.99)),),
        ),
    ),
)


@contextlib.contextmanager
def strictly_served(folder: Path) -> Iterator[str]:
    with served(folder, {"Content-Security-Policy": POLICY}) as url:
        yield f"{url}index.html"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebDriver]:
    with driven(tmp_path_factory.mktemp("profile")) as driver:
        yield driver


@pytest.fixture(scope="module")
def address(made_up: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("report")
    for name, content in made_up.pictures.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    (folder / "index.html").write_bytes(render(made_up.page))
    with strictly_served(folder) as url:
        yield url


def resize(browser: WebDriver, width: int, height: int = 900, scheme: str = "light", media: str = "") -> None:
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False},
    )
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": media, "features": features})


def opened(browser: WebDriver, address: str, width: int = 1300, scheme: str = "light", media: str = "") -> WebDriver:
    resize(browser, width, scheme=scheme, media=media)
    browser.get(address.partition("#")[0])
    return browser


def console(browser: WebDriver) -> list[dict[str, Any]]:
    """Messages of the browser's console since the last call."""
    entries: list[dict[str, Any]] = browser.execute("getLog", {"type": "browser"})["value"]
    return entries


CONTRAST = """
const parse = text => { const c = text.match(/[\\d.]+/g).map(Number); return c.length < 4 ? [...c, 1] : c; };
const over = (top, below) => [0, 1, 2].map(i => top[i] * top[3] + below[i] * (1 - top[3])).concat(1);
const ground = node => {
  const layers = [];
  for (let n = node; n; n = n.parentElement) layers.push(parse(getComputedStyle(n).backgroundColor));
  return layers.reverse().reduce((below, top) => over(top, below), [255, 255, 255, 1]);
};
const luminance = c => [0, 1, 2].map(i => c[i] / 255).map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
  .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
const poor = [];
let count = 0;
for (const node of document.querySelectorAll('body *')) {
  const own = [...node.childNodes].some(child => child.nodeType === 3 && child.data.trim());
  if (!own || node.tagName === 'title' || !node.getClientRects().length) continue;
  const style = getComputedStyle(node);
  const drawn = node.namespaceURI.endsWith('svg');
  const below = drawn ? parse(getComputedStyle(document.querySelector('.sea')).fill) : ground(node);
  const text = over(parse(drawn ? style.fill : style.color), below);
  const [high, low] = [luminance(text), luminance(below)].sort((a, b) => b - a);
  count += 1;
  if ((high + 0.05) / (low + 0.05) < 4.5) poor.push([node.outerHTML.slice(0, 80), (high + 0.05) / (low + 0.05)]);
}
return [count, poor];
"""


def test_every_picture_is_shown_and_the_policy_forbids_nothing(browser: WebDriver, address: str, made_up: Any) -> None:
    console(browser)
    opened(browser, address)
    pictures = browser.execute_script(
        "return [...document.images].map(i => [i.getAttribute('src'), i.naturalWidth, i.alt])"
    )
    assert sorted(source for source, _, _ in pictures) == sorted(made_up.pictures)
    assert [source for source, width, _ in pictures if width == 0] == []
    assert all(alt for _, _, alt in pictures)
    assert console(browser) == []


def test_pictures_for_paper_are_not_loaded_for_the_screen(
    browser: WebDriver, address: str, made_up: Any, tmp_path: Path
) -> None:
    """Where scripts may run: where they may not, a browser loads every picture at once."""
    for name, content in made_up.pictures.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)
    (tmp_path / "index.html").write_bytes(render(made_up.page).replace(b'<details class="day">', b"<details open>"))
    opened(browser, (tmp_path / "index.html").as_uri())
    browser.execute_script("document.querySelectorAll('img.paper').forEach(i => i.scrollIntoView())")
    loaded = browser.execute_script(
        "return [...document.images].filter(i => i.naturalWidth).map(i => i.getAttribute('src'))"
    )
    assert loaded
    assert [name for name in loaded if name.endswith(".jpg")] == []


def test_the_policy_of_the_test_server_does_forbid_scripts_and_strangers(browser: WebDriver, tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text(
        "<!doctype html><img src='data:image/gif;base64,R0lGODlhAQABAAAAACwAAAAAAQABAAA='>"
        "<script>document.title='ran'</script>"
    )
    with strictly_served(tmp_path) as url:
        browser.get(url)
        assert browser.title != "ran"
        assert any("Content Security Policy" in entry["message"] for entry in console(browser))


def test_the_verdict_is_on_the_first_screen(browser: WebDriver, address: str, made_up: Any) -> None:
    opened(browser, address)
    element = browser.find_element("css selector", ".verdict")
    assert element.is_displayed()
    assert element.text == verdict(made_up.page)
    assert element.rect["y"] + element.rect["height"] < 300


@pytest.mark.parametrize("width", [390, 400, 800, 1300])
def test_the_page_is_never_wider_than_the_window(browser: WebDriver, address: str, width: int) -> None:
    opened(browser, address, width)
    assert browser.execute_script("return [document.documentElement.scrollWidth, innerWidth]") == [width, width]
    sticking_out = browser.execute_script(
        "return [...document.querySelectorAll('main *')].filter(n => !n.closest('.scroll') && !n.closest('svg')"
        " && n.getBoundingClientRect().right > innerWidth).map(n => n.outerHTML.slice(0, 80))"
    )
    assert sticking_out == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_its_ground_in_both_schemes(browser: WebDriver, address: str, scheme: str) -> None:
    opened(browser, address, scheme=scheme)
    count, poor = browser.execute_script(CONTRAST)
    assert count > 200
    assert poor == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_section_of_both_series_is_legible_and_fits(
    browser: WebDriver, made_up: Any, scheme: str, tmp_path: Path
) -> None:
    (tmp_path / "fused.html").write_bytes(render(made_up.page.model_copy(update={"fused": FUSED})))
    for width in (390, 1300):
        opened(browser, (tmp_path / "fused.html").as_uri(), width, scheme)
        assert browser.execute_script("return document.documentElement.scrollWidth") == width
        assert browser.find_element("css selector", "#fused td").text
        assert browser.find_element("css selector", ".map path.fused").is_displayed()
        assert browser.execute_script(CONTRAST)[1] == []


def test_dark_is_dark_and_light_is_light(browser: WebDriver, address: str) -> None:
    grounds = [
        opened(browser, address, scheme=scheme).execute_script("return getComputedStyle(document.body).backgroundColor")
        for scheme in ("light", "dark")
    ]
    assert grounds == ["rgb(244, 246, 247)", "rgb(16, 21, 26)"]


def test_a_bar_of_the_timeline_opens_its_date(browser: WebDriver, address: str, made_up: Any) -> None:
    opened(browser, address)
    first = min(made_up.page.dates, key=lambda day: day.date).key
    inside = browser.find_element("id", f"date-{first}")
    assert not inside.is_displayed()
    browser.find_element("css selector", f'.timeline a[href="#date-{first}"] .hit').click()
    assert inside.is_displayed()


def test_a_dot_of_the_map_leads_to_its_row(browser: WebDriver, address: str, made_up: Any) -> None:
    opened(browser, address)
    patch = max(made_up.page.patches, key=lambda row: (row.date, row.area_px))
    browser.find_element("css selector", f'.map a[href="#patch-{patch.id}"] circle').click()
    assert browser.execute_script("return document.querySelector(':target').id") == f"patch-{patch.id}"


def test_every_link_leads_to_a_place_on_the_page(browser: WebDriver, address: str) -> None:
    opened(browser, address)
    lost = browser.execute_script(
        "return [...document.querySelectorAll('a')].map(a => a.getAttribute('href'))"
        ".filter(href => href[0] === '#' && !document.getElementById(decodeURIComponent(href.slice(1))))"
    )
    assert lost == []


@pytest.mark.parametrize("where", [".timeline", "#patches", "#quality"])
def test_a_link_to_a_date_opens_it_again_after_it_was_closed(
    browser: WebDriver, address: str, made_up: Any, where: str
) -> None:
    opened(browser, address)
    earliest = min((row for row in made_up.page.patches), key=lambda row: row.date)
    inside = browser.find_element("id", f"date-{earliest.key}")
    link = browser.find_element("css selector", f'{where} a[href="#date-{earliest.key}"]')
    for _ in range(2):
        assert not inside.is_displayed()
        browser.execute_script("arguments[0].scrollIntoView({behavior: 'instant', block: 'center'})", link)
        (link.find_element("css selector", ".hit") if where == ".timeline" else link).click()
        assert inside.is_displayed()
        summary = inside.find_element("xpath", "../summary")
        browser.execute_script("arguments[0].scrollIntoView({behavior: 'instant', block: 'center'})", summary)
        summary.click()


def test_the_address_of_a_date_opens_it(browser: WebDriver, address: str, made_up: Any) -> None:
    first = min(made_up.page.dates, key=lambda day: day.date).key
    resize(browser, 1300)
    browser.get("about:blank")
    browser.get(f"{address}#date-{first}")
    assert browser.find_element("id", f"date-{first}").is_displayed()


def axe_violations(browser: WebDriver) -> list[tuple[str, str]]:
    """What axe-core finds, with its rules for WCAG 2.2 AA and its best practices."""
    package = find_spec("axe_playwright_python")
    assert package is not None
    script = Path(package.submodule_search_locations[0], "axe.min.js")  # type: ignore[index]  # it is a package
    browser.execute_script(script.read_text(encoding="utf-8"))
    found = browser.execute_async_script(
        "const done = arguments[0], tags = ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'];"
        "axe.run(document, {runOnly: tags}).then(result => done([result.passes.length, result.violations]))"
    )
    assert found[0] > 20
    return [(problem["id"], problem["nodes"][0]["html"][:120]) for problem in found[1]]


@pytest.mark.parametrize("width", [390, 1300])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(browser: WebDriver, made_up: Any, width: int, scheme: str, tmp_path: Path) -> None:
    """Without the server's policy, which forbids scripts; with every date open."""
    page = made_up.page
    for name, changes in {
        "whole": {},
        "nothing": {"dates": (), "patches": (), "score": None, "baseline": None},
        "calm": {"patches": (), "score": None},
        "month": {"month": "2021-06", "left_out": (LEFT_OUT,)},
        "fused": {"fused": FUSED},
        "months": {"months": (MonthLine(month="2021-06", dates=3, changed=1, patches=2, area_ha=3, page="m.html"),)},
    }.items():
        html = render(page.model_copy(update=changes)).replace(b'<details class="day">', b'<details class="day" open>')
        (tmp_path / f"{name}.html").write_bytes(html)
        opened(browser, (tmp_path / f"{name}.html").as_uri(), width, scheme)
        assert axe_violations(browser) == [], name


def test_axe_does_find_faults(browser: WebDriver, tmp_path: Path) -> None:
    (tmp_path / "bad.html").write_text(
        "<!doctype html><html lang=en><title>t</title><main><h1>h</h1>"
        "<button>a <a href='#x'>b</a></button><img src='a.png'></main>"
    )
    browser.get((tmp_path / "bad.html").as_uri())
    with pytest.raises(AssertionError):
        assert axe_violations(browser) == []


def test_the_legend_and_the_map_are_one_glance_on_a_phone(browser: WebDriver, address: str) -> None:
    opened(browser, address, 390)
    place = "const r = document.querySelector(arguments[0]).getBoundingClientRect(); return [r.top, r.bottom, r.right]"
    heading = browser.execute_script(place, ".dots")
    keys = browser.execute_script(place, ".drawing .keys")
    drawn = browser.execute_script(place, ".map")
    assert browser.find_element("css selector", ".dots").text == "Each dot is a patch"
    assert heading[1] <= keys[0] < keys[1] <= drawn[0]
    assert drawn[1] - heading[0] < 700
    assert drawn[2] <= 390
    text = browser.execute_script("return document.querySelector('.sizes text').getBoundingClientRect().height")
    assert text >= 9
    fill = "return getComputedStyle(document.querySelector(arguments[0]))[arguments[1]]"
    assert browser.execute_script(fill, ".dot.last", "fill") == browser.execute_script(
        fill, ".swatch.last", "backgroundColor"
    )


def test_nothing_of_the_map_is_cut_off_on_a_phone(browser: WebDriver, address: str) -> None:
    opened(browser, address, 390)
    outside = browser.execute_script(
        "const box = document.querySelector('.map').getBoundingClientRect();"
        "return [...document.querySelectorAll('.map text')].filter(t => getComputedStyle(t).display !== 'none')"
        ".filter(t => { const r = t.getBoundingClientRect(); return r.left < box.left - 1 || r.right > box.right + 1"
        " || r.top < box.top - 1 || r.bottom > box.bottom + 1 }).map(t => t.textContent)"
    )
    assert outside == []


def test_paper_shows_every_date_on_white(browser: WebDriver, address: str, made_up: Any) -> None:
    opened(browser, address, 794, "dark", "print")
    hidden = browser.execute_script(
        "return [...document.images].filter(i => !i.checkVisibility({contentVisibilityAuto: true}) || !i.clientHeight)"
        ".map(i => i.getAttribute('src'))"
    )
    assert sorted(hidden) == sorted(name for name in made_up.pictures if name.endswith(".png"))
    assert browser.execute_script("return document.documentElement.scrollWidth") == 794
    colours = browser.execute_script("const s = getComputedStyle(document.body); return [s.color, s.backgroundColor]")
    assert colours == ["rgb(23, 34, 45)", "rgba(0, 0, 0, 0)"]


@pytest.fixture(scope="module")
def demo_report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report that `make demo` makes."""
    folder = tmp_path_factory.mktemp("demo")
    run_demo(folder, workers=2)
    return folder / "report"


def test_a_pdf_of_the_demo_is_small_and_has_every_picture(browser: WebDriver, demo_report: Path) -> None:
    page = demo_report / "index.html"
    shown = page.read_text().count('class="paper"')
    assert shown == 2 + 3 * 10
    opened(browser, page.as_uri())
    pdf = base64.b64decode(browser.print_page())
    assert pdf.count(b"/DCTDecode") == shown
    assert len(pdf) < LARGEST_PDF
    command = [str(CHROMIUM), *FLAGS, f"--print-to-pdf={demo_report / 'report.pdf'}", page.as_uri()]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    printed = (demo_report / "report.pdf").read_bytes()
    assert printed.count(b"/DCTDecode") == shown
    assert len(printed) < LARGEST_PDF
