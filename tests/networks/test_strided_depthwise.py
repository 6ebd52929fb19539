"""The depthwise convolution at stride 2 in bfloat16, and its gradients, against float64."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from atrous.networks import strided_depthwise
from atrous.networks.layers import ConvBatchNorm, HeConv2d
from atrous.networks.xception import xception65

pytestmark = pytest.mark.usefixtures("compiled_kernels")


def _layer(channels: int, *, padding: int = 1, **options: Any) -> HeConv2d:
    torch.manual_seed(0)
    options = {"kernel_size": 3, "stride": 2, "groups": channels, "bias": False, **options}
    return HeConv2d(channels, channels, padding=padding, **options)


def _map(*shape: int) -> Tensor:
    return torch.randn(shape).bfloat16().contiguous(memory_format=torch.channels_last).requires_grad_()


@pytest.mark.parametrize("padding", [0, 1])
@pytest.mark.parametrize("size", [(9, 13), (8, 12), (9, 12), (3, 3), (4, 4)])
@pytest.mark.parametrize("channels", [3, 16, 72])
def test_output_and_gradients_are_float64s_rounded_once(channels: int, size: tuple[int, int], padding: int) -> None:
    conv, x_NCHW = _layer(channels, padding=padding), _map(2, channels, *size)
    doubles = x_NCHW.detach().double().requires_grad_(), conv.weight.detach().bfloat16().double().requires_grad_()
    exact_NChw = F.conv2d(*doubles, stride=2, padding=padding, groups=channels)
    with torch.autocast("cpu", torch.bfloat16):
        assert strided_depthwise.pays(conv, x_NCHW)
        y_NChw = conv(x_NCHW)
    gradient_NChw = torch.randn_like(y_NChw).contiguous()  # not channels last
    expected = torch.autograd.grad(exact_NChw, doubles, gradient_NChw.double())
    found = torch.autograd.grad(y_NChw, (x_NCHW, conv.weight), gradient_NChw)
    assert (y_NChw.dtype, found[0].dtype, found[1].dtype) == (torch.bfloat16, torch.bfloat16, torch.float32)
    assert found[0].is_contiguous(memory_format=torch.channels_last)
    for one, exact in ((y_NChw, exact_NChw), (found[0], expected[0])):
        torch.testing.assert_close(one.double(), exact, rtol=1.01 * 2.0**-8, atol=1e-4)
    # PyTorch's own, whose sums are of bfloat16 where no hardware has it.
    assert (found[1] - expected[1]).abs().max() < 0.02 * expected[1].abs().max()


def test_it_can_be_differentiated_twice() -> None:
    conv, x_NCHW = _layer(16), _map(1, 16, 7, 8)
    doubles = x_NCHW.detach().double().requires_grad_(), conv.weight.detach().bfloat16().double().requires_grad_()
    exact_NChw = F.conv2d(*doubles, stride=2, padding=1, groups=16)
    with torch.autocast("cpu", torch.bfloat16):
        y_NChw = conv(x_NCHW)
    found: list[Tensor] = []
    for y, x, weight in ((y_NChw, x_NCHW, conv.weight), (exact_NChw, *doubles)):
        (by_x,) = torch.autograd.grad(y, x, torch.ones_like(y, requires_grad=True), create_graph=True)
        found += torch.autograd.grad(by_x.double().square().sum(), weight)
    assert (found[0] - found[1]).abs().max() < 0.02 * found[1].abs().max()


def test_it_stands_for_strided_depthwise_convolutions_of_a_training_in_bfloat16_alone() -> None:
    x_NCHW, conv = _map(1, 16, 9, 9), _layer(16)

    def pays(conv: nn.Conv2d = conv, x_NCHW: Tensor = x_NCHW) -> bool:
        with torch.autocast("cpu", torch.bfloat16):
            return strided_depthwise.pays(conv, x_NCHW)

    assert pays()
    assert not pays(x_NCHW=x_NCHW.detach())
    assert not pays(x_NCHW=x_NCHW.float())  # autocast has it cast first
    assert not pays(x_NCHW=x_NCHW.contiguous())
    others = ({"stride": 1}, {"dilation": 2}, {"kernel_size": 5}, {"padding": 2}, {"groups": 8}, {"bias": True})
    assert not any(pays(_layer(16, **other)) for other in others)
    assert not strided_depthwise.pays(conv.to(torch.bfloat16), x_NCHW)
    assert not pays(_layer(16).eval())
    assert not strided_depthwise.pays(_layer(16), x_NCHW.float().detach().requires_grad_())


def test_xceptions_entry_flow_takes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[int] = []

    def counted(conv: nn.Conv2d, x_NCHW: Tensor) -> Tensor:
        taken.append(conv.in_channels)
        return F.conv2d(x_NCHW, conv.weight, stride=2, padding=1, groups=conv.groups)

    monkeypatch.setattr(strided_depthwise, "convolve", counted)
    network = xception65(output_stride=16).to(memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    with torch.autocast("cpu", torch.bfloat16):
        network(torch.randn(2, 3, 33, 33).contiguous(memory_format=torch.channels_last))
    assert taken == [128, 256, 728]


def test_mobilenets_layers_that_pad_as_tensorflow_does_take_it() -> None:
    layer = ConvBatchNorm(in_channels=16, out_channels=16, kernel_size=3, stride=2, groups=16, padding="same").train()
    with torch.autocast("cpu", torch.bfloat16):
        y_NChw = layer.conv(F.pad(_map(1, 16, 8, 8), (0, 1, 0, 1)))
        assert y_NChw.grad_fn is not None
        assert y_NChw.grad_fn.name() == "_ConvolutionBackward"
        assert layer(_map(1, 16, 8, 8)).shape == (1, 16, 4, 4)
