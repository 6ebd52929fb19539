"""timm's networks as backbones: what they say of themselves, what is refused. Skips where timm is absent."""

from __future__ import annotations

import sys
from functools import partial
from typing import Any

import pytest
import torch

from atrous.errors import ConfigError
from atrous.networks.deeplab import DeepLabV3Plus
from atrous.networks.timm_backbone import TimmBackbone

from .stub_timm import StubTimm


def test_without_timm_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ConfigError, match=r"needs the package timm: pip install 'atrous\[timm\]'"):
        TimmBackbone(name="resnet50d")


@pytest.mark.parametrize("name", ["hf-hub:evil/net", "hf_hub:evil/net", "local-dir:net", "timm/resnet18", "/net", 3])
def test_a_name_that_leads_out_of_timm_is_refused_before_timm_hears_of_it(
    name: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    stub = StubTimm()
    monkeypatch.setitem(sys.modules, "timm", stub)
    with pytest.raises(ConfigError, match=rf"^name={name!r}: the name of a network that timm itself has"):
        TimmBackbone(name=name, pretrained=True)
    assert stub.asked == []
    TimmBackbone(name="resnet18.a1_in1k", pretrained=True)
    assert stub.asked == [("resnet18.a1_in1k", True)]


@pytest.fixture
def timm() -> Any:
    """The package timm."""
    return pytest.importorskip("timm", reason="timm is absent: pip install 'atrous[timm]'")


@pytest.mark.every(3)
@pytest.mark.usefixtures("timm")
@pytest.mark.parametrize("name", ["resnet50d", "xception65", "mobilenetv2_100", "regnety_004"])
@pytest.mark.parametrize("output_stride", [8, 16, 32])
def test_features_are_what_feature_info_says(name: str, output_stride: int) -> None:
    with torch.device("meta"):
        backbone = TimmBackbone(name=name, output_stride=output_stride).eval()
        features = backbone(torch.empty(1, 3, 65, 97))
    assert features.keys() == backbone.feature_info.keys() == {"low_level_4", "low_level_8", "high"}
    for feature, info in backbone.feature_info.items():
        assert features[feature].shape == (1, info.channels, -(-65 // info.stride), -(-97 // info.stride))
    assert backbone.feature_info["low_level_4"].stride == 4
    assert backbone.feature_info["low_level_8"].stride == 8
    assert backbone.feature_info["high"] == (backbone.out_channels, backbone.output_stride)
    assert backbone.output_stride == output_stride


@pytest.mark.usefixtures("timm")
def test_a_network_is_built_on_it() -> None:
    with torch.device("meta"):
        model = DeepLabV3Plus(backbone=partial(TimmBackbone, name="resnet50d"), num_classes=5).eval()
        assert model(torch.empty(1, 3, 65, 65)).shape == (1, 5, 65, 65)


@pytest.mark.usefixtures("timm")
def test_the_output_stride_is_fixed_when_it_is_built() -> None:
    with torch.device("meta"):
        backbone = TimmBackbone(name="resnet18", output_stride=16)
    backbone.set_output_stride(16)
    with pytest.raises(ConfigError, match="output_stride=8: timm's resnet18 was built at 16 and cannot change"):
        backbone.set_output_stride(8)


@pytest.mark.usefixtures("timm")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "resnet9000"}, "name='resnet9000', output_stride=16: timm cannot build it"),
        ({"name": "resnet18", "output_stride": 4}, "name='resnet18', output_stride=4: timm cannot build it"),
        ({"name": "vit_tiny_patch16_224"}, "name='vit_tiny_patch16_224', output_stride=16: timm cannot build it"),
        ({"name": "resnet18", "blocks": 5}, "blocks=5, .* timm's networks have neither"),
        ({"name": "resnet18", "multi_grid": (1, 2, 4)}, r"multi_grid=\(1, 2, 4\): timm's networks have neither"),
    ],
)
def test_what_cannot_be_built_says_why(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        TimmBackbone(**options)


@pytest.mark.usefixtures("timm")
@pytest.mark.parametrize(("name", "channels"), [("resnet50d", (256, 512)), ("xception65", (256, 728))])
def test_low_levels_are_the_same_maps_at_every_output_stride(name: str, channels: tuple[int, int]) -> None:
    # At output stride 8 the last maps have stride 8 too, and are no low levels.
    for output_stride in (8, 16, 32):
        with torch.device("meta"):
            info = TimmBackbone(name=name, output_stride=output_stride).feature_info
        assert (info["low_level_4"].channels, info["low_level_8"].channels) == channels
