"""The max pool that keeps two bytes of a value, against PyTorch's, to the bit."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.nn import functional as F

from atrous.networks.layers import Padding
from atrous.networks.max_pool import _WIDEST, MaxPool
from atrous.networks.recomputation import maps_recomputed


def _pytorch(padding: Padding, x_NCHW: Tensor) -> Tensor:
    if padding == "symmetric":
        return F.max_pool2d(x_NCHW, 3, 2, 1)
    height, width = x_NCHW.shape[-2:]
    padded_NCHW = F.pad(x_NCHW, (width % 2, 1, height % 2, 1), value=float("-inf"))  # SAME, as TensorFlow has it
    return F.max_pool2d(padded_NCHW[..., : 2 * ((height + 1) // 2) + 1, : 2 * ((width + 1) // 2) + 1], 3, 2)


def _result_and_gradient(pool: Callable[[Tensor], Tensor], x_NCHW: Tensor) -> tuple[Tensor, Tensor]:
    x_NCHW = x_NCHW.clone().requires_grad_()
    y_NChw = pool(x_NCHW)
    weights = torch.randn(y_NChw.shape, generator=torch.Generator().manual_seed(1)).to(x_NCHW.dtype)
    (gradient_NCHW,) = torch.autograd.grad(y_NChw, x_NCHW, weights)
    return y_NChw.detach(), gradient_NCHW


@pytest.mark.parametrize("padding", ["same", "symmetric"])
@pytest.mark.parametrize("size", [(9, 13), (8, 12), (9, 12), (3, 3), (2, 2), (1, 1)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_result_and_gradient_are_pytorchs_where_maps_are_made_again(
    padding: Padding, size: tuple[int, int], dtype: torch.dtype, memory_format: torch.memory_format
) -> None:
    x_NCHW = torch.randn(2, 16, *size, generator=torch.Generator().manual_seed(0)).to(dtype)
    x_NCHW = (x_NCHW * 2).round().to(memory_format=memory_format)  # many values are alike: which counts is PyTorch's
    expected = _result_and_gradient(lambda x: _pytorch(padding, x), x_NCHW)
    with maps_recomputed():
        found = _result_and_gradient(MaxPool(padding=padding), x_NCHW)
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))
    assert found[1].is_contiguous(memory_format=memory_format)


@pytest.mark.parametrize("width", [_WIDEST, _WIDEST + 1, 2**15 + 2])
def test_in_a_wide_map_the_last_value_of_a_window_is_found_again(width: int) -> None:
    x_NCHW = torch.arange(3.0 * width).reshape(1, 1, 3, width)
    expected = _result_and_gradient(lambda x: F.max_pool2d(x, 3, 2, 1), x_NCHW)
    with maps_recomputed():
        found = _result_and_gradient(MaxPool(padding="symmetric"), x_NCHW)
    assert torch.equal(found[1], expected[1])


def test_of_a_value_two_bytes_are_kept_and_nothing_of_the_input() -> None:
    x_NCHW = torch.randn(2, 8, 65, 65, requires_grad=True)
    with maps_recomputed():
        y_NChw = MaxPool(padding="symmetric")(x_NCHW)
    with torch.no_grad():
        kept = y_NChw.grad_fn.saved_tensors
    assert sum(tensor.untyped_storage().nbytes() for tensor in kept) == 2 * y_NChw.numel()


def test_where_derivatives_go_forward_they_are_pytorchs() -> None:
    x_NCHW, tangent_NCHW = torch.randn(2, 1, 3, 9, 9)
    found = []
    for pool in (MaxPool(padding="symmetric"), lambda x: F.max_pool2d(x, 3, 2, 1)):
        with maps_recomputed(), forward_ad.dual_level():
            dual_NCHW = forward_ad.make_dual(x_NCHW, tangent_NCHW)  # type: ignore[no-untyped-call]
            found.append(forward_ad.unpack_dual(pool(dual_NCHW)).tangent)  # type: ignore[no-untyped-call]
    assert found[0] is not None
    assert torch.equal(*found)


def test_where_maps_are_kept_it_can_be_differentiated_twice() -> None:
    x_NCHW = torch.randn(1, 2, 7, 8, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(MaxPool(padding="same"), x_NCHW)
