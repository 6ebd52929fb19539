"""What tests of several networks need."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import nn

from atrous.compiling import cpp_compiler
from atrous.networks import depthwise_gradients, fused_batch_norm, strided_depthwise


def shake(model: nn.Module) -> nn.Module:
    """Give batch norms statistics and weights that are not those of a fresh network."""
    for norm in (module for module in model.modules() if isinstance(module, nn.BatchNorm2d)):
        nn.init.uniform_(norm.get_buffer("running_var"), 0.5, 1.5)
        nn.init.normal_(norm.get_buffer("running_mean"), std=0.1)
        nn.init.uniform_(norm.weight, 0.5, 1.5)
        nn.init.normal_(norm.bias, std=0.1)
    return model


def drawn_norm(channels: int, *, momentum: float = 0.1) -> nn.BatchNorm2d:
    """Return a batch norm whose weights, of both signs, and running means are drawn, the same each time."""
    generator = torch.Generator().manual_seed(0)
    norm = nn.BatchNorm2d(channels, eps=1e-3, momentum=momentum)
    with torch.no_grad():
        for tensor in (norm.weight, norm.bias, norm.get_buffer("running_mean")):
            tensor.copy_(torch.randn(channels, generator=generator))
    return norm


@pytest.fixture(scope="module")
def compiled_kernels() -> Iterator[None]:
    """Has the tests of a module take this package's kernels in C++."""
    if cpp_compiler() is None:
        pytest.skip("there is no C++ compiler")
    modules = (depthwise_gradients, fused_batch_norm, strided_depthwise)
    for module in modules:
        assert module.kernels.use()
    yield
    for module in modules:
        module.kernels.use(False)
