"""Features and logits equal those of torchvision's networks, on weights that torchvision/values.py makes by name."""

from __future__ import annotations

import json
import runpy
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from atrous.networks.deeplab import DeepLabV3
from atrous.networks.resnet import ResNet, resnet18, resnet50
from atrous.weights.torchvision import from_torchvision

FOLDER = Path(__file__).parent
TOLERANCE = 1e-5  # of the largest value of a map


def torchvision_reference(name: str) -> tuple[dict[str, Tensor], Tensor, Mapping[str, np.ndarray[Any, Any]]]:
    """Return the state dict, the normalised image [1, 3, H, W] and the expected maps."""
    value_for = runpy.run_path(str(FOLDER / "torchvision" / "values.py"))["value_for"]
    test_image = runpy.run_path(str(FOLDER / "tensorflow" / "values.py"))["test_image"]
    reference = json.loads((FOLDER / "torchvision" / f"{name}.json").read_text())
    state = {
        entry: torch.tensor(0)
        if entry.endswith("num_batches_tracked")
        else torch.from_numpy(value_for(entry, shape, reference["basic_block"]))
        for entry, shape in reference["variables"]
    }
    height, width = reference["image_shape"][2:] if reference["image_shape"][1] == 3 else reference["image_shape"][1:3]
    image_NCHW = torch.from_numpy(test_image(height, width)).permute(0, 3, 1, 2).float() / 255
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    image_NCHW = (image_NCHW - mean[:, None, None]) / std[:, None, None]
    return state, image_NCHW, np.load(FOLDER / "torchvision" / f"{name}.npz")


@pytest.mark.parametrize(
    ("name", "build"),
    [
        ("resnet18_features", partial(resnet18, output_stride=32)),
        ("resnet50_features_os16", partial(resnet50, output_stride=16)),
    ],
)
def test_the_maps_of_all_four_layers_equal_torchvisions(name: str, build: partial[ResNet]) -> None:
    state, image_NCHW, expected = torchvision_reference(name)
    resnet = build(stem="7x7", strides_in="first_unit").eval()
    report = from_torchvision(resnet, state)
    assert report.left == ()

    maps: dict[str, Tensor] = {}
    for number, count in enumerate(resnet.units, start=1):
        last_unit = resnet.blocks.get_submodule(f"{number - 1}.{count - 1}")
        last_unit.register_forward_hook(lambda _m, _i, output, layer=f"layer{number}": maps.update({layer: output}))
    with torch.inference_mode():
        features = resnet(image_NCHW)

    assert set(maps) == set(expected)
    for layer, wanted in expected.items():
        assert maps[layer].shape == wanted.shape
        assert np.abs(maps[layer].numpy() - wanted).max() <= TOLERANCE * np.abs(wanted).max(), layer
    torch.testing.assert_close(features["high"], maps["layer4"])


def test_the_logits_of_its_deeplabv3_equal_torchvisions() -> None:
    state, image_NCHW, expected = torchvision_reference("deeplabv3_resnet50")
    model = DeepLabV3(
        backbone=partial(resnet50, stem="7x7", strides_in="first_unit"),
        output_stride=8,
        head_convolutions=((3, 256),),
        align_corners=False,
    ).eval()
    assert from_torchvision(model, state).left == ()
    with torch.inference_mode():
        low, logits = model.low_resolution_logits(image_NCHW).numpy(), model(image_NCHW).numpy()
    for ours, wanted in ((low, expected["logits_low"]), (logits, expected["logits"])):
        assert ours.shape == wanted.shape
        assert np.abs(ours - wanted).max() <= TOLERANCE * np.abs(wanted).max()
