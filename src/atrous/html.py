"""Self-contained HTML pages: one look for all rooms, light and dark, desk and phone, without any outside resource.

Standard library only: whoever makes a page brings the numbers and the encoded pictures.
"""

import base64
from collections.abc import Iterable, Sequence
from html import escape

STYLE = """
:root { color-scheme: light dark; --ink: #1d2530; --soft: #5b6775; --line: #d9dfe6; --first: #0d9488; --second: #8b5cf6;
  --back: #ffffff; --panel: #f6f8fa; --good: #15803d; --bad: #b91c1c; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ee; --soft: #9aa6b4; --line: #333c48; --first: #2dd4bf;
  --second: #a78bfa; --back: #14181e; --panel: #1c222b; --good: #4ade80; --bad: #f87171; } }
* { box-sizing: border-box }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--back); margin: 0 auto;
  max-width: 78rem; padding: 2rem 1.2rem 4rem }
h1 { font-size: 1.6rem; line-height: 1.25; margin: 0; overflow-wrap: anywhere }
h2 { font-size: 1.15rem; margin: 2.4rem 0 .6rem } h3 { font-size: 1rem; margin: 1.6rem 0 .4rem } p { margin: .4rem 0 }
code { overflow-wrap: anywhere } .soft { color: var(--soft) } .good { color: var(--good) } .bad { color: var(--bad) }
.scroll { overflow-x: auto }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; font-size: .92rem }
th, td { padding: .35rem .7rem; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap }
th { color: var(--soft); font-weight: 600; font-size: .82rem; vertical-align: bottom; white-space: normal }
th.text, td.text { text-align: left } td.wrap { white-space: normal; min-width: 16rem }
.chip { display: inline-block; width: .85rem; height: .85rem; border-radius: .25rem; border: 1px solid var(--soft);
  margin-right: .45rem; vertical-align: -.1rem; flex: none }
.legend { display: flex; flex-wrap: wrap; gap: .3rem 1.2rem; font-size: .9rem }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(9.5rem, 1fr)); gap: .8rem; margin: 1.4rem 0 }
.card { background: var(--panel); border: 1px solid var(--line); border-radius: .6rem; padding: .7rem .9rem }
.card b { display: block; font-size: 1.7rem; line-height: 1.25; font-variant-numeric: tabular-nums }
.card span { color: var(--soft); font-size: .84rem } .card.main { border-color: var(--first) }
.card.main b { color: var(--first) }
.bars { display: grid; grid-template-columns: minmax(5rem, max-content) 1fr max-content; gap: .25rem .8rem;
  align-items: center; font-size: .92rem }
.bars .value { text-align: right; font-variant-numeric: tabular-nums }
.track { position: relative; height: 1rem; background: var(--panel); border-radius: .25rem }
.track i { position: absolute; top: 0; bottom: 0; border-radius: .25rem; background: var(--first) }
.track u { position: absolute; top: 50%; height: 2px; margin-top: -1px; background: var(--ink); opacity: .75 }
.track u::before, .track u::after { content: ""; position: absolute; top: -3px; width: 2px; height: 8px;
  background: var(--ink) } .track u::after { right: 0 }
.track.middle::after { content: ""; position: absolute; left: 50%; top: -2px; bottom: -2px; width: 1px;
  background: var(--soft) }
table.heat { width: auto; font-size: .72rem; border-collapse: separate; border-spacing: 1px }
table.heat td, table.heat th { border: 0; padding: 0; text-align: center }
table.heat td { width: 1.9rem; min-width: 1.6rem; height: 1.6rem; border-radius: .2rem }
table.heat thead th { vertical-align: bottom; padding-bottom: .3rem; font-weight: 400 }
table.heat thead span { writing-mode: vertical-rl; transform: rotate(180deg); white-space: nowrap; font-size: .76rem;
  display: inline-block; line-height: 1 }
table.heat td.strong { color: var(--back) } table.heat { margin-top: 1.2rem }
table.heat tbody th { position: sticky; left: 0; background: var(--back); text-align: right; font-weight: 400;
  padding-right: .5rem; white-space: nowrap; font-size: .78rem; z-index: 1 }
.rows { display: grid; gap: 1.2rem } figure { margin: 0 }
.four { display: grid; grid-template-columns: repeat(4, 1fr); gap: .4rem }
.four div { background: var(--panel); border-radius: .4rem; overflow: hidden; display: flex; align-items: center;
  position: relative } .four img { width: 100%; height: auto; display: block }
.four small { position: absolute; left: .35rem; top: .35rem; background: rgb(0 0 0 / .62); color: #fff;
  font-size: .7rem; padding: 0 .4rem; border-radius: .3rem }
figcaption { font-size: .84rem; color: var(--soft); margin-top: .3rem; overflow-wrap: anywhere }
svg { width: 100%; height: auto; max-width: 44rem; display: block } svg text { fill: var(--soft); font-size: 14px }
@media (max-width: 40rem) { body { padding: 1.2rem .9rem 3rem } h1 { font-size: 1.3rem }
  .four { grid-template-columns: repeat(2, 1fr) } .cards { grid-template-columns: 1fr 1fr }
  .card b { font-size: 1.35rem } }
"""


def document(title: str, body: str, *, style: str = "", above: str = "") -> str:
    """Return a page that works from a file, without a network.

    Args:
        title: plain text; also the first heading.
        body: HTML below it.
        style: CSS beside the shared one.
        above: HTML above the heading.
    """
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{STYLE}{style}</style></head>'
        f"<body>{above}<h1>{escape(title)}</h1>{body}</body></html>\n"
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


def chip(colour: Sequence[int]) -> str:
    """Return a small square of a colour, RGB 0 to 255."""
    return f'<span class="chip" style="background:rgb{tuple(colour)}"></span>'


def legend(names: Iterable[str], colours: Iterable[Sequence[int]], *, note: str = "") -> str:
    """Return classes with their colours, and a note behind them."""
    entries = "".join(f"<span>{chip(colour)}{escape(name)}</span>" for name, colour in zip(names, colours, strict=True))
    return f'<p class="legend">{entries}<span class="soft">{escape(note)}</span></p>'


def card(value: str, label: str, *, detail: str = "", main: bool = False) -> str:
    """Return a number with what it is, both plain text."""
    return (
        f'<div class="card{" main" if main else ""}"><span>{escape(label)}</span><b>{escape(value)}</b>'
        f"<span>{escape(detail)}</span></div>"
    )


def cards(parts: Iterable[str]) -> str:
    """Return cards side by side."""
    return f'<div class="cards">{"".join(parts)}</div>'


def image(jpeg: bytes, *, alt: str) -> str:
    """Return a picture that is part of the page."""
    return f'<img alt="{escape(alt)}" src="data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}">'


def four(pictures: Sequence[tuple[str, bytes]], caption: str) -> str:
    """Return pictures side by side, two by two on a phone.

    Args:
        pictures: (what it shows, JPEG).
        caption: plain text below them.
    """
    cells = "".join(
        f"<div>{image(content, alt=f'{name}: {caption}')}<small>{escape(name)}</small></div>"
        for name, content in pictures
    )
    return f'<figure><div class="four">{cells}</div><figcaption>{escape(caption)}</figcaption></figure>'
