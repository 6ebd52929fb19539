"""Released weights with their description: a preset by name, or a file of which preset's network it is."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from atrous.errors import CheckpointError, ConfigError
from atrous.networks.segmenter import Segmenter
from atrous.prediction.description import Description
from atrous.prediction.label_spaces import spec_of_release
from atrous.weights.matching import dense_tensors
from atrous.weights.released import load_weights_of
from atrous.weights.tensorflow import from_tensorflow
from atrous.weights.tensorflow_scopes import CLASSIFIER_SCOPE
from atrous.weights.tf_checkpoint import open_checkpoint
from atrous.weights.torch_files import read_torch
from atrous.weights.torchvision import from_torchvision
from atrous.weights.zoo import Preset, preset, presets

_CONTEXTS = {"dpc": {"_target_": "atrous.networks.DensePredictionCell", "_partial_": True}}
_SCOPES = {"xception_65/": "xception65", "xception_71/": "xception71", "MobilenetV2/": "mobilenetv2"}
_TF_CLASSIFIER, _TORCH_CLASSIFIER = f"{CLASSIFIER_SCOPE}/biases", "classifier.4.bias"
_STRIDE = "output_stride"
_OF_RESNET101 = "backbone.layer3.22.conv1.weight"


def load_release(name: str, *, source: str | Path | None = None) -> tuple[Segmenter, Description]:
    """Return a preset's network and description.

    Args:
        name: the preset.
        source: its file, where that is here already; None fetches it.

    Raises:
        ConfigError: the name is unknown, or is an ImageNet backbone's.
        CheckpointError: the file cannot be had, or does not fit.
    """
    found = preset(name)
    description = describe(found, num_classes=found.classes)
    network = description.build()
    load_weights_of(network, found, source=source)
    return network, description


def load_torchvision(path: Path) -> tuple[Segmenter, Description]:
    """Return the DeepLabv3 of a file of torchvision.

    Raises:
        CheckpointError: the file is of something else.
    """
    state = dense_tensors(read_torch(path), source=str(path))
    if _TORCH_CLASSIFIER not in state or state[_TORCH_CLASSIFIER].ndim != 1:
        raise CheckpointError(f"{path} holds no classifier of torchvision's DeepLabv3 ({_TORCH_CLASSIFIER} is missing)")
    depth = 101 if _OF_RESNET101 in state else 50
    found = preset(f"torchvision_deeplabv3_resnet{depth}_coco")
    description = describe(found, num_classes=len(state[_TORCH_CLASSIFIER]))
    network = description.build()
    from_torchvision(network, state)
    return network, description


def load_tensorflow(source: str) -> tuple[Segmenter, Description]:
    """Return the network of an official TensorFlow checkpoint, which is told by the names of its variables.

    Raises:
        CheckpointError: unreadable, or of a network that no preset has.
    """
    variables = open_checkpoint(source)
    backbone = next((ours for scope, ours in _SCOPES.items() if any(name.startswith(scope) for name in variables)), "")
    if _TF_CLASSIFIER not in variables or variables[_TF_CLASSIFIER].ndim != 1 or not backbone:
        raise CheckpointError(
            f"{source} is of no network that can be told by its variables (a classifier, and a backbone of "
            f"{', '.join(_SCOPES.values())}); name the network as preset=NAME"
        )
    classes = len(variables[_TF_CLASSIFIER])
    fitting = [found for found in map(preset, presets()) if found.network.model and found.network.backbone == backbone]
    found = next((each for each in fitting if each.classes == classes), fitting[0])
    description = describe(found, num_classes=classes)
    network = description.build()
    from_tensorflow(network, variables)
    return network, description


def describe(found: Preset, *, num_classes: int) -> Description:
    """Return a preset's network as plain constructor calls.

    Raises:
        ConfigError: the preset is an ImageNet backbone.
    """
    if found.network.model is None:
        raise ConfigError(f"{found.name} is a backbone trained on ImageNet: it says what is in an image, not where")
    arguments: dict[str, Any] = dict(found.network.arguments)
    if "context" in arguments:
        arguments["context"] = _CONTEXTS[arguments["context"]]
    options: Mapping[str, Any] = found.network.backbone_options
    return Description(
        model={"_target_": f"atrous.{found.network.model}", **{k: v for k, v in arguments.items() if k != _STRIDE}},
        backbone={"_target_": f"atrous.networks.{found.network.backbone}", "_partial_": True, **options},
        output_stride=arguments.get(_STRIDE, 16),
        spec=spec_of_release(found.dataset, num_classes),
        preprocessing=found.preprocessing,
        padded_size=(513, 513) if found.dataset in ("voc2012", "coco_voc") and found.format == "tensorflow" else None,
    )
