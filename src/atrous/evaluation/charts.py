"""Numbers as HTML and SVG: bars of the classes with their intervals, the confusion as a heat map, curves."""

from collections.abc import Mapping, Sequence
from html import escape

import numpy as np

from atrous.data.spec import DatasetSpec
from atrous.evaluation.scores import Matrix
from atrous.html import chip
from atrous.svg import Plane, Points

_SHOWN = 40  # classes of a heat map; more cannot be read
_COLOURS = ("--first", "--second")

Interval = Sequence[float] | None


def percent(value: float | None) -> str:
    """A share from 0 to 1 as text; a dash for what is undefined."""
    return "-" if value is None or np.isnan(value) else f"{100 * value:.1f}%"


def class_bars(spec: DatasetSpec, values: Sequence[float | None], intervals: Sequence[Interval]) -> str:
    """Bars from 0 to 100% with a whisker for the interval, the best class first.

    Args:
        spec: names and colours of the classes.
        values: one per class, 0 to 1; None where it is undefined.
        intervals: [low, high] per class, or None.
    """
    order = sorted(range(len(values)), key=lambda place: -(-1.0 if (value := values[place]) is None else value))
    rows = []
    for place in order:
        value, interval = values[place], intervals[place]
        inside = "" if value is None else f'<i style="left:0;width:{100 * value:.2f}%"></i>'
        low, high = interval or (0, 0)
        if high > low:
            inside += f'<u style="left:{100 * low:.2f}%;width:{100 * (high - low):.2f}%"></u>'
        rows.append(_row(spec, place, f'<span class="track">{inside}</span>', percent(value)))
    return f'<div class="bars">{"".join(rows)}</div>'


def difference_bars(spec: DatasetSpec, values: Sequence[float | None]) -> str:
    """Bars to the right for what has risen and to the left for what has fallen, the largest rise first.

    Args:
        spec: names and colours of the classes.
        values: a difference per class, -1 to 1; None where it is undefined.
    """
    known = [(value, place) for place, value in enumerate(values) if value is not None]
    reach = max([abs(value) for value, _ in known], default=0) or 1
    rows = []
    for value, place in sorted(known, reverse=True):
        length, colour = 50 * abs(value) / reach, "--good" if value > 0 else "--bad"
        left = 50 if value > 0 else 50 - length
        bar = f'<i style="left:{left:.2f}%;width:{length:.2f}%;background:var({colour})"></i>'
        rows.append(_row(spec, place, f'<span class="track middle">{bar}</span>', f"{100 * value:+.1f}"))
    return f'<div class="bars">{"".join(rows)}</div>'


def heat_map(matrix: Matrix, spec: DatasetSpec) -> str:
    """The share of each class's pixels (row) that was predicted as each class (column).

    Of more than 40 classes, those with the most wrong pixels are shown.

    Args:
        matrix: pixel counts [truth, prediction].
        spec: names of the classes.
    """
    wrong = matrix.sum(1) + matrix.sum(0) - 2 * np.diag(matrix)
    shown = np.sort(np.argsort(-wrong, kind="stable")[:_SHOWN])
    names = [spec.classes[place] for place in shown]
    shares = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    head = "".join(f"<th><span>{escape(name)}</span></th>" for name in names)
    lines = []
    for row, name in zip(shown, names, strict=True):
        cells = "".join(_cell(float(shares[row, column]), name, spec.classes[column]) for column in shown)
        lines.append(f"<tr><th>{escape(name)}</th>{cells}</tr>")
    return (
        f'<div class="scroll"><table class="heat"><thead><tr><th></th>{head}</tr></thead>'
        f"<tbody>{''.join(lines)}</tbody></table></div>"
    )


def confusions(matrix: Matrix, number: int) -> list[tuple[int, int, float]]:
    """The mistakes that cost most pixels.

    Args:
        matrix: pixel counts [truth, prediction].
        number: how many.

    Returns:
        (truth, prediction, share of the truth's pixels), most pixels first.
    """
    wrong = matrix - np.diag(np.diag(matrix))
    order = np.argsort(-wrong, axis=None, kind="stable")[:number]
    pairs = [divmod(int(cell), len(matrix)) for cell in order if wrong.flat[cell] > 0]
    return [(truth, found, float(matrix[truth, found] / matrix[truth].sum())) for truth, found in pairs]


def curves(lines: Mapping[str, Points], *, x_title: str, y_title: str) -> str:
    """At most two lines over a common axis, values 0 to 1 shown as percent."""
    points = [point for line in lines.values() for point in line]
    if not points:
        return ""
    ys = np.array([100 * y for _, y in points])
    low, high = 10 * np.floor((ys.min() - 2) / 10), 10 * np.ceil((ys.max() + 2) / 10)
    low, high = max(0.0, float(low)), min(100.0, float(high))
    plane = Plane(560, 270, 42, 44, low, high, max(x for x, _ in points), right=14)
    parts = [plane.rows(5), plane.columns(8), f'<text x="2" y="14">{escape(y_title)}</text>']
    middle, bottom = (plane.left + plane.width) // 2, plane.height - 6
    parts.append(f'<text x="{middle}" y="{bottom}" text-anchor="middle">{escape(x_title)}</text>')
    for place, (name, line) in enumerate(lines.items()):
        parts.append(plane.curve([(x, 100 * y) for x, y in line], _COLOURS[place], stroke=2.5, radius=3.5))
        if len(lines) > 1:
            css = f"fill:var({_COLOURS[place]})"
            parts.append(f'<text x="{plane.left + 90 + 200 * place}" y="14" style="{css}">● {escape(name)}</text>')
    return plane.svg(parts, title=y_title)


def _row(spec: DatasetSpec, place: int, track: str, value: str) -> str:
    name = f"<span>{chip(spec.palette[place])}{escape(spec.classes[place])}</span>"
    return f'{name}{track}<span class="value">{value}</span>'


def _cell(share: float, truth: str, found: str) -> str:
    colour = "--first" if truth == found else "--bad"
    # The root lets small shares be seen: 1% has a tenth of the full colour.
    back = f"color-mix(in srgb, var({colour}) {100 * share**0.5:.0f}%, var(--panel))"
    hint = f"{truth} predicted as {found}: {100 * share:.2f}%"
    text = f"{100 * share:.0f}" if share >= 0.005 else ""
    css = ' class="strong"' if share > 0.5 else ""
    return f'<td{css} style="background:{back}" title="{escape(hint)}">{text}</td>'
