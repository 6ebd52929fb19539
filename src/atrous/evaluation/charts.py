"""Numbers as HTML and SVG: bars of the classes with their intervals, the confusion as a heat map, curves."""

from collections.abc import Callable, Mapping, Sequence
from html import escape

import numpy as np

from atrous.data.spec import DatasetSpec
from atrous.evaluation.scores import Matrix
from atrous.html import chip

_SHOWN = 40  # classes of a heat map; more cannot be read
_WIDTH, _HEIGHT, _LEFT, _BOTTOM, _TOP, _RIGHT = 560, 270, 42, 44, 26, 14
_COLOURS = ("--first", "--second")

Interval = Sequence[float] | None
Points = Sequence[tuple[float, float]]
Place = Callable[[float, float], tuple[float, float]]


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
    right = max(x for x, _ in points)
    ys = np.array([100 * y for _, y in points])
    low, high = 10 * np.floor((ys.min() - 2) / 10), 10 * np.ceil((ys.max() + 2) / 10)
    low, high = max(0.0, float(low)), min(100.0, float(high))

    def at(x: float, y: float) -> tuple[float, float]:
        return (
            _LEFT + (_WIDTH - _LEFT - _RIGHT) * x / right,
            _TOP + (_HEIGHT - _TOP - _BOTTOM) * (high - y) / (high - low),
        )

    parts = _axes(at, (low, high), _ticks(right), x_title, y_title)
    for place, (name, line) in enumerate(lines.items()):
        placed = [at(x, 100 * y) for x, y in line]
        colour = f"var({_COLOURS[place]})"
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in placed)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2.5"/>')
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{colour}"/>' for x, y in placed]
        if len(lines) > 1:
            parts.append(f'<text x="{_LEFT + 90 + 200 * place}" y="14" style="fill:{colour}">● {escape(name)}</text>')
    return f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(y_title)}">{"".join(parts)}</svg>'


def _axes(at: Place, span: tuple[float, float], ticks: Sequence[float], *titles: str) -> list[str]:
    step, parts = 10 if span[1] - span[0] <= 50 else 20, []
    for tick in range(int(span[0]), int(span[1]) + 1, step):
        _, y = at(0, tick)
        parts.append(f'<path d="M{_LEFT} {y:.1f}H{_WIDTH - _RIGHT}" stroke="var(--line)"/>')
        parts.append(f'<text x="{_LEFT - 8}" y="{y + 5:.1f}" text-anchor="end">{tick}</text>')
    for mark in ticks:
        x, y = at(mark, span[0])
        parts.append(f'<text x="{x:.1f}" y="{y + 18:.1f}" text-anchor="middle">{mark:g}</text>')
    parts.append(
        f'<text x="{(_LEFT + _WIDTH) / 2:.0f}" y="{_HEIGHT - 6}" text-anchor="middle">{escape(titles[0])}</text>'
    )
    return [*parts, f'<text x="2" y="14">{escape(titles[1])}</text>']


def _ticks(right: float) -> list[float]:
    step = next((step for step in (1, 2, 5, 10, 20, 50, 100) if right / step <= 8), 200)
    return [float(tick) for tick in range(0, int(right) + 1, step)]


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
