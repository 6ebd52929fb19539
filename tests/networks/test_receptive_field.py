"""Valid weights against a convolution of ones; receptive fields against where gradients of the image are not 0."""

from __future__ import annotations

import re
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from atrous.errors import ConfigError
from atrous.networks.backbone import Backbone, BackboneFactory, FeatureInfo
from atrous.networks.deeplab import DeepLabV3, DeepLabV3Cascade, DeepLabV3Plus
from atrous.networks.dense_prediction_cell import Branch, DensePredictionCell
from atrous.networks.mobilenet import MobileNetV2
from atrous.networks.receptive_field import Stage, stages, valid_weights
from atrous.networks.resnet import ResNet, resnet50
from atrous.networks.xception import xception65


@pytest.mark.parametrize("size", [1, 2, 33, 65])
@pytest.mark.parametrize("rate", [1, 2, 16, 32, 33, 64, 65, 100])
def test_valid_weights_are_what_a_convolution_of_ones_counts(size: int, rate: int) -> None:
    ones = torch.ones(1, 1, size, size, dtype=torch.float64)
    counts = F.conv2d(ones, torch.ones(1, 1, 3, 3, dtype=torch.float64), padding=rate, dilation=rate).long()
    found = valid_weights(size=size, rate=rate)
    for count in range(10):
        assert found.get(count, 0.0) == pytest.approx((counts == count).double().mean().item(), abs=1e-12)
    assert sum(found.values()) == pytest.approx(1)


def test_a_3x3_filter_becomes_a_1x1_filter_where_the_rate_is_the_map() -> None:
    # What the paper says in section 3.3: "instead of capturing the whole image context, degenerates".
    assert valid_weights(size=65, rate=65)[1] == 1
    assert valid_weights(size=65, rate=1)[9] == pytest.approx((63 / 65) ** 2)


def always_active(model: nn.Module) -> nn.Module:
    """Make every weight positive and every activation linear around the image, so that no path is closed."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.uniform_(module.weight, 0.5, 1.0)
            with torch.no_grad():
                module.weight /= module.weight[0].numel()
    return model.double().eval()


def side_seen(model: nn.Module, feature: Any, size: int) -> tuple[int, int]:
    """Return rows and columns of the pixels that the middle position of a feature depends on."""
    image_NCHW = torch.rand(1, 3, size, size, dtype=torch.float64, requires_grad=True)
    map_NCHW: Tensor = feature(model, image_NCHW)
    map_NCHW[..., map_NCHW.shape[-2] // 2, map_NCHW.shape[-1] // 2].sum().backward()  # type: ignore[no-untyped-call]
    assert image_NCHW.grad is not None
    rows, columns = (image_NCHW.grad[0].abs().sum(0) > 0).nonzero().T
    return int(rows.max() - rows.min() + 1), int(columns.max() - columns.min() + 1)


def high(model: Any, image_NCHW: Tensor) -> Tensor:
    found: Tensor = model.backbone(image_NCHW)["high"]
    return found


def _without_pool(resnet: Backbone) -> None:
    """A max pool passes the gradient of one pixel of nine; a mean passes all."""
    if isinstance(resnet, ResNet):
        resnet.pool = nn.AvgPool2d(3, stride=2, padding=1, count_include_pad=False)  # type: ignore[assignment]


BACKBONES: dict[str, BackboneFactory] = {
    "basic": partial(ResNet, units=(1, 1, 1, 3), unit="basic", width=2),
    "basic_first_unit": partial(ResNet, units=(1, 1, 1, 3), unit="basic", width=2, strides_in="first_unit"),
    "bottleneck": partial(ResNet, units=(1, 1, 1, 3), width=2),
    "bottleneck_7x7": partial(ResNet, units=(1, 2, 1, 3), width=2, stem="7x7", strides_in="first_unit"),
    "xception": partial(xception65, width=0.005, middle_units=1),
    "mobilenetv2": partial(
        MobileNetV2, width=0.1, settings=((1, 16, 1, 1), (6, 24, 1, 2), (6, 32, 1, 2), (6, 64, 2, 2))
    ),
}


@pytest.mark.parametrize("output_stride", [8, 16])
@pytest.mark.parametrize("backbone", BACKBONES)
def test_the_last_unit_sees_what_gradients_reach(backbone: str, output_stride: int) -> None:
    torch.manual_seed(0)
    model = DeepLabV3(backbone=BACKBONES[backbone], output_stride=output_stride, aspp_channels=2, aspp_rates=(6,))
    last = [stage for stage in stages(model) if not stage.name.startswith("context.")][-1]
    _without_pool(model.backbone)
    always_active(model)
    side = last.receptive_field
    size = (side // (2 * output_stride) + 1) * 2 * output_stride + output_stride * 2 + 1
    assert side_seen(model, high, size) == (side, side)
    assert last.stride == output_stride
    assert last.channels == model.backbone.out_channels


@pytest.mark.parametrize("separable", [False, True])
def test_every_branch_of_aspp_sees_what_gradients_reach(separable: bool) -> None:
    torch.manual_seed(0)
    model = DeepLabV3(
        backbone=BACKBONES["basic"], output_stride=32, aspp_channels=2, aspp_rates=(4, 6), aspp_separable=separable
    )
    branches = [stage for stage in stages(model) if stage.name.startswith("context.")]
    assert [stage.rates for stage in branches] == [(2,), (3,)]
    _without_pool(model.backbone)
    always_active(model)
    for index, stage in enumerate(branches):

        def branch(model: Any, image_NCHW: Tensor, index: int = index) -> Tensor:
            found: Tensor = model.context.atrous_convs[index](high(model, image_NCHW))
            return found

        assert side_seen(model, branch, 32 * (stage.receptive_field // 32 + 2) + 1) == (stage.receptive_field,) * 2


def test_branches_of_a_cell_see_through_the_branch_that_they_read() -> None:
    torch.manual_seed(0)
    cell = (Branch((1, 3), -1), Branch((4, 2), 0), Branch((2, 2), 1))
    model = DeepLabV3(
        backbone=BACKBONES["basic"],
        output_stride=16,
        context=partial(DensePredictionCell, channels=2, branches=cell),
    )
    branches = [stage for stage in stages(model) if stage.name.startswith("context.")]
    assert [stage.rates for stage in branches] == [(1, 3), (4, 2), (2,)]
    _without_pool(model.backbone)
    always_active(model)
    for index, stage in enumerate(branches):

        def branch(model: Any, image_NCHW: Tensor, index: int = index) -> Tensor:
            outputs = [high(model, image_NCHW)]
            for conv, spec in zip(model.context.branches, cell, strict=True):
                outputs.append(conv(outputs[spec.reads + 1]))
            return outputs[index + 1]

        size = 32 * (stage.receptive_field // 32 + 2) + 1
        assert max(side_seen(model, branch, size)) == stage.receptive_field


BLOCK_ENDS = [f"blocks.{block}.{last}" for block, last in enumerate((2, 3, 5, 2, 2, 2, 2))]


def test_the_cascade_grows_strides_or_rates_as_figure_3() -> None:
    with torch.device("meta"):
        strided = stages(DeepLabV3Cascade(backbone="resnet50", output_stride=256))
        atrous = stages(DeepLabV3Cascade(backbone="resnet50", output_stride=16))

    def of_units(walked: list[Stage], ending: str) -> list[Stage]:
        return [stage for stage in walked if re.fullmatch(rf"blocks\.\d\.{ending}", stage.name)]

    # Units from 0: of resnet50 the blocks end with unit 2, 3, 5, 2, 2, 2, 2; a block strides in its last unit.
    assert [stage.stride for stage in strided if stage.name in BLOCK_ENDS] == [8, 16, 32, 64, 128, 256, 256]
    assert [stage.stride for stage in atrous if stage.name in BLOCK_ENDS] == [8, 16, 16, 16, 16, 16, 16]
    assert [stage.rates for stage in of_units(strided, "0")] == [(1,)] * 7
    assert [stage.rates for stage in of_units(atrous, "0")] == [(1,), (1,), (1,), (2,), (4,), (8,), (16,)]  # (b)
    assert strided[-1].channels == 2048


def test_stages_are_the_units_in_order_and_the_atrous_branches() -> None:
    with torch.device("meta"):
        walked = stages(DeepLabV3Plus(backbone="resnet50"))
    names = [stage.name for stage in walked]
    units = [f"blocks.{block}.{unit}" for block, count in enumerate((3, 4, 6, 3)) for unit in range(count)]
    assert names == ["stem", "pool", *units, *(f"context.atrous_convs.{index}.conv" for index in range(3))]
    assert [stage.rates for stage in walked[-6:]] == [(2,), (4,), (8,), (6,), (12,), (18,)]
    fields = [stage.receptive_field for stage in walked[:-3]]
    assert fields == sorted(fields)
    assert fields[:2] == [11, 15]  # three 3x3, the first of stride 2; then 3x3 at stride 2


def test_walking_changes_nothing() -> None:
    model = DeepLabV3(backbone=partial(resnet50, width=4), aspp_channels=2).train()
    before = str(model)
    stages(model)
    assert model.training
    assert str(model) == before
    assert all(not module._forward_hooks for module in model.modules())


class Foreign(Backbone):
    """A backbone whose units no one knows."""

    out_channels = 4

    def __init__(self, *, output_stride: int, multi_grid: object, blocks: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1, stride=output_stride)

    @property
    def output_stride(self) -> int:
        return 16

    @property
    def feature_info(self) -> dict[str, FeatureInfo]:
        return {"high": FeatureInfo(4, 16)}

    def set_output_stride(self, output_stride: int) -> None:
        raise NotImplementedError

    def forward(self, x_NCHW: Tensor) -> dict[str, Tensor]:
        return {"high": self.conv(x_NCHW)}


def test_a_backbone_of_unknown_units_is_refused() -> None:
    with pytest.raises(ConfigError, match="backbone=Foreign: only the units of ResNet, Xception and MobileNetV2"):
        stages(DeepLabV3(backbone=Foreign))
