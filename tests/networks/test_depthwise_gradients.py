"""A depthwise convolution whose gradients take in its batch norm: those of float64, the same bits however it runs."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from atrous.networks import depthwise_gradients, fused_batch_norm
from atrous.networks.layers import ConvBatchNorm
from atrous.networks.recomputation import maps_recomputed
from atrous.networks.xception import xception65

pytestmark = pytest.mark.usefixtures("compiled_kernels")


def _layer(channels: int, *, relu: bool = False) -> ConvBatchNorm:
    torch.manual_seed(0)
    layer = ConvBatchNorm(
        in_channels=channels,
        out_channels=channels,
        kernel_size=3,
        groups=channels,
        activation="relu" if relu else "none",
    )
    nn.init.normal_(layer.norm.weight)
    nn.init.normal_(layer.norm.bias)
    return layer.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def _map(*shape: int, seed: int) -> Tensor:
    x_NCHW = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    return x_NCHW.contiguous(memory_format=torch.channels_last)


def _results(layer: ConvBatchNorm, x_NCHW: Tensor, gradient_NCHW: Tensor) -> dict[str, Tensor]:
    x_NCHW = x_NCHW.clone().requires_grad_()
    y_NCHW = layer(x_NCHW)
    parameters = dict(layer.named_parameters())
    found = torch.autograd.grad(y_NCHW, [x_NCHW, *parameters.values()], gradient_NCHW)
    return {"y": y_NCHW.detach(), **dict(zip(("x", *parameters), found, strict=True))}


def _results_of_pytorch(layer: ConvBatchNorm, x_NCHW: Tensor, gradient_NCHW: Tensor) -> dict[str, Tensor]:
    x_NCHW = x_NCHW.clone().requires_grad_()
    weight, norm = layer.conv.weight, layer.norm
    d_NCHW = F.conv2d(x_NCHW, weight, padding=1, groups=weight.shape[0])
    y_NCHW = F.batch_norm(d_NCHW, None, None, norm.weight, norm.bias, training=True, eps=norm.eps)
    y_NCHW = F.relu(y_NCHW) if layer.activation == "relu" else y_NCHW
    parameters = dict(layer.named_parameters())
    found = torch.autograd.grad(y_NCHW, [x_NCHW, *parameters.values()], gradient_NCHW)
    return {"y": y_NCHW.detach(), **dict(zip(("x", *parameters), found, strict=True))}


def _assert_as_in_float64(layer: ConvBatchNorm, x: Tensor, gradient: Tensor) -> None:
    assert depthwise_gradients.suits(layer.conv, layer.norm, x.clone().requires_grad_())
    found, of_pytorch = _results(layer, x, gradient), _results_of_pytorch(layer, x, gradient)
    exact = _results_of_pytorch(layer.double(), x.double(), gradient.double())
    for name, value in exact.items():
        error, usual = ((each[name].double() - value).abs().max() for each in (found, of_pytorch))
        # A channel of a few pixels that hardly differ loses digits in any kernel of float32.
        assert error <= max(1e-5 * (1 + value.abs().max()), 2 * usual), name


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("shape", [(2, 8, 5, 7), (1, 40, 1, 9), (2, 728, 9, 9), (1, 64, 130, 3), (3, 32, 64, 65)])
def test_gradients_are_those_of_float64(shape: tuple[int, int, int, int], relu: bool) -> None:
    layer, x, gradient = _layer(shape[1], relu=relu), _map(*shape, seed=1), _map(*shape, seed=2)
    if relu:  # rounding decides on which side of the bend the nearest to it lie
        conv, norm = layer.conv, layer.norm
        d = F.conv2d(x.double(), conv.weight.double(), padding=1, groups=shape[1])
        before = F.batch_norm(d, None, None, norm.weight.double(), norm.bias.double(), training=True, eps=norm.eps)
        gradient = gradient * (before.abs() > 1e-4)
    _assert_as_in_float64(layer, x, gradient)


@example(images=1, vectors=4, rows=1, columns=1)  # two pixels: the gradient is what two large terms leave over
@given(images=st.integers(1, 3), vectors=st.integers(1, 9), rows=st.integers(1, 70), columns=st.integers(1, 20))
def test_any_shape_has_the_gradients_of_float64(images: int, vectors: int, rows: int, columns: int) -> None:
    shape = images, 8 * vectors, rows, columns + (images * rows == 1)
    _assert_as_in_float64(_layer(8 * vectors), _map(*shape, seed=1), _map(*shape, seed=2))


@pytest.mark.parametrize("relu", [False, True])
def test_the_bits_are_those_of_one_thread_and_of_maps_that_are_made_again(relu: bool) -> None:
    layer, x, gradient = _layer(72, relu=relu), _map(2, 72, 70, 9, seed=1), _map(2, 72, 70, 9, seed=2)
    before = torch.get_num_threads()
    found = []
    for threads, context in ((1, {}), (3, {}), (2, {"enabled": True}), (2, {"enabled": True, "depthwise": True})):
        torch.set_num_threads(threads)
        with maps_recomputed(**{"enabled": False, **context}):
            found.append(_results(layer, x, gradient))
    torch.set_num_threads(before)
    for one in found[1:]:
        assert all(torch.equal(one[name], value) for name, value in found[0].items())


def test_a_graph_that_is_kept_gives_the_same_gradients_again() -> None:
    layer, x = _layer(16), _map(2, 16, 9, 9, seed=1).requires_grad_()
    with maps_recomputed(depthwise=True):
        y = layer(x).square().sum()
    first = torch.autograd.grad(y, [x, layer.conv.weight], retain_graph=True)
    second = torch.autograd.grad(y, [x, layer.conv.weight])
    assert all(map(torch.equal, first, second))


def test_saved_maps_may_come_back_in_another_memory_format() -> None:
    layer, x, gradient = _layer(16, relu=True), _map(2, 16, 9, 9, seed=1), _map(2, 16, 9, 9, seed=2)
    expected = _results(layer, x, gradient)
    with torch.autograd.graph.saved_tensors_hooks(lambda saved: saved.contiguous(), lambda saved: saved):
        found = _results(layer, x, gradient)
    assert all(torch.equal(found[name], value) for name, value in expected.items())


def test_without_what_a_batch_norm_leaves_gradients_are_pytorchs() -> None:
    layer, x = _layer(16), _map(2, 16, 9, 9, seed=1).requires_grad_()
    weight = layer.conv.weight
    own = depthwise_gradients.convolve(layer.conv, x, fused_batch_norm.Handover())
    pytorchs = F.conv2d(x, weight, padding=1, groups=16)
    for found, expected in zip(
        torch.autograd.grad(own.square().sum(), (x, weight)),
        torch.autograd.grad(pytorchs.square().sum(), (x, weight)),
        strict=True,
    ):
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize(
    "changes",
    [
        {"channels": 12},
        {"rate": 2},
        {"stride": 2},
        {"frozen": True},
        {"contiguous": True},
        {"dense": True},
        {"needs_no_gradient": True},
    ],
)
def test_others_are_left_to_pytorch(changes: dict[str, Any]) -> None:
    layer = _layer(changes.get("channels", 16))
    layer.set_atrous(rate=changes.get("rate"), stride=changes.get("stride"))
    if "dense" in changes:
        layer = ConvBatchNorm(in_channels=16, out_channels=16, kernel_size=3)
    if "frozen" in changes:
        layer.norm.eval()
    x = _map(2, layer.conv.in_channels, 9, 9, seed=1)
    if "contiguous" in changes:
        x = x.contiguous()
    x.requires_grad_("needs_no_gradient" not in changes)
    assert not depthwise_gradients.suits(layer.conv, layer.norm, x)
    assert torch.isfinite(layer(x)).all()


def test_a_whole_network_is_as_near_to_float64_as_with_pytorchs_kernels() -> None:
    torch.manual_seed(0)
    network = xception65(middle_units=2, width=0.25).train().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    x, state = _map(2, 3, 65, 65, seed=1), {name: value.clone() for name, value in network.state_dict().items()}

    def gradients(double: bool = False) -> Tensor:
        network.load_state_dict(state)
        network.to(torch.float64 if double else torch.float32)
        y = network(x.to(network.stem[0].conv.weight.dtype))["high"]
        found = torch.autograd.grad((y * torch.linspace(-1, 1, y.numel()).view(y.shape)).sum(), network.parameters())
        return torch.cat([one.flatten().double() for one in found])

    ours = gradients()
    for kernels in (depthwise_gradients.kernels, fused_batch_norm.kernels):
        kernels.use(False)
    pytorchs, exact = gradients(), gradients(double=True)
    for kernels in (depthwise_gradients.kernels, fused_batch_norm.kernels):
        kernels.use()
    assert not torch.equal(ours, pytorchs)
    assert (ours - exact).norm() <= 2 * (pytorchs - exact).norm()
    assert (ours - exact).norm() <= 0.01 * exact.norm()
