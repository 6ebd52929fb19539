"""SGD with the released code's parameter groups, and the poly schedule per step."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn
from torch.optim.lr_scheduler import PolynomialLR


def parameter_groups(
    model: nn.Module, *, lr: float, weight_decay: float, bias_lr_multiplier: float
) -> list[dict[str, Any]]:
    """Convolutions with weight decay; batch norm and depthwise convolutions without; biases without and faster.

    Source: the released train_utils.py; the papers are silent.
    """
    decayed, plain, biases = [], [], []
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            if not parameter.requires_grad:
                continue
            if isinstance(module, nn.Conv2d) and name == "bias":
                biases.append(parameter)
            elif isinstance(module, nn.Conv2d) and not _is_depthwise(module):
                decayed.append(parameter)
            else:
                plain.append(parameter)
    groups = [
        {"name": "convolutions", "params": decayed, "lr": lr, "weight_decay": weight_decay},
        {"name": "batch_norm", "params": plain, "lr": lr, "weight_decay": 0.0},
        {"name": "biases", "params": biases, "lr": lr * bias_lr_multiplier, "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def sgd_with_poly(
    groups: Iterable[dict[str, Any]], *, momentum: float, max_steps: int, power: float
) -> tuple[torch.optim.SGD, PolynomialLR]:
    """SGD and lr * (1 - step / max_steps) ** power (DeepLabv3, Section 4.1)."""
    optimizer = torch.optim.SGD(list(groups), momentum=momentum, fused=True)
    for parameter in (each for group in optimizer.param_groups if momentum for each in group["params"]):
        # PyTorch makes it in the first step, and leaves it as the memory was where a gradient scaler skips that step.
        optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter, requires_grad=False)
    optimizer.register_load_state_dict_post_hook(_lay_out_as_parameters)
    return optimizer, PolynomialLR(optimizer, total_iters=max_steps, power=power)


def _lay_out_as_parameters(optimizer: torch.optim.Optimizer) -> None:
    """Bring what was loaded into the parameters' order in memory, in which the fused step reads both.

    A checkpoint may be of a training with another `trainer.channels_last`.
    """
    for parameter, state in optimizer.state.items():
        loaded = state.get("momentum_buffer")
        if loaded is not None and loaded.stride() != parameter.stride():
            state["momentum_buffer"] = torch.empty_like(parameter, requires_grad=False).copy_(loaded)


def _is_depthwise(module: nn.Conv2d) -> bool:
    return module.groups > 1 and module.groups == module.in_channels
