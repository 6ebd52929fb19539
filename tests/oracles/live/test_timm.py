"""timm's aligned Xceptions are the paper's network: same maps on the same weights. And timm's own as backbones.

timm differs in two things. Its features are taken one step later, behind the ReLU in front of a unit's third
convolution, where the decoder of the paper reads before it. And a unit that no longer strides and keeps its channels
loses the convolution of its shortcut, which only Xception-71 at output stride 8 has; it is left out here.
"""

from __future__ import annotations

import re
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from atrous.networks.deeplab import DeepLabV3Plus
from atrous.networks.timm_backbone import TimmBackbone
from atrous.networks.xception import Xception, xception41, xception65, xception71

from .conftest import SIZES, assert_close, fill, image, kept_outputs

RENAMED = [
    (r"^blocks\.", "units."),
    (r"\.stack\.", "."),
    (r"\.conv_dw\.", ".depthwise.conv."),
    (r"\.bn_dw\.", ".depthwise.norm."),
    (r"\.conv_pw\.", ".pointwise.conv."),
    (r"\.bn_pw\.", ".pointwise.norm."),
    (r"\.bn\.", ".norm."),
]


def renamed(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return timm's tensors by our names, without its classifier."""
    ours = {}
    for theirs, tensor in state.items():
        name = theirs
        for pattern, replacement in RENAMED:
            name = re.sub(pattern, replacement, name)
        if not name.startswith("head."):
            ours[name] = tensor
    return ours


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "build", "output_strides"),
    [("xception41", xception41, (16,)), ("xception65", xception65, (8, 16, 32)), ("xception71", xception71, (16, 32))],
)
def test_aligned_xceptions_have_timms_maps_of_every_unit(
    timm: Any, name: str, build: partial[Xception], output_strides: tuple[int, ...]
) -> None:
    for output_stride in output_strides:
        theirs = timm.create_model(name, output_stride=output_stride)
        xception = build(output_stride=output_stride).eval()
        state = fill(theirs, damped=(".conv3.bn_pw.weight",))
        xception.load_state_dict(renamed(state))  # strict: same names, same shapes, same number
        wanted = kept_outputs({str(number): block for number, block in enumerate(theirs.blocks)})
        for size in SIZES:
            with torch.inference_mode():
                _, taps = theirs.forward_intermediates(image(size))
                x, ours = xception.stem(image(size)), {}
                for number, unit in enumerate(xception.units):
                    x = ours[str(number)] = unit(x)
                features = xception(image(size))
            assert_close({key: ours[key] for key in wanted}, wanted)
            assert features["high"].equal(x)
            strides = [info["reduction"] for info in theirs.feature_info]
            for low_level, stride in (("low_level_4", 4), ("low_level_8", 8)):
                tap = taps[strides.index(stride)]
                assert_close({low_level: features[low_level].clamp(min=0)}, {low_level: tap})


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet50d", "xception65"])
@pytest.mark.parametrize("output_stride", [8, 16])
def test_a_backbone_gives_timms_features_by_their_strides(timm: Any, name: str, output_stride: int) -> None:
    backbone = TimmBackbone(name=name, output_stride=output_stride).eval()
    whole = timm.create_model(name, output_stride=output_stride)
    state = fill(whole, damped=(".conv3.bn_pw.weight",))
    backbone.network.load_state_dict({key: state[_of_whole(key, state)] for key in backbone.network.state_dict()})
    for size in SIZES:
        with torch.inference_mode():
            features = backbone(image(size))
            maps = whole.forward_intermediates(image(size), intermediates_only=True)
            high = whole.forward_features(image(size))
        assert_close({"high": features["high"]}, {"high": high})
        for low_level, stride in (("low_level_4", 4), ("low_level_8", 8)):
            side = -(-size[0] // stride), -(-size[1] // stride)
            fitting = [found for found in maps[:-1] if tuple(found.shape[-2:]) == side]
            assert_close({low_level: features[low_level]}, {low_level: fitting[0]})


def _of_whole(key: str, state: dict[str, Tensor]) -> str:
    """A network of features flattens the names of those modules that it has unpacked."""
    return key if key in state else re.sub(r"^(stem|blocks)_", r"\1.", key)


@pytest.mark.slow
@pytest.mark.usefixtures("timm")
@pytest.mark.parametrize("name", ["resnet50d", "xception65"])
def test_a_network_on_a_timm_backbone_can_be_trained(name: str) -> None:
    torch.manual_seed(0)
    model = DeepLabV3Plus(backbone=partial(TimmBackbone, name=name), num_classes=3, aspp_channels=8).train()
    logits_NKHW = model(torch.randn(2, 3, 65, 65))
    assert logits_NKHW.shape == (2, 3, 65, 65)
    logits_NKHW.square().mean().backward()
    # Xception's last units stand behind the features that are read; everything up to them learns.
    without = [key for key, parameter in model.named_parameters() if parameter.grad is None]
    assert without == []
