"""Multiply-Adds and parameters of a network: the true count, and the count that the papers print.

The papers' figure is TensorFlow's profiler at 513x513, where a convolution of atrous rate r counts an output whose
sides are rounded up to a multiple of r (space-to-batch computes those too). Only convolutions are counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor, nn

from atrous.networks.dry_run import dry_run


class Complexity(NamedTuple):
    """What one image costs.

    Attributes:
        true: Multiply-Adds of all convolutions.
        paper: Multiply-Adds in the papers' convention; equal to `true` where no rate is above 1.
        parameters: Trainable numbers (batch-norm statistics are none).
    """

    true: int
    paper: int
    parameters: int


def multiply_adds(
    model: nn.Module, *, size: Sequence[int] = (513, 513), scales: Sequence[float] = (1.0,), flip: bool = False
) -> Complexity:
    """Count a network's Multiply-Adds for one image, without computing anything.

    Args:
        model: A network that takes images [1, 3, H, W].
        size: (H, W) in pixels; the papers count at 513x513.
        scales: Of a multi-scale evaluation, whose costs add up; a side of n pixels becomes int((n - 1) * scale + 1).
        flip: Whether every scale is run on the mirror image too.
    """
    sizes = [tuple(int((side - 1) * scale + 1) for side in size) for scale in scales]
    counts = [entry for scaled in sizes for entry in _count(model, size=scaled).values()]
    times = 2 if flip else 1
    return Complexity(
        true=times * sum(true for true, _ in counts),
        paper=times * sum(paper for _, paper in counts),
        parameters=_parameters(model),
    )


def complexity_by_module(
    model: nn.Module, *, size: Sequence[int] = (513, 513), depth: int = 1
) -> dict[str, Complexity]:
    """Count the Multiply-Adds and parameters of every module down to a depth.

    Args:
        model: A network that takes images [1, 3, H, W].
        size: (H, W) in pixels.
        depth: 1 for the network's own parts (backbone, context, decoder, classifier), 2 for theirs, and so on.

    Returns:
        Costs by module name, in the order of the forward pass; they add up to those of the whole.
    """
    counts = _count(model, size=size)
    order = {conv: place for place, conv in enumerate(counts)}
    parts, place = {}, 0
    for name, module in model.named_modules():
        if not name or not _is_shown(model, name, depth):
            continue
        inside = [conv for conv in counts if conv == name or conv.startswith(f"{name}.")]
        if inside or _parameters(module):
            true, paper = (sum(counts[conv][kind] for conv in inside) for kind in (0, 1))
            place = min((order[conv] for conv in inside), default=place)  # a batch norm stays behind its convolution
            parts[name] = place, Complexity(true, paper, _parameters(module))
    return {name: costs for name, (_, costs) in sorted(parts.items(), key=lambda part: part[1][0])}


def _is_shown(model: nn.Module, name: str, depth: int) -> bool:
    """Whether a module is a row: at the wanted depth, or above it without children of its own."""
    level = name.count(".") + 1
    return level == depth or (level < depth and not any(True for _ in model.get_submodule(name).children()))


def _parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _count(model: nn.Module, *, size: Sequence[int]) -> dict[str, tuple[int, int]]:
    """Return (true, paper) by convolution."""
    counts: dict[str, tuple[int, int]] = {}

    def count(name: str, module: nn.Module, output: Tensor) -> None:
        assert isinstance(module, nn.Conv2d)
        per_pixel = module.weight[0].numel() * module.out_channels
        height, width = output.shape[-2:]
        rounded = _round_up(height, module.dilation[0]) * _round_up(width, module.dilation[1])
        counts[name] = per_pixel * height * width, per_pixel * rounded

    dry_run(model, size=size, kinds=(nn.Conv2d,), on_output=count)
    return counts


def _round_up(size: int, multiple: int) -> int:
    return -(-size // multiple) * multiple
