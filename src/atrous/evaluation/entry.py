"""What an entry of results.json says, for whoever shows it: standard library only."""

from collections.abc import Mapping
from typing import Any


def interval_text(entry: Mapping[str, Any], score: str = "miou", *, form: str = ".1f", unit: str = "") -> str:
    """The confidence interval of a score in percent; empty where there is none.

    Args:
        entry: of results.json.
        score: miou or pixel_accuracy.
        form: of both numbers, as Python writes it.
        unit: behind them.
    """
    interval = (entry.get("confidence") or {}).get(score)
    return f"{100 * interval[0]:{form}} to {100 * interval[1]:{form}}{unit}" if interval else ""


def trimap_points(entry: Mapping[str, Any]) -> list[tuple[float, float]]:
    """(width in pixels, mean IoU) of the bands around outlines that have a pixel; empty where none was counted."""
    boundary = entry.get("boundary") or {}
    pairs = zip(boundary.get("trimap_widths", ()), boundary.get("trimap_miou", ()), strict=True)
    return [(float(width), value) for width, value in pairs if value is not None]
