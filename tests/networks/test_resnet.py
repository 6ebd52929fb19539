"""ResNet at any output stride: the same network, computed more or less densely."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from atrous import DeepLabV3Plus
from atrous.errors import ConfigError
from atrous.networks.max_pool import MaxPool
from atrous.networks.output_stride import StridesIn
from atrous.networks.resnet import ResNet, UnitKind, resnet18, resnet34, resnet50, resnet101, resnet152
from atrous.networks.resnet_layers import Stem, StemKind

SMALL = partial(ResNet, units=(2, 1, 2, 3), width=4)


def shake(model: nn.Module) -> nn.Module:
    """Give batch norms statistics and weights that are not those of a fresh network."""
    for norm in (module for module in model.modules() if isinstance(module, nn.BatchNorm2d)):
        nn.init.uniform_(norm.get_buffer("running_var"), 0.5, 1.5)
        nn.init.normal_(norm.get_buffer("running_mean"), std=0.1)
        nn.init.normal_(norm.bias, std=0.1)
    return model


@pytest.mark.parametrize("size", [(97, 129), (96, 122), (64, 33)])
@pytest.mark.parametrize("strides_in", ["last_unit", "first_unit"])
@pytest.mark.parametrize("unit", ["bottleneck", "basic"])
def test_a_denser_map_holds_the_coarser_one(unit: UnitKind, strides_in: StridesIn, size: tuple[int, int]) -> None:
    # DeepLabv3, section 3.1: atrous convolution computes the same responses, at more places.
    torch.manual_seed(0)
    resnet = SMALL(unit=unit, strides_in=strides_in, multi_grid=(1, 2, 1), blocks=7, output_stride=256)
    shake(resnet).double().eval()
    image_NCHW = torch.randn(1, 3, *size, dtype=torch.float64)
    with torch.inference_mode():
        coarse = resnet(image_NCHW)
        for output_stride in (128, 32, 16, 8, 4):
            resnet.set_output_stride(output_stride)
            dense = resnet(image_NCHW)
            step = 256 // output_stride
            torch.testing.assert_close(dense["high"][..., ::step, ::step], coarse["high"])
            torch.testing.assert_close(dense["low_level_4"], coarse["low_level_4"])


@pytest.mark.parametrize("units", [(1, 1, 1, 1), (2, 2, 2, 2), (3, 4, 6, 3)])
@pytest.mark.parametrize("unit", ["bottleneck", "basic"])
@pytest.mark.parametrize("strides_in", ["last_unit", "first_unit"])
@pytest.mark.parametrize("stem", ["beta", "7x7"])
def test_features_are_what_feature_info_says(
    units: tuple[int, ...], unit: UnitKind, strides_in: StridesIn, stem: StemKind
) -> None:
    resnet = ResNet(units=units, unit=unit, strides_in=strides_in, stem=stem, width=4, output_stride=8).eval()
    for output_stride in (4, 8, 16, 32):
        resnet.set_output_stride(output_stride)
        for height, width in ((65, 97), (64, 90)):
            features = resnet(torch.zeros(1, 3, height, width))
            assert features.keys() == resnet.feature_info.keys() == {"low_level_4", "low_level_8", "high"}
            for name, info in resnet.feature_info.items():
                assert features[name].shape == (1, info.channels, -(-height // info.stride), -(-width // info.stride))
        assert resnet.feature_info["low_level_4"].stride == 4
        assert resnet.feature_info["low_level_8"].stride == min(8, output_stride)
        assert resnet.feature_info["high"].stride == resnet.output_stride == output_stride


@pytest.mark.parametrize(
    ("build", "parameters"),
    [
        (resnet18, 11_689_512),
        (resnet34, 21_797_672),
        (resnet50, 25_557_032),
        (resnet101, 44_549_160),
        (resnet152, 60_192_808),
    ],
)
def test_parameters_are_those_of_torchvision(build: Callable[..., ResNet], parameters: int) -> None:
    with torch.device("meta"):  # torchvision's documented numbers, its 1000-class classifier included
        resnet = build(stem="7x7", strides_in="first_unit")
        classifier = nn.Linear(resnet.out_channels, 1000)
    assert sum(p.numel() for module in (resnet, classifier) for p in module.parameters()) == parameters


def test_the_low_level_is_before_the_shortcut_and_any_relu() -> None:
    resnet = shake(resnet50(width=4)).eval()
    outputs = []
    resnet.get_submodule("blocks.0.1.conv3").register_forward_hook(lambda _m, _i, output: outputs.append(output))
    features = resnet(torch.randn(1, 3, 33, 33))
    assert features["low_level_4"].min() < 0
    torch.testing.assert_close(features["low_level_4"], outputs[0])


@pytest.mark.parametrize("size", [(6, 6), (7, 7), (6, 9), (1, 2)])
def test_the_official_max_pool_pads_even_sizes_after_the_map(size: tuple[int, int]) -> None:
    map_HW = np.random.default_rng(0).standard_normal(size).astype(np.float32)
    wanted = np.empty([-(-n // 2) for n in size], dtype=np.float32)
    starts = [-((-(-n // 2) - 1) * 2 + 3 - n) // 2 if n % 2 else 0 for n in size]  # TensorFlow's SAME
    for i, j in np.ndindex(*wanted.shape):
        top, left = starts[0] + 2 * i, starts[1] + 2 * j
        wanted[i, j] = map_HW[max(top, 0) : top + 3, max(left, 0) : left + 3].max()
    pooled = MaxPool(padding="same")(torch.from_numpy(map_HW)[None, None])
    np.testing.assert_array_equal(pooled[0, 0].numpy(), wanted)


def test_the_width_scales_all_channels() -> None:
    resnet = resnet50(width=16)
    assert resnet.stem.out_channels == 32
    assert resnet.feature_info["low_level_4"].channels == 64
    assert resnet.feature_info["high"].channels == 512


def test_the_beta_stem_has_the_official_channels() -> None:
    stem = Stem(kind="beta", width=64)
    assert [tuple(p.shape) for p in stem.parameters() if p.ndim == 4] == [
        (64, 3, 3, 3),
        (64, 64, 3, 3),
        (128, 64, 3, 3),
    ]


@pytest.mark.parametrize("unit", ["bottleneck", "basic"])
def test_zeroed_residuals_leave_every_unit_its_shortcut_and_the_decoder_its_low_level(unit: UnitKind) -> None:
    resnet = SMALL(unit=unit, zero_init_residual=True).eval()
    image_NCHW = torch.randn(1, 3, 33, 33)
    assert resnet(image_NCHW)["low_level_4"].abs().max() > 0
    for index, residual_unit in enumerate(resnet.iter_units()):
        x_NCHW = torch.randn(1, next(residual_unit.parameters()).shape[1], 9, 9)
        assert bool(residual_unit.residual(x_NCHW).any()) == (index == 0)  # unit 1 of 2 is what the decoder reads


@pytest.mark.parametrize("low_levels", [(4,), (8,), (8, 4)])
@pytest.mark.parametrize("unit", ["bottleneck", "basic"])
def test_a_decoder_reads_no_zeros_from_zeroed_residuals_and_the_others_stay_zero(
    unit: UnitKind, low_levels: tuple[int, ...]
) -> None:
    backbone = partial(ResNet, units=(2, 2, 1, 1), width=4, unit=unit, zero_init_residual=True)
    model = DeepLabV3Plus(backbone=backbone, aspp_channels=4, low_levels=low_levels, multi_grid=None).eval()
    resnet = model.backbone
    assert isinstance(resnet, ResNet)
    features = resnet(torch.randn(1, 3, 33, 33))
    assert all(features[f"low_level_{stride}"].any() for stride in low_levels)
    drawn = [index for index, each in enumerate(resnet.iter_units()) if each.last_convolution.norm.weight.any()]
    assert drawn == ([0, 2] if 8 in low_levels else [0])


def test_a_weight_that_was_loaded_stays_where_a_decoder_reads_it() -> None:
    resnet = ResNet(units=(2, 2, 1, 1), width=4, zero_init_residual=True)
    weight = list(resnet.iter_units())[2].last_convolution.norm.weight
    nn.init.constant_(weight, 0.5)
    resnet.read_low_levels(["low_level_8"])
    assert weight.eq(0.5).all()


@pytest.mark.parametrize("hooked", ["last", "last.norm"])
@pytest.mark.parametrize("unit", ["bottleneck", "basic"])
def test_what_a_hook_keeps_of_a_residual_branch_stays_as_it_was_and_the_unit_gives_the_same_bits(
    unit: UnitKind, hooked: str
) -> None:
    residual_unit = list(SMALL(unit=unit).iter_units())[-1]
    x_NCHW = torch.randn(2, next(residual_unit.parameters()).shape[1], 9, 9)
    expected, kept = residual_unit(x_NCHW), []
    last = residual_unit.last_convolution
    module = last if hooked == "last" else last.norm
    module.register_forward_hook(lambda _module, _inputs, y_NCHW: kept.append((y_NCHW, y_NCHW.detach().clone())))
    assert torch.equal(residual_unit(x_NCHW), expected)
    ((y_NCHW, before_NCHW),) = kept
    assert torch.equal(y_NCHW, before_NCHW)


@pytest.mark.parametrize("unit", ["bottleneck", "basic"])
def test_a_backward_hook_reads_the_gradient_of_a_residual_branch(unit: UnitKind) -> None:
    residual_unit = list(SMALL(unit=unit).iter_units())[-1]
    x_NCHW = torch.randn(2, next(residual_unit.parameters()).shape[1], 9, 9)
    read: list[torch.Tensor] = []
    residual_unit.last_convolution.register_full_backward_hook(lambda _module, _by_input, by_y: read.extend(by_y))
    y_NCHW = residual_unit(x_NCHW)
    y_NCHW.sum().backward()
    assert torch.equal(read[0], (y_NCHW > 0).float())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"blocks": 8}, "blocks=8 must be 4, 5, 6 or 7"),
        ({"multi_grid": (1, 2)}, r"multi_grid=\(1, 2\) .* each of the 3 units .* \(1, 2, 4\)"),
        ({"multi_grid": (1, 0, 1)}, r"multi_grid=\(1, 0, 1\) must have"),
        ({"units": (3, 4, 6)}, r"units=\(3, 4, 6\): give the units of block1 to block4"),
        ({"unit": "wide"}, "unit='wide' is unknown; choose bottleneck or basic"),
        ({"stem": "3x3"}, "stem='3x3' is unknown; choose beta .* or 7x7"),
        ({"width": 0}, "width=0 must be at least 1"),
        ({"output_stride": 64}, "output_stride=64 is impossible .* 4, 8, 16, 32"),
    ],
)
def test_what_cannot_be_built_says_what_can(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ResNet(**{"width": 4, **options})
