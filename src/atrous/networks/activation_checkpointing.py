"""Activation checkpointing: parts of a network whose maps are dropped after the forward pass and computed again.

In training most of the memory holds maps that only the backward pass reads. A residual unit or a stage of the decoder
that keeps its input alone needs a fraction of it, for one more forward pass of that part (Chen et al.,
arXiv:1604.06174). ASPP keeps its maps: at the output stride they are small, and dear to compute.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


class Checkpointed(nn.Module):
    """A module whose parts can be computed twice to save memory; by default they are not.

    Attributes:
        recomputes: Whether, in training, the maps inside of a part are computed again in the backward pass.
    """

    recomputes: bool = False

    def part(self, compute: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
        """Return `compute(*inputs)`, to the same bits and with the same gradients however it is kept.

        Args:
            compute: A module or a method of one; it must not change its inputs.
            *inputs: What it reads.
        """
        if not (self.recomputes and self.training and torch.is_grad_enabled()):
            return compute(*inputs)
        owner: Any = getattr(compute, "__self__", compute)
        norms = [module for module in owner.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
        result: Tensor = checkpoint(compute, *inputs, use_reentrant=False, context_fn=partial(_passes, norms))
        return result


def checkpoint_activations(model: nn.Module, *, enabled: bool = True) -> int:
    """Let every backbone and decoder of `model` compute its parts twice, or no longer.

    Args:
        model: A network of this package.
        enabled: Whether from now on.

    Returns:
        The number of modules that do; 0 for a network without such parts.
    """
    modules = [module for module in model.modules() if isinstance(module, Checkpointed)]
    for module in modules:
        module.recomputes = enabled
    return len(modules)


def _passes(norms: Sequence[nn.Module]) -> tuple[AbstractContextManager[Any], AbstractContextManager[Any]]:
    return nullcontext(), _statistics_kept(norms)


@contextmanager
def _statistics_kept(norms: Sequence[Any]) -> Iterator[None]:
    """Have batch norms take a batch into account at weight 0: the first pass has counted it."""
    before = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
        norm.num_batches_tracked = torch.zeros((), dtype=torch.long)
    try:
        yield
    finally:
        for norm, (momentum, count) in zip(norms, before, strict=True):
            norm.momentum, norm.num_batches_tracked = momentum, count
