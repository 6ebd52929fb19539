"""MobileNetV2: TensorFlow's padding against numpy, the official channels, torchvision's layout."""

from __future__ import annotations

from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from atrous.errors import ConfigError
from atrous.networks.layers import ConvBatchNorm
from atrous.networks.mobilenet import InvertedResidual, MobileNetV2, mobilenetv2
from atrous.networks.output_stride import UnitPlan

from .conftest import shake

SMALL = partial(MobileNetV2, width=0.25)


# TensorFlow's padding shifts the windows of an even size, which atrous convolution does not follow: odd sizes only.
@pytest.mark.parametrize(("padding", "size"), [("same", (97, 65)), ("symmetric", (97, 65)), ("symmetric", (64, 98))])
def test_a_denser_map_holds_the_coarser_one(padding: Any, size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    mobilenet = SMALL(padding=padding, output_stride=32)
    shake(mobilenet).double().eval()
    image_NCHW = torch.randn(1, 3, *size, dtype=torch.float64)
    with torch.inference_mode():
        coarse = mobilenet(image_NCHW)
        for output_stride in (16, 8, 4):
            mobilenet.set_output_stride(output_stride)
            dense, step = mobilenet(image_NCHW), 32 // output_stride
            torch.testing.assert_close(dense["high"][..., ::step, ::step], coarse["high"])
            torch.testing.assert_close(dense["low_level_4"], coarse["low_level_4"])


@pytest.mark.parametrize("size", [(6, 6), (7, 7), (6, 9), (1, 2), (2, 1)])
@pytest.mark.parametrize(("stride", "rate"), [(1, 1), (1, 2), (2, 1)])
def test_convolutions_pad_as_tensorflows_same(size: tuple[int, int], stride: int, rate: int) -> None:
    torch.manual_seed(0)
    layer = ConvBatchNorm(
        in_channels=1, out_channels=1, kernel_size=3, stride=stride, rate=rate, padding="same", activation="none"
    )
    layer.double().eval()
    map_HW, kernel = np.random.default_rng(0).standard_normal(size), layer.conv.weight.detach().numpy()[0, 0]
    outs = [-(-n // stride) for n in size]
    # TensorFlow: pad as much as the last window needs, the smaller half before the map.
    before = [max((out - 1) * stride + 2 * rate + 1 - n, 0) // 2 for out, n in zip(outs, size, strict=True)]
    wanted = np.zeros(outs)
    for i, j, row, column in np.ndindex(*outs, 3, 3):
        y, x = i * stride + row * rate - before[0], j * stride + column * rate - before[1]
        if 0 <= y < size[0] and 0 <= x < size[1]:
            wanted[i, j] += map_HW[y, x] * kernel[row, column]
    with torch.inference_mode():
        found = layer(torch.from_numpy(map_HW)[None, None])[0, 0].numpy()
    np.testing.assert_allclose(found * np.sqrt(1 + 1e-5), wanted, rtol=1e-9, atol=1e-12)


def channels_of(mobilenet: MobileNetV2) -> list[int]:
    """Return the channels of the stem and of the first unit of every group."""
    firsts = np.cumsum([0, *(repeats for _, _, repeats, _ in mobilenet.settings[:-1])])
    return [mobilenet.stem.conv.out_channels, *(mobilenet.units[i].project.conv.out_channels for i in firsts)]


@pytest.mark.parametrize(
    ("width", "divisible_by", "channels"),
    [
        (1.0, 8, [32, 16, 24, 32, 64, 96, 160, 320]),
        (1.0, 1, [32, 16, 24, 32, 64, 96, 160, 320]),
        (0.5, 8, [16, 8, 16, 16, 32, 48, 80, 160]),
        (0.5, 1, [16, 8, 12, 16, 32, 48, 80, 160]),  # DeepLab's smallest release
        (0.35, 8, [16, 8, 8, 16, 24, 32, 56, 112]),
        (1.4, 8, [48, 24, 32, 48, 88, 136, 224, 448]),
    ],
)
def test_widths_are_rounded_as_published(width: float, divisible_by: int, channels: list[int]) -> None:
    with torch.device("meta"):
        mobilenet = mobilenetv2(width=width, divisible_by=divisible_by)
    assert channels_of(mobilenet) == channels
    expanded = [unit.depthwise.conv.out_channels for unit in mobilenet.units]
    inputs = [channels[0], *(unit.project.conv.out_channels for unit in mobilenet.units[:-1])]
    assert expanded == [channels[0], *(6 * count for count in inputs[1:])]


def test_inputs_are_added_where_shapes_allow() -> None:
    with torch.device("meta"):
        mobilenet = mobilenetv2()
    adds = [index for index, unit in enumerate(mobilenet.units) if unit.adds_input]
    assert adds == [2, 4, 5, 7, 8, 9, 11, 12, 14, 15]
    assert [unit.depthwise.conv.groups == unit.depthwise.conv.in_channels for unit in mobilenet.units] == [True] * 17
    assert [isinstance(unit.expand, nn.Identity) for unit in mobilenet.units] == [True, *[False] * 16]


@pytest.mark.parametrize(("adds_input", "stride", "rate"), [(True, 1, 1), (True, 1, 2), (False, 2, 1)])
def test_a_unit_is_an_inverted_residual_with_a_linear_bottleneck(adds_input: bool, stride: int, rate: int) -> None:
    torch.manual_seed(0)
    brick = partial(ConvBatchNorm, eps=1e-3, padding="symmetric")
    unit = InvertedResidual(in_channels=4, out_channels=4, expansion=6, adds_input=adds_input, brick=brick)
    shake(unit).double().eval()
    unit.set_atrous(UnitPlan(stride, rate, rate))
    x_NCHW = 3 * torch.randn(2, 4, 9, 8, dtype=torch.float64)

    def normalise(y: Tensor, norm: nn.BatchNorm2d) -> Tensor:
        return F.batch_norm(y, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=1e-3)

    layers: list[Any] = [unit.expand, unit.depthwise, unit.project]
    y = normalise(F.conv2d(x_NCHW, layers[0].conv.weight), layers[0].norm).clamp(0, 6)
    wide = y.shape[1]
    y = F.conv2d(y, layers[1].conv.weight, stride=stride, padding=rate, dilation=rate, groups=wide)
    inside = normalise(y, layers[1].norm).clamp(0, 6)
    y = normalise(F.conv2d(inside, layers[2].conv.weight), layers[2].norm)
    torch.testing.assert_close(unit(x_NCHW), x_NCHW + y if adds_input else y)
    torch.testing.assert_close(unit.inside(x_NCHW), inside)
    assert wide == 24


def test_low_levels_are_the_depthwise_outputs_of_the_last_units_at_strides_4_and_8() -> None:
    # The official layer_4/depthwise_output and layer_7/depthwise_output, of expanded_conv_2 and expanded_conv_5.
    torch.manual_seed(0)
    mobilenet = shake(mobilenetv2()).eval()
    outputs: dict[str, Tensor] = {}
    for name, index in (("low_level_4", 2), ("low_level_8", 5)):
        depthwise = mobilenet.get_submodule(f"units.{index}.depthwise")
        depthwise.register_forward_hook(lambda _m, _i, output, name=name: outputs.update({name: output.clone()}))
    with torch.inference_mode():
        features = mobilenet(torch.randn(1, 3, 65, 64))
    for name, channels, side in (("low_level_4", 144, (17, 16)), ("low_level_8", 192, (9, 8))):
        assert features[name].shape == (1, channels, *side)
        assert torch.equal(features[name], outputs[name])
    assert features["high"].shape == (1, 320, 5, 4)
    assert features["high"].min() < 0  # no activation behind the last projection


def test_features_are_what_feature_info_says() -> None:
    mobilenet = SMALL().eval()
    for output_stride in (4, 8, 16, 32):
        mobilenet.set_output_stride(output_stride)
        for height, width in ((33, 49), (32, 38)):
            with torch.inference_mode():
                features = mobilenet(torch.zeros(1, 3, height, width))
            for name, info in mobilenet.feature_info.items():
                assert features[name].shape == (1, info.channels, -(-height // info.stride), -(-width // info.stride))


@pytest.mark.parametrize(
    ("output_stride", "rates"),
    [
        (32, [1] * 17),
        (16, [*[1] * 14, 2, 2, 2]),
        (8, [*[1] * 7, *[2] * 7, 4, 4, 4]),
    ],
)
def test_the_unit_that_would_have_strided_keeps_the_rate(output_stride: int, rates: list[int]) -> None:
    with torch.device("meta"):
        mobilenet = mobilenetv2(output_stride=output_stride)
    assert [unit.depthwise.conv.dilation[0] for unit in mobilenet.units] == rates
    assert all(before <= after for before, after in pairwise(rates))


def test_parameters_are_those_of_torchvision() -> None:
    with torch.device("meta"):  # torchvision's documented number, its last convolution and classifier included
        mobilenet = mobilenetv2(padding="symmetric", epsilon=1e-5)
        head = [nn.Conv2d(320, 1280, 1, bias=False), nn.BatchNorm2d(1280), nn.Linear(1280, 1000)]
    assert sum(p.numel() for module in (mobilenet, *head) for p in module.parameters()) == 3_504_872
    assert {m.eps for m in mobilenet.modules() if isinstance(m, nn.BatchNorm2d)} == {1e-5}
    with torch.device("meta"):
        assert {m.eps for m in mobilenetv2().modules() if isinstance(m, nn.BatchNorm2d)} == {1e-3}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"blocks": 5}, "blocks=5: MobileNetV2 has no blocks 5 to 7"),
        ({"multi_grid": (1, 2, 4)}, "MobileNetV2 has no multi-grid"),
        ({"width": 0}, "width=0 must be above 0"),
        ({"divisible_by": 0}, "divisible_by=0 must be at least 1"),
        ({"padding": "valid"}, "padding='valid' is unknown; choose same .* or symmetric"),
        ({"output_stride": 64}, "output_stride=64 is impossible .* 4, 8, 16, 32"),
    ],
)
def test_what_cannot_be_built_says_what_can(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        SMALL(**options)
