"""The bricks: sizes, and the distributions that weights start from."""

from __future__ import annotations

import pytest
import torch

from atrous.networks.layers import Classifier, ConvBatchNorm
from atrous.networks.resnet_layers import Subsample


@pytest.mark.parametrize("kernel_size", [1, 3, 7])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("rate", [1, 2, 5])
def test_n_rows_become_ceil_n_over_stride(kernel_size: int, stride: int, rate: int) -> None:
    layer = ConvBatchNorm(in_channels=1, out_channels=2, kernel_size=kernel_size, stride=stride, rate=rate).eval()
    assert layer(torch.zeros(1, 1, 10, 11)).shape == (1, 2, -(-10 // stride), -(-11 // stride))


def test_no_convolution_has_a_bias_except_the_classifier() -> None:
    assert ConvBatchNorm(in_channels=1, out_channels=1, kernel_size=3).conv.bias is None
    assert Classifier(in_channels=1, num_classes=2).bias is not None


def test_relu_is_optional() -> None:
    x_NCHW = torch.randn(4, 2, 5, 5)
    torch.manual_seed(0)
    with_relu = ConvBatchNorm(in_channels=2, out_channels=3, kernel_size=1)
    torch.manual_seed(0)
    without = ConvBatchNorm(in_channels=2, out_channels=3, kernel_size=1, activation="none")
    assert without(x_NCHW).min() < 0
    torch.testing.assert_close(with_relu(x_NCHW), without(x_NCHW).clamp(min=0))


def test_convolutions_start_from_hes_normal_distribution() -> None:
    weight = ConvBatchNorm(in_channels=256, out_channels=256, kernel_size=3).conv.weight
    assert weight.std().item() == pytest.approx((2 / (256 * 9)) ** 0.5, rel=0.01)
    assert weight.mean().item() == pytest.approx(0, abs=1e-3)


def test_the_classifier_starts_truncated_normal_with_no_bias() -> None:
    classifier = Classifier(in_channels=2048, num_classes=21)
    assert classifier.weight.abs().max() <= 0.02
    # A normal distribution cut at two standard deviations keeps 0.880 of its own.
    assert classifier.weight.std().item() == pytest.approx(0.0088, rel=0.02)
    assert classifier.bias is not None
    assert classifier.bias.abs().max() == 0


@pytest.mark.parametrize("stride", [1, 2, 4])
def test_the_identity_shortcut_keeps_every_stride_th_pixel(stride: int) -> None:
    x_NCHW = torch.arange(35.0).reshape(1, 1, 5, 7)
    pooled = torch.nn.functional.max_pool2d(x_NCHW, kernel_size=1, stride=stride)  # what the official code calls
    torch.testing.assert_close(Subsample(stride=stride)(x_NCHW), pooled)
