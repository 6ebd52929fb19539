"""A backbone returns the low levels that its head reads, and computes the others' units as a whole."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch

from atrous.errors import ConfigError
from atrous.networks.backbone import Backbone
from atrous.networks.deeplab import DeepLabV3, DeepLabV3Cascade, DeepLabV3Plus
from atrous.networks.mobilenet import MobileNetV2
from atrous.networks.resnet import ResNet
from atrous.networks.segmenter import Segmenter
from atrous.networks.xception import xception41

IMAGE = torch.randn(1, 3, 65, 65, generator=torch.Generator().manual_seed(0))


def _small_resnet(**options: Any) -> ResNet:
    return ResNet(units=(1, 2, 1, 1), width=8, **options)


@pytest.mark.parametrize("build", [_small_resnet, xception41, MobileNetV2])
@pytest.mark.parametrize("names", [[], ["low_level_4"], ["low_level_8"], ["low_level_8", "low_level_4"]])
def test_what_is_returned_keeps_its_bits(build: Callable[[], Backbone], names: Sequence[str]) -> None:
    torch.manual_seed(0)
    backbone = build().eval()
    with torch.no_grad():
        every = backbone(IMAGE)
        backbone.read_low_levels(names)
        read = backbone(IMAGE)
        backbone.read_low_levels(["low_level_4", "low_level_8"])
        again = backbone(IMAGE)
    assert read.keys() == {"high", *names}
    assert again.keys() == every.keys() == backbone.feature_info.keys()
    assert all(torch.equal(each[name], every[name]) for each in (read, again) for name in each)


def test_an_unknown_low_level_is_refused_and_changes_nothing() -> None:
    backbone = _small_resnet().eval()
    with pytest.raises(ConfigError, match=r"low_level_5.*low_level_4, low_level_8"):
        backbone.read_low_levels(["low_level_5"])
    assert backbone(IMAGE).keys() == backbone.feature_info.keys()


@pytest.mark.parametrize(
    ("network", "options", "names"),
    [
        (DeepLabV3, {}, []),
        (DeepLabV3Cascade, {"blocks": 4}, []),
        (DeepLabV3Plus, {}, ["low_level_4"]),
        (DeepLabV3Plus, {"low_levels": (8, 4)}, ["low_level_8", "low_level_4"]),
    ],
)
def test_a_network_asks_for_what_its_head_reads(
    network: Callable[..., Segmenter], options: dict[str, Any], names: Sequence[str]
) -> None:
    backbone = network(backbone=_small_resnet, **options).eval().backbone
    with torch.no_grad():
        assert backbone(IMAGE).keys() == {"high", *names}
