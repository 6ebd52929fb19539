"""Batch norm of a training on a CPU with the sum and the ReLU behind it: `fused_batch_norm.cpp`, compiled once.

PyTorch passes over a map for its mean, for its variance, for the result, for a residual unit's sum and for ReLU, each
time through memory, and once more for ReLU's gradient. Here two passes make the result and two the gradient, with one
more in front of them where ReLU follows a sum. Across ranks the passes are the same, and meet between the two.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from atrous.networks.cpu_kernels import Kernels, is_readable
from atrous.networks.cross_rank_batch_norm import CrossRankBatchNorm2d, Moments, over_all_ranks
from atrous.networks.own_kernels import is_ours_on_cpu
from atrous.networks.recomputation import is_plain

kernels = Kernels(Path(__file__).with_suffix(".cpp"))


def suits(norm: nn.BatchNorm2d, x_NCHW: Tensor) -> bool:
    """Whether `batch_norm` computes what `norm` would: in training, float32 or bfloat16, on a CPU, channels last."""
    return (
        kernels.in_use
        and is_ours_on_cpu(x_NCHW)
        and x_NCHW.dtype in (torch.float32, torch.bfloat16)  # autocast leaves a batch norm's input as it is
        and type(x_NCHW) is Tensor  # none without data
        and type(norm) in (nn.BatchNorm2d, CrossRankBatchNorm2d)
        and is_plain(norm)
        and norm.training
        and norm.momentum is not None
        and norm.affine
        and norm.track_running_stats
        and all(map(is_readable, (norm.weight, norm.bias, norm.running_mean, norm.running_var)))
        and x_NCHW.numel() > x_NCHW.shape[1] > 0  # else PyTorch says what is wrong
        and x_NCHW.shape[1] == norm.num_features
        and x_NCHW.is_contiguous(memory_format=torch.channels_last)
    )


def can_add(x_NCHW: Tensor, plus_NCHW: Tensor) -> bool:
    """Whether `batch_norm` can add another map to what it makes of x."""
    return (
        type(plus_NCHW) is Tensor
        and plus_NCHW.device.type == "cpu"
        and (plus_NCHW.shape, plus_NCHW.dtype) == (x_NCHW.shape, x_NCHW.dtype)
        and plus_NCHW.is_contiguous(memory_format=torch.channels_last)
    )


class InputGradient(NamedTuple):
    """What makes a batch norm's gradient by its input out of the one behind it, for each channel [C].

    With the gradient g in front of ReLU it is scale * g - (slope * (x - mean) + constant).
    """

    mean: Tensor
    slope: Tensor
    constant: Tensor
    scale: Tensor
    shift: Tensor
    relu: bool


class Handover:
    """Has a batch norm leave its gradient by its input to the convolution in front of it.

    In the backward pass the convolution, which has no other reader, then gets the gradient behind the batch norm, and
    here what makes its own out of it.
    """

    def __init__(self) -> None:
        self.left: InputGradient | None = None

    def take(self) -> InputGradient | None:
        """Return what was left, once."""
        left, self.left = self.left, None
        return left


def batch_norm(
    norm: nn.BatchNorm2d,
    x_NCHW: Tensor,
    *,
    relu: bool,
    plus_NCHW: Tensor | None = None,
    handover: Handover | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Normalise by the statistics of the batch, which the running ones follow; differentiable once.

    Args:
        norm: A batch norm that `suits`; across ranks the batch is that of all of them.
        x_NCHW: A map, channels last.
        relu: Whether ReLU follows.
        plus_NCHW: What is added in front of ReLU, a map that it `can_add`, in float32: the sum is rounded once.
        handover: Where the gradient by x is left to the convolution that made x; not with a sum.

    Returns:
        The map, and the scale and shift of every channel that make it again with `scaled`.
    """
    moments, momentum, is_across_ranks = _moments(x_NCHW), float(norm.momentum or 0.0), False
    if isinstance(norm, CrossRankBatchNorm2d) and norm.is_in_step:
        moments, momentum, is_across_ranks = moments.of_all_ranks(), 0.0, True
        norm.follow(moments)
    elif norm.num_batches_tracked is not None:
        norm.num_batches_tracked.add_(1)
    pixels = int(moments.pixels)
    mean, inverse_deviation, scale, shift = (torch.empty_like(norm.weight) for _ in range(4))
    running = norm.running_mean, norm.running_var
    kernels.call(
        "atrous_batch_norm_statistics",
        *(pixels, norm.num_features, moments.values),
        *(norm.weight, norm.bias, float(norm.eps), momentum, *running),
        *(mean, inverse_deviation, scale, shift),
    )
    batch = _Batch(mean, inverse_deviation, scale, shift, relu, pixels, is_across_ranks)
    y_NCHW: Tensor
    if plus_NCHW is None:
        y_NCHW = _BatchNorm.apply(x_NCHW, norm.weight, norm.bias, (batch, handover))  # type: ignore[no-untyped-call]
    else:
        y_NCHW = _BatchNormAndSum.apply(x_NCHW, norm.weight, norm.bias, plus_NCHW, batch)  # type: ignore[no-untyped-call]
    return y_NCHW, scale, shift


def scaled(x_NCHW: Tensor, scale: Tensor, shift: Tensor, *, relu: bool, plus_NCHW: Tensor | None = None) -> Tensor:
    """Return x * scale + shift + plus, with ReLU behind it if wanted: the bits of `batch_norm`."""
    y_NCHW = torch.empty_like(x_NCHW)
    kernels.call("atrous_batch_norm_apply", x_NCHW, plus_NCHW, *_layout(x_NCHW), scale, shift, relu, y_NCHW)
    return y_NCHW


class _Batch(NamedTuple):
    """What a batch says of every channel, [C] each, whether ReLU follows, its pixels and whether ranks share it."""

    mean: Tensor
    inverse_deviation: Tensor
    scale: Tensor
    shift: Tensor
    relu: bool
    pixels: int
    is_across_ranks: bool


class _BatchNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_NCHW: Tensor, weight: Tensor, bias: Tensor, how: tuple[_Batch, Handover | None]) -> Tensor:
        ctx.save_for_backward(x_NCHW)
        ctx.batch, ctx.handover = how
        return scaled(x_NCHW, ctx.batch.scale, ctx.batch.shift, relu=ctx.batch.relu)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient_NCHW: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        (x_NCHW,) = ctx.saved_tensors
        return *_gradients(ctx.batch, x_NCHW, gradient_NCHW, ctx.handover), None


class _BatchNormAndSum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> Tensor:
        x_NCHW, _, _, plus_NCHW, batch = inputs
        y_NCHW = scaled(x_NCHW, batch.scale, batch.shift, relu=batch.relu, plus_NCHW=plus_NCHW)
        ctx.save_for_backward(x_NCHW, *((y_NCHW,) if batch.relu else ()))
        ctx.batch = batch._replace(relu=False)  # of a sum y says where ReLU lets the gradient through, not x
        return y_NCHW

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient_NCHW: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, None]:
        x_NCHW, *activated = ctx.saved_tensors
        if activated:
            gradient_NCHW = torch.ops.aten.threshold_backward(gradient_NCHW, *activated, 0)
        return *_gradients(ctx.batch, x_NCHW, gradient_NCHW), gradient_NCHW, None


def _gradients(
    batch: _Batch, x_NCHW: Tensor, gradient_NCHW: Tensor, handover: Handover | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """By x, or with a handover the one behind the batch norm, by weight and by bias."""
    x_NCHW, gradient_NCHW = (
        map_NCHW.contiguous(memory_format=torch.channels_last) for map_NCHW in (x_NCHW, gradient_NCHW)
    )
    maps = gradient_NCHW, x_NCHW, *_layout(x_NCHW)
    own, (slope, constant, by_weight, by_bias) = _pair(x_NCHW), (torch.empty_like(batch.mean) for _ in range(4))
    kernels.call("atrous_batch_norm_sums", *maps, batch.mean, batch.scale, batch.shift, batch.relu, own)
    sums = over_all_ranks(own) if batch.is_across_ranks else own  # DDP adds the gradients of the parameters itself
    of_channels = batch.pixels, x_NCHW.shape[1], own, sums, batch.inverse_deviation, batch.scale
    kernels.call("atrous_batch_norm_slopes", *of_channels, slope, constant, by_weight, by_bias)
    by_input = InputGradient(batch.mean, slope, constant, batch.scale, batch.shift, batch.relu)
    if handover is not None:
        handover.left = by_input
        return gradient_NCHW, by_weight, by_bias
    by_x = torch.empty_like(x_NCHW)
    kernels.call("atrous_batch_norm_by_input", *maps, *by_input, by_x)
    return by_x, by_weight, by_bias


def _moments(x_NCHW: Tensor) -> Moments:
    of_batch = _pair(x_NCHW)
    kernels.call("atrous_batch_norm_moments", x_NCHW, *_layout(x_NCHW), of_batch)
    return Moments(x_NCHW.numel() // x_NCHW.shape[1], of_batch)


def _pair(x_NCHW: Tensor) -> Tensor:
    """Room for two sums of every channel, [2, C]."""
    return torch.empty(2, x_NCHW.shape[1], dtype=torch.float64, device=x_NCHW.device)  # also under torch.device(...)


def _layout(x_NCHW: Tensor) -> tuple[bool, int, int]:
    """Whether the map is of bfloat16, and its pixels and channels as a matrix."""
    return x_NCHW.dtype == torch.bfloat16, x_NCHW.numel() // x_NCHW.shape[1], x_NCHW.shape[1]
