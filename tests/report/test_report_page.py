"""The page builder: escaping, tables, figures, colours."""

from __future__ import annotations

import itertools
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from eo_adapt.report import page as module
from eo_adapt.report.page import MISSING, Page

EVIL = "<script>alert('x')</script> & \"$1_$"
VOID = {"meta", "link", "img", "br"}


class Elements(HTMLParser):
    """All elements of a page, and whether they are closed in order."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.all: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.all.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.all.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.all if name == tag]


def figure(text: str = "", many: int = 3) -> Figure:
    drawn = Figure(figsize=(3, 2), layout="constrained")
    axes = drawn.subplots()
    axes.plot(np.arange(many), np.random.default_rng(0).random(many), "o", label=text or "a line")
    axes.imshow(np.eye(3), extent=(0, 1, 0, 1))
    axes.legend()
    return drawn


def full(text: str) -> Page:
    """A page with ``text`` everywhere that text can go."""
    page = Page(text, text)
    page.facts({text: text})
    page.section(text, text)
    page.text(text)
    page.warn(text)
    page.table(pd.DataFrame({text: [text], "n": [1]}), text, {text: ""}, note=text)
    page.figure(figure(text.replace("$", "")), text, text)
    page.command(text, text)
    page.bibtex([text])
    return page


def test_everything_is_escaped_and_every_element_closed() -> None:
    html = full(EVIL).html()
    elements = Elements(html)
    assert not elements.open
    assert len(elements.of("script")) == 1
    assert "alert('x')</script>" not in html.replace(module.escape(EVIL), "")
    assert all("onerror" not in a and "onclick" not in a for _, a in elements.all)


def test_the_policy_allows_the_own_script_and_nothing_from_elsewhere() -> None:
    html = full("plain").html()
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', html)
    assert policy is not None
    assert "default-src 'none'" in policy[1]
    assert "unsafe-inline" not in policy[1].split("script-src")[1]
    for tag, attributes in Elements(html).all:
        for key in ("src", "href", "data", "action"):
            assert (attributes.get(key) or "#").startswith(("#", "data:")), (tag, attributes)


def test_ids_are_unique_and_references_lead_somewhere() -> None:
    page = full("one")
    for _ in range(3):
        page.figure(figure("one"), "alike", "alike")
        page.section("one")
    html = page.html()
    ids = [a["id"] for _, a in Elements(html).all if "id" in a]
    assert len(ids) == len(set(ids))
    for name in re.findall(r'(?:href="#|url\(#|labelledby=")([^")]+)', html):
        assert name in ids, name


def test_headings_go_down_one_by_one_and_the_contents_list_them() -> None:
    page = full("one")
    page.section("Two")
    elements = Elements(page.html())
    levels = [int(tag[1]) for tag, _ in elements.all if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(b - a <= 1 for a, b in itertools.pairwise(levels))
    assert '<a href="#two--1">Two</a>' in page.html()
    assert elements.of("html") == [{"lang": "en"}]


def test_warnings_stand_at_the_top_too() -> None:
    page = Page("title")
    page.section("first")
    page.warn("look out")
    html = page.html()
    assert html.index("look out") < html.index("<main")
    assert html.count("look out") == 2
    assert "1 warning<" in html
    assert "warnings" not in Page("title").html().split("</style>")[1].split("<script>")[0]


def test_missing_values_are_dashes_and_numbers_keep_their_value() -> None:
    frame = pd.DataFrame(
        {
            "name": ["a", None, "c"],
            "score": [0.5, float("nan"), 1234.5],
            "mixed": [1, None, np.float32(0.25)],
            "yes": [True, False, None],
            "none": [None, None, None],
        }
    )
    page = Page("title")
    page.table(frame, "caption", {"score": ".1f"})
    html = page.html()
    cells = re.findall(r"<t[dh][^>]*>[^<]*</t[dh]>", html.split("<tbody>")[1])
    assert cells[0] == '<th scope="row">a</th>'
    assert cells[1] == '<td class="number" data-value="0.5">0.5</td>'
    assert cells[5] == f'<th scope="row" data-missing>{MISSING}</th>'
    assert cells[6] == f'<td class="number" data-missing>{MISSING}</td>'
    assert cells[11] == '<td class="number" data-value="1234.5">1234.5</td>'
    assert cells[12] == '<td class="number" data-value="0.25">0.250</td>'
    assert cells[3] == "<td>yes</td>"
    assert all("data-missing" in cell for cell in cells[4::5])
    assert html.count('aria-sort="none"') == 5
    assert html.count('<button type="button">') == 5


def test_an_empty_table_and_infinite_numbers() -> None:
    page = Page("title")
    page.table(pd.DataFrame({"a": [], "b": []}), "nothing")
    page.table(pd.DataFrame({"a": ["x", "y"], "b": [float("inf"), -float("inf")]}), "endless")
    assert 'data-value="-Infinity"' in page.html()
    assert not Elements(page.html()).open


def test_heavy_figures_become_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    page = Page("title")
    page.figure(figure(), "light", "light")
    assert "<img" not in page.html()
    monkeypatch.setattr(module, "HEAVY", 1000)
    page.figure(figure(), 'he said "heavy"', "heavy")
    (image,) = list(Elements(page.html()).of("img"))
    assert image["alt"] == 'he said "heavy"'
    assert str(image["src"]).startswith("data:image/png;base64,")


def test_names_that_no_xml_can_hold() -> None:
    page = Page("title")
    page.figure(figure("a\x0bb"), "odd", "odd")
    assert 'alt="odd"' in page.html()


def test_every_picture_has_a_text() -> None:
    elements = Elements(full("one").html())
    assert all(a.get("aria-label") and a.get("role") == "img" for a in elements.of("svg"))
    assert all("alt" in a for a in elements.of("img"))
    assert not elements.of("title")[1:], "a title within an SVG would be a second one"


def test_it_is_written_whole_and_in_ascii(tmp_path: Path) -> None:
    full("Größe").write(tmp_path / "page.html")
    assert [p.name for p in tmp_path.iterdir()] == ["page.html"]
    text = (tmp_path / "page.html").read_bytes().decode("ascii")
    assert "Gr&#246;&#223;e" in text
    assert text.endswith("</html>\n")


# -- colours ---------------------------------------------------------------------------------------------------------


def luminance(colour: str) -> float:
    """Relative luminance of WCAG 2."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    r, g, b = (x / 12.92 if x <= 0.03928 else ((x + 0.055) / 1.055) ** 2.4 for x in parts)
    return 0.2126 * r + 0.7152 * g + 0.0722 * b


def contrast(a: str, b: str) -> float:
    light, dark = sorted((luminance(a), luminance(b)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def schemes() -> dict[str, dict[str, str]]:
    css = (Path(module.__file__).parent / "page.css").read_text()
    blocks = re.findall(r":root \{(.*?)\}", css, re.S)
    light, dark, printed = (dict(re.findall(r"--(\w[\w-]*): (#\w{6})", b)) for b in blocks)
    return {"light": light, "dark": light | dark, "print": light | printed}


def test_contrast_is_computed_as_it_should() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)


@pytest.mark.parametrize("scheme", ["light", "dark", "print"])
def test_text_stands_out_from_what_is_behind(scheme: str) -> None:
    colours = schemes()[scheme]
    for ink in ("ink", "soft", "link"):
        for paper in ("paper", "card"):
            assert contrast(colours[ink], colours[paper]) >= 4.5, (ink, paper)
    assert contrast(colours["alarm"], colours["alarm-card"]) >= 4.5
    assert contrast(colours["focus"], colours["paper"]) >= 3
