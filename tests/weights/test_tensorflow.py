"""Official variable names: what is ignored, what is refused. Values are checked in tests/oracles."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import ArrayLike

from atrous.errors import CheckpointError
from atrous.networks.deeplab import DeepLabV3, DeepLabV3Cascade
from atrous.networks.resnet import resnet50
from atrous.weights.tensorflow import from_tensorflow

REFERENCE = Path(__file__).parents[1] / "oracles" / "tensorflow" / "deeplabv3_resnet50beta_os16.json"


def variables() -> dict[str, ArrayLike]:
    """Return the official variables of DeepLabv3 with a ResNet-50, all zero."""
    return {name: np.zeros(shape, np.float32) for name, shape in json.loads(REFERENCE.read_text())["variables"]}


def test_every_parameter_and_statistic_is_loaded() -> None:
    model = DeepLabV3()
    report = from_tensorflow(model, variables())
    assert report.left == ()
    statistics = {n: t for n, t in model.state_dict().items() if not n.endswith("num_batches_tracked")}
    assert len(report.loaded) == len(statistics)
    assert all(not tensor.any() for tensor in statistics.values())


def test_kernels_are_turned_from_hwio() -> None:
    given = variables()
    kernel = np.random.default_rng(0).standard_normal((3, 3, 3, 64)).astype(np.float32)
    given["resnet_v1_50/conv1_1/weights"] = kernel
    model = DeepLabV3()
    from_tensorflow(model, given)
    loaded = model.get_parameter("backbone.stem.conv1.conv.weight").detach().numpy()
    np.testing.assert_array_equal(loaded[5, 2, 0, 1], kernel[0, 1, 2, 5])


@pytest.mark.parametrize("slots", [("Momentum",), ("Adam", "Adam_1")])
def test_training_state_is_ignored(slots: tuple[str, ...]) -> None:
    state: dict[str, ArrayLike] = {f"{name}/{slot}": value for name, value in variables().items() for slot in slots}
    state |= {"global_step": np.int64(30000), "beta1_power": np.float32(0.5), "scope/beta2_power": np.float32(0.5)}
    report = from_tensorflow(DeepLabV3(), {**variables(), **state})
    assert set(report.loaded) == set(variables())


def test_missing_surplus_and_misshaped_variables_are_listed() -> None:
    given = variables()
    given["aspp4/weights"] = np.zeros((3, 3, 2048, 256))
    given["logits/semantic/biases"] = np.zeros(19)
    del given["image_pooling/weights"]
    with pytest.raises(CheckpointError) as caught:
        from_tensorflow(DeepLabV3(), given)
    for part in (
        "1 missing: image_pooling/weights",
        "1 surplus: aspp4/weights",
        "logits/semantic/biases is (19,), wanted (21,)",
    ):
        assert part in str(caught.value)


def test_a_checkpoint_of_another_architecture_is_refused() -> None:
    with pytest.raises(CheckpointError, match="does not fit this network"):
        from_tensorflow(DeepLabV3(backbone="resnet34"), variables())


def test_networks_without_official_names_are_refused() -> None:
    with pytest.raises(CheckpointError, match="strides_in=last_unit"):
        from_tensorflow(DeepLabV3(backbone=partial(resnet50, strides_in="first_unit")), variables())


def test_added_blocks_keep_their_values_and_are_reported() -> None:
    backbone = DeepLabV3Cascade(blocks=5).backbone
    given = {name: value for name, value in variables().items() if name.startswith("resnet_v1_50/")}
    report = from_tensorflow(backbone, given)
    assert sorted(report.loaded) == sorted(given)
    assert report.left == tuple(name for name, _ in backbone.named_parameters() if name.startswith("blocks.4."))
    assert all(backbone.get_parameter(name).any() for name in report.left if name.endswith("weight"))
