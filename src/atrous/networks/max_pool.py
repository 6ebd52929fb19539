"""The max pool behind a ResNet's stem, which keeps little for the backward pass.

PyTorch keeps the pool's input, and for each value its place in a map as an int64: with the papers' stem and a crop of
513 x 513 the second alone takes as much as two maps of that size in bfloat16. A place lies within three rows of its
window's first, so that the distance from there fits an int16; of the input nothing but its shape is read.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from atrous.networks.layers import Padding
from atrous.networks.own_kernels import is_transformed
from atrous.networks.recomputation import recomputes_maps

_KERNEL, _STRIDE = 3, 2
_WIDEST = (2**15 - 3) // 2  # columns, with which the third value of the third row is within an int16


class MaxPool(nn.Module):
    """The 3x3 max pool of stride 2 behind the stem; [N, C, H, W] -> [N, C, ceil(H / 2), ceil(W / 2)].

    Args:
        padding: "same" pads an even size after the map only, as TensorFlow does; "symmetric" pads both sides, as
            torchvision does. Odd sizes come out alike.
    """

    def __init__(self, *, padding: Padding) -> None:
        super().__init__()
        self.padding = padding

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """Return the pooled map."""
        height, width = x_NCHW.shape[-2:]
        if self.padding == "symmetric":
            return _max_pool(x_NCHW, (1, 1), ceil_mode=False)
        # An even size has windows at 0, 2, ..., of which the last hangs over the end: ceil_mode without padding.
        if torch.compiler.is_compiling():  # the pool's own padding must be a number, not a function of the size
            padded_NCHW = F.pad(x_NCHW, (width % 2, 1, height % 2, 1), value=-math.inf)
            return _max_pool(padded_NCHW, (0, 0), ceil_mode=False)
        return _max_pool(x_NCHW, (height % 2, width % 2), ceil_mode=True)


def _max_pool(x_NCHW: Tensor, padding: tuple[int, int], *, ceil_mode: bool) -> Tensor:
    if recomputes_maps() and not is_transformed() and x_NCHW.shape[-1] <= _WIDEST:
        result: Tensor = _PoolOfFewBytes.apply(x_NCHW, padding, ceil_mode)  # type: ignore[no-untyped-call]
        return result
    return F.max_pool2d(x_NCHW, _KERNEL, _STRIDE, padding, ceil_mode=ceil_mode)


class _PoolOfFewBytes(torch.autograd.Function):
    """PyTorch's max pool and its gradient, to the bit; two bytes are kept of a value."""

    @staticmethod
    def forward(ctx: Any, x_NCHW: Tensor, padding: tuple[int, int], ceil_mode: bool) -> Tensor:
        y_NChw, places_NChw = F.max_pool2d(x_NCHW, _KERNEL, _STRIDE, padding, ceil_mode=ceil_mode, return_indices=True)
        starts_hw = _starts(y_NChw, x_NCHW.shape[-1], padding).to(torch.int16)
        # Both wrap around at 2 ** 16, and so their difference, which is small, is right.
        distances_NChw = torch.empty_like(places_NChw, dtype=torch.int16).copy_(places_NChw).sub_(starts_hw)
        ctx.save_for_backward(distances_NChw)
        ctx.shape, ctx.padding, ctx.ceil_mode = x_NCHW.shape, padding, ceil_mode
        ctx.memory_format = (
            torch.channels_last if x_NCHW.is_contiguous(memory_format=torch.channels_last) else torch.contiguous_format
        )
        return y_NChw

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_NChw: Tensor) -> tuple[Tensor, None, None]:
        (distances_NChw,) = ctx.saved_tensors
        places_NChw = distances_NChw.to(torch.int64).add_(_starts(grad_NChw, ctx.shape[-1], ctx.padding))
        grad_NCHW = torch.ops.aten.max_pool2d_with_indices_backward(
            grad_NChw,
            torch.empty(ctx.shape, dtype=grad_NChw.dtype, device=grad_NChw.device, memory_format=ctx.memory_format),
            *((_KERNEL, _KERNEL), (_STRIDE, _STRIDE), ctx.padding, (1, 1), ctx.ceil_mode),
            places_NChw,
        )
        return grad_NCHW, None, None


def _starts(y_NChw: Tensor, width: int, padding: tuple[int, int]) -> Tensor:
    """The place [h, w] of each window's first value in a map of this width; before the map it is below 0."""
    rows_h, columns_w = (
        torch.arange(size, device=y_NChw.device) * _STRIDE - pad
        for size, pad in zip(y_NChw.shape[-2:], padding, strict=True)
    )
    return rows_h[:, None] * width + columns_w
