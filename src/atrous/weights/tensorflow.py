"""The official TensorFlow release of DeepLab: weights by their variable names.

Convolutions are `<scope>/weights` in HWIO order, depthwise ones `<scope>/depthwise_weights` as [kh, kw, C, 1],
batch norms `<scope>/BatchNorm/{gamma,beta,moving_mean,moving_variance}`. The scopes are in `tensorflow_scopes`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from atrous.networks.backbone import Backbone
from atrous.networks.layers import ConvBatchNorm
from atrous.networks.segmenter import Segmenter
from atrous.weights.matching import LoadReport, load_by_name
from atrous.weights.tensorflow_scopes import CLASSIFIER_SCOPE, backbone_scopes, context_scopes, decoder_scopes

# What an ImageNet checkpoint has behind the features that a segmentation network takes.
_IMAGENET_HEADS = ("/logits/", "/Logits/", "MobilenetV2/Conv_1/")
_TRAINING_STATE = ("/Momentum", "/ExponentialMovingAverage", "/RMSProp", "/RMSProp_1", "/Adam", "/Adam_1")
_COUNTERS = ("global_step", "beta1_power", "beta2_power")


def from_tensorflow(
    model: Segmenter | Backbone, source: str | Path | Mapping[str, ArrayLike], *, any_classes: bool = False
) -> LoadReport:
    """Load the official variables into a network, or into a backbone alone.

    Args:
        model: A network of the official layout (a ResNet with `strides_in="last_unit"`), or its backbone, for the
            ImageNet checkpoints, whose classifier is left out.
        source: A checkpoint's prefix ("…/model.ckpt"), the released .tar.gz, or arrays by official variable name.
            Optimiser slots and `global_step` are ignored.
        any_classes: Whether the classifier keeps its values where the checkpoint's is for another number of classes
            (`initialize_last_layer` of the official training is false then).

    Returns:
        What was loaded; no parameter is left but those of blocks 5 to 7, which no checkpoint has.

    Raises:
        CheckpointError: An unreadable file, or missing, surplus or mis-shaped variables, or a network that has no
            official names.
    """
    if isinstance(source, Mapping):
        name, variables = "the TensorFlow checkpoint", source
    else:
        from atrous.weights.tf_checkpoint import open_checkpoint

        name, variables = str(source), open_checkpoint(source)
    ignored = _IMAGENET_HEADS if isinstance(model, Backbone) else ()
    return load_by_name(
        model,
        targets=dict(_targets(model)),
        values={
            variable: _to_pytorch_layout(variable, variables[variable])
            for variable in variables
            if not _is_training_state(variable) and not any(part in variable for part in ignored)
        },
        source=name,
        resizable=[name for name, _ in _classifier(model.classifier)]
        if any_classes and isinstance(model, Segmenter)
        else (),
    )


def variables_of(model: Segmenter | Backbone) -> dict[str, Tensor]:
    """Return what a checkpoint of the official release would hold for a network, or for a backbone alone.

    Args:
        model: A network of the official layout, or its backbone.

    Returns:
        The tensors by official variable name, in TensorFlow's layout.

    Raises:
        CheckpointError: The network has no official names.
    """
    return {name: _to_tensorflow_layout(name, tensor) for name, tensor in _targets(model)}


def _is_training_state(name: str) -> bool:
    return name.rpartition("/")[2] in _COUNTERS or name.endswith(_TRAINING_STATE)


def _to_pytorch_layout(name: str, value: ArrayLike) -> Tensor:
    tensor = torch.as_tensor(value)
    if tensor.ndim != 4:
        return tensor
    is_depthwise = name.endswith("/depthwise_weights")
    return tensor.permute(2, 3, 0, 1) if is_depthwise else tensor.permute(3, 2, 0, 1)  # [kh, kw, C, 1] or HWIO


def _to_tensorflow_layout(name: str, tensor: Tensor) -> Tensor:
    if tensor.ndim != 4:
        return tensor
    return tensor.permute(2, 3, 0, 1) if name.endswith("/depthwise_weights") else tensor.permute(2, 3, 1, 0)


def _targets(model: Segmenter | Backbone) -> Iterator[tuple[str, Tensor]]:
    backbone = model.backbone if isinstance(model, Segmenter) else model
    for scope, conv in backbone_scopes(backbone):
        yield from _conv_batch_norm(scope, conv)
    if isinstance(model, Segmenter):
        scopes = [*context_scopes(model), *decoder_scopes(model)]
        for scope, conv in scopes:
            yield from _conv_batch_norm(scope, conv)
        yield from _classifier(model.classifier)


def _classifier(classifier: nn.Conv2d) -> Iterator[tuple[str, Tensor]]:
    yield f"{CLASSIFIER_SCOPE}/weights", classifier.weight
    if classifier.bias is not None:
        yield f"{CLASSIFIER_SCOPE}/biases", classifier.bias


def _conv_batch_norm(scope: str, module: ConvBatchNorm) -> Iterator[tuple[str, Tensor]]:
    ours = module.norm.state_dict(keep_vars=True)
    official = {"gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_var"}
    kind = "weights" if module.conv.groups == 1 else "depthwise_weights"
    yield f"{scope}/{kind}", module.conv.weight
    yield from ((f"{scope}/BatchNorm/{theirs}", ours[name]) for theirs, name in official.items())
