"""Plots of measurements: points with the line through them."""

from collections.abc import Sequence
from pathlib import Path

from benchmarks.figures import Line

from atrous.files import write_atomically

Panel = tuple[str, str, list[tuple[float, float]], Line]
_COLUMNS = 3


def draw_lines(file: Path, panels: Sequence[Panel]) -> None:
    """Draw points and their lines, three panels in a row, as a PNG.

    Args:
        file: the picture.
        panels: (x label, y label, points, line) each.
    """
    from matplotlib.figure import Figure

    rows = -(-len(panels) // _COLUMNS)
    figure = Figure(figsize=(4 * _COLUMNS, 3 * max(1, rows)), layout="constrained")
    for place, (x_label, y_label, points, line) in enumerate(panels, start=1):
        axes = figure.add_subplot(rows, _COLUMNS, place)
        x = sorted({point[0] for point in points})
        axes.plot(x, [line.slope * value + line.intercept for value in x], color="0.6")
        axes.plot([point[0] for point in points], [point[1] for point in points], "o", color="tab:blue", markersize=4)
        axes.set(xlabel=x_label, ylabel=y_label, title=f"$r^2$ = {line.r_squared:.4f}", ylim=(0, None))
    write_atomically(file, lambda stream: figure.savefig(stream, format="png", dpi=110))
