"""Winograd's 3x3 convolution against PyTorch's own in float64, and by finite differences."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch.nn import functional as F
from torch.nn.grad import conv2d_weight

from atrous.networks import atrous_convolution, winograd
from atrous.networks.layers import ConvBatchNorm
from atrous.networks.winograd_tiles import pieces_of, tiles_along, values_of_kernel


def _of_channels_last(x_NHWC: torch.Tensor) -> torch.Tensor:
    return x_NHWC.permute(0, 3, 1, 2)


def _weight_gradient(x_NHWC: torch.Tensor, gradient_NHWO: torch.Tensor, *, rate: int) -> torch.Tensor:
    by_weight_kkOI = torch.full((3, 3, gradient_NHWO.shape[-1], x_NHWC.shape[-1]), float("nan"))
    winograd.weight_gradient(x_NHWC, gradient_NHWO, by_weight_kkOI, rate=rate)
    return by_weight_kkOI.permute(2, 3, 0, 1)


@pytest.mark.parametrize(
    ("size", "rate"),
    [((8, 12), 1), ((9, 7), 1), ((1, 1), 1), ((17, 16), 2), ((11, 10), 3), ((3, 14), 4), ((5, 5), 6)],
)
def test_result_and_gradients_are_those_of_pytorch_at_any_size_and_rate(size: tuple[int, int], rate: int) -> None:
    torch.manual_seed(0)
    x_NHWC = torch.randn(3, *size, 8)
    weight = torch.randn(12, 8, 3, 3)
    gradient_NHWO = torch.randn(3, *size, 12)
    exact_x, exact_weight = _of_channels_last(x_NHWC).double().requires_grad_(), weight.double().requires_grad_()
    exact = F.conv2d(exact_x, exact_weight, padding=rate, dilation=rate)
    wanted = torch.autograd.grad(exact, (exact_x, exact_weight), _of_channels_last(gradient_NHWO).double())
    found = (
        _of_channels_last(winograd.convolve(x_NHWC, weight, rate=rate)),
        _of_channels_last(winograd.convolve(gradient_NHWO, weight, rate=rate, transposed=True)),
        _weight_gradient(x_NHWC, gradient_NHWO, rate=rate),
    )
    for value, exactly in zip(found, (exact, *wanted), strict=True):
        assert value.shape == exactly.shape
        assert (value - exactly).abs().max() < 1e-5 * exactly.abs().max()


@pytest.mark.parametrize("tiles", [1, 5, 7, 1000])
@pytest.mark.parametrize("channels", [3, 1000])
def test_parts_of_any_size_give_the_same(monkeypatch: pytest.MonkeyPatch, tiles: int, channels: int) -> None:
    torch.manual_seed(0)
    x_NHWC, weight = torch.randn(2, 18, 13, 8), torch.randn(7, 8, 3, 3)
    monkeypatch.setattr(winograd, "_CHANNELS_AT_A_TIME", channels)
    monkeypatch.setattr(winograd, "_VALUES_AT_A_TIME", 36 * 7 * tiles)
    exact = F.conv2d(_of_channels_last(x_NHWC).double(), weight.double(), padding=2, dilation=2)
    y_NCHW = _of_channels_last(winograd.convolve(x_NHWC, weight, rate=2))
    assert (y_NCHW - exact).abs().max() < 1e-5 * exact.abs().max()
    gradient_NHWO = torch.randn(2, 18, 13, 7)
    wanted = conv2d_weight(  # type: ignore[no-untyped-call]
        _of_channels_last(x_NHWC).double(),
        weight.shape,
        _of_channels_last(gradient_NHWO).double(),
        padding=2,
        dilation=2,
    )
    found = _weight_gradient(x_NHWC, gradient_NHWO, rate=2)
    assert (found - wanted).abs().max() < 1e-5 * wanted.abs().max()


def test_every_pixel_is_in_one_tile() -> None:
    images, height, width, rate = 2, 23, 10, 3
    seen = torch.zeros(images, height, width, 1)
    for group in pieces_of(seen.shape, rate, most=7):
        for piece in group:
            piece.outputs(seen).add_(1)
        assert all(one.place.stop == other.place.start for one, other in pairwise(group))
    assert (seen == 1).all()
    assert tiles_along(23, 3) == [2, 2, 2]
    assert tiles_along(2, 3) == [1, 1]


def test_a_kernel_turned_by_180_degrees_has_the_values_of_the_turned_kernel() -> None:
    weight = torch.randn(4, 5, 3, 3, dtype=torch.float64)
    torch.testing.assert_close(values_of_kernel(weight, flipped=True), values_of_kernel(weight.flip(2, 3)))


def test_a_convolution_that_uses_it_can_be_differentiated(monkeypatch: pytest.MonkeyPatch) -> None:
    used: list[int] = []

    def always(height: int, width: int, *, rate: int) -> bool:
        used.append(rate)
        return True

    monkeypatch.setattr(winograd, "suits", always)
    torch.manual_seed(0)
    x_NCHW = torch.randn(1, 128, 5, 6, dtype=torch.float64).to(memory_format=torch.channels_last).requires_grad_()
    weight = torch.randn(128, 128, 3, 3, dtype=torch.float64, requires_grad=True)
    direction = torch.randn_like(x_NCHW), torch.randn_like(weight)

    def along(step: float) -> torch.Tensor:
        moved = x_NCHW + step * direction[0], weight + step * direction[1]
        return atrous_convolution.atrous_conv2d(*moved, padding=1).square().sum()

    by_x, by_weight = torch.autograd.grad(along(0.0), (x_NCHW, weight))
    assert len(used) == 3  # the result and both gradients
    expected = (by_x * direction[0]).sum() + (by_weight * direction[1]).sum()
    difference = (along(1e-4) - along(-1e-4)) / 2e-4
    assert abs(difference - expected) < 1e-6 * abs(expected)


def test_it_is_left_where_tiles_lie_mostly_outside_of_the_map() -> None:
    assert winograd.suits(33, 33, rate=1)
    assert winograd.suits(33, 33, rate=2)
    assert not winograd.suits(33, 33, rate=6)
    assert not winograd.suits(33, 33, rate=12)
    assert winograd.suits(129, 129, rate=6)
    assert not winograd.suits(17, 17, rate=1)  # too few tiles for a matrix product


def test_a_layer_at_the_size_of_the_paper_is_that_of_pytorch() -> None:
    torch.manual_seed(0)
    layer = ConvBatchNorm(in_channels=128, out_channels=128, kernel_size=3, rate=2).train()
    x_NCHW = torch.randn(2, 128, 33, 33).to(memory_format=torch.channels_last)
    exact = F.conv2d(x_NCHW.double(), layer.conv.weight.double(), padding=2, dilation=2)
    assert atrous_convolution.pays(layer.conv, x_NCHW)
    y_NCHW = layer.conv(x_NCHW)
    assert y_NCHW.is_contiguous(memory_format=torch.channels_last)
    in_default_format = layer.conv(x_NCHW.contiguous())  # where its passes over channels would be slow
    assert torch.equal(in_default_format, F.conv2d(x_NCHW.contiguous(), layer.conv.weight, padding=2, dilation=2))
    assert 0 < (y_NCHW - exact).abs().max() < 1e-5 * exact.abs().max()
    assert not torch.equal(y_NCHW, F.conv2d(x_NCHW, layer.conv.weight, padding=2, dilation=2))  # so it was used


def test_another_default_device_changes_nothing() -> None:
    x_NHWC, weight = torch.randn(2, 8, 8, 4), torch.randn(4, 4, 3, 3)
    expected = winograd.convolve(x_NHWC, weight, rate=1)
    with torch.device("meta"):
        found = winograd.convolve(x_NHWC, weight, rate=1)
    assert torch.equal(found, expected)
