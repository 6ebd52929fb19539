"""torchvision's state-dict names for the tensors of our networks."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import torch
from torch import Tensor, nn

from atrous.errors import CheckpointError
from atrous.networks.aspp import ASPP
from atrous.networks.backbone import Backbone
from atrous.networks.deeplab import DeepLabV3
from atrous.networks.layers import ConvBatchNorm
from atrous.networks.mobilenet import MobileNetV2
from atrous.networks.resnet import ResNet
from atrous.networks.segmenter import Segmenter

Targets = Iterator[tuple[str, Tensor]]
_RESNET_NAMES = {
    "conv1": ("conv1", "bn1"),
    "conv2": ("conv2", "bn2"),
    "conv3": ("conv3", "bn3"),
    "shortcut": ("downsample.0", "downsample.1"),
}
_PROJECT = "classifier.0.project.0.weight"


def backbone_targets(backbone: Backbone) -> Targets:
    """Yield the tensors of a backbone (of a ResNet, those of the stem and of blocks 1 to 4) by torchvision's names.

    Raises:
        CheckpointError: The layout is not torchvision's.
    """
    if isinstance(backbone, ResNet) and backbone.stem_kind == "7x7" and backbone.strides_in == "first_unit":
        return _resnet(backbone)
    if isinstance(backbone, MobileNetV2) and (backbone.padding, backbone.epsilon) == ("symmetric", 1e-5):
        return _mobilenet(backbone)
    raise CheckpointError(
        "torchvision's weights need a ResNet with stem=7x7 and strides_in=first_unit, or a MobileNetV2 with "
        'padding=symmetric and epsilon=1e-5; build it so, for example backbone=functools.partial(resnet50, stem="7x7", '
        'strides_in="first_unit")'
    )


def head_targets(model: Segmenter) -> Targets:
    """Yield the tensors behind the backbone by the names of torchvision's DeepLabv3.

    Raises:
        CheckpointError: The head is another.
    """
    context = model.context
    if not (isinstance(model, DeepLabV3) and isinstance(context, ASPP) and context.image_pooling is not None):
        raise CheckpointError("torchvision's DeepLabv3 checkpoints need a DeepLabV3 with ASPP and image pooling")
    refine = list(model.refine)
    if len(refine) != 1 or not isinstance(refine[0], ConvBatchNorm):
        raise CheckpointError(
            "torchvision's DeepLabv3 has a 3x3 convolution behind ASPP; build the network with "
            "head_convolutions=((3, 256),)"
        )
    branches = [context.conv_1x1, *context.atrous_convs]
    for index, branch in enumerate(branches):
        yield from _conv_batch_norm(f"classifier.0.convs.{index}.0", f"classifier.0.convs.{index}.1", branch)
    pooling = f"classifier.0.convs.{len(branches)}"
    yield from _conv_batch_norm(f"{pooling}.1", f"{pooling}.2", context.image_pooling.project)
    yield from _conv_batch_norm("classifier.0.project.0", "classifier.0.project.1", context.project)
    yield from _conv_batch_norm("classifier.1", "classifier.2", refine[0])
    names = classifier_names(model)
    yield from zip(names, (tensor for _, tensor in model.classifier.named_parameters()), strict=True)


def classifier_names(model: Segmenter) -> list[str]:
    """Return the names of the classifier's parameters, in the order that they have in the network."""
    return [f"classifier.4.{name}" for name, _ in model.classifier.named_parameters()]


def our_branch_order(name: str, value: Tensor, model: Segmenter) -> Tensor:
    """Bring the input channels of ASPP's projection into the official order: torchvision's image pooling comes last."""
    if name != _PROJECT or model.context is None or value.ndim != 4:
        return value
    channels = model.context.out_channels
    return torch.cat([value[:, -channels:], value[:, :-channels]], dim=1)


def _resnet(resnet: ResNet) -> Targets:
    yield from _conv_batch_norm("conv1", "bn1", resnet.stem.get_submodule("conv1"))
    for number, block in enumerate(islice(resnet.blocks, 4), start=1):
        for index, unit in block.named_children():
            for name, module in unit.named_children():
                conv, norm = _RESNET_NAMES[name]
                yield from _conv_batch_norm(f"layer{number}.{index}.{conv}", f"layer{number}.{index}.{norm}", module)


def _mobilenet(mobilenet: MobileNetV2) -> Targets:
    yield from _conv_batch_norm("features.0.0", "features.0.1", mobilenet.stem)
    for number, unit in enumerate(mobilenet.units, start=1):
        prefix = f"features.{number}.conv"
        convs = [conv for conv in (unit.expand, unit.depthwise) if isinstance(conv, ConvBatchNorm)]
        for place, conv in enumerate(convs):
            yield from _conv_batch_norm(f"{prefix}.{place}.0", f"{prefix}.{place}.1", conv)
        yield from _conv_batch_norm(f"{prefix}.{len(convs)}", f"{prefix}.{len(convs) + 1}", unit.project)


def _conv_batch_norm(conv: str, norm: str, module: nn.Module) -> Targets:
    if isinstance(module, ConvBatchNorm):  # a shortcut without weights has nothing to load
        yield f"{conv}.weight", module.conv.weight
        yield from ((f"{norm}.{name}", tensor) for name, tensor in module.norm.state_dict(keep_vars=True).items())
