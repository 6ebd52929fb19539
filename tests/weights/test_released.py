"""From a name in the zoo to a network with its weights, and from a backbone to its ImageNet weights."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch

from atrous.errors import ConfigError
from atrous.networks import deeplab
from atrous.networks.aspp import ASPP
from atrous.networks.backbone import Backbone
from atrous.networks.dense_prediction_cell import DensePredictionCell
from atrous.networks.mobilenet import mobilenetv2
from atrous.networks.resnet import resnet18, resnet50
from atrous.networks.segmenter import backbone_factory
from atrous.networks.xception import xception41, xception65
from atrous.weights.released import build_preset, imagenet_preset, load_preset
from atrous.weights.zoo import preset, presets

from .released_files import MARK, Files, shapes_of

ALL = [preset(name) for name in presets()]
WHOLE = [found.name for found in ALL if found.network.model is not None]
BACKBONES = [found.name for found in ALL if found.network.model is None]


@pytest.fixture
def files(monkeypatch: pytest.MonkeyPatch) -> Files:
    """No network and no files of half a gigabyte."""
    return Files(monkeypatch)


@pytest.mark.every(3)
@pytest.mark.parametrize("name", WHOLE)
def test_every_released_network_can_be_built_and_run(name: str) -> None:
    found = preset(name)
    with torch.device("meta"):
        model = build_preset(found).eval()
        assert model(torch.empty(1, 3, 65, 65)).shape == (1, found.classes, 65, 65)
    assert type(model) is getattr(deeplab, found.network.model or "")
    assert isinstance(model.context, DensePredictionCell if "dpc" in name else ASPP)
    for expected in found.expected:
        model.set_output_stride(expected.output_stride)


@pytest.mark.parametrize("name", BACKBONES)
def test_a_backbone_is_no_segmentation_network(name: str) -> None:
    with pytest.raises(ConfigError, match=f"{name} holds a backbone .* recipe.pretrained"):
        build_preset(preset(name))


def test_a_released_network_is_fetched_checked_and_ready(files: Files) -> None:
    files.content = shapes_of("tensorflow/deeplabv3_mobilenetv2_os16")
    model = load_preset("mobilenetv2_coco_voc_trainaug")
    found = preset("mobilenetv2_coco_voc_trainaug")
    assert files.fetched == [(found.url, found.sha256, found.megabytes)]
    assert files.read == ["fetched/deeplabv3_mnv2_pascal_train_aug_2018_01_29.tar.gz"]
    assert not model.training
    assert all(bool((tensor == MARK).all()) for name, tensor in model.state_dict().items() if "tracked" not in name)


def test_a_local_file_is_taken_as_it_is(files: Files) -> None:
    files.content = shapes_of("torchvision/deeplabv3_resnet50")
    model = load_preset("torchvision_deeplabv3_resnet50_coco", source="here/file.pth")
    assert files.fetched == []
    assert files.read == ["here/file.pth"]
    assert model.output_stride == 8
    assert not model.align_corners
    assert bool((model.classifier.weight == MARK).all())


def test_an_unknown_name_and_a_backbones_are_refused(files: Files) -> None:
    with pytest.raises(ConfigError, match="weights 'xception65_voc' are unknown"):
        load_preset("xception65_voc")
    with pytest.raises(ConfigError, match=r"holds a backbone .* recipe\.pretrained"):
        load_preset("xception_65_imagenet")
    assert files.fetched == []


@pytest.mark.every(3)
@pytest.mark.parametrize("name", BACKBONES)
def test_imagenet_weights_are_found_by_the_layout_of_the_backbone(name: str) -> None:
    network = preset(name).network
    factory: Callable[..., Backbone] = backbone_factory(network.backbone)
    for output_stride, blocks in ((8, 4), (16, 7)):
        if blocks > 4 and "resnet" not in network.backbone:
            continue
        with torch.device("meta"):
            backbone = factory(output_stride=output_stride, blocks=blocks, **network.backbone_options)
        assert imagenet_preset(backbone) == name


@pytest.mark.parametrize(
    "backbone",
    [
        resnet18,  # the official release has 50 and 101 layers
        partial(resnet50, width=32),
        partial(resnet50, stem="7x7"),
        partial(resnet50, strides_in="first_unit"),
        partial(xception41, width=0.5),
        partial(xception65, middle_units=12),
        mobilenetv2,  # with TensorFlow's padding
        partial(mobilenetv2, padding="symmetric"),  # with TensorFlow's epsilon
        partial(mobilenetv2, padding="symmetric", epsilon=1e-5, width=0.5),
    ],
)
def test_layouts_without_imagenet_weights_say_which_have_some(backbone: Callable[[], Backbone]) -> None:
    with torch.device("meta"):
        built = backbone()
    with pytest.raises(ConfigError, match=r"recipe.pretrained=imagenet: .* xception_65_imagenet, .* stem=7x7"):
        imagenet_preset(built)
