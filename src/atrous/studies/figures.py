"""Pictures of what atrous convolution does: DeepLabv3's Figure 4, and a diagram of any network as its Figure 3."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from atrous.files import write_atomically
from atrous.networks.receptive_field import Stage, stages, valid_weights
from atrous.networks.segmenter import Segmenter

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MAP_SIZE = 65  # rows and columns of the map in Figure 4
MAX_RATE = 100
_COLOURS = {1: "#8b5cf6", 4: "#f59e0b", 9: "#0d9488"}
_INK, _SOFT = "#1d2530", "#5b6775"


def draw_figure4(folder: Path) -> Path:
    """Draw the share of positions at which 1, 4 or all 9 weights of a 3x3 filter are valid, by atrous rate.

    Args:
        folder: Where figure4.png is written.

    Returns:
        The picture.
    """
    figure = _figure(7.5, 4.5)
    axes = figure.subplots()
    rates = range(1, MAX_RATE + 1)
    for count, colour in _COLOURS.items():
        shares = [valid_weights(size=MAP_SIZE, rate=rate).get(count, 0.0) for rate in rates]
        label = f"{count} valid weight{'s' if count > 1 else ''}"
        axes.plot(rates, shares, color=colour, linewidth=2.5, label=label)
    axes.set_xlabel("atrous rate")
    axes.set_ylabel("share of positions")
    axes.set_title(f"3x3 filter on a {MAP_SIZE}x{MAP_SIZE} map (DeepLabv3, Figure 4)", color=_INK)
    axes.set_xlim(0, MAX_RATE)
    axes.set_ylim(0, 1.02)
    axes.grid(alpha=0.25)
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    return _save(figure, folder / "figure4.png")


def draw_curves(
    curves: Mapping[str, Sequence[tuple[float, float]]], folder: Path, *, name: str, title: str, x_title: str
) -> Path:
    """Draw mean IoU in percent by the width of a band around the outlines (DeepLabv3+, Figure 5).

    Args:
        curves: (width in pixels, mean IoU in percent), by what was trained; two in a row share a colour,
            the first of them dashed.
        folder: Where the picture is written.
        name: Of the file, without its ending.
        title: Above it.
        x_title: Below it.

    Returns:
        The picture.
    """
    figure = _figure(7.5, 4.5)
    axes = figure.subplots()
    colours = list(_COLOURS.values())
    for place, (label, points) in enumerate(curves.items()):
        style = "--" if place % 2 == 0 else "-"
        colour = colours[(place // 2) % len(colours)]
        axes.plot(*zip(*points, strict=True), style, color=colour, linewidth=2.2, marker="o", markersize=4, label=label)
    axes.set_xlabel(x_title)
    axes.set_ylabel("mean IoU in percent")
    axes.set_title(title, color=_INK)
    axes.grid(alpha=0.25)
    if curves:
        axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    return _save(figure, folder / f"{name}.png")


def draw_diagram(model: Segmenter, folder: Path) -> Path:
    """Draw every unit of a network: the size of its map, its atrous rates and its receptive field.

    Args:
        model: The network, at the output stride to draw; it may lie on the meta device.
        folder: Where diagram.png is written.

    Returns:
        The picture.
    """
    walked = stages(model)
    trunk = [stage for stage in walked if not stage.name.startswith("context.")]
    branches = [stage for stage in walked if stage.name.startswith("context.")]
    figure = _figure(max(8.0, 0.62 * len(walked) + 1.5), 5.2)
    maps, fields = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
    _draw_maps(maps, trunk, branches)
    _draw_fields(fields, walked)
    name = f"{type(model).__name__}, {type(model.backbone).__name__}, output stride {model.output_stride}"
    maps.set_title(
        f"{name}: maps shrink with their stride (above), colours show the atrous rate (below)", color=_INK, loc="left"
    )
    return _save(figure, folder / "diagram.png")


def _draw_maps(axes: Any, trunk: Sequence[Stage], branches: Sequence[Stage]) -> None:
    from matplotlib import colormaps
    from matplotlib.patches import Rectangle

    for place, stage in enumerate([*trunk, *branches]):
        height = 1.0 / stage.stride**0.5
        rate = max(stage.rates, default=1)
        colour = colormaps["viridis"](min(1.0, (rate - 1) ** 0.5 / 5))
        axes.add_patch(Rectangle((place - 0.36, -height / 2), 0.72, height, facecolor=colour, edgecolor="white"))
        axes.text(place, height / 2 + 0.02, f"{stage.stride}", ha="center", va="bottom", color=_INK, fontsize=8)
        label = "" if rate == 1 else f"r{'/'.join(str(r) for r in dict.fromkeys(stage.rates))}"
        axes.text(place, -height / 2 - 0.02, label, ha="center", va="top", color=_SOFT, fontsize=8)
    if branches:
        axes.axvline(len(trunk) - 0.5, color=_SOFT, linestyle=":", linewidth=1)
    axes.set_ylim(-0.55, 0.55)
    axes.set_xlim(-0.8, len(trunk) + len(branches) - 0.2)
    axes.axis("off")


def _draw_fields(axes: Any, walked: Sequence[Stage]) -> None:
    axes.bar(range(len(walked)), [stage.receptive_field for stage in walked], width=0.72, color="#0d9488")
    axes.axhline(513, color="#8b5cf6", linestyle="--", linewidth=1.2)
    axes.text(-0.6, 513, " crop 513", color="#8b5cf6", va="bottom", fontsize=8)
    axes.set_ylabel("receptive field (pixels)")
    axes.set_xticks(range(len(walked)), [_label(stage.name) for stage in walked], rotation=60, ha="right", fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", alpha=0.25)


def _label(name: str) -> str:
    """Return a unit's name in the papers' way of counting: block4/2 for the second unit of block4."""
    first, *rest = name.split(".")
    if first == "context":
        return f"context {rest[1]}" if len(rest) > 1 else "context"
    if first in ("blocks", "units"):
        numbers = [int(number) + 1 for number in rest]
        return f"block{numbers[0]}/{numbers[1]}" if len(numbers) > 1 else f"unit {numbers[0]}"
    return name


def _figure(width: float, height: float) -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=130, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def _save(figure: Figure, path: Path) -> Path:
    write_atomically(path, lambda stream: figure.savefig(stream, format="png"))
    return path
