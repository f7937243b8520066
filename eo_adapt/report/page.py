"""One self-contained HTML file: opens offline, asks the network for nothing, escapes everything it is given."""

from __future__ import annotations

import base64
import hashlib
import io
import math
import re
import warnings
from collections.abc import Mapping, Sequence
from html import escape
from numbers import Number
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import numpy as np
import pandas as pd

from .. import __version__
from ..rundir import write_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

HERE = Path(__file__).parent
MISSING = "\N{EN DASH}"
HEAVY = 1_000_000  # characters of SVG above which a figure becomes a PNG
SVG: dict[Any, Any] = {"svg.fonttype": "none", "font.sans-serif": ["DejaVu Sans"]}
NO_METADATA = dict.fromkeys(("Date", "Creator", "Format", "Type"))


class Page:
    """Collects paragraphs, tables and figures, then writes them as one file.

    Args:
        title: Heading and window title.
        lead: First paragraph: what happened, in a sentence or two.
    """

    def __init__(self, title: str, lead: str = "") -> None:
        self.title, self.lead = title, lead
        self._body: list[str] = []
        self._contents: list[tuple[str, str]] = []  # id, title
        self._warnings: list[str] = []
        self._numbers: dict[str, int] = {}

    # -- text --------------------------------------------------------------------------------------------------------

    def section(self, title: str, text: str = "") -> None:
        """Begin a section; it is listed in the contents."""
        name = self._id(re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-") or "section")
        self._contents.append((name, title))
        self._body.append(f'<h2 id="{name}">{escape(title)}</h2>')
        if text:
            self.text(text)

    def text(self, text: str) -> None:
        """A paragraph; an empty line begins another one."""
        self._body += [f"<p>{escape(part)}</p>" for part in text.split("\n\n")]

    def warn(self, text: str) -> None:
        """A warning, here and in the list at the top of the page."""
        self._warnings.append(text)
        at = len(self._warnings)
        self._body.append(f'<p class="warning" id="warning-{at}"><strong>Warning:</strong> {escape(text)}</p>')

    def facts(self, pairs: Mapping[str, str]) -> None:
        """Short facts side by side: name -> value."""
        cells = "".join(f"<div><dt>{escape(k)}</dt><dd>{escape(v)}</dd></div>" for k, v in pairs.items())
        self._body.append(f'<dl class="facts">{cells}</dl>')

    def command(self, command: str, label: str = "Reproduce") -> None:
        """A command to copy."""
        self._body.append(f'<div class="code"><p>{escape(label)}</p><pre>{escape(command)}</pre></div>')

    def bibtex(self, entries: Sequence[str]) -> None:
        """Literature entries to copy."""
        self.command("\n\n".join(entry.strip() for entry in entries), "BibTeX")

    # -- tables and figures ------------------------------------------------------------------------------------------

    def table(
        self,
        frame: pd.DataFrame,
        caption: str,
        formats: Mapping[str, str] | None = None,
        note: str = "",
        cards: bool = False,
    ) -> None:
        """A table that its reader can sort; the first column names the rows, the index is not shown.

        Args:
            frame: Missing values show as a dash and sort last.
            caption: What it shows.
            formats: Column -> format specification such as ``.3f``; others: integers with separators, three digits.
            note: A remark below.
            cards: On a narrow screen, show each row as a card: for tables with sentences in them.
        """
        name, formats, look = self._id("table"), formats or {}, "table cards" if cards else "table"
        heads, columns = [], []
        for i, title in enumerate(frame.columns):
            values = [v.item() if isinstance(v, np.generic) else v for v in frame.iloc[:, i].tolist()]
            kind = ' class="number"' if _numeric(values) else ""
            heads.append(
                f'<th scope="col"{kind} aria-sort="none"><button type="button">{escape(str(title))}</button></th>'
            )
            head = str(title) if cards and i else ""
            columns.append([_cell(value, kind, formats.get(title, ""), "td" if i else "th", head) for value in values])
        rows = "\n".join(f"<tr>{''.join(row)}</tr>" for row in zip(*columns, strict=True))
        hint = '<span class="unseen"> (the buttons in the header sort the rows)</span>'
        self._body.append(
            f'<div class="{look}"><div class="scroll" role="group" aria-labelledby="{name}"><table>'
            f'<caption id="{name}">{escape(caption)}{hint}</caption>'
            f"<thead><tr>{''.join(heads)}</tr></thead>\n<tbody>{rows}</tbody></table></div>"
            + (f'<p class="note">{escape(note)}</p>' if note else "")
            + "</div>"
        )

    def figure(self, figure: Figure, alt: str, caption: str) -> None:
        """A figure as inline SVG; as PNG where the SVG would be heavy (rasterise what has thousands of shapes).

        Args:
            figure: Without pyplot state.
            alt: What is to be seen, for those who cannot see it.
            caption: What it shows, below.
        """
        picture = _picture(figure, self._id("figure"), alt)
        wide = f"--wide: {figure.get_figwidth() * 96:.0f}px"
        self._body.append(
            f'<figure><div class="plot scroll" role="group" aria-label="{escape(caption)}" style="{wide}">'
            f"{picture}</div><figcaption>{escape(caption)}</figcaption></figure>"
        )

    # -- the file ----------------------------------------------------------------------------------------------------

    def html(self) -> str:
        """The whole page."""
        css, js = ((HERE / name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
        digest = base64.b64encode(hashlib.sha256(js.encode()).digest()).decode()
        policy = (
            f"default-src 'none'; style-src 'unsafe-inline'; img-src data:; script-src 'sha256-{digest}'; "
            "base-uri 'none'; form-action 'none'"
        )
        lead = f'\n<p class="lead">{escape(self.lead)}</p>' if self.lead else ""
        body = "\n".join(self._body)
        return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<link rel="icon" href="data:,">
<title>{escape(self.title)}</title>
<style>{css}</style>
</head>
<body>
<a class="skip" href="#content">Skip to the content</a>
<header>
<h1>{escape(self.title)}</h1>{lead}
</header>
{self._alarm()}{self._navigation()}<main id="content" tabindex="-1">
{body}
</main>
<footer>Made by eo_adapt {escape(__version__)}. This file needs no network.</footer>
<script>{js}</script>
</body>
</html>
"""

    def write(self, path: Path) -> None:
        """Write under a temporary name, then rename; ASCII, so that no locale can garble it."""
        write_text(path, self.html().encode("ascii", "xmlcharrefreplace").decode("ascii"))

    def _alarm(self) -> str:
        if not self._warnings:
            return ""
        items = "".join(f'<li><a href="#warning-{i}">{escape(t)}</a></li>' for i, t in enumerate(self._warnings, 1))
        title = "1 warning" if len(self._warnings) == 1 else f"{len(self._warnings)} warnings"
        inside = f'<h2 id="warnings">{title}</h2><ul>{items}</ul>'
        return f'<section class="warnings" aria-labelledby="warnings">{inside}</section>\n'

    def _navigation(self) -> str:
        if not self._contents:
            return ""
        items = "".join(f'<li><a href="#{name}">{escape(title)}</a></li>' for name, title in self._contents)
        return f'<nav aria-labelledby="contents"><h2 id="contents">Contents</h2><ul>{items}</ul></nav>\n'

    def _id(self, stem: str) -> str:
        """An id that no other element of the page has."""
        self._numbers[stem] = number = self._numbers.get(stem, 0) + 1
        return f"{stem}--{number}"


def _numeric(values: Sequence[Any]) -> bool:
    known = [v for v in values if not _missing(v)]
    return bool(known) and all(isinstance(v, Number) and not isinstance(v, bool) for v in known)


def _missing(value: Any) -> bool:
    return value is None or value is pd.NA or value is pd.NaT or (isinstance(value, float) and math.isnan(value))


def _cell(value: Any, kind: str, spec: str, tag: str, head: str = "") -> str:
    scope = ' scope="row"' if tag == "th" else ""
    scope += f' data-head="{escape(head)}"' if head else ""
    if _missing(value):
        return f"<{tag}{scope}{kind} data-missing>{MISSING}</{tag}>"
    key = f' data-value="{_number(value)}"' if kind else ""
    return f"<{tag}{scope}{kind}{key}>{escape(_spell(value, spec))}</{tag}>"


def _number(value: Any) -> str:
    return repr(float(value)) if math.isfinite(value) else f"{'-' if value < 0 else ''}Infinity"


def _spell(value: Any, spec: str) -> str:
    if spec:
        return format(value, spec)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.3f}" if abs(value) < 1000 else f"{value:,.0f}"
    return f"{value:,d}" if isinstance(value, int) else str(value)


def _picture(figure: Figure, name: str, alt: str) -> str:
    """SVG or PNG markup of a figure."""
    import matplotlib as mpl

    buffer = io.StringIO()
    with mpl.rc_context(SVG | {"svg.hashsalt": name}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # the browser has fonts of its own
        figure.savefig(buffer, format="svg", dpi=150, metadata=NO_METADATA)
    if len(buffer.getvalue()) <= HEAVY:
        try:
            return _inline(buffer.getvalue(), name, alt)
        except ElementTree.ParseError:  # a name with a control character: no XML can hold it
            pass
    raster = io.BytesIO()
    figure.savefig(raster, format="png", dpi=110)
    data = base64.b64encode(raster.getvalue()).decode()
    return f'<img alt="{escape(alt)}" src="data:image/png;base64,{data}">'


def _inline(svg: str, name: str, alt: str) -> str:
    """An SVG element whose ids, and what refers to them, begin with the figure's name."""
    root = ElementTree.fromstring(svg)  # noqa: S314  (matplotlib wrote it a moment ago)
    for node in root.iter():
        node.tag = node.tag.rpartition("}")[2]
        for child in [c for c in node if c.tag.rpartition("}")[2] == "style"]:
            node.remove(child)  # it would style the whole page; page.css says the same
        for key in list(node.attrib):
            value = node.attrib.pop(key)
            if key == "id":
                value = f"{name}-{value}"
            elif value.startswith("#") and key.endswith("href"):
                value = f"#{name}-{value[1:]}"
            elif "url(#" in value:
                value = value.replace("url(#", f"url(#{name}-")
            node.set(key.rpartition("}")[2], value)
    root.attrib = {"viewBox": root.attrib["viewBox"], "role": "img", "aria-label": alt}
    return ElementTree.tostring(root, encoding="unicode")
