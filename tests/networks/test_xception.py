"""Aligned Xception: the same responses at every output stride, its units in plain torch, its published sizes."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from atrous.errors import ConfigError
from atrous.networks.layers import SeparableConv
from atrous.networks.xception import Xception, xception41, xception65, xception71

from .conftest import shake

SMALL: dict[str, Any] = {"width": 0.02, "middle_units": 1}
ALL = (xception41, xception65, xception71)


@pytest.mark.parametrize("size", [(97, 65), (64, 66)])
@pytest.mark.parametrize("build", [xception65, xception71])
def test_a_denser_map_holds_the_coarser_one(build: Callable[..., Xception], size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    xception = build(**SMALL, multi_grid=(1, 2, 1), output_stride=32)
    shake(xception).double().eval()
    image_NCHW = torch.randn(1, 3, *size, dtype=torch.float64)
    with torch.inference_mode():
        coarse = xception(image_NCHW)
        for output_stride in (16, 8, 4):
            xception.set_output_stride(output_stride)
            dense, step = xception(image_NCHW), 32 // output_stride
            torch.testing.assert_close(dense["high"][..., ::step, ::step], coarse["high"])
            torch.testing.assert_close(dense["low_level_4"], coarse["low_level_4"])
            finer = max(1, 8 // output_stride)
            torch.testing.assert_close(dense["low_level_8"][..., ::finer, ::finer], coarse["low_level_8"])


@pytest.mark.parametrize("build", ALL)
def test_features_are_what_feature_info_says(build: Callable[..., Xception]) -> None:
    xception = build(**SMALL).eval()
    for output_stride in (4, 8, 16, 32):
        xception.set_output_stride(output_stride)
        for height, width in ((33, 49), (32, 38)):
            with torch.inference_mode():
                features = xception(torch.zeros(1, 3, height, width))
            assert features.keys() == xception.feature_info.keys() == {"low_level_4", "low_level_8", "high"}
            for name, info in xception.feature_info.items():
                assert features[name].shape == (1, info.channels, -(-height // info.stride), -(-width // info.stride))


@pytest.mark.parametrize(("build", "low_level_4", "low_level_8"), [(xception65, 1, 2), (xception71, 2, 4)])
def test_low_levels_are_the_second_convolution_before_any_relu(
    build: Callable[..., Xception], low_level_4: int, low_level_8: int
) -> None:
    # Entry block2 of Xception-65 and block3 of Xception-71, counted from 1.
    torch.manual_seed(0)
    xception = shake(build(**SMALL)).eval()
    outputs: dict[int, Tensor] = {}
    for index in (low_level_4, low_level_8):
        norm = xception.get_submodule(f"units.{index}.conv2.pointwise.norm")
        norm.register_forward_hook(lambda _m, _i, output, index=index: outputs.update({index: output.clone()}))
    with torch.inference_mode():
        features = xception(torch.randn(1, 3, 33, 33))
    for name, index in (("low_level_4", low_level_4), ("low_level_8", low_level_8)):
        assert features[name].min() < 0
        assert torch.equal(features[name], outputs[index])


@pytest.mark.parametrize("build", ALL)
def test_the_decoder_reads_256_channels_at_stride_4(build: Callable[..., Xception]) -> None:
    with torch.device("meta"):
        info = build().feature_info
    assert info["low_level_4"] == (256, 4)
    assert info["low_level_8"] == (728, 8)
    assert info["high"] == (2048, 16)


def test_the_flows_have_the_published_channels_shortcuts_and_relus() -> None:
    with torch.device("meta"):
        xception = xception65()
    stem = [conv for conv in xception.stem.modules() if isinstance(conv, nn.Conv2d)]
    assert [(conv.out_channels, conv.kernel_size, conv.stride) for conv in stem] == [
        (32, (3, 3), (2, 2)),
        (64, (3, 3), (1, 1)),
    ]
    channels = [
        [unit.get_submodule(f"conv{n}.pointwise.conv").out_channels for n in (1, 2, 3)] for unit in xception.units
    ]
    assert channels == [[128] * 3, [256] * 3, [728] * 3, *[[728] * 3] * 16, [728, 1024, 1024], [1536, 1536, 2048]]
    kinds = [type(unit.shortcut).__name__ for unit in xception.units]
    assert kinds == ["ConvBatchNorm"] * 3 + ["Identity"] * 16 + ["ConvBatchNorm", "NoneType"]
    assert [unit.relu_inside for unit in xception.units] == [False] * 20 + [True]


def test_every_batch_norm_has_the_epsilon_of_the_official_code() -> None:
    with torch.device("meta"):
        assert {m.eps for m in xception71().modules() if isinstance(m, nn.BatchNorm2d)} == {1e-3}


@pytest.mark.parametrize(
    ("build", "layers", "units"), [(xception41, 41, 13), (xception65, 65, 21), (xception71, 71, 23)]
)
def test_the_names_count_the_layers(build: Callable[..., Xception], layers: int, units: int) -> None:
    with torch.device("meta"):
        xception = build()
    assert len(xception.units) == units
    separable_convs = sum(isinstance(module, SeparableConv) for module in xception.modules())  # one layer each
    assert len(xception.stem) + separable_convs == layers


@pytest.mark.parametrize(
    ("build", "entry"), [(xception41, [2, 2, 2]), (xception65, [2, 2, 2]), (xception71, [2, 1, 2, 1, 2])]
)
def test_only_the_third_convolution_of_a_unit_strides(build: Callable[..., Xception], entry: list[int]) -> None:
    with torch.device("meta"):
        xception = build(output_stride=32)
    strides = [[_depthwise(unit, n).stride[0] for n in (1, 2, 3)] for unit in xception.units]
    assert strides == [[1, 1, stride] for stride in (*entry, *[1] * xception.middle_units, 2, 1)]


def _depthwise(unit: nn.Module, number: int) -> nn.Conv2d:
    conv = unit.get_submodule(f"conv{number}.depthwise.conv")
    assert isinstance(conv, nn.Conv2d)
    return conv


@pytest.mark.parametrize(
    ("output_stride", "rates"),
    [
        (32, [1, 1, 1, *[1] * 16, 1, 1]),
        (16, [1, 1, 1, *[1] * 16, 1, 2]),
        (8, [1, 1, 1, *[2] * 16, 2, 4]),
        (4, [1, 1, 2, *[4] * 16, 4, 8]),
    ],
)
def test_the_unit_that_would_have_strided_keeps_the_rate_and_the_next_doubles_it(
    output_stride: int, rates: list[int]
) -> None:
    with torch.device("meta"):
        xception = xception65(output_stride=output_stride)
    found = [{_depthwise(unit, n).dilation for n in (1, 2, 3)} for unit in xception.units]
    assert found == [{(rate, rate)} for rate in rates]


def test_multi_grid_is_for_the_last_unit_alone() -> None:
    with torch.device("meta"):
        plain, multi = xception65(output_stride=8), xception65(output_stride=8, multi_grid=(1, 2, 4))

    def rates(xception: Xception) -> list[list[int]]:
        return [[_depthwise(unit, n).dilation[0] for n in (1, 2, 3)] for unit in xception.units]

    assert rates(multi)[:-1] == rates(plain)[:-1]
    assert rates(multi)[-1] == [4, 8, 16]


@pytest.mark.parametrize(("build", "millions"), [(xception41, 26.97), (xception65, 39.92), (xception71, 42.34)])
def test_parameters_are_those_of_timms_classifiers(build: Callable[..., Xception], millions: float) -> None:
    # As timm documents its networks, with a classifier for 1000 classes.
    with torch.device("meta"):
        xception = build()
        classifier = nn.Linear(xception.out_channels, 1000)
    counted = sum(p.numel() for module in (xception, classifier) for p in module.parameters())
    assert round(counted / 1e6, 2) == millions


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"blocks": 5}, "blocks=5: Xception has no blocks 5 to 7"),
        ({"multi_grid": (1, 2)}, r"multi_grid=\(1, 2\) must have .* each of the 3 convolutions"),
        ({"multi_grid": (1, 0, 1)}, r"multi_grid=\(1, 0, 1\) must have"),
        ({"width": 0}, "width=0 must be above 0"),
        ({"output_stride": 64}, "output_stride=64 is impossible .* 4, 8, 16, 32"),
        ({"output_stride": 12}, "output_stride=12 is impossible"),
    ],
)
def test_what_cannot_be_built_says_what_can(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        partial(xception65, **SMALL)(**options)
