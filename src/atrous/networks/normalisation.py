"""Batch norm, with a sum and ReLU behind it, whose map is made again in the backward pass rather than kept.

On a CPU a training takes `atrous.networks.fused_batch_norm` where that is in use, and PyTorch's kernels elsewhere.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional as F

from atrous.networks import depthwise_gradients, fused_batch_norm
from atrous.networks.cross_rank_batch_norm import CrossRankBatchNorm2d, scaled
from atrous.networks.fused_batch_norm import Handover
from atrous.networks.held_settings import as_set_now
from atrous.networks.recomputation import convolved, is_plain, recomputed, recomputes_depthwise, recomputes_maps


def convolved_and_normalised(
    conv: nn.Conv2d, norm: nn.BatchNorm2d, x_NCHW: Tensor, *, relu: bool, plus_NCHW: Tensor | None = None
) -> Tensor:
    """Return `norm(conv(x))`, with ReLU behind it if wanted; what can be made again is, as `maps_recomputed` says.

    Args:
        conv: A convolution.
        norm: The batch norm behind it.
        x_NCHW: A map.
        relu: Whether ReLU follows.
        plus_NCHW: What is added in front of ReLU, or None.
    """
    if plus_NCHW is not None:
        return _normalised_and_added(norm, convolved(conv, x_NCHW), plus_NCHW, relu=relu)
    if not depthwise_gradients.suits(conv, norm, x_NCHW):
        return normalised(norm, convolved(conv, x_NCHW), relu=relu)
    handover = Handover()

    def convolve(x_NCHW: Tensor) -> Tensor:
        return depthwise_gradients.convolve(conv, x_NCHW, handover)

    again = recomputes_depthwise(x_NCHW)
    y_NCHW = recomputed(convolve, x_NCHW, again=as_set_now(conv)) if again else convolve(x_NCHW)
    return normalised(norm, y_NCHW, relu=relu, handover=handover)


def normalised(norm: nn.BatchNorm2d, x_NCHW: Tensor, *, relu: bool, handover: Handover | None = None) -> Tensor:
    """Return `norm(x)`, with ReLU behind it if wanted; the map is kept where `norm` is not PyTorch's alone.

    Args:
        norm: A batch norm. In the backward pass it normalises again with the statistics of the batch, or its own where
            it is frozen.
        x_NCHW: A map.
        relu: Whether ReLU follows.
        handover: What the convolution that made x, if it is another's than PyTorch's, takes its gradient from.
    """
    if not is_plain(norm):  # a hook that has read the map wants it as it was
        own_NCHW: Tensor = norm(x_NCHW)
        return F.relu(own_NCHW) if relu else own_NCHW
    if fused_batch_norm.suits(norm, x_NCHW):
        return _normalised_at_once(norm, x_NCHW, relu=relu, handover=handover)
    if not _is_known(norm):  # nor is there one left in a prepared network
        other_NCHW: Tensor = norm(x_NCHW)
        return F.relu(other_NCHW, inplace=True) if relu else other_NCHW
    # What it has now: torch.func.functional_call puts others in its place for the forward pass alone.
    weight, bias, eps, running = norm.weight, norm.bias, norm.eps, (norm.running_mean, norm.running_var)
    frozen = not norm.training and running[0] is not None
    statistics: list[Tensor] = []

    def forward(x_NCHW: Tensor) -> Tensor:
        y_NCHW, statistics[:] = _with_statistics(norm, x_NCHW)
        return F.relu(y_NCHW, inplace=True) if relu else y_NCHW

    def again(x_NCHW: Tensor) -> Tensor:
        if statistics:
            mean, inverse_deviation = statistics
            y_NCHW = scaled(x_NCHW, mean, inverse_deviation * (1 if weight is None else weight), bias)
        else:
            mean_and_variance = running if frozen else (None, None)
            y_NCHW = F.batch_norm(x_NCHW, *mean_and_variance, weight, bias, not frozen, 0.0, eps)
        return F.relu(y_NCHW, inplace=True) if relu else y_NCHW

    return recomputed(forward, x_NCHW, again=again)


def _normalised_at_once(
    norm: nn.BatchNorm2d, *maps_NCHW: Tensor, relu: bool, handover: Handover | None = None
) -> Tensor:
    """Of one map, or of one to which another is added."""
    factors: list[Tensor] = []

    def forward(x_NCHW: Tensor, plus_NCHW: Tensor | None = None) -> Tensor:
        how: dict[str, Any] = {"relu": relu, "plus_NCHW": plus_NCHW, "handover": handover}
        y_NCHW, scale, shift = fused_batch_norm.batch_norm(norm, x_NCHW, **how)
        factors[:] = scale, shift
        return y_NCHW

    def again(x_NCHW: Tensor, plus_NCHW: Tensor | None = None) -> Tensor:
        scale, shift = factors
        return fused_batch_norm.scaled(x_NCHW, scale, shift, relu=relu, plus_NCHW=plus_NCHW)

    return recomputed(forward, *maps_NCHW, again=again)


def _normalised_and_added(norm: nn.BatchNorm2d, x_NCHW: Tensor, plus_NCHW: Tensor, *, relu: bool) -> Tensor:
    if fused_batch_norm.suits(norm, x_NCHW) and fused_batch_norm.can_add(x_NCHW, plus_NCHW):
        return _normalised_at_once(norm, x_NCHW, plus_NCHW, relu=relu)

    def add(y_NCHW: Tensor, plus_NCHW: Tensor) -> Tensor:
        if y_NCHW is x_NCHW or y_NCHW.dtype != torch.result_type(y_NCHW, plus_NCHW):  # no norm, or another's dtype
            return added(y_NCHW, plus_NCHW, relu=relu)
        sum_NCHW = y_NCHW.add_(plus_NCHW)  # one map less in memory: nobody else has the batch norm's
        return F.relu(sum_NCHW, inplace=True) if relu else sum_NCHW

    return recomputed(add, normalised(norm, x_NCHW, relu=False), plus_NCHW, again=partial(added, relu=relu))


def added(residual_NCHW: Tensor, shortcut_NCHW: Tensor, *, relu: bool) -> Tensor:
    """Return what a residual unit ends in: the sum, with ReLU behind it if wanted."""
    sum_NCHW = residual_NCHW + shortcut_NCHW
    return F.relu(sum_NCHW, inplace=True) if relu else sum_NCHW


def _is_known(norm: nn.Module) -> bool:
    """Whether what a batch norm makes can be made again: by PyTorch's alone, or with the statistics of all ranks."""
    if isinstance(norm, nn.SyncBatchNorm):
        return not norm.training or (norm.momentum is not None and norm.running_mean is not None)
    return type(norm) in (nn.BatchNorm2d, CrossRankBatchNorm2d)


def _with_statistics(norm: nn.BatchNorm2d, x_NCHW: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Return `norm(x)`, and mean and inverse deviation of the batch where it can be made again with them."""
    if not (recomputes_maps() and norm.training):
        return norm(x_NCHW), ()
    if isinstance(norm, CrossRankBatchNorm2d) and norm.is_in_step:
        y_NCHW, *statistics = norm.with_statistics(x_NCHW)
        return y_NCHW, tuple(statistics)
    if isinstance(norm, nn.SyncBatchNorm):
        return _synchronised(norm, x_NCHW)
    y_NCHW = norm(x_NCHW)
    return y_NCHW, _statistics_of_batch(y_NCHW)


def _synchronised(norm: nn.SyncBatchNorm, x_NCHW: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Have it take the statistics of all ranks for the running ones, to read them, and let those follow as it would.

    Ranks have batches of one size.
    """
    own, momentum = (norm.get_buffer("running_mean"), norm.get_buffer("running_var")), norm.momentum or 0.0
    of_batch = [torch.zeros_like(running) for running in own]
    norm.running_mean, norm.running_var = of_batch
    norm.momentum = 1.0
    try:
        y_NCHW: Tensor = norm(x_NCHW)
    finally:
        (norm.running_mean, norm.running_var), norm.momentum = own, momentum
    with torch.no_grad():
        for running, value in zip(own, of_batch, strict=True):
            running.lerp_(value, momentum)
        mean, unbiased = of_batch
        ranks = dist.get_world_size(norm.process_group) if dist.is_initialized() else 1
        pixels = ranks * x_NCHW.numel() // x_NCHW.shape[1]
        return y_NCHW, (mean, (unbiased * ((pixels - 1) / pixels) + norm.eps).rsqrt())


def _statistics_of_batch(y_NCHW: Tensor) -> tuple[Tensor, ...]:
    """Mean and inverse deviation that batch norm found on a CPU; none where it did not, or on another device.

    PyTorch's CPU kernel computes x * scale + (bias - mean * scale), whoever brings the statistics: with them the map is
    made again to the bit, without another two passes over its input.
    """
    if y_NCHW.device.type != "cpu":
        return ()
    node = y_NCHW.grad_fn
    if node is None or node.name() != "NativeBatchNormBackward0":
        return ()
    with torch.no_grad():
        return tuple(getattr(node, f"_saved_result{index}").detach() for index in (1, 2))
