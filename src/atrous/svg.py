"""Charts as SVG, for the pages of all rooms (`atrous.html`): a plane of values, what its axes say, and curves in it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

Points = Sequence[tuple[float, float]]


def svg(width: int, height: int, parts: Sequence[str], *, title: str, css: str = "") -> str:
    """Return a drawing out of its parts; `title` is plain text, for who cannot see it."""
    style = f' class="{css}"' if css else ""
    box = f'viewBox="0 0 {width} {height}" role="img" aria-label="{escape(title)}"'
    return f"<svg{style} {box}>{''.join(parts)}</svg>"


@dataclass(frozen=True)
class Plane:
    """A rectangle of a drawing, by its margins, and the values at its edges; the left one is 0."""

    width: int
    height: int
    left: int
    bottom: int
    low: float
    high: float
    right_value: float = 1.0
    top: int = 26
    right: int = 12

    def x(self, value: float) -> float:
        """Return where a value lies from left to right."""
        return self.left + (self.width - self.left - self.right) * value / self.right_value

    def y(self, value: float) -> float:
        """Return where a value lies from top to bottom."""
        return self.top + (self.height - self.top - self.bottom) * (self.high - value) / (self.high - self.low)

    def rows(self, number: int) -> str:
        """Return about so many lines from left to right, with their values."""
        lines = []
        for tick in _ticks(self.low, self.high, number):
            y = self.y(tick)
            lines.append(f'<path d="M{self.left} {y:.1f}H{self.width - self.right}" stroke="var(--line)"/>')
            lines.append(f'<text x="{self.left - 7}" y="{y + 4:.1f}" text-anchor="end">{tick:g}</text>')
        return "".join(lines)

    def columns(self, number: int) -> str:
        """Return about so many values below the plane."""
        y = self.height - self.bottom + 18
        ticks = _ticks(0, self.right_value, number)
        return "".join(f'<text x="{self.x(tick):.1f}" y="{y}" text-anchor="middle">{tick:g}</text>' for tick in ticks)

    def curve(self, points: Points, colour: str, *, stroke: float, radius: float = 0) -> str:
        """Return a line through points, and a dot at each unless their radius is 0; `colour` is one of the page's."""
        placed = [(self.x(x), self.y(y)) for x, y in points]
        line, colour = " ".join(f"{x:.1f},{y:.1f}" for x, y in placed), f"var({colour})"
        dots = [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius}" fill="{colour}"/>' for x, y in placed if radius]
        return f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="{stroke}"/>{"".join(dots)}'

    def svg(self, parts: Sequence[str], *, title: str, css: str = "") -> str:
        """Return the drawing of this plane."""
        return svg(self.width, self.height, parts, title=title, css=css)


def _ticks(low: float, high: float, number: int) -> list[float]:
    """Round values from low to high, about so many."""
    rough = (high - low) / number
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough)
    return [round(index * step, 12) for index in range(math.ceil(low / step), math.floor(high / step) + 1)]
