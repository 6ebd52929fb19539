"""The official TensorFlow release of DeepLab: weights by their variable names, for the ResNet networks.

Convolutions are `<scope>/weights` in HWIO order,
batch norms `<scope>/BatchNorm/{gamma,beta,moving_mean,moving_variance}`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from atrous.errors import CheckpointError
from atrous.networks.aspp import ASPP
from atrous.networks.decoder import Decoder
from atrous.networks.layers import ConvBatchNorm
from atrous.networks.resnet import ResNet
from atrous.networks.segmenter import Segmenter
from atrous.weights.matching import LoadReport, load_by_name


def from_tensorflow(model: Segmenter | ResNet, source: Mapping[str, ArrayLike]) -> LoadReport:
    """Load the official variables into a network with a ResNet of the official layout.

    Args:
        model: A ResNet with `strides_in="last_unit"` and at most block4, alone or as the backbone of a network.
        source: Arrays by official variable name; optimiser slots (`.../Momentum`) and `global_step` are ignored.

    Returns:
        What was loaded; no parameter is left.

    Raises:
        CheckpointError: Missing, surplus or mis-shaped variables, or a network that has no official names.
    """
    variables = {name: value for name, value in source.items() if not _is_training_state(name)}
    return load_by_name(
        model,
        targets=dict(_targets(model)),
        values={name: _to_pytorch_layout(value) for name, value in variables.items()},
        source="the TensorFlow checkpoint",
    )


def _is_training_state(name: str) -> bool:
    return name == "global_step" or name.endswith("/Momentum")


def _to_pytorch_layout(value: ArrayLike) -> Tensor:
    tensor = torch.as_tensor(value)
    return tensor.permute(3, 2, 0, 1) if tensor.ndim == 4 else tensor  # HWIO -> OIHW


def _targets(model: Segmenter | ResNet) -> Iterator[tuple[str, Tensor]]:
    backbone: Any = model.backbone if isinstance(model, Segmenter) else model
    for scope, conv in _resnet_scopes(backbone):
        yield from _conv_batch_norm(scope, conv)
    if isinstance(model, Segmenter):
        for name, part in model.named_children():
            for scope, conv in _head_scopes(name, part):
                yield from _conv_batch_norm(scope, conv)
        yield "logits/semantic/weights", model.classifier.weight
        if model.classifier.bias is not None:
            yield "logits/semantic/biases", model.classifier.bias


def _conv_batch_norm(scope: str, module: ConvBatchNorm) -> Iterator[tuple[str, Tensor]]:
    ours = module.norm.state_dict(keep_vars=True)
    official = {"gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_var"}
    yield f"{scope}/weights", module.conv.weight
    yield from ((f"{scope}/BatchNorm/{theirs}", ours[name]) for theirs, name in official.items())


def _resnet_scopes(resnet: nn.Module) -> Iterator[tuple[str, ConvBatchNorm]]:
    if not isinstance(resnet, ResNet) or resnet.strides_in != "last_unit" or len(resnet.units) > 4:
        raise CheckpointError(
            "the official ResNet checkpoints need a ResNet with strides_in=last_unit and blocks=4; build the network so"
        )
    convolutions = 3 if resnet.unit == "bottleneck" else 2
    scope = f"resnet_v1_{2 + convolutions * sum(resnet.units)}"
    unit_scope = "bottleneck_v1" if resnet.unit == "bottleneck" else "lite_bottleneck_v1"
    for name, conv in _convs(resnet.stem):
        yield f"{scope}/{name.replace('conv', 'conv1_') if resnet.stem_kind == 'beta' else name}", conv
    for number, block in enumerate(resnet.blocks, start=1):
        for index, unit in enumerate(block.children(), start=1):
            for name, conv in _convs(unit):
                yield f"{scope}/block{number}/unit_{index}/{unit_scope}/{name}", conv


def _head_scopes(name: str, part: nn.Module) -> Iterator[tuple[str, ConvBatchNorm]]:
    if isinstance(part, ASPP):
        if part.image_pooling is not None:
            yield "image_pooling", part.image_pooling.project
        yield "aspp0", part.conv_1x1
        yield from ((f"aspp{int(index) + 1}", conv) for index, conv in _convs(part.atrous_convs))
        yield "concat_projection", part.project
    elif isinstance(part, Decoder):
        yield "decoder/feature_projection0", part.project_low_level
        for index, conv in _convs(part.refine):
            yield f"decoder/decoder_conv0/decoder_conv0_{int(index) + 1}", conv
    elif name not in ("backbone", "classifier"):
        raise CheckpointError(f"the official checkpoints have no names for {name!r} of this network")


def _convs(parent: nn.Module) -> Iterator[tuple[str, ConvBatchNorm]]:
    yield from ((name, child) for name, child in parent.named_children() if isinstance(child, ConvBatchNorm))
