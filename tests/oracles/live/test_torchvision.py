"""torchvision's networks, built here and now: every map of ours equals theirs on the same weights."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch

from atrous.networks.deeplab import DeepLabV3
from atrous.networks.mobilenet import MobileNetV2
from atrous.networks.resnet import ResNet, resnet34, resnet50, resnet101, resnet152
from atrous.weights.torchvision import from_torchvision

from .conftest import SIZES, assert_close, fill, image, kept_outputs

LAYOUT: dict[str, Any] = {"stem": "7x7", "strides_in": "first_unit"}


@pytest.mark.slow
@pytest.mark.parametrize(("name", "backbone"), [("resnet50", resnet50), ("resnet101", resnet101)])
def test_deeplabv3_has_their_features_and_logits(torchvision: Any, name: str, backbone: Any) -> None:
    theirs = getattr(torchvision.segmentation, f"deeplabv3_{name}")(weights=None, weights_backbone=None, aux_loss=True)
    state = fill(theirs, damped=())
    model = DeepLabV3(
        backbone=partial(backbone, **LAYOUT),
        output_stride=8,
        head_convolutions=((3, 256),),
        align_corners=False,
    ).eval()
    report = from_torchvision(model, state)
    assert report.left == ()
    assert {entry for entry in state if entry not in report.loaded} == {e for e in state if e.startswith("aux_")}
    for size in SIZES:
        image_NCHW = image(size)
        with torch.inference_mode():
            features, logits = theirs.backbone(image_NCHW)["out"], theirs(image_NCHW)["out"]
            ours = {"layer4": model.backbone(image_NCHW)["high"], "logits": model(image_NCHW)}
        assert_close(ours, {"layer4": features, "logits": logits})


def last_units(resnet: ResNet) -> dict[str, Any]:
    ends = [f"{block}.{count - 1}" for block, count in enumerate(resnet.units)]
    return {f"layer{number}": resnet.blocks.get_submodule(end) for number, end in enumerate(ends, start=1)}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "build", "output_stride", "dilated"),
    [
        ("resnet34", resnet34, 32, None),
        ("resnet152", resnet152, 32, (False, False, False)),
        ("resnet152", resnet152, 16, (False, False, True)),
        ("resnet152", resnet152, 8, (False, True, True)),
    ],
)
def test_resnets_have_their_maps_of_all_four_layers(
    torchvision: Any, name: str, build: Any, output_stride: int, dilated: tuple[bool, ...] | None
) -> None:
    theirs = getattr(torchvision, name)(weights=None, replace_stride_with_dilation=dilated)
    resnet = build(**LAYOUT, output_stride=output_stride).eval()
    assert from_torchvision(resnet, fill(theirs, damped=(), basic_block=dilated is None)).left == ()
    units = last_units(resnet)
    ours, wanted = kept_outputs(units), kept_outputs({layer: theirs.get_submodule(layer) for layer in units})
    for size in SIZES:
        with torch.inference_mode():
            resnet(image(size))
            theirs(image(size))
        assert_close(ours, wanted)


@pytest.mark.parametrize("width", [1.0, 0.5, 1.4])
def test_mobilenetv2_has_their_map_of_every_unit(torchvision: Any, width: float) -> None:
    theirs = torchvision.mobilenet_v2(weights=None, width_mult=width)
    state = fill(theirs, damped=(".conv.3.weight",))
    mobilenet = MobileNetV2(width=width, padding="symmetric", epsilon=1e-5, output_stride=32).eval()
    assert from_torchvision(mobilenet, state).left == ()
    ours = kept_outputs({str(number): unit for number, unit in enumerate(mobilenet.units, start=1)})
    wanted = kept_outputs({str(number): theirs.features[number] for number in range(1, 18)})
    stem = kept_outputs({"0": mobilenet.stem}), kept_outputs({"0": theirs.features[0]})
    for size in SIZES:
        image_NCHW = image(size)
        with torch.inference_mode():
            theirs.features[:18](image_NCHW)
            x = mobilenet.stem(image_NCHW)
            for unit in mobilenet.units:  # the backbone calls the two halves of a unit, which hooks do not see
                x = unit(x)
            high = mobilenet(image_NCHW)["high"]
        assert_close(*stem)
        assert_close(ours, wanted)
        assert_close({"high": high}, {"high": wanted["17"]})
