"""Depthwise 3x3 convolution at rate 1 whose gradients take in the batch norm behind it: `depthwise_gradients.cpp`.

The gradient in front of the batch norm is a map that both gradients of the convolution read. Made row by row between
them, it is never written, and both are one pass.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from atrous.networks import fused_batch_norm
from atrous.networks.cpu_kernels import Kernels, is_readable
from atrous.networks.fused_batch_norm import Handover
from atrous.networks.own_kernels import Geometry, computes_in_float32_on_cpu, pytorchs_gradients
from atrous.networks.recomputation import is_plain

kernels = Kernels(Path(__file__).with_suffix(".cpp"))


def suits(conv: nn.Conv2d, norm: nn.BatchNorm2d, x_NCHW: Tensor) -> bool:
    """Whether `convolve` can stand for `conv` in front of `norm`: in training, in float32 on a CPU, channels last."""
    return (
        isinstance(conv, nn.Conv2d)  # a prepared network has others
        and kernels.in_use
        and is_plain(conv)  # else its output may have other readers
        and conv.groups == conv.in_channels == conv.out_channels
        and conv.in_channels % 8 == 0
        and conv.kernel_size == (3, 3)
        and conv.stride == conv.dilation == conv.padding == (1, 1)
        and conv.padding_mode == "zeros"
        and conv.bias is None
        and conv.weight.requires_grad
        and is_readable(conv.weight)
        and x_NCHW.requires_grad
        and torch.is_grad_enabled()
        and computes_in_float32_on_cpu(x_NCHW)
        and fused_batch_norm.suits(norm, x_NCHW)
    )


def convolve(conv: nn.Conv2d, x_NCHW: Tensor, handover: Handover) -> Tensor:
    """Return `conv(x)`; differentiable once.

    Args:
        conv: A convolution that `suits`.
        x_NCHW: A map, channels last.
        handover: What the batch norm that reads the result, and nothing else does, leaves its gradient in.
    """
    y_NCHW: Tensor = _DepthwiseConv.apply(x_NCHW, conv.weight, conv, handover)  # type: ignore[no-untyped-call]
    return y_NCHW


class _DepthwiseConv(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_NCHW: Tensor, weight_C1kk: Tensor, conv: nn.Conv2d, handover: Handover) -> Tensor:
        y_NCHW: Tensor = conv(x_NCHW)
        ctx.save_for_backward(x_NCHW, weight_C1kk, y_NCHW)
        ctx.handover = handover
        return y_NCHW

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient_NCHW: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        x_NCHW, weight_C1kk, y_NCHW = ctx.saved_tensors
        left = ctx.handover.take()
        if left is None:  # its batch norm was left to PyTorch
            geometry = Geometry((1, 1), (1, 1), groups=x_NCHW.shape[1])
            gradients = pytorchs_gradients((True, True), x_NCHW, weight_C1kk, gradient_NCHW, geometry)
            return *gradients, None, None
        gradient_NCHW, y_NCHW, x_NCHW = (  # hooks on saved tensors may have moved them
            map_NCHW.contiguous(memory_format=torch.channels_last) for map_NCHW in (gradient_NCHW, y_NCHW, x_NCHW)
        )
        images, channels, rows, columns = x_NCHW.shape
        by_x, by_weight = torch.empty_like(x_NCHW), torch.empty_like(weight_C1kk)
        kernels.call(
            "atrous_depthwise_gradients",
            *(gradient_NCHW, y_NCHW, x_NCHW, images, rows, columns, channels, weight_C1kk),
            *(*left, by_x, by_weight),
        )
        return by_x, by_weight, None, None
