"""What residual units of every backbone end in: the sum of their last convolution and their shortcut."""

from __future__ import annotations

from functools import partial

from torch import Tensor

from atrous.networks.layers import ConvBatchNorm, SeparableConv
from atrous.networks.normalisation import added
from atrous.networks.recomputation import is_plain, recomputed


def summed(last: ConvBatchNorm | SeparableConv, x_NCHW: Tensor, shortcut_NCHW: Tensor, *, relu: bool = False) -> Tensor:
    """Return `last(x) + shortcut`, what a residual unit ends in, with ReLU behind it if wanted.

    In one pass on a CPU, in which the map `last(x)` is never made; it is where a hook may want to read it.
    """
    if all(map(is_plain, last.modules())):
        y_NCHW: Tensor = last(x_NCHW, relu=relu, plus_NCHW=shortcut_NCHW)
        return y_NCHW
    return recomputed(partial(added, relu=relu), last(x_NCHW), shortcut_NCHW)
