"""What a pretrained network gets and what it keeps: every parameter is loaded or reported."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch

from atrous.errors import CheckpointError, ConfigError
from atrous.networks.deeplab import DeepLabV3, DeepLabV3Cascade, DeepLabV3Plus
from atrous.networks.mobilenet import MobileNetV2, mobilenetv2
from atrous.networks.resnet import resnet18, resnet101
from atrous.weights.released import load_pretrained
from atrous.weights.zoo import preset

from .released_files import Files, assert_reported, shapes_of


@pytest.fixture
def files(monkeypatch: pytest.MonkeyPatch) -> Files:
    """No network and no files of half a gigabyte."""
    return Files(monkeypatch)


MOBILENET = "tensorflow/deeplabv3_mobilenetv2_os16"


def backbone_only(name: str, scope: str) -> dict[str, tuple[int, ...]]:
    return {entry: shape for entry, shape in shapes_of(name).items() if entry.startswith(scope)}


def test_imagenet_fills_the_backbone_and_reports_the_head(files: Files) -> None:
    shapes = backbone_only("tensorflow/deeplabv3plus_resnet101beta_os16", "resnet_v1_101/")
    files.content = {**shapes, "resnet_v1_101/logits/weights": (1, 1, 2048, 1001)}
    model = DeepLabV3Plus(backbone=resnet101)
    report = load_pretrained(model, "imagenet")
    assert files.fetched == [(preset("resnet_v1_101_beta_imagenet").url, None, 477)]
    assert set(report.loaded) == set(shapes)
    assert report.left == tuple(name for name, _ in model.named_parameters() if not name.startswith("backbone."))
    assert_reported(model, report)


def test_torchvisions_imagenet_fills_a_cascade_up_to_block_4(files: Files) -> None:
    layout = partial(resnet18, stem="7x7", strides_in="first_unit")
    shapes = shapes_of("torchvision/resnet18_features")
    files.content = {name: shape for name, shape in shapes.items() if not name.endswith("num_batches_tracked")}
    model = DeepLabV3Cascade(backbone=layout, multi_grid=None, blocks=5)
    report = load_pretrained(model, "imagenet")
    assert files.fetched == [(preset("torchvision_resnet18_imagenet").url, "f37072fd", None)]
    assert {name.split(".")[2] for name in report.left if name.startswith("backbone.")} == {"4"}
    assert_reported(model, report)


def test_a_released_network_fills_all_of_another_run(files: Files) -> None:
    files.content = shapes_of(MOBILENET)
    model = DeepLabV3(backbone=mobilenetv2, aspp_rates=())
    report = load_pretrained(model, "mobilenetv2_coco_voc_trainaug")
    assert report.left == ()
    assert set(report.loaded) == set(files.content)
    assert_reported(model, report)


@pytest.mark.parametrize("whole", [True, False])
def test_a_checkpoint_may_be_of_the_network_or_of_its_backbone(files: Files, tmp_path: Path, whole: bool) -> None:
    (tmp_path / "model.ckpt.index").touch()
    files.content = shapes_of(MOBILENET) if whole else backbone_only(MOBILENET, "MobilenetV2/")
    model = DeepLabV3(backbone=mobilenetv2, aspp_rates=())
    report = load_pretrained(model, str(tmp_path / "model.ckpt"))
    assert files.fetched == []
    assert bool(report.left) != whole
    assert_reported(model, report)


def test_a_checkpoint_of_neither_is_refused_with_the_names_of_the_whole(files: Files, tmp_path: Path) -> None:
    (tmp_path / "model.ckpt.index").touch()
    files.content = backbone_only(MOBILENET, "MobilenetV2/expanded_conv")
    model = DeepLabV3(backbone=mobilenetv2, aspp_rates=())
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(CheckpointError, match=r"model\.ckpt does not fit .* missing: MobilenetV2/Conv/BatchNorm/beta"):
        load_pretrained(model, str(tmp_path / "model.ckpt"))
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_a_state_dict_of_torchvision_is_known_by_its_ending(files: Files, tmp_path: Path) -> None:
    (tmp_path / "resnet18.pth").touch()
    files.content = shapes_of("torchvision/resnet18_features")
    model = DeepLabV3(backbone=partial(resnet18, stem="7x7", strides_in="first_unit"))
    report = load_pretrained(model, str(tmp_path / "resnet18.pth"))
    assert files.read == [str(tmp_path / "resnet18.pth")]
    assert_reported(model, report)


@pytest.mark.parametrize(
    "backbone",
    [
        mobilenetv2,
        partial(mobilenetv2, padding="symmetric"),  # torchvision's epsilon is another
    ],
)
def test_torchvisions_mobilenet_needs_its_padding_and_epsilon(
    files: Files, tmp_path: Path, backbone: Callable[..., MobileNetV2]
) -> None:
    (tmp_path / "mobilenet.pth").touch()
    with pytest.raises(CheckpointError, match="padding=symmetric and epsilon=1e-5"):
        load_pretrained(DeepLabV3(backbone=backbone), str(tmp_path / "mobilenet.pth"))


def test_neither_a_name_nor_a_file_is_refused() -> None:
    with torch.device("meta"):
        model = DeepLabV3(backbone="mobilenetv2", aspp_rates=())
    with pytest.raises(ConfigError, match=r"weights 'nowhere/model.ckpt' are unknown"):
        load_pretrained(model, "nowhere/model.ckpt")
