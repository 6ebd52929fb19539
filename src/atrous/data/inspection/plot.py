"""How often classes appear, as bars in SVG: their share of the pixels and of the images, for one or two splits."""

import math
from collections.abc import Mapping, Sequence
from html import escape

from atrous.data.inspection.statistics import SplitStatistics
from atrous.svg import svg

_COLOURS = ("--first", "--second")
_WIDTH, _NAMES, _PANEL, _GAP, _ROW, _TOP = 960, 150, 375, 45, 26, 46
_LOWEST = -4  # 0.01 percent, as a power of ten


def class_bars(classes: Sequence[str], splits: Mapping[str, SplitStatistics]) -> str:
    """Draw the bars.

    Pixels are on a logarithmic axis from 0.01% to 100%, because rare classes are what people look for.

    Args:
        classes: class names.
        splits: at most two splits by name.
    """
    height = _TOP + _ROW * len(classes) + 12
    pixel_left, image_left = _NAMES, _NAMES + _PANEL + _GAP
    parts = [*_axis(pixel_left, height, log=True), *_axis(image_left, height, log=False)]
    parts.append(_title(pixel_left, "share of the labelled pixels"))
    parts.append(_title(image_left, "share of the images"))
    for row, name in enumerate(classes):
        y = _TOP + _ROW * row
        parts.append(f'<text class="name" x="{_NAMES - 10}" y="{y + 16}" text-anchor="end">{escape(name)}</text>')
        thickness = 18 / max(1, len(splits))
        for place, (split, statistics) in enumerate(splits.items()):
            images = statistics.images_of[row] / max(1, len(statistics.counts))
            pixels = float(statistics.pixel_share_of[row])
            top = y + 3 + place * thickness
            hint = f"{name} in {split}: {100 * pixels:.3g}% of the pixels, {statistics.images_of[row]} images"
            parts.append(_bar((pixel_left, top), (_log_length(pixels), thickness), _COLOURS[place], hint))
            parts.append(_bar((image_left, top), (_PANEL * images, thickness), _COLOURS[place], hint))
    for place, split in enumerate(splits):
        x = _NAMES + 110 * place
        parts.append(f'<rect x="{x}" y="2" width="12" height="12" rx="3" fill="var({_COLOURS[place]})"/>')
        parts.append(f'<text x="{x + 18}" y="13">{escape(split)}</text>')
    return svg(_WIDTH, height, parts, title="how often each class appears")


def _log_length(share: float) -> float:
    """Length of a bar on the logarithmic axis; nothing for a class that does not appear, a trace for the rarest."""
    if share <= 0:
        return 0
    return _PANEL * max(0.01, 1 - math.log10(share) / _LOWEST)


def _bar(place: tuple[float, float], size: tuple[float, float], colour: str, hint: str) -> str:
    (left, top), (length, thickness) = place, size
    return (
        f'<rect x="{left}" y="{top:.1f}" width="{length:.1f}" height="{thickness - 1:.1f}" rx="2" '
        f'fill="var({colour})"><title>{escape(hint)}</title></rect>'
    )


def _axis(left: float, height: float, *, log: bool) -> list[str]:
    names = ["0.01%", "0.1%", "1%", "10%", "100%"] if log else ["0%", "25%", "50%", "75%", "100%"]
    parts = []
    for tick, name in enumerate(names):
        x = left + _PANEL * tick / (len(names) - 1)
        parts.append(f'<path d="M{x:.1f} {_TOP - 2}V{height - 8}" stroke="var(--line)"/>')
        anchor = "start" if tick == 0 else "end" if tick == len(names) - 1 else "middle"
        parts.append(f'<text x="{x:.1f}" y="{_TOP - 8}" text-anchor="{anchor}">{name}</text>')
    return parts


def _title(left: float, text: str) -> str:
    return f'<text x="{left + _PANEL}" y="13" text-anchor="end">{escape(text)}</text>'
