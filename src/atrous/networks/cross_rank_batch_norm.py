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


class Moments(NamedTuple):
    """Moments of every channel over the pixels of a batch.

    Attributes:
        pixels: How many there are, over all images: of all ranks a tensor, which is not waited for.
        mean: [C], float64.
        squares: The sum of squared distances from the mean, [C], float64.
    """

    pixels: int | Tensor
    mean: Tensor
    squares: Tensor

    def of_all_ranks(self) -> Moments:
        """Return the moments of the pixels of all ranks, the same bits on each (Chan, Golub and LeVeque, 1979)."""
        own = torch.cat([self.mean.new_tensor([self.pixels]), self.mean, self.squares])
        every = [torch.empty_like(own) for _ in range(dist.get_world_size())]
        dist.all_gather(every, own)
        channels = len(self.mean)
        pixels, means, squares = torch.split(torch.stack(every), [1, channels, channels], dim=1)
        total = pixels.sum()
        mean = (pixels * means).sum(0) / total
        return Moments(total, mean, (squares + pixels * (means - mean).square()).sum(0))


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
        if not self.is_in_step:
            return super().forward(x_NCHW)
        moments = _moments(x_NCHW.detach()).of_all_ranks()
        self._follow(moments)
        y_NCHW: Tensor = _Normalised.apply(x_NCHW, self.weight, self.bias, moments, self.eps)  # type: ignore[no-untyped-call]
        return y_NCHW

    @torch.no_grad()
    def _follow(self, moments: Moments) -> None:
        assert self.momentum is not None
        variance = moments.squares / (moments.pixels - 1)
        for running, of_batch in ((self.running_mean, moments.mean), (self.running_var, variance)):
            if running is not None:  # in float64, so that the bits are those of the other kernels
                running.copy_((1 - self.momentum) * running.double() + self.momentum * of_batch)
        if self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)


class _Normalised(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_NCHW: Tensor, *parameters: Any) -> Tensor:
        weight, bias, moments, epsilon = parameters
        inverse = (moments.squares / moments.pixels + epsilon).rsqrt()
        centred, mean, inverse = _centred(x_NCHW, moments.mean, inverse)
        ctx.save_for_backward(x_NCHW, weight)
        ctx.pixels, ctx.mean, ctx.inverse = moments.pixels, mean, inverse
        y_NCHW: Tensor = centred * (inverse * weight)[:, None, None] + bias[:, None, None]
        return y_NCHW.to(x_NCHW.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient_NCHW: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:
        x_NCHW, weight = ctx.saved_tensors
        centred, _, inverse = _centred(x_NCHW, ctx.mean, ctx.inverse)
        gradient = gradient_NCHW.to(centred.dtype)
        sums = torch.stack([gradient.sum((0, 2, 3)), (gradient * centred).sum((0, 2, 3))]).double()
        by_bias, by_weight = sums[0].to(weight), (sums[1] * inverse).to(weight)  # of this rank: DDP adds them
        of_gradient, of_products = (over_all_ranks(sums) / ctx.pixels).to(centred.dtype)[:, :, None, None]
        inverse = inverse[:, None, None]
        by_x = (gradient - of_gradient - centred * inverse.square() * of_products) * (inverse * weight[:, None, None])
        return by_x.to(x_NCHW.dtype), by_weight, by_bias, None, None


def _moments(x_NCHW: Tensor) -> Moments:
    x = x_NCHW.to(torch.promote_types(x_NCHW.dtype, torch.float32))
    mean = x.mean((0, 2, 3))
    squares = (x - mean[:, None, None]).square().sum((0, 2, 3))
    return Moments(x.numel() // x.shape[1], mean.double(), squares.double())


def _centred(x_NCHW: Tensor, mean: Tensor, inverse: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The map less its mean, and mean and inverse deviation, in float32, or float64 as the map."""
    x = x_NCHW.to(torch.promote_types(x_NCHW.dtype, torch.float32))
    mean, inverse = mean.to(x.dtype), inverse.to(x.dtype)
    return x - mean[:, None, None], mean, inverse
