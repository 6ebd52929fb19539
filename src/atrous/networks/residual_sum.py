"""What residual units of every backbone end in: the sum of their last convolution and their shortcut."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from atrous.networks.layers import ConvBatchNorm, SeparableConv
from atrous.networks.normalisation import added
from atrous.networks.recomputation import is_plain, recomputed


def summed(last: nn.Module, x_NCHW: Tensor, shortcut_NCHW: Tensor, *, relu: bool = False) -> Tensor:
    """Return `last(x) + shortcut`, what a residual unit ends in, with ReLU behind it if wanted.

    A training on a CPU does it together with the last batch norm (`atrous.networks.fused_batch_norm`), without a map of
    `last(x)`, which a hook would want to read.
    """
    if _is_read_by_nobody(last):
        y_NCHW: Tensor = last(x_NCHW, relu=relu, plus_NCHW=shortcut_NCHW)
        return y_NCHW
    return recomputed(partial(added, relu=relu), last(x_NCHW), shortcut_NCHW)


def _is_read_by_nobody(last: nn.Module) -> bool:
    """Whether `last` ends in a batch norm whose map only the sum reads; while compiling that is not asked for."""
    brick = last.pointwise if isinstance(last, SeparableConv) else last
    return (
        not torch.compiler.is_compiling()
        and isinstance(brick, ConvBatchNorm)
        and brick.activation == "none"
        and all(map(is_plain, last.modules()))
    )
