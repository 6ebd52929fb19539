"""The atrous convolution of training on a CPU against PyTorch's own, in float64 and by finite differences."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from atrous.networks.atrous_convolution import atrous_conv2d, pays
from atrous.networks.layers import ConvBatchNorm


@pytest.mark.parametrize("rate", [1, 2, 6, 9, 40])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_output_and_gradients_are_those_of_pytorch(rate: int, memory_format: torch.memory_format) -> None:
    torch.manual_seed(0)
    x_NCHW = torch.randn(2, 16, 11, 9).to(memory_format=memory_format).requires_grad_()
    weight = torch.randn(8, 16, 3, 3, requires_grad=True)
    gradient = torch.randn(2, 8, 11, 9)
    exact = F.conv2d(x_NCHW.double(), weight.double(), padding=rate, dilation=rate)
    expected = torch.autograd.grad(exact, (x_NCHW, weight), gradient.double())
    y_NCHW = atrous_conv2d(x_NCHW, weight, rate=rate)
    torch.testing.assert_close(y_NCHW.double(), exact, rtol=1e-5, atol=1e-5)
    for found, wanted in zip(torch.autograd.grad(y_NCHW, (x_NCHW, weight), gradient), expected, strict=True):
        assert (found - wanted).abs().max() < 1e-5 * wanted.abs().max()


def test_gradients_are_those_of_finite_differences() -> None:
    torch.manual_seed(0)
    x_NCHW = torch.randn(1, 2, 5, 6, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(3, 2, 3, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x, w: atrous_conv2d(x, w, rate=2), (x_NCHW, weight))


def test_it_is_used_in_training_only_and_without_a_rate_only_on_large_maps() -> None:
    x_NCHW = torch.randn(1, 64, 33, 33)
    atrous = ConvBatchNorm(in_channels=64, out_channels=64, kernel_size=3, rate=2)
    dense = ConvBatchNorm(in_channels=64, out_channels=64, kernel_size=3)
    assert pays(atrous.conv, x_NCHW)
    assert pays(dense.conv, x_NCHW)
    assert not pays(dense.conv, x_NCHW[..., :17, :17])
    assert not pays(ConvBatchNorm(in_channels=64, out_channels=32, kernel_size=3).conv, x_NCHW)
    assert not pays(ConvBatchNorm(in_channels=64, out_channels=64, kernel_size=1).conv, x_NCHW)
    assert not pays(ConvBatchNorm(in_channels=64, out_channels=64, kernel_size=3, stride=2).conv, x_NCHW)
    with torch.no_grad():
        assert not pays(atrous.conv, x_NCHW)
    with torch.autocast("cpu", torch.bfloat16):
        assert not pays(atrous.conv, x_NCHW)
    assert not pays(atrous.eval().conv, x_NCHW)
    maps = (atrous.train(), x_NCHW), (dense, x_NCHW), (dense, x_NCHW[..., :17, :17])
    names = [getattr(layer.conv(x).grad_fn, "name", str)() for layer, x in maps]
    assert names == ["_AtrousConv2dBackward", "_AtrousConv2dBackward", "ConvolutionBackward0"]
