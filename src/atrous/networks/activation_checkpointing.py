"""Activation checkpointing: maps that are dropped after the forward pass and computed again.

In training most of the memory holds maps that only the backward pass reads. A residual unit or a stage of the decoder
that keeps its input alone ("units") needs a fraction of it, for one more forward pass of that part (Chen et al.,
arXiv:1604.06174), and less than that where the outputs of its dearest convolutions are kept as well
(`atrous.networks.dear_outputs`). ASPP and the last stage of the decoder keep the outputs of all dense convolutions: the
backward pass begins with them, so that little would be saved, and they are dear to compute. So do Xception's separable
units, where depthwise convolutions are most of the memory and a small part of the time. To keep the outputs of all
convolutions and make the other maps again ("maps", `atrous.networks.recomputation`) saves half of the maps' memory for
about a tenth more time on a CPU.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from atrous.errors import ConfigError
from atrous.networks.cross_rank_batch_norm import CrossRankBatchNorm2d
from atrous.networks.dear_outputs import DearOutputs
from atrous.networks.held_settings import HeldSettings
from atrous.networks.recomputation import maps_recomputed, recomputes_depthwise

if TYPE_CHECKING:
    from atrous.networks.segmenter import Segmenter

Recomputed = Literal["none", "maps", "units"]


class Checkpointed(nn.Module):
    """A module whose parts can be computed twice to save memory; by default they are not.

    Attributes:
        recomputes: Whether, in training, the maps inside of a part are computed again in the backward pass.
        separable: Whether the parts consist of separable convolutions: then it is enough to keep the outputs of the
            pointwise ones, and nothing dear is computed twice.
    """

    recomputes: bool = False
    separable: bool = False

    def part(self, compute: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
        """Return `compute(*inputs)`, to the same bits and with the same gradients however it is kept.

        Args:
            compute: A module or a method of one; it must not change its inputs.
            *inputs: What it reads.
        """
        if not (self.recomputes and self.training and torch.is_grad_enabled()):
            return compute(*inputs)
        if torch.compiler.is_compiling():  # which computes outputs again, but counts no batch twice
            return checkpoint(compute, *inputs, use_reentrant=False)  # type: ignore[no-any-return]
        owner: Any = getattr(compute, "__self__", compute)
        modules = list(owner.modules())
        norms = [module for module in modules if isinstance(module, nn.modules.batchnorm._BatchNorm)]
        plain = all(type(norm) in (nn.BatchNorm2d, CrossRankBatchNorm2d) for norm in norms)  # others are not made again
        if self.separable and plain and recomputes_depthwise(inputs[0]):
            return compute(*inputs)
        with maps_recomputed(False):
            passes = partial(_passes, norms, HeldSettings(modules))
            result: Tensor = checkpoint(compute, *inputs, use_reentrant=False, context_fn=passes)
        return result


def checkpoint_activations(model: Segmenter, what: Recomputed) -> None:
    """Say what training computes twice from now on; the bits stay the same.

    As any checkpoint of PyTorch's, "units" computes again with the parameters that the network has in the backward
    pass: not those that torch.func.functional_call puts in their place for the forward pass.

    Args:
        model: A network of this package.
        what: "none"; "maps", all but the outputs of convolutions; or "units", also what is inside of residual units
            and of stages of the decoder but its last, dear outputs excepted; elsewhere, and in separable units, the
            outputs of depthwise convolutions.

    Raises:
        ConfigError: `what` is another word.
    """
    if what not in get_args(Recomputed):
        raise ConfigError(f"activation_checkpointing={what!r}: one of {', '.join(get_args(Recomputed))}")
    model.recomputes_maps, model.recomputes_depthwise = what != "none", what == "units"
    for module in model.modules():
        if isinstance(module, Checkpointed):
            module.recomputes = what == "units"


def _passes(
    norms: Sequence[nn.Module], settings: HeldSettings
) -> tuple[AbstractContextManager[Any], AbstractContextManager[Any]]:
    outputs = DearOutputs()
    return outputs.kept(), _SecondPass(norms, settings, outputs)


class _SecondPass(AbstractContextManager[None]):
    """Has batch norms take a batch into account at weight 0, which the first pass has counted, and uses its outputs.

    Strides, rates and modes are those of the first pass.

    It can be entered again: a graph that is kept for another backward pass computes its parts once more.
    """

    def __init__(self, norms: Sequence[Any], settings: HeldSettings, outputs: DearOutputs) -> None:
        self._norms, self._settings, self._outputs, self._entered = norms, settings, outputs, ExitStack()

    def __enter__(self) -> None:
        self._before = [(norm.momentum, norm.num_batches_tracked) for norm in self._norms]
        for norm in self._norms:
            if norm.momentum is not None:
                norm.momentum = 0.0
            # Of a mean over all batches (momentum=None) the next has the weight 1 / infinity.
            norm.num_batches_tracked = torch.tensor(math.inf, device="cpu")
        self._entered.enter_context(self._settings.used())
        self._entered.enter_context(self._outputs.used())

    def __exit__(self, *exception: object) -> None:
        self._entered.close()
        for norm, (momentum, count) in zip(self._norms, self._before, strict=True):
            norm.momentum, norm.num_batches_tracked = momentum, count
