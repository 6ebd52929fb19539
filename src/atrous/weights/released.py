"""From a name in the zoo to a network with its weights, and from `recipe.pretrained` to initial weights."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache, partial
from pathlib import Path
from typing import Any

from torch import Tensor

from atrous.errors import CheckpointError, ConfigError
from atrous.networks import deeplab
from atrous.networks.backbone import Backbone
from atrous.networks.dense_prediction_cell import DensePredictionCell
from atrous.networks.dry_run import without_weights
from atrous.networks.mobilenet import MobileNetV2
from atrous.networks.resnet import ResNet
from atrous.networks.segmenter import Segmenter, backbone_factory
from atrous.networks.xception import Xception
from atrous.weights.download import fetch
from atrous.weights.matching import LoadReport
from atrous.weights.own import OWN_FILES, from_atrous
from atrous.weights.tensorflow import from_tensorflow, variables_of
from atrous.weights.torch_files import TORCH_FILES
from atrous.weights.torchvision import from_torchvision, state_dict_of
from atrous.weights.zoo import Preset, is_file, preset, presets

IMAGENET = "imagenet"
_CONTEXTS = {"dpc": DensePredictionCell}


def build_preset(found: Preset) -> Segmenter:
    """Build the network that a preset's weights are for, with fresh weights.

    Raises:
        ConfigError: The preset is a backbone for ImageNet.
    """
    network = found.network
    if network.model is None:
        raise ConfigError(f"{found.name} holds a backbone trained on ImageNet; use it as recipe.pretrained")
    arguments = dict(network.arguments)
    if "context" in arguments:
        arguments["context"] = _CONTEXTS[arguments["context"]]
    backbone = partial(backbone_factory(network.backbone), **network.backbone_options)
    built: Segmenter = getattr(deeplab, network.model)(backbone=backbone, num_classes=found.classes, **arguments)
    return built


def load_preset(name: str, *, source: str | Path | None = None) -> Segmenter:
    """Return a released network with its weights, in evaluation mode.

    Args:
        name: A preset, such as "xception65_coco_voc_trainaug" (see `atrous.weights.presets`).
        source: Where the weights are already: the file, or a TensorFlow checkpoint's prefix; None fetches them.

    Raises:
        ConfigError: The name is unknown, or is a backbone's.
        CheckpointError: The file cannot be had, or does not fit.
    """
    found = preset(name)
    model = build_preset(found)
    load_weights_of(model, found, source=source)
    return model.eval()


def load_weights_of(
    model: Segmenter | Backbone,
    found: Preset,
    *,
    source: str | Path | Mapping[str, Tensor] | None = None,
    any_classes: bool = False,
) -> LoadReport:
    """Fill a network, or a backbone, with a preset's weights, or with tensors by the names that they have there.

    A file that is fetched is checked first.
    """
    given = fetch(found.url, sha256=found.sha256, megabytes=found.megabytes) if source is None else source
    if found.format == "tensorflow":
        return from_tensorflow(model, given, any_classes=any_classes)
    return from_torchvision(model, given, any_classes=any_classes)


def load_pretrained(model: Segmenter, source: str) -> LoadReport:
    """Give a network its initial weights.

    Args:
        model: The network.
        source: "imagenet" (the published ImageNet weights of its backbone as it is built), a preset's name, a
            checkpoint of atrous-train (.ckpt), a file of atrous-export (.safetensors), one of torchvision (.pth), or a
            TensorFlow checkpoint (prefix or .tar.gz) of the whole network or of its backbone. Where the classifier of a
            whole network is for another number of classes, the network keeps its own.

    Returns:
        What was loaded, and the parameters that were left as they were, such as those of a new head.

    Raises:
        ConfigError: There are no ImageNet weights for this backbone, or the preset is unknown.
        CheckpointError: The file cannot be had or read, or does not fit.
    """
    if source == IMAGENET or not is_file(source):
        found = preset(imagenet_preset(model.backbone) if source == IMAGENET else source)
        if found.network.model is not None:
            return load_weights_of(model, found, any_classes=True)
        return _left_in(model, load_weights_of(model.backbone, found))
    if source.endswith(OWN_FILES) and Path(source).is_file():  # TensorFlow's model.ckpt is a prefix and no file
        return from_atrous(model, source, any_classes=True)
    if source.endswith(TORCH_FILES):
        return from_torchvision(model, source, any_classes=True)
    try:
        return from_tensorflow(model, source, any_classes=True)
    except CheckpointError as whole:
        try:
            return _left_in(model, from_tensorflow(model.backbone, source))
        except CheckpointError:
            raise whole from None


def check_pretrained(model: Segmenter, source: str) -> None:
    """Refuse initial weights that would not fit a network; nothing is fetched, of presets the layout is compared.

    Args:
        model: The network, without weights (`atrous.networks.dry_run.without_weights`).
        source: As for `load_pretrained`.

    Raises:
        ConfigError: There are no ImageNet weights for this backbone, or the preset is unknown.
        CheckpointError: The file cannot be read, or does not fit.
    """
    if source != IMAGENET and is_file(source):
        load_pretrained(model, source)
        return
    found = preset(imagenet_preset(model.backbone) if source == IMAGENET else source)
    is_whole = found.network.model is not None
    with without_weights():
        theirs = build_preset(found) if is_whole else _backbone_of(found)
    entries_of = variables_of if found.format == "tensorflow" else state_dict_of
    load_weights_of(model if is_whole else model.backbone, found, source=entries_of(theirs), any_classes=is_whole)


def imagenet_preset(backbone: Backbone) -> str:
    """Return the preset with ImageNet weights for a backbone as it is built.

    Raises:
        ConfigError: None was released; says which layouts have some.
    """
    candidates = [name for name in presets() if preset(name).dataset == IMAGENET]
    for name in candidates:
        if _layout(backbone) == _layout_of(name):
            return name
    raise ConfigError(
        f"recipe.pretrained=imagenet: no ImageNet weights were released for this {type(backbone).__name__}; there are "
        f"{', '.join(candidates)} (torchvision's ResNets have stem=7x7, strides_in=first_unit)"
    )


@cache
def _layout_of(name: str) -> tuple[Any, ...]:
    """The layout of a preset's backbone, which is built for it once: a second for all of them."""
    with without_weights():
        return _layout(_backbone_of(preset(name)))


def _backbone_of(found: Preset) -> Backbone:
    """Build the backbone that a preset's weights are for."""
    network = found.network
    options = {"output_stride": 16, "multi_grid": None, "blocks": 4, **network.backbone_options}
    return backbone_factory(network.backbone)(**options)


def _layout(backbone: Backbone) -> tuple[Any, ...]:
    if isinstance(backbone, ResNet):
        return backbone.units[:4], backbone.unit, backbone.width, backbone.stem_kind, backbone.strides_in
    if isinstance(backbone, Xception):
        return backbone.entry, backbone.middle_units, backbone.out_channels
    if isinstance(backbone, MobileNetV2):
        return backbone.settings, backbone.width, backbone.padding, backbone.epsilon
    return (type(backbone),)


def _left_in(model: Segmenter, report: LoadReport) -> LoadReport:
    """The report of a backbone's loading with the names that its parameters have in the network."""
    kept = [name for name, _ in model.named_parameters() if not name.startswith("backbone.")]
    return LoadReport(loaded=report.loaded, left=(*(f"backbone.{name}" for name in report.left), *kept))
