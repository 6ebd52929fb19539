"""The scope of every convolution in the official graphs, for each backbone, context and decoder."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

from torch import nn

from atrous.errors import CheckpointError
from atrous.networks.aspp import ASPP
from atrous.networks.backbone import Backbone
from atrous.networks.dense_prediction_cell import DensePredictionCell
from atrous.networks.layers import ConvBatchNorm, SeparableConv
from atrous.networks.mobilenet import MobileNetV2
from atrous.networks.resnet import ResNet
from atrous.networks.segmenter import Segmenter
from atrous.networks.xception import Xception

Scopes = Iterator[tuple[str, ConvBatchNorm]]

CLASSIFIER_SCOPE = "logits/semantic"


def backbone_scopes(backbone: Backbone) -> Scopes:
    """Yield the scope of every convolution of a backbone.

    Raises:
        CheckpointError: The official release has no such backbone.
    """
    if isinstance(backbone, ResNet):
        return _resnet(backbone)
    if isinstance(backbone, Xception):
        return _xception(backbone)
    if isinstance(backbone, MobileNetV2):
        return _mobilenet(backbone)
    raise CheckpointError(
        f"the official checkpoints have no names for a {type(backbone).__name__}; they exist for ResNet, Xception and "
        "MobileNetV2"
    )


def context_scopes(model: Segmenter) -> Scopes:
    """Yield the scope of every convolution between backbone and decoder."""
    context = model.context
    if isinstance(context, ASPP):
        if context.image_pooling is not None:
            yield "image_pooling", context.image_pooling.project
        yield "aspp0", context.conv_1x1
        for index, conv in enumerate(context.atrous_convs, start=1):
            yield from _plain_or_separable(f"aspp{index}", conv)
        yield "concat_projection", context.project
    elif isinstance(context, DensePredictionCell):
        for index, conv in enumerate(context.branches):
            yield from _plain_or_separable(f"meta_architecture/branch{index}", conv)
        yield "meta_architecture/concat_projection", context.project
    elif context is not None:
        raise CheckpointError(f"the official checkpoints have no names for a {type(context).__name__}")


def decoder_scopes(model: Segmenter) -> Scopes:
    """Yield the scope of every convolution of the decoder, if there is one; a second stage has the suffix _1."""
    decoder: Any = getattr(model, "decoder", None)
    for stage_index, stage in enumerate(decoder.stages if decoder is not None else ()):
        suffix = f"_{stage_index}" if stage_index else ""
        yield f"decoder/feature_projection0{suffix}", stage.project_low_level
        repeated = f"decoder_conv0{suffix}"
        for index, conv in enumerate(stage.refine):
            if isinstance(conv, SeparableConv):
                yield from _plain_or_separable(f"decoder/decoder_conv{index}{suffix}", conv)
            else:
                yield f"decoder/{repeated}/{repeated}_{index + 1}", conv


def _plain_or_separable(scope: str, conv: nn.Module) -> Scopes:
    if isinstance(conv, SeparableConv):
        yield f"{scope}_depthwise", conv.depthwise
        yield f"{scope}_pointwise", conv.pointwise
    elif isinstance(conv, ConvBatchNorm):
        yield scope, conv


def _resnet(resnet: ResNet) -> Scopes:
    if resnet.strides_in != "last_unit":
        raise CheckpointError("the official ResNet checkpoints need a ResNet with strides_in=last_unit; build it so")
    convolutions = 3 if resnet.unit == "bottleneck" else 2
    scope = f"resnet_v1_{2 + convolutions * sum(resnet.units[:4])}"
    unit_scope = "bottleneck_v1" if resnet.unit == "bottleneck" else "lite_bottleneck_v1"
    for name, conv in _convs(resnet.stem):
        yield f"{scope}/{name.replace('conv', 'conv1_') if resnet.stem_kind == 'beta' else name}", conv
    for number, block in enumerate(islice(resnet.blocks, 4), start=1):
        for index, unit in enumerate(block.children(), start=1):
            for name, conv in _convs(unit):
                yield f"{scope}/block{number}/unit_{index}/{unit_scope}/{name}", conv


def _xception(xception: Xception) -> Scopes:
    entry, middle = len(xception.entry), xception.middle_units
    scope = f"xception_{1 + 4 * 3 + 4 + middle * 3 + (entry - 3) * 3}"
    for index, (_, conv) in enumerate(_convs(xception.stem), start=1):
        yield f"{scope}/entry_flow/conv1_{index}", conv
    places = [f"entry_flow/block{number}/unit_1" for number in range(1, entry + 1)]
    places += [f"middle_flow/block1/unit_{number}" for number in range(1, middle + 1)]
    places += ["exit_flow/block1/unit_1", "exit_flow/block2/unit_1"]
    for place, unit in zip(places, xception.units, strict=True):
        module = f"{scope}/{place}/xception_module"
        for number in (1, 2, 3):
            yield from _plain_or_separable(f"{module}/separable_conv{number}", getattr(unit, f"conv{number}"))
        if isinstance(unit.shortcut, ConvBatchNorm):
            yield f"{module}/shortcut", unit.shortcut


def _mobilenet(mobilenet: MobileNetV2) -> Scopes:
    yield "MobilenetV2/Conv", mobilenet.stem
    for index, unit in enumerate(mobilenet.units):
        for name, conv in _convs(unit):
            yield f"MobilenetV2/expanded_conv{f'_{index}' if index else ''}/{name}", conv


def _convs(parent: nn.Module) -> Scopes:
    yield from ((name, child) for name, child in parent.named_children() if isinstance(child, ConvBatchNorm))
