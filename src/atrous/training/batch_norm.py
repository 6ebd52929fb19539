"""Batch norm's policy: decay by group, frozen for good, in step across ranks."""

import sys
from collections.abc import Iterator, Mapping
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from atrous.errors import ConfigError
from atrous.networks.segmenter import Segmenter

_OF_PYTORCH = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


def batch_norms(module: nn.Module) -> Iterator[nn.BatchNorm2d]:
    """Every batch norm inside of `module`."""
    return (child for child in module.modules() if isinstance(child, nn.modules.batchnorm._BatchNorm))  # type: ignore[misc]


def set_decay(model: Segmenter, *, backbone: float, head: float) -> None:
    """Set the decay of the running statistics; PyTorch's momentum is 1 - decay.

    Args:
        model: a network whose backbone is its attribute `backbone`.
        backbone: decay of the backbone's statistics (paper 0.9997, released code 0.95 on ResNet).
        head: decay of all others.
    """
    for norm in batch_norms(model):
        norm.momentum = 1 - head
    for norm in batch_norms(model.backbone):
        norm.momentum = 1 - backbone


def freeze(model: nn.Module) -> None:
    """Stop statistics and affine parameters; call it again after every `model.train()`, which thaws the statistics."""
    for norm in batch_norms(model):
        norm.eval()
        norm.requires_grad_(False)


def synchronise(model: nn.Module, *, on_cuda: bool) -> nn.Module:
    """Batch norm over the batches of all ranks: PyTorch's kernel on CUDA, ours (on gloo) elsewhere.

    timm's batch norm with its activation stays one; it is timm's own conversion that knows of it on CUDA.

    Args:
        model: the network, of which nothing is changed where it is refused.
        on_cuda: whether its ranks run on GPUs.

    Raises:
        ConfigError: A batch norm that computes something else, which the conversion would leave out.
    """
    timm = sys.modules.get("timm.layers")  # there, if the network holds any of its layers
    with_activation = getattr(timm, "BatchNormAct2d", None)
    norms = list(batch_norms(model))
    kinds: set[Any] = {type(norm) for norm in norms}
    _check(kinds - {with_activation}, on_cuda=on_cuda)
    if on_cuda:
        convert = nn.SyncBatchNorm.convert_sync_batchnorm
        synced: nn.Module = (timm.convert_sync_batchnorm if timm and with_activation in kinds else convert)(model)
        return synced
    for norm in norms:
        if type(norm) is nn.BatchNorm2d:
            norm.__class__ = CrossRankBatchNorm2d
        elif type(norm) is with_activation:
            norm.__class__ = CrossRankBatchNormAct2d
    return model


def _check(kinds: set[type[nn.Module]], *, on_cuda: bool) -> None:
    on_cpu = (nn.BatchNorm2d, CrossRankBatchNorm2d, CrossRankBatchNormAct2d)
    for kind in kinds.difference(_OF_PYTORCH if on_cuda else on_cpu):
        raise ConfigError(
            f"backbone.name: the network has batch norms of {kind.__module__}.{kind.__qualname__}, which cannot be "
            "synchronised over ranks; take trainer.devices=1 and trainer.nodes=1, or another backbone"
        )


class _SumOverRanks(torch.autograd.Function):
    """The sum of a tensor over all ranks, whose gradient is the sum of theirs."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        total = x.detach().clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        total = gradient.contiguous().clone()
        dist.all_reduce(total)
        return total


class CrossRankBatchNorm2d(nn.BatchNorm2d):
    """BatchNorm2d whose batch is that of all ranks, for devices on which nn.SyncBatchNorm does not run.

    Mean and variance are taken in two passes, so that the result equals one process with the whole batch.
    """

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """Normalise; same shape as the input."""
        if not self.training or not dist.is_initialized() or dist.get_world_size() == 1:
            return super().forward(x_NCHW)
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.momentum is not None
        x = x_NCHW.float()
        count = x.new_tensor([x.numel() / x.shape[1]])
        dist.all_reduce(count)
        mean_C: Tensor = _SumOverRanks.apply(x.sum((0, 2, 3))) / count  # type: ignore[no-untyped-call]
        centred = x - mean_C[:, None, None]
        squares_C: Tensor = _SumOverRanks.apply(centred.square().sum((0, 2, 3)))  # type: ignore[no-untyped-call]
        variance_C = squares_C / count
        with torch.no_grad():
            self.running_mean.lerp_(mean_C, self.momentum)
            self.running_var.lerp_(variance_C * count / (count - 1), self.momentum)
            if self.num_batches_tracked is not None:
                self.num_batches_tracked.add_(1)
        y: Tensor = centred * torch.rsqrt(variance_C + self.eps)[:, None, None]
        return (y * self.weight[:, None, None] + self.bias[:, None, None]).to(x_NCHW.dtype)


class CrossRankBatchNormAct2d(CrossRankBatchNorm2d):
    """The same for timm's BatchNormAct2d, which drops and activates what it has normalised."""

    drop: nn.Module
    act: nn.Module

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """Normalise, drop and activate; same shape as the input."""
        y_NCHW: Tensor = self.act(self.drop(super().forward(x_NCHW)))
        return y_NCHW


def warning_of_parts(recipe: Mapping[str, Any], accumulate: int) -> str | None:
    """What is to be said where a batch comes in parts and batch norm sees one at a time; None where it does not matter.

    Args:
        recipe: the config's `recipe`.
        accumulate: parts of a batch.
    """
    if accumulate == 1 or recipe["batch_norm"]["frozen"]:
        return None
    size = recipe["batch_size"]
    return (
        f"trainer.accumulate={accumulate}: batch norm sees {size // accumulate} images at once, not the {size} of "
        "recipe.batch_size, and scores can be lower; with trained weights, recipe.batch_norm.frozen=true does not "
        "depend on it"
    )
