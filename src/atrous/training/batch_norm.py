"""Batch norm's policy: decay by group, frozen for good, in step across ranks."""

import sys
from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor, nn

from atrous.errors import ConfigError
from atrous.networks.cross_rank_batch_norm import CrossRankBatchNorm2d
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
