"""A self-contained HTML document: its style, its tables and its pictures, without any outside resource."""

import base64
from collections.abc import Sequence
from html import escape

from atrous.data.inspection.overlay import overlay
from atrous.data.inspection.sheet import Figure, jpeg
from atrous.data.spec import Colour, DatasetSpec

_STYLE = """
:root { color-scheme: light dark; --ink: #1d2530; --soft: #5b6775; --line: #d9dfe6; --second: #8b5cf6; --first: #0d9488;
  --back: #ffffff; --panel: #f6f8fa; --good: #15803d; --bad: #b91c1c; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ee; --soft: #9aa6b4; --line: #333c48; --back: #14181e;
  --panel: #1c222b; --second: #a78bfa; --first: #2dd4bf; --good: #4ade80; --bad: #f87171; } }
* { box-sizing: border-box }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--back); margin: 0 auto;
  max-width: 78rem; padding: 2rem 1.2rem 4rem }
h1 { font-size: 1.6rem; margin: 0 } h2 { font-size: 1.15rem; margin: 2.2rem 0 .6rem } p { margin: .4rem 0 }
code { overflow-wrap: anywhere }
.soft { color: var(--soft) }
.verdict { border-left: .3rem solid var(--good); background: var(--panel); padding: .6rem 1rem; border-radius: .3rem;
  margin: 1rem 0; font-weight: 600 }
.verdict.bad { border-color: var(--bad) }
.problems { color: var(--bad); overflow-wrap: anywhere; padding-left: 1.2rem; font-size: .9rem }
.scroll { overflow-x: auto }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; font-size: .92rem }
th, td { padding: .35rem .7rem; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap }
th { color: var(--soft); font-weight: 600; font-size: .82rem; vertical-align: bottom; white-space: normal }
th.text, td.text { text-align: left } td.wrap { white-space: normal; min-width: 16rem }
.chip { display: inline-block; width: .85rem; height: .85rem; border-radius: .25rem; border: 1px solid var(--soft);
  margin-right: .45rem; vertical-align: -.1rem }
.legend { display: flex; flex-wrap: wrap; gap: .3rem 1.2rem; font-size: .9rem }
.samples { display: grid; margin-top: 1.2rem;
  grid-template-columns: repeat(auto-fill, minmax(17rem, 1fr)); gap: 1.2rem 1rem }
.samples.wide { grid-template-columns: repeat(auto-fill, minmax(28rem, 1fr)) }
figure { margin: 0 } figure div { display: flex; background: var(--panel); border-radius: .4rem; overflow: hidden }
figure img { min-width: 0; flex: 1; width: 100%; object-fit: contain; display: block }
.samples:not(.wide) figure div { aspect-ratio: 4 / 3 }
figcaption { font-size: .82rem; color: var(--soft); margin-top: .25rem; overflow-wrap: anywhere }
svg { width: 100%; height: auto } svg text { fill: var(--soft); font-size: 12.5px } svg text.name { fill: var(--ink) }
"""


def document(title: str, body: str) -> str:
    """Return a page that works from a file, without a network."""
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{_STYLE}</style></head>'
        f"<body><h1>{escape(title)}</h1>{body}</body></html>\n"
    )


def table(head: Sequence[str], rows: Sequence[Sequence[str]], *, text: Sequence[int] = (0,)) -> str:
    """Return a table.

    Args:
        head: column titles, plain text.
        rows: cells that are HTML already.
        text: columns that are words, not numbers; the last of them may be broken into lines.
    """

    def css(column: int) -> str:
        if column not in text:
            return ""
        return ' class="text wrap"' if column == text[-1] and column else ' class="text"'

    titles = "".join(f"<th{css(column)}>{escape(name)}</th>" for column, name in enumerate(head))
    lines = "".join(
        "<tr>" + "".join(f"<td{css(column)}>{cell}</td>" for column, cell in enumerate(row)) + "</tr>" for row in rows
    )
    return f'<div class="scroll"><table><thead><tr>{titles}</tr></thead><tbody>{lines}</tbody></table></div>'


def chip(colour: Colour) -> str:
    """Return a small square of a class's colour."""
    return f'<span class="chip" style="background:rgb{tuple(colour)}"></span>'


def legend(spec: DatasetSpec) -> str:
    """Return the classes with their colours."""
    entries = zip(spec.classes, spec.palette, strict=True)
    return (
        '<p class="legend">'
        + "".join(f"<span>{chip(colour)}{escape(name)}</span>" for name, colour in entries)
        + '<span class="soft">hatched: ignored</span></p>'
    )


def samples(figures: Sequence[Figure], spec: DatasetSpec, *, beside: bool) -> str:
    """Return pictures in a grid.

    Args:
        figures: the samples.
        spec: names and colours of the classes.
        beside: whether the image stands beside its overlay; otherwise the overlay stands alone.
    """
    cells = []
    for figure in figures:
        pictures = [figure.image] if beside else []
        pictures.append(overlay(figure.image, figure.label, spec))
        images = "".join(
            f'<img alt="{escape(figure.caption)}" src="data:image/jpeg;base64,{base64.b64encode(jpeg(p)).decode()}">'
            for p in pictures
        )
        cells.append(f"<figure><div>{images}</div><figcaption>{escape(figure.caption)}</figcaption></figure>")
    return f'<div class="samples{" wide" if beside else ""}">{"".join(cells)}</div>'
