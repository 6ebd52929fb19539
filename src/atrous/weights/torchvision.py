"""torchvision's ImageNet weights for ResNet-18/34/50/101."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor

from atrous.errors import CheckpointError
from atrous.networks.layers import ConvBatchNorm
from atrous.networks.resnet import ResNet
from atrous.networks.segmenter import Segmenter
from atrous.weights.matching import LoadReport, load_by_name

IGNORED = ("fc.weight", "fc.bias")  # the ImageNet classifier
_TORCHVISION_NAMES = {
    "conv1": ("conv1", "bn1"),
    "conv2": ("conv2", "bn2"),
    "conv3": ("conv3", "bn3"),
    "shortcut": ("downsample.0", "downsample.1"),
}


def from_torchvision(model: Segmenter | ResNet, source: str | Path | Mapping[str, Tensor]) -> LoadReport:
    """Load an ImageNet state dict of torchvision into a ResNet, alone or as the backbone of a network.

    The ResNet must have torchvision's layout: `stem="7x7", strides_in="first_unit"`. Its blocks 1 to 4 are loaded;
    added blocks and heads keep their values and are listed in the report.

    Args:
        model: A ResNet, or a network with a ResNet as its backbone.
        source: A file that `torch.save` wrote (never unpickled beyond tensors), or the state dict.

    Returns:
        What was loaded, and which parameters were left as they were.

    Raises:
        CheckpointError: The file cannot be read safely, the layout is another, or names or shapes do not fit.
    """
    backbone = model.backbone if isinstance(model, Segmenter) else model
    if not isinstance(backbone, ResNet) or backbone.stem_kind != "7x7" or backbone.strides_in != "first_unit":
        raise CheckpointError(
            "torchvision's weights need a ResNet with stem=7x7 and strides_in=first_unit; "
            'build it so, for example backbone=functools.partial(resnet50, stem="7x7", strides_in="first_unit")'
        )
    name = "the given state dict" if isinstance(source, Mapping) else str(source)
    state = source if isinstance(source, Mapping) else _read(Path(source))
    targets = dict(_targets(backbone))
    return load_by_name(
        model,
        targets=targets,
        values={name: value for name, value in state.items() if name not in IGNORED},
        source=name,
        # Files of before PyTorch 0.4.1, torchvision's own among them, do not count batches.
        optional=[name for name in targets if name.endswith(".num_batches_tracked")],
    )


def _read(path: Path) -> Mapping[str, Tensor]:
    if not path.is_file():
        raise CheckpointError(
            f"{path} is not there; give a torchvision ImageNet checkpoint such as resnet50-0676ba61.pth"
        )
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file may raise anything
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise CheckpointError(f"{path} cannot be read as a file of tensors (is it whole?): {reason}") from error
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise CheckpointError(f"{path} holds no state dict of tensors, as torchvision's checkpoints do")
    return state


def _targets(resnet: ResNet) -> Iterator[tuple[str, Tensor]]:
    """Yield the tensors of the stem and of blocks 1 to 4 by torchvision's names."""
    yield from _conv_batch_norm("conv1", "bn1", resnet.stem.get_submodule("conv1"))
    for number, block in enumerate(islice(resnet.blocks, 4), start=1):
        for index, unit in block.named_children():
            for name, module in unit.named_children():
                conv, norm = _TORCHVISION_NAMES[name]
                yield from _conv_batch_norm(f"layer{number}.{index}.{conv}", f"layer{number}.{index}.{norm}", module)


def _conv_batch_norm(conv: str, norm: str, module: object) -> Iterator[tuple[str, Tensor]]:
    if isinstance(module, ConvBatchNorm):  # a shortcut without weights has nothing to load
        yield f"{conv}.weight", module.conv.weight
        yield from ((f"{norm}.{name}", tensor) for name, tensor in module.norm.state_dict(keep_vars=True).items())
