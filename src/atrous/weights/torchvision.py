"""torchvision's weights: ImageNet ResNets and MobileNetV2, and its DeepLabv3 checkpoints."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from atrous.errors import CheckpointError
from atrous.networks.backbone import Backbone
from atrous.networks.segmenter import Segmenter
from atrous.weights.matching import LoadReport, dense_tensors, load_by_name
from atrous.weights.torch_files import read_torch
from atrous.weights.torchvision_names import backbone_targets, classifier_names, head_targets, our_branch_order

_IMAGENET_HEADS = ("fc.", "classifier.", "features.18.")  # the last of these is MobileNetV2's 1280 channels
_BACKBONE, _AUXILIARY, _SEGMENTER = "backbone.", "aux_classifier.", "classifier.0."


def from_torchvision(
    model: Segmenter | Backbone, source: str | Path | Mapping[str, Tensor], *, any_classes: bool = False
) -> LoadReport:
    """Load a state dict of torchvision into a network, or into a backbone alone.

    An ImageNet state dict fills the backbone; added blocks and heads keep their values and are listed in the report. A
    state dict of torchvision's DeepLabv3 fills a whole `DeepLabV3` with `head_convolutions=((3, 256),)`; its auxiliary
    head is ignored.

    Args:
        model: A network or backbone of torchvision's layout: a ResNet with `stem="7x7", strides_in="first_unit"`, or a
            MobileNetV2 with `padding="symmetric", epsilon=1e-5`.
        source: A file that `torch.save` wrote (never unpickled beyond tensors), or the state dict.
        any_classes: Whether the classifier keeps its values where the file's is for another number of classes.

    Returns:
        What was loaded, and which parameters were left as they were.

    Raises:
        CheckpointError: The file cannot be read safely, the layout is another, or names or shapes do not fit.
    """
    name = "the given state dict" if isinstance(source, Mapping) else str(source)
    state = dense_tensors(source if isinstance(source, Mapping) else _read(Path(source)), source=name)
    backbone = model.backbone if isinstance(model, Segmenter) else model
    is_segmenter = any(entry.startswith(_SEGMENTER) for entry in state)
    if is_segmenter:
        if not isinstance(model, Segmenter):
            raise CheckpointError(f"{name} holds a whole DeepLabv3; load it into a DeepLabV3, not into a backbone")
        targets = state_dict_of(model)
        values = {entry: our_branch_order(entry, value, model) for entry, value in state.items()}
    else:
        targets = state_dict_of(backbone)
        values = dict(state)
    ignored = (_AUXILIARY,) if is_segmenter else _IMAGENET_HEADS
    return load_by_name(
        model,
        targets=targets,
        values={entry: value for entry, value in values.items() if not entry.startswith(ignored)},
        source=name,
        # Files of before PyTorch 0.4.1, torchvision's own among them, do not count batches.
        optional=[entry for entry in targets if entry.endswith(".num_batches_tracked")],
        resizable=classifier_names(model) if any_classes and is_segmenter and isinstance(model, Segmenter) else (),
    )


def state_dict_of(model: Segmenter | Backbone) -> dict[str, Tensor]:
    """Return a network's tensors, or those of a backbone alone, by the names that torchvision has for them.

    Args:
        model: A `DeepLabV3` or a backbone of torchvision's layout; see `from_torchvision`.

    Raises:
        CheckpointError: The layout is another.
    """
    if not isinstance(model, Segmenter):
        return dict(backbone_targets(model))
    backbone = {f"{_BACKBONE}{entry}": tensor for entry, tensor in backbone_targets(model.backbone)}
    return {**backbone, **dict(head_targets(model))}


def _read(path: Path) -> Mapping[str, Tensor]:
    if not path.is_file():
        raise CheckpointError(f"{path} is not there; give a torchvision checkpoint such as resnet50-0676ba61.pth")
    return read_torch(path)
