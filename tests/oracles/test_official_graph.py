"""Logits equal those of the official TensorFlow graph, on weights that tensorflow/values.py makes by variable name."""

from __future__ import annotations

import json
import runpy
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from atrous.networks.deeplab import DeepLabV3, DeepLabV3Plus
from atrous.networks.segmenter import Segmenter
from atrous.weights.tensorflow import from_tensorflow

FOLDER = Path(__file__).parent / "tensorflow"
TOLERANCE = 1e-5  # of the largest value; float32 noise is 2e-6, the smallest broken rule 3e-3


def official(name: str) -> tuple[dict[str, np.ndarray[Any, Any]], Tensor, Mapping[str, Any]]:
    """Return the variables, the preprocessed image [1, 3, H, W] and the expected arrays (NHWC)."""
    values = runpy.run_path(str(FOLDER / "values.py"))
    reference = json.loads((FOLDER / f"{name}.json").read_text())
    variables = {variable: values["value_for"](variable, shape) for variable, shape in reference["variables"]}
    image_NHWC = values["test_image"](*reference["image_shape"][1:3])
    image_NCHW = torch.from_numpy(image_NHWC).permute(0, 3, 1, 2).float() * (2 / 255) - 1
    return variables, image_NCHW, np.load(FOLDER / f"{name}.npz")


def assert_close(ours_NCHW: Tensor, expected_NHWC: np.ndarray[Any, Any]) -> None:
    ours = ours_NCHW.permute(0, 2, 3, 1).numpy()
    assert ours.shape == expected_NHWC.shape
    assert np.abs(ours - expected_NHWC).max() <= TOLERANCE * np.abs(expected_NHWC).max()


SEPARABLE: dict[str, Any] = {"aspp_separable": True, "decoder_separable": True}


@pytest.mark.parametrize(
    ("name", "build"),
    [
        ("deeplabv3_resnet50beta_os16", partial(DeepLabV3, backbone="resnet50")),
        ("deeplabv3plus_resnet101beta_os16", partial(DeepLabV3Plus, backbone="resnet101")),
        ("deeplabv3_mobilenetv2_os16", partial(DeepLabV3, backbone="mobilenetv2", aspp_rates=())),
        ("deeplabv3plus_xception65_os16", partial(DeepLabV3Plus, backbone="xception65", **SEPARABLE)),
        pytest.param(
            "deeplabv3plus_xception65_os8_large",
            partial(DeepLabV3Plus, backbone="xception65", output_stride=8, **SEPARABLE),
            marks=pytest.mark.exhaustive,
        ),
    ],
)
def test_every_stage_equals_the_official_graph(name: str, build: Callable[[], Segmenter]) -> None:
    variables, image_NCHW, expected = official(name)
    # What a training checkpoint holds besides the weights.
    extra = {"global_step": np.zeros(()), "logits/semantic/biases/Momentum": np.zeros(21)}
    model = build().eval()
    report = from_tensorflow(model, {**variables, **extra})
    assert report.left == ()
    assert set(report.loaded) == set(variables)

    stages: dict[str, Any] = {}

    def keep(stage: str, module: nn.Module) -> None:
        module.register_forward_hook(lambda _module, _inputs, output: stages.update({stage: output}))

    keep("encoder", model.get_submodule("context"))
    keep("backbone", model.backbone)
    keep("logits", model.classifier)
    with torch.inference_mode():
        logits_NKHW = model(image_NCHW)

    assert_close(stages["logits"], expected["logits"])
    if "encoder" in expected:
        assert_close(stages["encoder"], expected["encoder"])
    if "low_level_os4" in expected:
        assert_close(stages["backbone"]["low_level_4"], expected["low_level_os4"])
    np.testing.assert_array_equal(logits_NKHW.argmax(1).numpy(), expected["argmax"])
