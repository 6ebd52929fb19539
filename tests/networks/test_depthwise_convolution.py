"""The depthwise atrous convolution of a CPU against PyTorch's own, in float64 and by finite differences."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn import functional as F

from atrous.networks.depthwise_convolution import depthwise_conv2d, pays
from atrous.networks.layers import ConvBatchNorm


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(
    ("size", "rates"), [(3, (2, 2)), (3, (4, 4)), (3, (6, 6)), (3, (1, 6)), (3, (6, 21)), (3, (40, 40)), (5, (5, 5))]
)
def test_output_and_gradients_are_those_of_pytorch(
    size: int, rates: tuple[int, int], memory_format: torch.memory_format
) -> None:
    torch.manual_seed(0)
    x_NCHW = torch.randn(2, 6, 13, 9).to(memory_format=memory_format).requires_grad_()
    weight, gradient = torch.randn(6, 1, size, size, requires_grad=True), torch.randn(2, 6, 13, 9)
    padding = rates[0] * (size // 2), rates[1] * (size // 2)
    exact = F.conv2d(x_NCHW.double(), weight.double(), padding=padding, dilation=rates, groups=6)
    expected = torch.autograd.grad(exact, (x_NCHW, weight), gradient.double())
    y_NCHW = depthwise_conv2d(x_NCHW, weight, rates=rates)
    torch.testing.assert_close(y_NCHW.double(), exact, rtol=1e-5, atol=1e-5)
    for found, wanted in zip(torch.autograd.grad(y_NCHW, (x_NCHW, weight), gradient), expected, strict=True):
        assert (found - wanted).abs().max() < 1e-5 * wanted.abs().max()


@pytest.mark.parametrize("rates", [(2, 2), (6, 6), (3, 9)])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_under_autocast_values_are_those_of_float64_rounded_to_bfloat16_once(
    dtype: torch.dtype, rates: tuple[int, int]
) -> None:
    torch.manual_seed(0)
    x_NCHW = torch.randn(2, 64, 13, 9).bfloat16().to(dtype, memory_format=torch.channels_last).requires_grad_()
    weight, gradient = torch.randn(64, 1, 3, 3).bfloat16().float().requires_grad_(), torch.randn(2, 64, 13, 9)
    doubles = x_NCHW.detach().double().requires_grad_(), weight.detach().double().requires_grad_()
    exact = F.conv2d(*doubles, padding=rates, dilation=rates, groups=64)
    expected = torch.autograd.grad(exact, doubles, gradient.bfloat16().double())
    with torch.autocast("cpu", torch.bfloat16):
        y_NCHW = depthwise_conv2d(x_NCHW, weight, rates=rates)
    by_x, by_weight = torch.autograd.grad(y_NCHW, (x_NCHW, weight), gradient.bfloat16(), retain_graph=True)
    assert (y_NCHW.dtype, by_x.dtype, by_weight.dtype) == (torch.bfloat16, dtype, torch.float32)
    half_a_step = 2.0**-8
    for found, wanted in ((y_NCHW, exact), (by_x, expected[0])):
        torch.testing.assert_close(found.double(), wanted, rtol=1.01 * half_a_step, atol=1e-5)
    torch.testing.assert_close(by_weight.double(), expected[1], rtol=1e-5, atol=1e-4)
    twice = torch.autograd.grad(y_NCHW, (x_NCHW, weight), gradient.bfloat16(), create_graph=True)
    for found, wanted in zip(twice, expected, strict=True):
        assert found.requires_grad
        assert (found - wanted).abs().max() < 0.02 * wanted.abs().max()


def test_gradients_are_those_of_finite_differences() -> None:
    torch.manual_seed(0)
    x_NCHW = torch.randn(2, 2, 7, 8, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(2, 1, 3, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x, w: depthwise_conv2d(x, w, rates=(5, 2)), (x_NCHW, weight))
    assert torch.autograd.gradgradcheck(lambda x, w: depthwise_conv2d(x, w, rates=(5, 2)), (x_NCHW, weight))


def _pays(x_NCHW: torch.Tensor, *, training: bool = False, channels: int = 64, **geometry: Any) -> bool:
    layer = ConvBatchNorm(in_channels=channels, out_channels=channels, groups=channels, **geometry)
    return pays(layer.train(training).conv, x_NCHW)


def test_it_is_used_where_onednn_is_slow() -> None:
    x_NCHW = torch.randn(1, 64, 9, 9).to(memory_format=torch.channels_last)
    assert _pays(x_NCHW, kernel_size=3, rate=6)
    assert _pays(x_NCHW, kernel_size=3, rate=(1, 6))
    assert _pays(x_NCHW, kernel_size=3, rate=2, training=True)
    assert not _pays(x_NCHW, kernel_size=3, rate=2)
    assert not _pays(x_NCHW, kernel_size=3, training=True)
    assert not _pays(x_NCHW, kernel_size=3, rate=6, stride=2)
    assert not _pays(x_NCHW.contiguous(), kernel_size=3, rate=6)
    assert not _pays(x_NCHW[:, :8], channels=8, kernel_size=3, rate=6)
    assert _pays(x_NCHW.bfloat16(), kernel_size=3, rate=6)
    assert not _pays(x_NCHW.half(), kernel_size=3, rate=6)
    assert not _pays(x_NCHW.to("meta"), kernel_size=3, rate=6)
    with torch.autocast("cpu", torch.bfloat16):
        assert _pays(x_NCHW, kernel_size=3, rate=6)
    with torch.autocast("cpu", torch.float16):
        assert not _pays(x_NCHW, kernel_size=3, rate=6)
    with torch.no_grad():
        assert not _pays(x_NCHW, kernel_size=3, rate=2, training=True)


@pytest.mark.parametrize(("rate", "node"), [(6, "_DepthwiseConv2dBackward"), (1, "ConvolutionBackward0")])
def test_a_layer_takes_it_where_it_pays(rate: int, node: str) -> None:
    layer = ConvBatchNorm(in_channels=64, out_channels=64, kernel_size=3, groups=64, rate=rate)
    x_NCHW = torch.randn(1, 64, 9, 9).to(memory_format=torch.channels_last)
    assert getattr(layer.conv(x_NCHW).grad_fn, "name", str)() == node


def test_another_padding_is_left_to_pytorch() -> None:
    layer = ConvBatchNorm(in_channels=64, out_channels=64, kernel_size=3, groups=64, rate=6)
    x_NCHW = torch.randn(1, 64, 9, 9).to(memory_format=torch.channels_last)
    assert pays(layer.conv, x_NCHW)
    layer.conv.padding_mode = "circular"
    assert not pays(layer.conv, x_NCHW)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_another_default_device_changes_nothing(dtype: torch.dtype) -> None:
    x_NCHW = torch.randn(2, 4, 7, 8).to(dtype).requires_grad_()
    weight = torch.randn(4, 1, 3, 3, requires_grad=True)
    expected = depthwise_conv2d(x_NCHW, weight, rates=(5, 5))
    with torch.device("meta"):
        y_NCHW = depthwise_conv2d(x_NCHW, weight, rates=(5, 5))
        gradients = torch.autograd.grad(y_NCHW.sum(), [x_NCHW, weight])
    assert torch.equal(y_NCHW, expected)
    assert {gradient.device.type for gradient in gradients} == {"cpu"}
