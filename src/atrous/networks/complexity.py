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
    counts = [entry for scaled in sizes for entry in _count(model, size=scaled)]
    times = 2 if flip else 1
    return Complexity(
        true=times * sum(true for true, _ in counts),
        paper=times * sum(paper for _, paper in counts),
        parameters=sum(parameter.numel() for parameter in model.parameters()),
    )


def _count(model: nn.Module, *, size: Sequence[int]) -> list[tuple[int, int]]:
    """Return (true, paper) of every convolution."""
    counts: list[tuple[int, int]] = []

    def count(_: str, module: nn.Module, output: Tensor) -> None:
        assert isinstance(module, nn.Conv2d)
        per_pixel = module.weight[0].numel() * module.out_channels
        height, width = output.shape[-2:]
        rounded = _round_up(height, module.dilation[0]) * _round_up(width, module.dilation[1])
        counts.append((per_pixel * height * width, per_pixel * rounded))

    dry_run(model, size=size, kinds=(nn.Conv2d,), on_output=count)
    return counts


def _round_up(size: int, multiple: int) -> int:
    return -(-size // multiple) * multiple
