"""Turning config nodes into objects: `_target_` may point into atrous, transforms into albumentations."""

import re
import warnings
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from atrous.errors import ArgumentError, AtrousError, ConfigError

if TYPE_CHECKING:
    from atrous.data.dataset import SegmentationDataset

# The public classes and factories of networks, by the names that they have there: a longer path would also lead to
# what a file of ours imports, such as atrous.studies.pool.subprocess.run. Of data, only what reads: Decoded writes.
NETWORKS = re.compile(r"atrous\.(DeepLab\w+|networks\.([A-Z]\w*|resnet\d+|xception\d+|mobilenetv2))")
OURS = re.compile(
    rf"{NETWORKS.pattern}|atrous\.data\.(Shapes|(VOC2012|CamVid|Cityscapes|CocoVoc|Folder)(\.unverified)?)"
)
TRANSFORMS = re.compile(r"albumentations\.[A-Z]\w*")
_KINDS = MappingProxyType(
    {OURS: "atrous, its networks and data sets,", NETWORKS: "atrous and its networks", TRANSFORMS: "albumentations"}
)


def check_targets(node: Any, *, where: str = "", allowed: re.Pattern[str] = OURS) -> None:
    """Refuse any `_target_` that is not allowed, at any depth: configs are data, also those out of a checkpoint.

    An interpolation is refused as well: whoever builds the node would resolve it after this check, and a resolver such
    as `oc.create` makes a node of it that nobody has looked at.

    Args:
        node: the config, or a part of it.
        where: its key, for messages.
        allowed: what a target may be: `OURS`, `NETWORKS` alone, or `TRANSFORMS` for classes of albumentations.

    Raises:
        ConfigError: names the key and the target or the interpolation.
    """
    if isinstance(node, str) and "${" in node:
        raise ConfigError(f"{where or 'config'}={node!r}: an interpolation is not resolved here, write its value")
    if isinstance(node, Mapping):
        target = node.get("_target_")
        if target is not None and not allowed.fullmatch(str(target)):
            raise ConfigError(
                f"{where or 'config'}._target_={target!r}: only classes of {_KINDS[allowed]} can be built from a "
                "config here"
            )
        for key, value in node.items():
            check_targets(str(key), where=where, allowed=allowed)
            check_targets(value, where=f"{where}.{key}".lstrip("."), allowed=allowed)
    elif isinstance(node, Sequence) and not isinstance(node, str):
        for position, value in enumerate(node):
            check_targets(value, where=f"{where}[{position}]", allowed=allowed)


def build(node: Mapping[str, Any], *, where: str, allowed: re.Pattern[str] = OURS, **arguments: Any) -> Any:
    """The object that `node` describes, with `arguments` added to its constructor call.

    Args:
        node: a plain mapping with `_target_`.
        where: the node's key, for messages.
        allowed: as for `check_targets`.
        **arguments: further keyword arguments.

    Raises:
        ConfigError: for a target outside of atrous or a constructor argument that does not exist.
    """
    from hydra.utils import instantiate

    if not isinstance(node, Mapping) or "_target_" not in node:
        raise ConfigError(f"{where}={node!r} is not a constructor call: it has no _target_")
    check_targets(node, where=where, allowed=allowed)
    check_targets(arguments, where=where, allowed=allowed)
    try:
        return instantiate({**node, "_convert_": "all"}, **arguments)
    except Exception as error:
        cause = error.__cause__
        if isinstance(cause, ArgumentError):
            raise ConfigError(f"{where}.{cause}") from None
        if isinstance(cause, AtrousError):
            raise cause from None
        raise ConfigError(f"{where}: {cause or error}") from error


def build_network(config: Mapping[str, Any], *, num_classes: int, pretrained: bool = True) -> Any:
    """The network of a resolved config, a `Segmenter` with fresh weights.

    Args:
        config: its `model`, `backbone` and `output_stride` count.
        num_classes: of the classifier.
        pretrained: whether a backbone may fetch the weights that its own `pretrained` asks for; False where the network
            is filled with others.
    """
    model, backbone = (config[key] if pretrained else _without_pretrained(config[key]) for key in ("model", "backbone"))
    return build(
        model,
        where="model",
        backbone=build(backbone, where="backbone"),
        num_classes=num_classes,
        output_stride=config["output_stride"],
    )


def _without_pretrained(node: Any) -> Any:
    """A copy of a node in which `pretrained` is False at any depth."""
    if isinstance(node, Mapping):
        return {key: False if key == "pretrained" else _without_pretrained(value) for key, value in node.items()}
    if isinstance(node, Sequence) and not isinstance(node, str):
        return [_without_pretrained(value) for value in node]
    return node


def build_transforms(nodes: Sequence[Mapping[str, Any]], *, where: str, ignore_label: int) -> list[Any]:
    """Albumentations' transforms, such as `{_target_: albumentations.ColorJitter, p: 0.5}`.

    Args:
        nodes: their configs.
        where: the list's key, for messages.
        ignore_label: of the data set; what a transform pads has this label unless its config gives `fill_mask`.

    Raises:
        ConfigError: for anything that is not a class of albumentations, a mistyped argument, or interpolated masks.
    """
    check_targets(nodes, where=where, allowed=TRANSFORMS)
    if not nodes:
        return []
    from atrous.data.compose import for_labels  # albumentations takes a second or two

    nodes = for_labels(nodes, ignore_label=ignore_label, where=where)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # albumentations only warns of a mistyped argument
        return [build(node, where=f"{where}[{i}]", allowed=TRANSFORMS) for i, node in enumerate(nodes)]


def build_datasets(
    data: Mapping[str, Any], *, cached: bool = False
) -> "tuple[SegmentationDataset, SegmentationDataset]":
    """The training and the validation set of a config; folders and lists are checked, no pixels are read.

    Args:
        data: the config's `data`: constructor calls `train` and `val`, `bootstrap`, `allow_shared_samples` and `cache`.
        cached: whether pixels are taken from `data.cache`, which is filled first where it is not.

    Raises:
        ConfigError: a constructor call or a class to repeat that cannot be.
        DataError: a missing folder, list or file, an empty split, a split without masks, or images that are both
            trained on and evaluated on.
    """
    from atrous.data.leakage import refuse_shared_samples, require_masks

    train, val = (build(data[split], where=f"data.{split}") for split in ("train", "val"))
    for split, dataset in (("train", train), ("val", val)):
        require_masks(dataset, key=f"data.{split}")
    if not data["allow_shared_samples"]:
        refuse_shared_samples(train, val)
    if cached and data["cache"] is not None:
        from atrous.data.decoded import Decoded

        train, val = (Decoded(dataset, folder=data["cache"]) for dataset in (train, val))
    if data["bootstrap"]["classes"]:
        from atrous.data.repeated import Repeated

        train = Repeated(dataset=train, **data["bootstrap"])
    return train, val


def build_test_set(data: Mapping[str, Any]) -> "SegmentationDataset":
    """The images that a test server scores: `data.val` with the split `test`.

    Raises:
        ConfigError: the data set has no such split.
        DataError: its images are not there.
    """
    dataset: SegmentationDataset = build({**data["val"], "split": "test"}, where="data.val")
    return dataset
