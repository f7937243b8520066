"""Pages in a real browser: nothing asked of the network, nothing on the console, tables that sort by mouse and key."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from chromium import PROGRAM, Tab, tab
from made_up import made_up, made_up_benchmark

from eo_adapt.report.html import write_run_page
from eo_adapt.report.page import MISSING, Page

pytestmark = pytest.mark.skipif(PROGRAM is None, reason="no Chromium on this machine (apt-get install chromium)")

WIDE = 3  # columns of the table below that hold something


def many_classes(folder: Path) -> Path:
    made = made_up(folder, 500, 2, 2000)
    return write_run_page(made.folder, made.report, made.data, made.predictions)


def of_a_run(folder: Path) -> Path:
    made = made_up(folder)
    return write_run_page(made.folder, made.report, made.data, made.predictions)


PAGES = {"run": (of_a_run, 5), "many_classes": (many_classes, 5), "benchmark": (made_up_benchmark, 1)}  # fewest figures


@pytest.fixture(scope="module", params=PAGES)
def page(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int]:
    make, figures = PAGES[request.param]
    return make(tmp_path_factory.mktemp(request.param)), figures


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    frame = pd.DataFrame(
        {
            "name": ["b10", "a", None, "b9", "<i>z</i>"],
            "score": [0.5, None, -3.0, 1200.0, 30.0],
            "same": [1, 1, 1, 1, 1],
        }
    )
    page = Page("A table")
    page.section("Only one")
    page.table(frame, "Things")
    page.command("python -m eo_adapt.list")
    path = tmp_path_factory.mktemp("table") / "page.html"
    page.write(path)
    return path


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Tab]:
    with tab(tmp_path / "profile") as found:
        yield found


def column(browser: Tab, number: int) -> list[str]:
    return browser.js(f"[...document.querySelectorAll('tbody tr')].map(r => r.cells[{number}].textContent)")


def direction(browser: Tab) -> list[str]:
    return browser.js("[...document.querySelectorAll('thead th')].map(h => h.getAttribute('aria-sort'))")


def test_a_click_sorts_up_then_down_and_missing_values_stay_last(browser: Tab, table: Path) -> None:
    browser.open(table)
    assert direction(browser) == ["none"] * WIDE
    browser.click("thead th:nth-child(2) button")
    assert column(browser, 1) == ["-3.000", "0.500", "30.000", "1,200", MISSING]
    assert column(browser, 0) == [MISSING, "b10", "<i>z</i>", "b9", "a"]
    assert direction(browser) == ["none", "ascending", "none"]
    browser.click("thead th:nth-child(2) button")
    assert column(browser, 1) == ["1,200", "30.000", "0.500", "-3.000", MISSING]
    assert direction(browser) == ["none", "descending", "none"]
    browser.click("thead th:nth-child(1) button")
    assert column(browser, 0) == ["<i>z</i>", "a", "b9", "b10", MISSING]
    assert direction(browser) == ["ascending", "none", "none"]
    assert not browser.complaints


def test_enter_and_space_sort_too(browser: Tab, table: Path) -> None:
    browser.open(table)
    browser.js("document.querySelector('thead th:nth-child(2) button').focus()")
    browser.press("Enter", 13, "\r")
    assert column(browser, 1)[0] == "-3.000"
    browser.press(" ", 32, " ")
    assert column(browser, 1)[0] == "1,200"
    before = column(browser, 0)
    browser.press("Tab", 9)
    assert browser.js("document.activeElement.textContent") == "same"
    browser.press("Enter", 13, "\r")
    assert column(browser, 0) == before, "rows that are alike keep their order"


def test_the_first_tab_stop_skips_to_the_content_and_focus_is_seen(browser: Tab, table: Path) -> None:
    browser.open(table)
    browser.press("Tab", 9)
    assert browser.js("document.activeElement.className") == "skip"
    assert browser.js("document.activeElement.getBoundingClientRect().left") >= 0
    assert browser.js("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    browser.press("Enter", 13, "\r")
    assert browser.js("document.activeElement.id") == "content"


def test_commands_get_a_button_that_copies(browser: Tab, table: Path) -> None:
    browser.open(table)
    browser.click(".copy")
    said = browser.js("new Promise(r => setTimeout(() => r(document.querySelector('.copy').textContent), 200))")
    assert said in ("Copied", "Selected")
    assert not browser.complaints


@pytest.mark.parametrize(("width", "dark"), [(1280, False), (360, True)])
def test_pages_are_quiet_and_fit(browser: Tab, page: tuple[Path, int], width: int, dark: bool) -> None:
    path, figures = page
    browser.open(path, width, dark)
    assert not browser.complaints
    assert {url for url in browser.requests if not url.startswith("data:")} == {path.as_uri()}
    assert browser.js("document.documentElement.scrollWidth") <= width
    assert browser.js("document.querySelectorAll('svg, img').length") >= figures
    missing = "[...document.querySelectorAll('svg, img')].filter(e => !(e.getAttribute('aria-label') || e.alt)).length"
    assert browser.js(missing) == 0
    assert browser.js("new Set([...document.querySelectorAll('[id]')].map(e => e.id)).size") == browser.js(
        "document.querySelectorAll('[id]').length"
    )
    assert browser.js("document.querySelectorAll('table:not(:has(caption)), th:not([scope])').length") == 0
    assert browser.js("document.querySelectorAll('script').length") == 1
    scrolls = "[...document.querySelectorAll('.scroll')].every(e => e.scrollWidth <= e.clientWidth || e.tabIndex === 0)"
    assert browser.js(scrolls), "what scrolls can be reached by keyboard"


@pytest.mark.parametrize("dark", [False, True])
def test_contrast_as_it_is_shown(browser: Tab, page: tuple[Path, int], dark: bool) -> None:
    browser.open(page[0], 1280, dark)
    low = browser.js(CONTRAST)
    assert low == []


# Every text of the page (figures are black on white) against the nearest background behind it.
CONTRAST = """(() => {
  const rgb = s => s.match(/[\\d.]+/g).map(Number);
  const lum = ([r, g, b]) => [r, g, b].map(x => x / 255).map(x => x <= .03928 ? x / 12.92 : ((x + .055) / 1.055) ** 2.4)
    .reduce((sum, x, i) => sum + x * [.2126, .7152, .0722][i], 0);
  const behind = e => {
    for (; e; e = e.parentElement) {
      const c = rgb(getComputedStyle(e).backgroundColor);
      if (c.length < 4 || c[3] > 0) return c;
    }
    return [255, 255, 255];
  };
  const low = new Set();
  for (const e of document.querySelectorAll('body *:not(svg *):not(script)')) {
    if (![...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim())) continue;
    const [a, b] = [lum(rgb(getComputedStyle(e).color)), lum(behind(e))];
    if ((Math.max(a, b) + .05) / (Math.min(a, b) + .05) < 4.5) low.add(e.tagName + '.' + e.className);
  }
  return [...low];
})()"""
