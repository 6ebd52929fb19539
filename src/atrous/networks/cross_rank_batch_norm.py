"""Batch norm whose batch is that of all ranks, for devices on which nn.SyncBatchNorm does not run.

What ranks tell each other is the same whoever computes it, PyTorch here or `atrous.networks.fused_batch_norm`: once in
the forward pass and once in the backward pass, in float64. Machines with and without a compiler can train together.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

_NO_EPSILON = 1e-30  # 1 + it is 1, also in float64; torch 2.11 refuses 0


class Moments(NamedTuple):
    """Moments of every channel over the pixels of a batch.

    Attributes:
        pixels: How many there are, over all images: of all ranks a tensor, which is not waited for.
        values: Their mean, and the sum of squared distances from it, [2, C], float64.
    """

    pixels: int | Tensor
    values: Tensor

    def of_all_ranks(self) -> Moments:
        """Return the moments of the pixels of all ranks, the same bits on each (Chan, Golub and LeVeque, 1979)."""
        own = torch.cat([self.values.new_tensor([self.pixels]), self.values.flatten()])
        every = [torch.empty_like(own) for _ in range(dist.get_world_size())]
        dist.all_gather(every, own)
        channels = self.values.shape[1]
        pixels, means, squares = torch.split(torch.stack(every), [1, channels, channels], dim=1)
        total = pixels.sum()
        mean = (pixels * means).sum(0) / total
        return Moments(total, torch.stack([mean, (squares + pixels * (means - mean).square()).sum(0)]))


def over_all_ranks(sums: Tensor) -> Tensor:
    """Return the sum of a tensor over all ranks."""
    total = sums.clone()
    dist.all_reduce(total)
    return total


class CrossRankBatchNorm2d(nn.BatchNorm2d):
    """BatchNorm2d whose batch is that of all ranks.

    Mean and variance are taken in two passes, so that the result equals one process with the whole batch.
    """

    @property
    def is_in_step(self) -> bool:
        """Whether there are other ranks to be in step with: in training."""
        return self.training and dist.is_initialized() and dist.get_world_size() > 1

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """Normalise; same shape and dtype as the input; differentiable once where there are other ranks."""
        return self.with_statistics(x_NCHW)[0] if self.is_in_step else super().forward(x_NCHW)

    def with_statistics(self, x_NCHW: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return what `forward` does, in step, and mean and inverse deviation of the batch of all ranks, [C] each."""
        moments = _moments(x_NCHW.detach()).of_all_ranks()
        self.follow(moments)
        inverse = (moments.values[1] / moments.pixels + self.eps).rsqrt()
        mean, inverse = (of_channels.to(_exact(x_NCHW)) for of_channels in (moments.values[0], inverse))
        weight = torch.ones_like(mean) if self.weight is None else self.weight
        bias = torch.zeros_like(mean) if self.bias is None else self.bias
        of_batch = moments.pixels, mean, inverse
        y_NCHW: Tensor = _Normalised.apply(x_NCHW, weight, bias, of_batch)  # type: ignore[no-untyped-call]
        return y_NCHW, mean, inverse

    @torch.no_grad()
    def follow(self, moments: Moments) -> None:
        """Have the running statistics follow those of a batch, by the same bits on ranks with other kernels."""
        assert self.momentum is not None
        variance = moments.values[1] / (moments.pixels - 1)
        for running, of_batch in ((self.running_mean, moments.values[0]), (self.running_var, variance)):
            if running is not None:
                running.copy_((1 - self.momentum) * running.double() + self.momentum * of_batch)
        if self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)


def scaled(x_NCHW: Tensor, mean: Tensor, scale: Tensor, bias: Tensor | None) -> Tensor:
    """Return (x - mean) * scale + bias, each [C], by the kernel with which PyTorch normalises in an evaluation."""
    return F.batch_norm(x_NCHW, mean, torch.ones_like(mean), scale, bias, False, 0.0, _NO_EPSILON)


class _Normalised(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_NCHW: Tensor, weight: Tensor, bias: Tensor, of_batch: tuple[Any, Tensor, Tensor]) -> Tensor:
        ctx.save_for_backward(x_NCHW, weight)
        ctx.of_batch = of_batch
        _, mean, inverse = of_batch
        return scaled(x_NCHW, mean, inverse * weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient_NCHW: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        x_NCHW, weight = ctx.saved_tensors
        pixels, mean, inverse = ctx.of_batch
        centred, gradient = x_NCHW - mean[:, None, None], gradient_NCHW.to(mean.dtype)
        sums = torch.stack([gradient.sum((0, 2, 3)), (gradient * centred).sum((0, 2, 3))]).double()
        by_bias, by_weight = sums[0].to(weight), (sums[1] * inverse).to(weight)  # of this rank: DDP adds them
        of_gradient, of_products = (over_all_ranks(sums) / pixels).to(mean.dtype)[:, :, None, None]
        slope = of_products * inverse.square()[:, None, None]
        by_x = (gradient - of_gradient - centred * slope) * (inverse * weight)[:, None, None]
        return by_x.to(x_NCHW.dtype), by_weight, by_bias, None


def _moments(x_NCHW: Tensor) -> Moments:
    x = x_NCHW.to(_exact(x_NCHW))
    pixels = x.numel() // x.shape[1]
    mean = x.sum((0, 2, 3)) / max(1, pixels)  # 0 of a rank that sees nothing
    squares = (x - mean[:, None, None]).square().sum((0, 2, 3))
    return Moments(pixels, torch.stack([mean, squares]).double())


def _exact(x_NCHW: Tensor) -> torch.dtype:
    """In which dtype statistics of a map are computed: float32, or float64 of a map of that."""
    return torch.promote_types(x_NCHW.dtype, torch.float32)
