"""Convolution of stride 1 whose weight gradient on a CPU is a matrix product per tap.

At a high rate most taps fall outside of the map: at rate 18 on 33x33, 60% of the products are with padding, which
oneDNN computes all the same for the weight gradient. At rate 1 it is slow in float32 on maps that are channels last:
10 to 20 GFLOP/s on two cores with AVX2, a quarter of what matrix products reach.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F
from torch.nn.grad import conv2d_input


def pays(conv: nn.Conv2d, x_NCHW: Tensor) -> bool:
    """Whether `atrous_conv2d` is faster: in training, in float32 on a CPU, at a rate above 1 or on a large map."""
    size, rate = conv.kernel_size[0], conv.dilation[0]
    return (
        conv.training
        and size > 1
        and conv.kernel_size == (size, size)
        and conv.dilation == (rate, rate)
        and (rate > 1 or _is_slow_in_onednn(conv, x_NCHW))
        and conv.padding == (rate * (size - 1) // 2,) * 2
        and conv.stride == (1, 1)
        and conv.groups == 1
        and conv.bias is None
        and conv.weight.requires_grad
        and x_NCHW.device.type == "cpu"
        and x_NCHW.dtype == torch.float32
        and torch.is_grad_enabled()
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()
    )


def _is_slow_in_onednn(conv: nn.Conv2d, x_NCHW: Tensor) -> bool:
    """Whether a dense weight gradient takes longer than nine matrix products: measured from 64 channels, 33x33 on."""
    return min(conv.weight.shape[:2]) >= 64 and x_NCHW.shape[-2] * x_NCHW.shape[-1] >= 1024


def atrous_conv2d(x_NCHW: Tensor, weight_OIkk: Tensor, *, rate: int) -> Tensor:
    """Convolve at stride 1, padded to the same size; the result can be differentiated once.

    Args:
        x_NCHW: A map [N, I, H, W].
        weight_OIkk: A square kernel of odd size, [O, I, k, k].
        rate: The atrous rate.

    Returns:
        A map [N, O, H, W].
    """
    y_NOHW: Tensor = _AtrousConv2d.apply(x_NCHW, weight_OIkk, rate)  # type: ignore[no-untyped-call]
    return y_NOHW


class _AtrousConv2d(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_NCHW: Tensor, weight_OIkk: Tensor, rate: int) -> Tensor:
        ctx.save_for_backward(x_NCHW, weight_OIkk)
        ctx.rate = rate
        return F.conv2d(x_NCHW, weight_OIkk, padding=_padding(weight_OIkk, rate), dilation=rate)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient_NOHW: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        x_NCHW, weight_OIkk = ctx.saved_tensors
        by_input = by_weight = None
        if ctx.needs_input_grad[0]:
            padding = _padding(weight_OIkk, ctx.rate)
            by_input = conv2d_input(  # type: ignore[no-untyped-call]
                x_NCHW.shape, weight_OIkk, gradient_NOHW, padding=padding, dilation=ctx.rate
            )
        if ctx.needs_input_grad[1]:
            by_weight = _weight_gradient(x_NCHW, gradient_NOHW, size=weight_OIkk.shape[-1], rate=ctx.rate)
        return by_input, by_weight, None


def _padding(weight_OIkk: Tensor, rate: int) -> int:
    return rate * (weight_OIkk.shape[-1] - 1) // 2


def _weight_gradient(x_NCHW: Tensor, gradient_NOHW: Tensor, *, size: int, rate: int) -> Tensor:
    """The gradient [O, I, k, k]: for every tap, outer products over the pixels whose tap lies inside of the map."""
    x_NHWC, gradient_NHWO = x_NCHW.permute(0, 2, 3, 1), gradient_NOHW.permute(0, 2, 3, 1)
    by_weight_kkOI = x_NCHW.new_zeros(size, size, gradient_NHWO.shape[-1], x_NHWC.shape[-1])
    (_near if rate == 1 else _far)(x_NHWC, gradient_NHWO, by_weight_kkOI, rate)
    return by_weight_kkOI.permute(2, 3, 0, 1)


def _far(x_NHWC: Tensor, gradient_NHWO: Tensor, by_weight_kkOI: Tensor, rate: int) -> None:
    """Crop both maps to where a tap sees the other: few pixels are left, and they are copied."""
    size, _, out_channels, channels = by_weight_kkOI.shape
    for row in range(size):
        rows, seen_rows = _inside(x_NHWC.shape[1], (row - size // 2) * rate)
        for column in range(size):
            columns, seen_columns = _inside(x_NHWC.shape[2], (column - size // 2) * rate)
            at_output = gradient_NHWO[:, rows, columns].reshape(-1, out_channels)
            seen = x_NHWC[:, seen_rows, seen_columns].reshape(-1, channels)
            torch.mm(at_output.T, seen, out=by_weight_kkOI[row, column])


def _near(x_NHWC: Tensor, gradient_NHWO: Tensor, by_weight_kkOI: Tensor, rate: int) -> None:
    """Pad both maps once; in their rows of pixels a tap is then a shift, and nothing is copied for it.

    A shift that leaves a row of pixels, or an image, meets the zeros of the padding.
    """
    size = by_weight_kkOI.shape[0]
    reach = rate * (size // 2)
    width = x_NHWC.shape[2] + 2 * reach
    x_PC, gradient_PO = (
        F.pad(map_NHWC, (0, 0, reach, reach, reach, reach)).flatten(end_dim=2) for map_NHWC in (x_NHWC, gradient_NHWO)
    )
    furthest = reach * (width + 1)
    pixels = slice(furthest, len(x_PC) - furthest)
    for row in range(size):
        for column in range(size):
            shift = rate * ((row - size // 2) * width + column - size // 2)
            seen_PC = x_PC[pixels.start + shift : pixels.stop + shift]
            torch.mm(gradient_PO[pixels].T, seen_PC, out=by_weight_kkOI[row, column])


def _inside(length: int, offset: int) -> tuple[slice, slice]:
    """Positions whose neighbour at `offset` is inside, and those neighbours; both empty where there are none."""
    return slice(max(0, -offset), max(0, length - max(0, offset))), slice(
        max(0, offset), max(0, length + min(0, offset))
    )
