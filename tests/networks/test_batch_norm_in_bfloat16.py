"""Batch norm and ReLU of bfloat16 maps: what the kernel of float32 computes, rounded once."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from atrous.networks import fused_batch_norm

from .conftest import drawn_norm

pytestmark = pytest.mark.usefixtures("compiled_kernels")


def _map(shape: tuple[int, int, int, int], *, seed: int) -> Tensor:
    x_NCHW = 1 + 2 * torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    return x_NCHW.bfloat16().contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("shape", [(2, 16, 9, 7), (1, 24, 65, 33), (2, 7, 5, 5), (2, 128, 200, 170)])
def test_bfloat16_is_computed_in_float32_and_rounded_once(shape: tuple[int, int, int, int], relu: bool) -> None:
    """The last shape is large enough to be written past the cache."""
    x_NCHW, norm, exact = _map(shape, seed=1).requires_grad_(), drawn_norm(shape[1]), drawn_norm(shape[1])
    gradient = _map(shape, seed=2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert fused_batch_norm.suits(norm, x_NCHW)
        y_NCHW, scale, shift = fused_batch_norm.batch_norm(norm, x_NCHW, relu=relu)
        again_NCHW = fused_batch_norm.scaled(x_NCHW.detach(), scale, shift, relu=relu)
    float_NCHW = x_NCHW.detach().float().requires_grad_()
    wanted_NCHW, *_ = fused_batch_norm.batch_norm(exact, float_NCHW, relu=relu)
    assert torch.equal(y_NCHW, wanted_NCHW.bfloat16())
    assert torch.equal(again_NCHW, y_NCHW)
    found = torch.autograd.grad(y_NCHW, (x_NCHW, norm.weight, norm.bias), gradient)
    wanted = torch.autograd.grad(wanted_NCHW, (float_NCHW, exact.weight, exact.bias), gradient.float())
    assert torch.equal(found[0], wanted[0].bfloat16())
    assert torch.equal(found[1], wanted[1])
    assert torch.equal(found[2], wanted[2])
    for name in ("running_mean", "running_var"):
        assert torch.equal(norm.get_buffer(name), exact.get_buffer(name))


def test_what_is_not_finite_stays_so_in_bfloat16() -> None:
    x_NCHW = torch.tensor([float("nan"), float("inf"), -float("inf"), 1.0, 3.4e38]).view(1, 1, 1, 5).bfloat16()
    x_NCHW = x_NCHW.expand(1, 8, 1, 5).contiguous(memory_format=torch.channels_last)
    y_NCHW = fused_batch_norm.scaled(x_NCHW, torch.full((8,), 2.0), torch.zeros(8), relu=False)
    torch.testing.assert_close(y_NCHW, (x_NCHW.float() * 2).bfloat16(), rtol=0, atol=0, equal_nan=True)
