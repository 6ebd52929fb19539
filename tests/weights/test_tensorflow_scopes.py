"""Every official scope: of the graphs that the official code built, and of the parts that those do not have."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TypeVar

import pytest
import torch
from torch import nn

from atrous.errors import CheckpointError
from atrous.networks.aspp import Context
from atrous.networks.backbone import Backbone
from atrous.networks.deeplab import DeepLabV3, DeepLabV3Plus
from atrous.networks.dense_prediction_cell import DensePredictionCell
from atrous.networks.mobilenet import mobilenetv2
from atrous.networks.resnet import resnet50
from atrous.networks.segmenter import Segmenter
from atrous.networks.xception import xception65
from atrous.weights import tensorflow
from atrous.weights.matching import LoadReport
from atrous.weights.tensorflow import from_tensorflow

from .official_names import conv, official_shapes, separable, zeros

SEPARABLE: dict[str, Any] = {"aspp_separable": True, "decoder_separable": True}
Network = TypeVar("Network", bound=nn.Module)


def on_meta(network: Callable[[], Network]) -> Network:
    """Build without memory: names and shapes are all that counts here."""
    with torch.device("meta"):
        return network()


@pytest.mark.parametrize(
    ("name", "network"),
    [
        ("deeplabv3_resnet50beta_os16", partial(DeepLabV3, backbone="resnet50")),
        ("deeplabv3plus_resnet101beta_os16", partial(DeepLabV3Plus, backbone="resnet101")),
        ("deeplabv3_mobilenetv2_os16", partial(DeepLabV3, backbone="mobilenetv2", aspp_rates=())),
        ("deeplabv3plus_xception65_os16", partial(DeepLabV3Plus, backbone="xception65", **SEPARABLE)),
    ],
)
def test_names_and_shapes_are_those_of_the_official_graph(name: str, network: Callable[[], Segmenter]) -> None:
    expected = official_shapes(name)
    report = from_tensorflow(on_meta(network), zeros(expected))
    assert sorted(report.loaded) == sorted(expected)
    assert report.left == ()


def behind_the_backbone(model: Segmenter) -> dict[str, tuple[int, ...]]:
    """Return what a network wants besides its backbone: names and shapes in TensorFlow's order."""
    asked: dict[str, tuple[int, ...]] = {}

    def record(targets: Mapping[str, torch.Tensor], **_: object) -> LoadReport:
        for name, tensor in targets.items():
            shape = tuple(tensor.shape)
            if len(shape) == 4:  # from PyTorch's order
                o, i, kh, kw = shape
                shape = (kh, kw, o, i) if name.endswith("depthwise_weights") else (kh, kw, i, o)
            asked[name] = shape
        return LoadReport((), ())

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tensorflow, "load_by_name", lambda _model, **given: record(**given))
        from_tensorflow(model, {})
    return {name: shape for name, shape in asked.items() if not name.startswith(("xception", "resnet", "Mobilenet"))}


LOGITS = {"logits/semantic/weights": (1, 1, 256, 21), "logits/semantic/biases": (21,)}
ONE_DECODER = {
    **conv("decoder/feature_projection0", 1, 256, 48),
    **separable("decoder/decoder_conv0", 304, 256),
    **separable("decoder/decoder_conv1", 256, 256),
}


def test_the_dense_prediction_cell_has_its_official_scopes() -> None:
    model = on_meta(partial(DeepLabV3Plus, backbone="xception71", context=DensePredictionCell, decoder_separable=True))
    cell = separable("meta_architecture/branch0", 2048, 256)
    for number in range(1, 5):
        cell |= separable(f"meta_architecture/branch{number}", 256, 256)
    cell |= conv("meta_architecture/concat_projection", 1, 5 * 256, 256)
    assert behind_the_backbone(model) == {**cell, **ONE_DECODER, **LOGITS}


def test_the_second_stage_of_a_decoder_has_a_suffix() -> None:
    aspp = {
        **conv("image_pooling", 1, 2048, 256),
        **conv("aspp0", 1, 2048, 256),
        **conv("concat_projection", 1, 512, 256),
    }
    network = partial(DeepLabV3Plus, backbone="xception65", aspp_rates=(), low_levels=(8, 4))
    separable_stage = {
        **conv("decoder/feature_projection0", 1, 728, 48),
        **separable("decoder/decoder_conv0", 304, 256),
        **separable("decoder/decoder_conv1", 256, 256),
        **conv("decoder/feature_projection0_1", 1, 256, 48),
        **separable("decoder/decoder_conv0_1", 304, 256),
        **separable("decoder/decoder_conv1_1", 256, 256),
    }
    assert behind_the_backbone(on_meta(partial(network, decoder_separable=True))) == {
        **aspp,
        **separable_stage,
        **LOGITS,
    }
    plain_stage = {
        **conv("decoder/feature_projection0", 1, 728, 48),
        **conv("decoder/decoder_conv0/decoder_conv0_1", 3, 304, 256),
        **conv("decoder/decoder_conv0/decoder_conv0_2", 3, 256, 256),
        **conv("decoder/feature_projection0_1", 1, 256, 48),
        **conv("decoder/decoder_conv0_1/decoder_conv0_1_1", 3, 304, 256),
        **conv("decoder/decoder_conv0_1/decoder_conv0_1_2", 3, 256, 256),
    }
    assert behind_the_backbone(on_meta(network)) == {**aspp, **plain_stage, **LOGITS}


def test_the_7x7_stem_is_conv1() -> None:
    beta = official_shapes("deeplabv3_resnet50beta_os16")
    stem = {name: shape for name, shape in beta.items() if "/conv1_" in name and "/block" not in name}
    rest = {name: shape for name, shape in beta.items() if name not in stem}
    first = "resnet_v1_50/block1/unit_1/bottleneck_v1/"  # the beta stem has 128 channels, this one 64
    narrow = {f"{first}conv1/weights": (1, 1, 64, 64), f"{first}shortcut/weights": (1, 1, 64, 256)}
    model = on_meta(partial(DeepLabV3, backbone=partial(resnet50, stem="7x7")))
    report = from_tensorflow(model, zeros({**rest, **narrow, **conv("resnet_v1_50/conv1", 7, 3, 64)}))
    assert report.left == ()
    assert len(stem) == 15


@pytest.mark.parametrize(
    ("name", "scope", "backbone", "head"),
    [
        ("deeplabv3_resnet50beta_os16", "resnet_v1_50", resnet50, ("resnet_v1_50/logits/weights",)),
        ("deeplabv3plus_xception65_os16", "xception_65", xception65, ("xception_65/logits/biases",)),
        (
            "deeplabv3_mobilenetv2_os16",
            "MobilenetV2",
            mobilenetv2,
            (
                "MobilenetV2/Conv_1/weights",
                "MobilenetV2/Conv_1/BatchNorm/gamma",
                "MobilenetV2/Logits/Conv2d_1c_1x1/weights",
            ),
        ),
    ],
)
def test_an_imagenet_checkpoint_fills_a_backbone_without_its_head(
    name: str, scope: str, backbone: Callable[[], Backbone], head: tuple[str, ...]
) -> None:
    variables = {name: shape for name, shape in official_shapes(name).items() if name.startswith(f"{scope}/")}
    slots = {
        f"{name}/{slot}": shape
        for name, shape in variables.items()
        for slot in ("Momentum", "ExponentialMovingAverage", "RMSProp", "RMSProp_1")
    }
    given = zeros({**variables, **slots, **dict.fromkeys(head, (1,)), "global_step": ()})
    report = from_tensorflow(on_meta(backbone), given)
    assert sorted(report.loaded) == sorted(variables)
    assert report.left == ()
    with pytest.raises(CheckpointError, match="missing: "):  # of a whole network, a head is not ignored
        from_tensorflow(on_meta(DeepLabV3), given)


@pytest.mark.parametrize(
    ("network", "missing", "surplus"),
    [
        (partial(DeepLabV3, backbone="resnet101"), "resnet_v1_101/", "resnet_v1_50/"),
        (partial(DeepLabV3, backbone="xception65"), "xception_65/", "resnet_v1_50/"),
        (partial(DeepLabV3Plus, backbone="resnet50"), "decoder/", None),
        (partial(DeepLabV3, backbone="resnet50", image_pooling=False), None, "image_pooling/"),
        (partial(DeepLabV3, backbone="resnet50", aspp_separable=True), "aspp1_depthwise/", "aspp1/"),
    ],
)
def test_the_error_of_another_architecture_lists_names(
    network: Callable[[], Segmenter], missing: str | None, surplus: str | None
) -> None:
    model = on_meta(network)
    with pytest.raises(CheckpointError) as caught:
        from_tensorflow(model, zeros(official_shapes("deeplabv3_resnet50beta_os16")))
    for kind, start in (("missing", missing), ("surplus", surplus)):
        assert (f"{kind}: {start}" in str(caught.value)) == (start is not None)


def test_a_context_without_official_names_is_refused() -> None:
    class Other(Context):
        def __init__(self, *, in_channels: int, output_stride: int) -> None:
            super().__init__()
            self.out_channels = in_channels

        def set_output_stride(self, output_stride: int) -> None:
            raise NotImplementedError

        def forward(self, x_NCHW: torch.Tensor) -> torch.Tensor:
            return x_NCHW

    with pytest.raises(CheckpointError, match="no names for a Other"):
        from_tensorflow(on_meta(partial(DeepLabV3, context=Other)), {})
