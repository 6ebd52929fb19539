"""Other libraries' DeepLab networks, built where they can be imported; where not, the reason.

They are looked for among the installed packages, then where `benchmarks.install_peers` puts them. That is a folder of
their own since a torchvision that belongs to another build of torch breaks whatever imports it when it is there, such
as torchmetrics, and with it atrous-train.
"""

import importlib
import os
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from benchmarks.turns import ROOT, BenchmarkError
from torch import nn

CLASSES = 21
FOLDER_VARIABLE = "ATROUS_BENCH_PEERS"
_OPERATORS = ("nms", "qnms")  # which torchvision gives shapes to while it is imported


class PeerMissingError(BenchmarkError):
    """A library that cannot be imported here, or does not have the network; the message is the reason."""


def smp_deeplabv3plus(backbone: str) -> nn.Module:
    """segmentation_models.pytorch's DeepLabV3Plus at output stride 16."""
    smp = import_peer("segmentation_models_pytorch")
    encoder = backbone if backbone.startswith("resnet") else f"tu-{backbone}"
    network: nn.Module = smp.DeepLabV3Plus(encoder, encoder_weights=None, classes=CLASSES, encoder_output_stride=16)
    return network


def torchvision_deeplabv3(backbone: str) -> nn.Module:
    """Torchvision's DeepLabv3 as it ships, at output stride 8."""
    models = import_peer("torchvision.models.segmentation")
    make = getattr(models, f"deeplabv3_{backbone}", None)
    if make is None:
        raise PeerMissingError(f"torchvision has no deeplabv3_{backbone}")
    network: nn.Module = make(weights=None, weights_backbone=None, num_classes=CLASSES)
    return network


def torchvision_deeplabv3_os16(backbone: str) -> nn.Module:
    """Torchvision's parts of DeepLabv3 put together at output stride 16, with the rates that belong to it."""
    models = import_peer("torchvision.models")
    if backbone not in ("resnet50", "resnet101", "resnet152"):
        raise PeerMissingError(f"torchvision's {backbone} takes no atrous convolution")
    layers = getattr(models, backbone)(replace_stride_with_dilation=[False, False, True])
    getter = import_peer("torchvision.models._utils").IntermediateLayerGetter
    parts = import_peer("torchvision.models.segmentation.deeplabv3")
    head = parts.DeepLabHead(2048, CLASSES, (6, 12, 18))
    network: nn.Module = parts.DeepLabV3(getter(layers, {"layer4": "out"}), head)
    return network


class _LastMap(nn.Module):
    """A timm backbone that returns its last map as torchvision's networks expect it."""

    def __init__(self, features: nn.Module) -> None:
        super().__init__()
        self.features = features

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return {"out": the last map}."""
        return {"out": self.features(x)[-1]}


def timm_deeplabv3(backbone: str) -> nn.Module:
    """A timm backbone at output stride 16 under torchvision's DeepLabv3 head."""
    timm = import_peer("timm")
    features = timm.create_model(backbone, features_only=True, output_stride=16, out_indices=(4,))
    parts = import_peer("torchvision.models.segmentation.deeplabv3")
    head = parts.DeepLabHead(features.feature_info.channels()[-1], CLASSES, (6, 12, 18))
    network: nn.Module = parts.DeepLabV3(_LastMap(features), head)
    return network


def versions() -> dict[str, str]:
    """The peers' versions, or why they are not there."""
    found = {}
    for name, package in (
        ("torchvision", "torchvision"),
        ("segmentation_models_pytorch", "segmentation-models-pytorch"),
        ("timm", "timm"),
    ):
        try:
            import_peer(name)
            found[name] = metadata.version(package)
        except PeerMissingError as error:
            found[name] = str(error)
    return found


def peers_folder() -> Path:
    """The virtual environment that holds the peers: `ATROUS_BENCH_PEERS`, or .venv-bench of this checkout."""
    return Path(os.environ.get(FOLDER_VARIABLE, ROOT / ".venv-bench")).absolute()


def import_peer(name: str) -> Any:
    """A module of a peer.

    Raises:
        PeerMissingError: says why it cannot be imported.
    """
    for packages in peers_folder().glob("lib/python*/site-packages"):
        if str(packages) not in sys.path:
            sys.path.append(str(packages))
    try:
        _declare_operators_of_torchvision()
        return importlib.import_module(name)
    except (ImportError, RuntimeError, OSError) as error:  # a build for another torch raises any of them
        raise PeerMissingError(f"{name.partition('.')[0]} cannot be imported ({error})") from None


def _declare_operators_of_torchvision() -> None:
    """Let torchvision be imported beside another build of the torch that it belongs to, such as a CPU build.

    Its networks are plain PyTorch, but its import fails where its compiled library does not load. Two operators of
    that library are asked for by name; nothing that is measured here calls them.

    Raises:
        PeerMissingError: it belongs to another version of torch.
    """
    try:
        needs = [text for text in metadata.requires("torchvision") or [] if text.startswith("torch==")]
    except metadata.PackageNotFoundError:
        return
    have = torch.__version__.partition("+")[0]
    if needs and needs[0].removeprefix("torch==") != have:
        raise PeerMissingError(f"torchvision {metadata.version('torchvision')} needs {needs[0]}, and {have} is here")
    try:
        importlib.import_module("torchvision")
    except RuntimeError:
        for name in _OPERATORS:
            if not hasattr(torch.ops.torchvision, name):
                torch.library.define(f"torchvision::{name}", "(Tensor a, Tensor b, float c) -> Tensor")
