"""The networks whose training steps are compared: the paper's, every peer's, and each peer's built with atrous.

A peer's network is another one than the paper's: smp's has separable convolutions and half the Multiply-Adds,
torchvision's has no decoder. What a library makes of the same work shows against its twin, which atrous builds with the
same layers, channels, strides and rates.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import nn

from atrous import DeepLabV3, DeepLabV3Plus
from atrous.networks import resnet, xception
from benchmarks import peers

Build = Callable[[str], nn.Module]  # from the backbone's name


@dataclass(frozen=True)
class Network:
    """A network that is measured.

    Attributes:
        label: for tables.
        differs: what sets it apart from DeepLabv3+ at output stride 16, in words.
        build: makes it for a backbone.
        twin: key of the same network built with atrous; empty for atrous' own.
        side_multiple: images are cut to sides that are multiples of this: of a peer that takes no others, and of its
            twin, which is to do the same work.
    """

    label: str
    differs: str
    build: Build
    twin: str = ""
    side_multiple: int = 1

    def side(self, size: int) -> int:
        """The side of its images, in pixels, where `size` is asked for."""
        return size // self.side_multiple * self.side_multiple


PAPER, SMP, TORCHVISION_OS8, TORCHVISION_OS16, TIMM = "paper", "smp", "torchvision_os8", "torchvision_os16", "timm"
PEERS = (SMP, TORCHVISION_OS16, TORCHVISION_OS8, TIMM)


def networks_of(backbone: str) -> dict[str, Network]:
    """The networks with a backbone, by key: the paper's first, then each peer's and its twin.

    Args:
        backbone: a ResNet that torchvision names too, or an Xception that timm names too.
    """
    found = {PAPER: Network("atrous, DeepLabv3+", "the paper's", _paper)}
    differs = "separable convolutions in ASPP and decoder, one in the decoder, rates 12, 24, 36; sides of 16k pixels"
    smp = Network("smp, DeepLabV3Plus", differs, peers.smp_deeplabv3plus, _twin(SMP), side_multiple=16)
    pairs: dict[str, tuple[Network, Build]] = {SMP: (smp, _as_smp)}
    no_decoder = "DeepLabv3: no decoder, a 3x3 convolution before the classifier"
    if backbone.startswith("resnet"):
        os8 = f"{no_decoder}; output stride 8, its default"
        os16 = f"{no_decoder}; its parts at output stride 16"
        names = "torchvision, DeepLabv3 OS8", "torchvision, DeepLabv3 OS16"
        build = peers.torchvision_deeplabv3, peers.torchvision_deeplabv3_os16
        pairs[TORCHVISION_OS16] = Network(names[1], os16, build[1], _twin(TORCHVISION_OS16)), _as_torchvision(16)
        pairs[TORCHVISION_OS8] = Network(names[0], os8, build[0], _twin(TORCHVISION_OS8)), _as_torchvision(8)
    else:
        network = Network("timm and torchvision, DeepLabv3 OS16", no_decoder, peers.timm_deeplabv3, _twin(TIMM))
        pairs[TIMM] = network, _as_torchvision(16)
    for key, (peer, twin) in pairs.items():
        found[key] = peer
        label = f"atrous, as {peer.label}"
        found[peer.twin] = Network(label, peer.differs, twin, side_multiple=peer.side_multiple)
    return found


def _twin(key: str) -> str:
    return f"atrous_as_{key}"


def paper_network(backbone: str, output_stride: int = 16, *, num_classes: int = peers.CLASSES) -> DeepLabV3Plus:
    """DeepLabv3+ as the paper trains it: separable with Xception (Table 5), dense with ResNets (Table 3)."""
    separable = backbone.startswith("xception")
    return DeepLabV3Plus(
        backbone=backbone,  # type: ignore[arg-type]
        num_classes=num_classes,
        output_stride=output_stride,
        aspp_separable=separable,
        decoder_separable=separable,
    )


def _paper(backbone: str) -> nn.Module:
    return paper_network(backbone)


def _as_smp(backbone: str) -> nn.Module:
    return DeepLabV3Plus(
        **_peers_backbone(backbone),
        aspp_separable=True,
        aspp_rates=(12, 24, 36),
        decoder_separable=True,
        decoder_convolutions=((3, 256),),
        dropout=0.5,
    )


def _as_torchvision(output_stride: int) -> Build:
    def build(backbone: str) -> nn.Module:
        options = _peers_backbone(backbone)
        return DeepLabV3(**options, output_stride=output_stride, head_convolutions=((3, 256),), dropout=0.5)

    return build


def _peers_backbone(backbone: str) -> Mapping[str, Any]:
    """A backbone as other libraries build it: 7x7 stem, stride in a block's first unit, no multi-grid."""
    if backbone.startswith("resnet"):
        return {"backbone": partial(getattr(resnet, backbone), stem="7x7", strides_in="first_unit")}
    return {"backbone": getattr(xception, backbone)}
