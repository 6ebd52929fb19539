"""What the pages of a report share: the way back, the label of the scale, and links that work wherever they lie."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path, PurePosixPath
from urllib.parse import quote

from atrous.html import document
from atrous.studies.table import Table

STYLE = """
a { color: var(--first); text-underline-offset: .15em } nav { font-size: .88rem; margin-bottom: .6rem }
.label { display: inline-block; padding: .2rem .7rem; border-radius: .5rem; background: var(--panel);
  border: 1px solid var(--line); font-size: .86rem; margin: .6rem 0 }
.label.warn { border-color: var(--warn); color: var(--warn) }
:root { --warn: #9a5b00 } @media (prefers-color-scheme: dark) { :root { --warn: #f5b04c } }
th.state, td.state { text-align: left; white-space: normal; min-width: 13rem; font-size: .86rem }
.paper { color: var(--second) } td.measured { color: var(--first); font-weight: 600 }
pre { background: var(--panel); border: 1px solid var(--line); border-radius: .5rem; padding: .8rem; overflow-x: auto;
  font-size: .8rem; line-height: 1.6; margin: .5rem 0 } pre.wrap { white-space: pre-wrap; overflow-wrap: anywhere }
img.figure { width: 100%; max-width: 48rem; height: auto; border-radius: .5rem; background: #fff; display: block }
summary { cursor: pointer; margin: .8rem 0 .4rem }
svg { max-width: 52rem } svg text { font-size: 13px } svg.spark { width: 7.5rem; height: 1.9rem;
  max-width: none } .narrow { display: none }
.side { display: grid; grid-template-columns: repeat(auto-fit, minmax(19rem, 1fr)); gap: 1rem 1.6rem }
.side svg { max-width: 36rem } .keys { font-size: .9rem; margin: .3rem 0 }
@media (max-width: 40rem) { th, td { padding: .35rem .45rem }
  .wide { display: none } .narrow { display: block } .side { grid-template-columns: 1fr } }
"""


def frame(title: str, body: str, *, label: str = "", way: Sequence[tuple[str, str]] = ()) -> str:
    """Return a page.

    Args:
        title: Plain text.
        body: HTML.
        label: HTML below the title; see `label_of`.
        way: (text, address) of the pages above it.
    """
    above = " / ".join(link(text, address) for text, address in way)
    return document(title, f"{label}{body}", style=STYLE, above=f"<nav>{above}</nav>" if above else "")


def label_of(table: Table) -> str:
    """Whether a page shows a reproduction."""
    if not table.scale:
        return warning(
            f"not a table of a paper: {table.scale_label}" if table.scale_label else "not a table of a paper"
        )
    text = f"scale {table.scale}: {table.scale_label}".replace("`", "")
    return f'<p class="label">{escape(text)}</p>' if table.is_reproduction else warning(text)


def warning(text: str) -> str:
    """Return a label for what must not be taken for a reproduction, plain text."""
    if "not a reproduction" not in text and "not a measurement" not in text:
        text = f"{text}; not a reproduction"
    return f'<p class="label warn">{escape(text)}</p>'


def listed(title: str, entries: Sequence[str], *, note: str = "") -> list[str]:
    """Return a headline, a note and what is wrong, an entry each, plain text; nothing where nothing is."""
    if not entries:
        return []
    lines = "".join(f"<li>{escape(entry)}</li>" for entry in entries)
    told = f"<p>{escape(note)}</p>" if note else ""
    return [f'<h2>{escape(title)}</h2>{told}<ul class="bad">{lines}</ul>']


def link(text: str, address: str) -> str:
    """Return a link; both plain text."""
    return f'<a href="{escape(quote(os.fsencode(address), safe="/.-_~#"))}">{escape(text)}</a>'


def between(page: PurePosixPath, other: PurePosixPath) -> str:
    """The address of another page of the same site, relative to a page."""
    return Path(os.path.relpath(other, page.parent)).as_posix()


def run_page(folder: Path, among: Iterable[Path] = ()) -> PurePosixPath:
    """Where the page of a run lies in its site.

    Args:
        folder: Of the run.
        among: The folders of the site's runs: where another store's has the same name, this one's place is told.
    """
    name = folder.parent.name
    if any(other != folder and (other.parent.name, other.name) == (name, folder.name) for other in among):
        name = f"{name}-{hashlib.sha256(os.fsencode(folder)).hexdigest()[:8]}"
    return PurePosixPath("runs") / name / folder.name / "index.html"
