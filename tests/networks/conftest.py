"""What tests of several networks need."""

from __future__ import annotations

from torch import nn


def shake(model: nn.Module) -> nn.Module:
    """Give batch norms statistics and weights that are not those of a fresh network."""
    for norm in (module for module in model.modules() if isinstance(module, nn.BatchNorm2d)):
        nn.init.uniform_(norm.get_buffer("running_var"), 0.5, 1.5)
        nn.init.normal_(norm.get_buffer("running_mean"), std=0.1)
        nn.init.uniform_(norm.weight, 0.5, 1.5)
        nn.init.normal_(norm.bias, std=0.1)
    return model
