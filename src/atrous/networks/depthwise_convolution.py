"""Depthwise atrous convolution on a CPU, tap by tap: a product with a vector of channels for each tap of the kernel.

oneDNN has fast depthwise kernels for rate 1, and forward up to rate 4. Others go through a slow path: 75 to 160 ms for
each of the three passes over 2048 channels of 33x33 (batch 2, channels last, two cores with AVX2), where tap by tap
takes 2 to 13 ms. At a high rate most taps lie outside of the map and cost nothing. In bfloat16 its slow path takes 30
to 130 ms (two cores with AVX-512's bfloat16); tap by tap computes in float32, image by image, in the same time as above
and more exactly: what leaves it is rounded once, and the gradient of the kernel not at all.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from atrous.networks.own_kernels import Geometry, dtype_on_cpu, pytorchs_gradients
from atrous.networks.tap_products import inside

Rates = tuple[int, ...]  # of rows and of columns

_FAST_FORWARD = 4  # the highest rate of oneDNN's fast forward kernel
_DTYPES = (torch.float32, torch.bfloat16)
_FEW_CHANNELS = 64  # below, the calls of nine taps take longer than what they compute


def pays(conv: nn.Conv2d, x_NCHW: Tensor) -> bool:
    """Whether `depthwise_conv2d` is faster: a depthwise kernel at a rate, float32 or bfloat16, channels last, a CPU."""
    size, (rows, columns) = conv.kernel_size[0], conv.dilation
    differentiated = conv.training and torch.is_grad_enabled()
    return (
        conv.groups == conv.in_channels == conv.out_channels >= _FEW_CHANNELS
        and size % 2 == 1
        and conv.kernel_size == (size, size)
        and max(rows, columns) > (1 if differentiated else _FAST_FORWARD)
        and conv.padding == (rows * (size // 2), columns * (size // 2))
        and conv.padding_mode == "zeros"
        and conv.stride == (1, 1)
        and conv.bias is None
        and dtype_on_cpu(x_NCHW) in _DTYPES
        and x_NCHW.is_contiguous(memory_format=torch.channels_last)  # which vmap does not know
    )


def depthwise_conv2d(x_NCHW: Tensor, weight_C1kk: Tensor, *, rates: Rates) -> Tensor:
    """Convolve each channel by itself at stride 1, padded to the same size; a second derivative is PyTorch's.

    Args:
        x_NCHW: A map [N, C, H, W], fast where it is channels last.
        weight_C1kk: A square kernel of odd size for each channel, [C, 1, k, k].
        rates: The atrous rates of rows and columns.

    Returns:
        A map [N, C, H, W], channels last, in the dtype that PyTorch's convolution returns (autocast counts).
    """
    y_NCHW: Tensor = _DepthwiseConv2d.apply(x_NCHW, weight_C1kk, rates)  # type: ignore[no-untyped-call]
    return y_NCHW


class _DepthwiseConv2d(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_NCHW: Tensor, weight_C1kk: Tensor, rates: Rates) -> Tensor:
        ctx.save_for_backward(x_NCHW, weight_C1kk)
        ctx.rates = rates
        if max(rates) > _FAST_FORWARD:
            return _by_taps(x_NCHW, weight_C1kk, rates, dtype=dtype_on_cpu(x_NCHW) or x_NCHW.dtype)
        reach = weight_C1kk.shape[-1] // 2
        padding = rates[0] * reach, rates[1] * reach
        return F.conv2d(x_NCHW, weight_C1kk, padding=padding, dilation=rates, groups=x_NCHW.shape[1])

    @staticmethod
    def backward(ctx: Any, gradient_NCHW: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        x_NCHW, weight_C1kk = ctx.saved_tensors
        if torch.is_grad_enabled():
            padding = [rate * (weight_C1kk.shape[-1] // 2) for rate in ctx.rates]
            geometry = Geometry(padding, ctx.rates, groups=x_NCHW.shape[1])
            maps = _in_one_dtype(x_NCHW, weight_C1kk, gradient_NCHW)
            return *pytorchs_gradients(ctx.needs_input_grad[:2], *maps, geometry), None
        by_input = by_weight = None
        if ctx.needs_input_grad[0]:  # where tap (i, j) wrote, the mirrored tap reads
            by_input = _by_taps(gradient_NCHW, weight_C1kk.flip(2, 3), ctx.rates, dtype=x_NCHW.dtype)
        if ctx.needs_input_grad[1]:
            by_weight = _weight_gradient(x_NCHW, gradient_NCHW, size=weight_C1kk.shape[-1], rates=ctx.rates)
        return by_input, by_weight, None


def _in_one_dtype(x_NCHW: Tensor, weight_C1kk: Tensor, gradient_NCHW: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """What autocast would have given PyTorch's convolution: the map and the kernel in the dtype of the output."""
    return x_NCHW.to(gradient_NCHW.dtype), weight_C1kk.to(gradient_NCHW.dtype), gradient_NCHW


def _by_taps(x_NCHW: Tensor, weight_C1kk: Tensor, rates: Rates, *, dtype: torch.dtype) -> Tensor:
    exact = _exact(dtype)
    x_NHWC, weight_kkC = x_NCHW.permute(0, 2, 3, 1), weight_C1kk[:, 0].permute(1, 2, 0).to(exact).contiguous()
    middle = weight_kkC.shape[0] // 2
    y_NHWC = torch.empty(x_NHWC.shape, dtype=dtype, device=x_NHWC.device)
    for x_HWC, y_HWC in zip(x_NHWC, y_NHWC, strict=True):  # one image at a time, which stays in the cache
        exact_x_HWC, sum_HWC = x_HWC.to(exact), y_HWC if dtype == exact else torch.empty_like(y_HWC, dtype=exact)
        torch.mul(exact_x_HWC, weight_kkC[middle, middle], out=sum_HWC)
        for row, column, here, seen in _taps(x_HWC.shape[:2], weight_kkC.shape[0], rates):
            if (row, column) != (middle, middle):
                sum_HWC[here].addcmul_(exact_x_HWC[seen], weight_kkC[row, column])
        if sum_HWC is not y_HWC:
            y_HWC.copy_(sum_HWC)
    return y_NHWC.permute(0, 3, 1, 2)


def _weight_gradient(x_NCHW: Tensor, gradient_NCHW: Tensor, *, size: int, rates: Rates) -> Tensor:
    """The gradient [C, 1, k, k]: for every tap, products summed over the pixels whose tap lies inside of the map."""
    x_NHWC, gradient_NHWC = x_NCHW.permute(0, 2, 3, 1), gradient_NCHW.permute(0, 2, 3, 1)
    exact = _exact(x_NCHW.dtype)
    by_weight_kkC = torch.zeros(size, size, x_NHWC.shape[-1], dtype=exact, device=x_NHWC.device)
    for x_HWC, gradient_HWC in zip(x_NHWC, gradient_NHWC, strict=True):
        exact_x_HWC, exact_gradient_HWC = x_HWC.to(exact), gradient_HWC.to(exact)
        for row, column, here, seen in _taps(x_HWC.shape[:2], size, rates):
            by_weight_kkC[row, column] += (exact_gradient_HWC[here] * exact_x_HWC[seen]).sum((0, 1))
    return by_weight_kkC.permute(2, 0, 1)[:, None]


def _exact(dtype: torch.dtype) -> torch.dtype:
    """In which dtype the taps are summed."""
    return torch.promote_types(dtype, torch.float32)


_Region = tuple[slice, slice]


def _taps(shape: torch.Size, size: int, rates: Rates) -> Iterator[tuple[int, int, _Region, _Region]]:
    """The taps that lie inside of the map for some pixel: row, column, those pixels, and what they see."""
    for row in range(size):
        rows, seen_rows = inside(shape[0], shape[0], (row - size // 2) * rates[0])
        for column in range(size):
            columns, seen_columns = inside(shape[1], shape[1], (column - size // 2) * rates[1])
            if rows.start < rows.stop and columns.start < columns.stop:
                yield row, column, (rows, columns), (seen_rows, seen_columns)
