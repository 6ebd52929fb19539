"""The dense convolution of training on a CPU against PyTorch's own, in float64 and by finite differences."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from torch.autograd import forward_ad
from torch.nn import functional as F

from atrous.networks.atrous_convolution import atrous_conv2d, pays
from atrous.networks.layers import ConvBatchNorm


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(
    ("shape", "geometry"),  # of the kernel [O, I, k, k]; rate, stride and padding
    [
        *(((8, 16, 3, 3), (rate, 1, rate)) for rate in (1, 2, 6, 9, 40)),  # at 40 only the middle tap sees the map
        ((8, 4, 3, 3), (1, 1, 1)),  # more channels leave than come in
        ((8, 16, 5, 5), (1, 1, 2)),
        ((8, 16, 3, 3), (2, 2, 2)),
        ((8, 16, 3, 3), (1, 2, 1)),
        ((8, 16, 3, 3), (1, 2, 0)),  # as TensorFlow pads, outside of the convolution
        ((8, 16, 3, 3), (1, 3, 1)),
        ((8, 16, 1, 1), (1, 1, 0)),
        ((8, 4, 1, 1), (1, 1, 0)),
        ((8, 16, 1, 1), (1, 2, 0)),
        ((8, 16, 7, 7), (1, 2, 3)),
    ],
)
def test_output_and_gradients_are_those_of_pytorch(
    shape: tuple[int, ...], geometry: tuple[int, int, int], memory_format: torch.memory_format
) -> None:
    torch.manual_seed(0)
    rate, stride, padding = geometry
    x_NCHW = torch.randn(2, shape[1], 11, 10).to(memory_format=memory_format).requires_grad_()
    weight = torch.randn(shape).to(memory_format=memory_format).requires_grad_()
    exact = F.conv2d(x_NCHW.double(), weight.double(), padding=padding, dilation=rate, stride=stride)
    gradient = torch.randn_like(exact)
    expected = torch.autograd.grad(exact, (x_NCHW, weight), gradient)
    y_NCHW = atrous_conv2d(x_NCHW, weight, padding=padding, rate=rate, stride=stride)
    by_input, by_weight = torch.autograd.grad(y_NCHW, (x_NCHW, weight), gradient.float())
    for found, wanted in zip((y_NCHW, by_input, by_weight), (exact, *expected), strict=True):
        assert (found - wanted).abs().max() < 1e-5 * wanted.abs().max()


@pytest.mark.parametrize("shape", [(8, 16, 1, 1), (8, 16, 3, 3), (8, 4, 3, 3), (128, 128, 3, 3)])
@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_a_gradient_lies_as_its_parameter_so_that_nobody_copies_it(
    shape: tuple[int, ...], precision: torch.dtype
) -> None:
    rate = shape[-1] // 2
    x_NCHW = torch.randn(1, shape[1], 24, 24).to(memory_format=torch.channels_last)
    weight = torch.randn(shape).to(memory_format=torch.channels_last).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == torch.bfloat16):
        y_NCHW = atrous_conv2d(x_NCHW, weight, padding=rate, rate=max(1, rate))
    (by_weight,) = torch.autograd.grad(y_NCHW, weight, torch.randn_like(y_NCHW))
    assert by_weight.stride() == weight.stride()


@pytest.mark.parametrize("rate", [1, 9])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_under_autocast_values_are_those_of_float64_rounded_to_bfloat16(dtype: torch.dtype, rate: int) -> None:
    torch.manual_seed(0)
    x_NCHW = torch.randn(2, 16, 11, 10).bfloat16().to(dtype, memory_format=torch.channels_last).requires_grad_()
    weight = torch.randn(8, 16, 3, 3).bfloat16().float().requires_grad_()
    gradient = torch.randn(2, 8, 11, 10).bfloat16().contiguous(memory_format=torch.channels_last)
    doubles = x_NCHW.detach().double().requires_grad_(), weight.detach().double().requires_grad_()
    exact = F.conv2d(*doubles, padding=rate, dilation=rate)
    expected = torch.autograd.grad(exact, doubles, gradient.double())
    with torch.autocast("cpu", torch.bfloat16):
        y_NCHW = atrous_conv2d(x_NCHW, weight, padding=rate, rate=rate)
    by_x, by_weight = torch.autograd.grad(y_NCHW, (x_NCHW, weight), gradient, retain_graph=True)
    assert (y_NCHW.dtype, by_x.dtype, by_weight.dtype) == (torch.bfloat16, dtype, torch.float32)
    torch.testing.assert_close(by_weight.double(), expected[1], rtol=1.01 * 2.0**-8, atol=1e-5)
    for found, wanted in ((y_NCHW, exact), (by_x, expected[0])):  # PyTorch's, which adds in bfloat16 without hardware
        assert (found - wanted).abs().max() < 0.02 * wanted.abs().max()
    twice = torch.autograd.grad(y_NCHW, (x_NCHW, weight), gradient, create_graph=True)
    assert all(tensor.requires_grad for tensor in twice)


def test_in_bfloat16_it_is_used_where_taps_lie_outside_of_the_map_and_channels_are_many() -> None:
    x_NCHW = torch.randn(1, 256, 33, 33).to(memory_format=torch.channels_last)
    pays = partial(_pays, channels=256, kernel_size=3)
    assert all(pays(x_NCHW.bfloat16(), out=256, rate=rate) for rate in (6, 12, 36))
    assert not pays(x_NCHW.bfloat16(), out=256, rate=4)
    assert not pays(x_NCHW[..., :5, :5].bfloat16().contiguous(memory_format=torch.channels_last), out=256)
    assert not pays(x_NCHW.bfloat16(), out=256, rate=12, training=False)
    assert not pays(x_NCHW.bfloat16(), out=128, rate=12)
    assert not pays(x_NCHW.bfloat16().contiguous(), out=256, rate=12)
    assert not pays(x_NCHW.half(), out=256, rate=12)
    with torch.autocast("cpu", torch.bfloat16):
        assert pays(x_NCHW, out=256, rate=12)
        assert not pays(x_NCHW, out=256)


def test_in_bfloat16_the_gradient_of_many_1x1_weights_is_a_product() -> None:
    torch.manual_seed(0)
    x_NCHW = torch.randn(2, 512, 9, 7).bfloat16().contiguous(memory_format=torch.channels_last).requires_grad_()
    assert _pays(x_NCHW, channels=512, out=1024, kernel_size=1)
    assert not _pays(x_NCHW, channels=512, out=512, kernel_size=1)
    assert not _pays(x_NCHW, channels=512, out=1024, kernel_size=1, stride=2)
    assert not _pays(x_NCHW.contiguous(), channels=512, out=1024, kernel_size=1)
    large_NCHW = torch.empty(1, 512, 65, 65, dtype=torch.bfloat16).contiguous(memory_format=torch.channels_last)
    assert not _pays(large_NCHW, channels=512, out=1024, kernel_size=1)
    assert _pays(large_NCHW, channels=512, out=2048, kernel_size=1)
    conv = ConvBatchNorm(in_channels=512, out_channels=1024, kernel_size=1).conv
    with torch.autocast("cpu", torch.bfloat16):
        y_NCHW = conv(x_NCHW)
    gradient = torch.randn_like(y_NCHW).contiguous(memory_format=torch.channels_last)
    doubles = x_NCHW.detach().double().requires_grad_(), conv.weight.detach().bfloat16().double().requires_grad_()
    exact = F.conv2d(*doubles)
    expected = torch.autograd.grad(exact, doubles, gradient.double())
    found = torch.autograd.grad(y_NCHW, (x_NCHW, conv.weight), gradient)
    for one, wanted in ((y_NCHW, exact), *zip(found, expected, strict=True)):
        torch.testing.assert_close(one.double(), wanted, rtol=1.01 * 2.0**-8, atol=1e-4)


@pytest.mark.parametrize("geometry", [{"padding": 2, "rate": 2}, {"padding": 1, "stride": 2}])
def test_gradients_are_those_of_finite_differences(geometry: dict[str, int]) -> None:
    torch.manual_seed(0)
    x_NCHW = torch.randn(1, 2, 5, 6, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(3, 2, 3, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x, w: atrous_conv2d(x, w, **geometry), (x_NCHW, weight))
    assert torch.autograd.gradgradcheck(lambda x, w: atrous_conv2d(x, w, **geometry), (x_NCHW, weight))


def _pays(x_NCHW: torch.Tensor, *, channels: int = 64, out: int = 64, training: bool = True, **geometry: Any) -> bool:
    layer = ConvBatchNorm(in_channels=channels, out_channels=out, **geometry)
    return pays(layer.train(training).conv, x_NCHW)


def test_it_is_used_in_training_only_and_where_onednn_is_slow() -> None:
    x_NCHW = torch.randn(1, 64, 33, 33)
    small_NCHW, wide_NCHW = x_NCHW[..., :17, :17], torch.randn(1, 128, 33, 33).to(memory_format=torch.channels_last)
    assert _pays(x_NCHW, kernel_size=3, rate=2)
    assert _pays(small_NCHW, kernel_size=3, rate=2)
    assert _pays(x_NCHW, kernel_size=3)
    assert _pays(x_NCHW, kernel_size=3, stride=2)
    assert _pays(x_NCHW, kernel_size=1, stride=2)
    assert _pays(wide_NCHW, channels=128, out=128, kernel_size=1)
    assert not _pays(wide_NCHW.contiguous(), channels=128, out=128, kernel_size=1)
    assert not _pays(x_NCHW, kernel_size=1)
    assert not _pays(small_NCHW, kernel_size=3)
    assert not _pays(small_NCHW, kernel_size=3, rate=2, stride=2)
    assert not _pays(x_NCHW, kernel_size=3, out=32)
    assert not _pays(x_NCHW, kernel_size=3, rate=2, groups=64)
    assert not _pays(x_NCHW, kernel_size=3, rate=(2, 3))
    assert not _pays(x_NCHW, kernel_size=3, rate=2, training=False)
    assert not _pays(x_NCHW[:0], kernel_size=3, rate=2)
    with torch.no_grad():
        assert not _pays(x_NCHW, kernel_size=3, rate=2)
    with torch.autocast("cpu", torch.bfloat16):
        assert not _pays(x_NCHW, kernel_size=3, rate=2)


@pytest.mark.parametrize("groups", [1, 64])
def test_transforms_and_derivatives_forward_are_pytorchs(groups: int) -> None:
    torch.manual_seed(0)
    conv = ConvBatchNorm(in_channels=64, out_channels=64, kernel_size=3, rate=6, groups=groups).conv
    x_NCHW = torch.randn(2, 64, 12, 12).to(memory_format=torch.channels_last)
    expected = F.conv2d(x_NCHW, conv.weight, padding=6, dilation=6, groups=groups)
    close = partial(torch.testing.assert_close, rtol=1e-4, atol=1e-4)
    close(torch.func.vmap(conv)(x_NCHW[None])[0], expected)
    close(torch.func.jvp(conv, (x_NCHW,), (x_NCHW,))[1], expected)
    by_input = torch.func.grad(lambda x_NCHW: conv(x_NCHW).square().sum() / 2)(x_NCHW)
    close((by_input * x_NCHW).sum(), expected.square().sum())
    with forward_ad.dual_level():
        dual_NCHW = forward_ad.make_dual(x_NCHW, x_NCHW)  # type: ignore[no-untyped-call]
        close(forward_ad.unpack_dual(conv(dual_NCHW)).tangent, expected)  # type: ignore[no-untyped-call]


@pytest.mark.parametrize(("side", "node"), [(33, "_AtrousConv2dBackward"), (17, "ConvolutionBackward0")])
def test_a_layer_takes_it_where_it_pays(side: int, node: str) -> None:
    layer = ConvBatchNorm(in_channels=64, out_channels=64, kernel_size=3)
    assert getattr(layer.conv(torch.randn(1, 64, side, side)).grad_fn, "name", str)() == node


def test_no_images_and_another_padding_are_left_to_pytorch() -> None:
    torch.manual_seed(0)
    layer = ConvBatchNorm(in_channels=128, out_channels=128, kernel_size=3)
    x_NCHW = torch.randn(1, 128, 33, 33).to(memory_format=torch.channels_last)
    assert layer.conv(x_NCHW[:0]).shape == (0, 128, 33, 33)
    layer.conv.padding_mode = "circular"
    layer.conv._reversed_padding_repeated_twice = [1, 1, 1, 1]
    expected = F.conv2d(F.pad(x_NCHW, (1, 1, 1, 1), mode="circular"), layer.conv.weight)
    torch.testing.assert_close(layer.conv(x_NCHW), expected)
