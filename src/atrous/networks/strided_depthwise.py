"""Depthwise 3x3 convolution at stride 2 in bfloat16, whose gradient by the map `strided_depthwise.cpp` computes.

oneDNN has no fast kernel for that one of the three passes: from 128 channels of 257x257 (two images, two cores with
AVX-512's bfloat16) it takes 52 ms where the other two take 2 and 3, and this 11, with the same bits. The sums are of
float32, rounded once, which without bfloat16 in hardware is more than PyTorch does.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from atrous.networks.cpu_kernels import Kernels, is_readable
from atrous.networks.own_kernels import Geometry, dtype_on_cpu, pytorchs_gradients

kernels = Kernels(Path(__file__).with_suffix(".cpp"))


def pays(conv: nn.Conv2d, x_NCHW: Tensor) -> bool:
    """Whether `convolve` can stand for `conv`: in training, in bfloat16 on a CPU, channels last."""
    return (
        kernels.in_use
        and type(x_NCHW) is Tensor  # none without data
        and conv.groups == conv.in_channels == conv.out_channels
        and (conv.kernel_size, conv.stride, conv.dilation) == ((3, 3), (2, 2), (1, 1))
        and conv.padding in ((0, 0), (1, 1))
        and conv.padding_mode == "zeros"
        and conv.bias is None
        and is_readable(conv.weight)
        and conv.training
        and torch.is_grad_enabled()
        and x_NCHW.requires_grad
        and x_NCHW.numel() > 0
        and x_NCHW.dtype == dtype_on_cpu(x_NCHW) == torch.bfloat16
        and x_NCHW.is_contiguous(memory_format=torch.channels_last)
    )


def convolve(conv: nn.Conv2d, x_NCHW: Tensor) -> Tensor:
    """Return `conv(x)`; a second derivative is PyTorch's.

    Args:
        conv: A convolution that `pays`.
        x_NCHW: A map, channels last.
    """
    y_NCHW: Tensor = _Convolution.apply(x_NCHW, conv.weight, int(conv.padding[0]))  # type: ignore[no-untyped-call]
    return y_NCHW


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_NCHW: Tensor, weight_C1kk: Tensor, padding: int) -> Tensor:
        ctx.save_for_backward(x_NCHW, weight_C1kk)
        ctx.padding = padding
        return F.conv2d(x_NCHW, weight_C1kk, stride=2, padding=padding, groups=x_NCHW.shape[1])

    @staticmethod
    def backward(ctx: Any, gradient_NChw: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        x_NCHW, weight_C1kk = ctx.saved_tensors
        weight_C1kk = weight_C1kk.to(x_NCHW.dtype)  # as autocast had it
        geometry = Geometry(2 * (ctx.padding,), (1, 1), (2, 2), groups=x_NCHW.shape[1])
        if torch.is_grad_enabled():
            return *pytorchs_gradients(ctx.needs_input_grad[:2], x_NCHW, weight_C1kk, gradient_NChw, geometry), None
        by_input = by_weight = None
        if ctx.needs_input_grad[0]:
            by_input = _input_gradient(x_NCHW, weight_C1kk, gradient_NChw, padding=ctx.padding)
        if ctx.needs_input_grad[1]:
            _, by_weight = pytorchs_gradients((False, True), x_NCHW, weight_C1kk, gradient_NChw, geometry)
        return by_input, by_weight, None


def _input_gradient(x_NCHW: Tensor, weight_C1kk: Tensor, gradient_NChw: Tensor, *, padding: int) -> Tensor:
    gradient_NChw = gradient_NChw.contiguous(memory_format=torch.channels_last)
    images, channels, rows, columns = x_NCHW.shape
    weight_kkC = weight_C1kk[:, 0].permute(1, 2, 0).to(torch.float32).contiguous()
    by_input_NCHW = torch.empty_like(x_NCHW, memory_format=torch.channels_last)
    kernels.call(
        "atrous_strided_depthwise_by_input",
        *(gradient_NChw, weight_kkC, images, rows, columns, channels, padding),
        *(*gradient_NChw.shape[2:], by_input_NCHW),
    )
    return by_input_NCHW
