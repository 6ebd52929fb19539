"""Multiply-Adds and parameters of a network: the true count, and the count that the papers print.

The papers' figure is TensorFlow's profiler at 513x513, where a convolution of atrous rate r counts an output whose
sides are rounded up to a multiple of r (space-to-batch computes those too). Only convolutions are counted.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn


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


def multiply_adds(model: nn.Module, *, size: Sequence[int] = (513, 513)) -> Complexity:
    """Count a network's Multiply-Adds for one image, without computing anything.

    The forward pass runs on PyTorch's meta device, which only works out shapes. The model itself is not moved, and
    is left in the mode it was in.

    Args:
        model: A network that takes images [1, 3, H, W].
        size: (H, W) in pixels; the papers count at 513x513.
    """
    true = paper = 0

    def count(module: nn.Conv2d, inputs: object, output: Tensor) -> None:
        nonlocal true, paper
        per_pixel = module.weight[0].numel() * module.out_channels
        height, width = output.shape[-2:]
        true += per_pixel * height * width
        paper += per_pixel * _round_up(height, module.dilation[0]) * _round_up(width, module.dilation[1])

    hooks = [module.register_forward_hook(count) for module in model.modules() if isinstance(module, nn.Conv2d)]
    try:
        with _evaluating(model), torch.no_grad():
            state = {name: tensor.detach().to("meta") for name, tensor in model.state_dict(keep_vars=True).items()}
            torch.func.functional_call(model, state, torch.empty(1, 3, *size, device="meta"))
    finally:
        for hook in hooks:
            hook.remove()
    return Complexity(true=true, paper=paper, parameters=sum(p.numel() for p in model.parameters()))


def _round_up(size: int, multiple: int) -> int:
    return -(-size // multiple) * multiple


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Put every module into evaluation mode, and each back into its own afterwards."""
    training = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, mode in training.items():
            module.training = mode
