"""Batch norm and ReLU in fewer passes: as near to float64 as PyTorch's, the same bits however it runs, its errors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from atrous.networks import fused_batch_norm
from atrous.networks.layers import ConvBatchNorm
from atrous.networks.normalisation import normalised
from atrous.networks.recomputation import maps_recomputed
from atrous.training import batch_norm as policy

from .conftest import drawn_norm

pytestmark = pytest.mark.usefixtures("compiled_kernels")


@contextmanager
def _threads(number: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _map(shape: tuple[int, int, int, int], *, mean: float = 1.0, seed: int = 1) -> Tensor:
    x_NCHW = mean + 2 * torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    return x_NCHW.contiguous(memory_format=torch.channels_last)


def _away_from_the_bend(x_NCHW: Tensor, norm: nn.BatchNorm2d) -> Tensor:
    """0 where ReLU's input is so near to 0 that rounding decides on which side of it, else 1."""
    exact = F.batch_norm(
        x_NCHW.double(), None, None, norm.weight.double(), norm.bias.double(), training=True, eps=norm.eps
    )
    return (exact.abs() > 1e-4).float()


def _results(norm: nn.BatchNorm2d, x_NCHW: Tensor, gradient_NCHW: Tensor, *, relu: bool) -> dict[str, Tensor]:
    """The map, gradients and running statistics of a norm that starts as it is given."""
    x_NCHW = x_NCHW.clone().requires_grad_()
    before = {key: value.clone() for key, value in norm.state_dict().items()}
    y_NCHW = normalised(norm, x_NCHW, relu=relu)
    by_x, by_weight, by_bias = torch.autograd.grad(y_NCHW, (x_NCHW, norm.weight, norm.bias), gradient_NCHW)
    statistics = {key: value.clone() for key, value in norm.state_dict().items() if key not in ("weight", "bias")}
    norm.load_state_dict(before)
    return {"y": y_NCHW.detach(), "x": by_x, "weight": by_weight, "bias": by_bias, **statistics}


_SHAPES = [(2, 5, 3, 4), (1, 1, 2, 1), (2, 728, 9, 9), (3, 64, 41, 7), (4, 2048, 1, 1), (2, 37, 65, 33)]


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("shape", _SHAPES)
def test_it_is_as_near_to_float64_as_pytorch(shape: tuple[int, int, int, int], relu: bool) -> None:
    norm, x = drawn_norm(shape[1]), _map(shape)
    gradient = _map(shape, mean=0.3, seed=2)
    if relu:
        gradient = gradient * _away_from_the_bend(x, norm)
    ours = _results(norm, x, gradient, relu=relu)
    fused_batch_norm.kernels.use(False)
    pytorchs = _results(norm, x, gradient, relu=relu)
    exact = _results(norm.double(), x.double(), gradient.double(), relu=relu)
    fused_batch_norm.kernels.use()
    assert ours["y"].is_contiguous(memory_format=torch.channels_last)
    assert int(ours["num_batches_tracked"]) == 1
    for name, value in exact.items():
        error, theirs = ((one[name].double() - value).abs().max().item() for one in (ours, pytorchs))
        assert error <= 2 * theirs + 1e-6 * (1 + value.abs().max().item()), name


@given(
    shape=st.tuples(st.integers(1, 3), st.integers(1, 70), st.integers(1, 40), st.integers(1, 9)).filter(
        lambda shape: shape[0] * shape[2] * shape[3] > 1
    ),
    mean=st.sampled_from([0.0, -3.0, 30.0]),
    momentum=st.sampled_from([0.0, 0.0003, 0.1, 1.0]),
)
def test_any_shape_has_pytorchs_results(shape: tuple[int, int, int, int], mean: float, momentum: float) -> None:
    norm, x, gradient = drawn_norm(shape[1], momentum=momentum), _map(shape, mean=mean), _map(shape, seed=2)
    ours = _results(norm, x, gradient, relu=False)
    expected = _results(norm.double(), x.double(), gradient.double(), relu=False)
    for name, value in ours.items():
        torch.testing.assert_close(
            value.double(), expected[name].double(), atol=1e-4 * (1 + abs(mean)), rtol=1e-3, msg=name
        )


@pytest.mark.parametrize("relu", [False, True])
def test_the_bits_are_those_of_one_thread_and_those_of_a_map_that_is_made_again(relu: bool) -> None:
    norm, x, gradient = drawn_norm(96), _map((2, 96, 40, 40)), _map((2, 96, 40, 40), seed=2)
    with _threads(1):
        expected = _results(norm, x, gradient, relu=relu)
    with _threads(3):
        together = _results(norm, x, gradient, relu=relu)
    with maps_recomputed():
        made_again = _results(norm, x, gradient, relu=relu)
    for name, value in expected.items():
        assert torch.equal(together[name], value)
        assert torch.equal(made_again[name], value)


def test_a_map_that_is_made_again_gives_the_next_convolution_the_gradient_of_one_that_is_kept() -> None:
    norm, conv = drawn_norm(16), nn.Conv2d(16, 8, 3).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    x = _map((2, 16, 9, 9)).requires_grad_()
    gradients = []
    for enabled in (False, True):
        with maps_recomputed(enabled):
            y = conv(normalised(norm, x, relu=True))
        gradients.append(torch.autograd.grad(y.square().sum(), (x, conv.weight, norm.weight, norm.bias)))
    assert all(map(torch.equal, *gradients))


def test_what_is_not_a_number_reaches_the_loss() -> None:
    x = _map((2, 4, 6, 6))
    x[1, 2, 3, 4] = float("nan")
    y = normalised(drawn_norm(4), x.requires_grad_(), relu=True)
    assert y[:, 2].isnan().all()
    assert y[:, [0, 1, 3]].isfinite().all()
    (gradient,) = torch.autograd.grad(y, x, torch.ones_like(y))
    assert gradient[:, 2].isnan().all()


def test_a_single_pixel_has_pytorchs_error() -> None:
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        normalised(drawn_norm(4), _map((1, 4, 1, 1)), relu=True)


def test_another_number_of_channels_has_pytorchs_error() -> None:
    with pytest.raises(RuntimeError, match="running_mean should contain 6 elements"):
        normalised(drawn_norm(4), _map((2, 6, 5, 5)), relu=True)


def test_a_second_derivative_is_refused() -> None:
    x = _map((2, 4, 5, 5)).requires_grad_()
    (gradient,) = torch.autograd.grad(normalised(drawn_norm(4), x, relu=False).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        torch.autograd.backward([gradient.sum()])


def _frozen() -> nn.BatchNorm2d:
    norm = drawn_norm(4)
    policy.freeze(norm)
    return norm


def _with(**tensors: Tensor) -> nn.BatchNorm2d:
    norm = drawn_norm(4)
    for name, tensor in tensors.items():
        setattr(norm, name, nn.Parameter(tensor) if name in ("weight", "bias") else tensor)
    return norm


@pytest.mark.parametrize(
    ("norm", "x"),
    [
        (_frozen(), _map((2, 4, 5, 5))),
        (drawn_norm(4).double(), _map((2, 4, 5, 5)).double()),
        (nn.BatchNorm2d(4, affine=False), _map((2, 4, 5, 5))),
        (nn.BatchNorm2d(4, track_running_stats=False), _map((2, 4, 5, 5))),
        (nn.BatchNorm2d(4, momentum=None), _map((2, 4, 5, 5))),
        (_with(running_mean=torch.zeros(4).double()), _map((2, 4, 5, 5))),
        (_with(running_var=torch.ones(4).double()), _map((2, 4, 5, 5))),
        (_with(weight=torch.ones(8)[::2]), _map((2, 4, 5, 5))),
        (_with(bias=torch.zeros(8)[::2]), _map((2, 4, 5, 5))),
        (drawn_norm(4), torch.randn(2, 4, 5, 5)),
        (drawn_norm(4), _map((2, 4, 5, 5)).to("meta")),
    ],
)
def test_others_are_left_to_pytorch(norm: nn.BatchNorm2d, x: Tensor) -> None:
    assert not fused_batch_norm.suits(norm, x)


def test_a_map_of_float16_is_left_to_pytorch() -> None:
    assert fused_batch_norm.suits(drawn_norm(4), _map((2, 4, 5, 5)))
    assert not fused_batch_norm.suits(drawn_norm(4), _map((2, 4, 5, 5)).half())


def test_a_backward_pass_goes_on_where_a_forward_pass_began_before_it_was_left() -> None:
    x = _map((2, 4, 5, 5)).requires_grad_()
    y = normalised(drawn_norm(4), x, relu=True)
    fused_batch_norm.kernels.use(False)
    assert not fused_batch_norm.suits(drawn_norm(4), x)
    assert torch.autograd.grad(y.sum(), x)[0].isfinite().all()
    assert fused_batch_norm.kernels.use()


def test_a_trace_is_left_to_pytorch() -> None:
    brick, x, other = (
        ConvBatchNorm(in_channels=4, out_channels=4, kernel_size=3),
        _map((2, 4, 5, 5)),
        _map((3, 4, 7, 5)),
    )
    traced = torch.jit.trace(brick, x)  # type: ignore[no-untyped-call]
    torch.testing.assert_close(traced(other), brick(other))


def test_another_default_device_changes_nothing() -> None:
    torch.manual_seed(0)
    brick, x = ConvBatchNorm(in_channels=4, out_channels=4, kernel_size=3), _map((2, 4, 5, 5))
    expected = brick(x)
    with torch.device("meta"):
        y = brick(x)
        y.sum().backward()
    assert torch.equal(y, expected)
