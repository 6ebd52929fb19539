"""What the pages of a data set have beside `atrous.html`: samples in a grid, a verdict, problems."""

from collections.abc import Sequence
from html import escape

from atrous import html
from atrous.data.inspection.overlay import overlay
from atrous.data.inspection.sheet import Figure, jpeg
from atrous.data.spec import DatasetSpec

_STYLE = """
.verdict { border-left: .3rem solid var(--good); background: var(--panel); padding: .6rem 1rem; border-radius: .3rem;
  margin: 1rem 0; font-weight: 600 }
.verdict.bad { border-color: var(--bad); color: inherit }
.problems { color: var(--bad); overflow-wrap: anywhere; padding-left: 1.2rem; font-size: .9rem }
.samples { display: grid; margin-top: 1.2rem;
  grid-template-columns: repeat(auto-fill, minmax(min(17rem, 100%), 1fr)); gap: 1.2rem 1rem }
.samples.wide { grid-template-columns: repeat(auto-fill, minmax(min(28rem, 100%), 1fr)) }
.samples figure div { display: flex; background: var(--panel); border-radius: .4rem; overflow: hidden }
.samples img { min-width: 0; flex: 1; width: 100%; object-fit: contain; display: block }
.samples:not(.wide) figure div { aspect-ratio: 4 / 3 }
svg { max-width: none } svg text { font-size: 12.5px } svg text.name { fill: var(--ink) }
"""


def document(title: str, body: str) -> str:
    """Return a page that works from a file, without a network."""
    return html.document(title, body, style=_STYLE)


def legend(spec: DatasetSpec) -> str:
    """Return the classes with their colours."""
    return html.legend(spec.classes, spec.palette, note="hatched: ignored")


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
        images = "".join(html.image(jpeg(picture), alt=figure.caption) for picture in pictures)
        cells.append(f"<figure><div>{images}</div><figcaption>{escape(figure.caption)}</figcaption></figure>")
    return f'<div class="samples{" wide" if beside else ""}">{"".join(cells)}</div>'
