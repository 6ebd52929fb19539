"""What the networks of both papers share: a backbone, a head, a classifier, and logits at the size of the input."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from typing import Literal

from torch import Tensor, nn

from atrous.errors import ConfigError
from atrous.networks.aspp import ASPP
from atrous.networks.backbone import Backbone, BackboneFactory
from atrous.networks.layers import Classifier
from atrous.networks.resize import resize_bilinear
from atrous.networks.resnet import resnet18, resnet34, resnet50, resnet101

BackboneName = Literal["resnet18", "resnet34", "resnet50", "resnet101"]


class Segmenter(nn.Module):
    """A network that gives every pixel of an image one logit per class.

    Subclasses say how the backbone's features become the map that the classifier reads.

    Args:
        backbone: The built backbone.
        aspp: The built ASPP behind it, whose rates follow the output stride; None for a network without.
        head_channels: Channels of the map that the classifier reads.
        num_classes: Classes, background included; at least 2.
        align_corners: As for `resize_bilinear`, for every resize of the network.
    """

    def __init__(
        self, *, backbone: Backbone, aspp: ASPP | None, head_channels: int, num_classes: int, align_corners: bool
    ) -> None:
        super().__init__()
        if num_classes < 2:
            raise ConfigError(f"num_classes={num_classes!r} must be at least 2: background counts as a class")
        self.backbone = backbone
        self.aspp = aspp
        self.classifier = Classifier(in_channels=head_channels, num_classes=num_classes)
        self.num_classes = num_classes
        self.align_corners = align_corners

    @property
    def output_stride(self) -> int:
        """The ratio of the image's size to that of the backbone's last map."""
        return self.backbone.output_stride

    def set_output_stride(self, output_stride: int) -> None:
        """Run at another output stride from now on: ASPP's rates follow, every parameter stays as it is.

        Raises:
            ConfigError: The backbone cannot run at it; nothing has changed then.
        """
        self.backbone.set_output_stride(output_stride)
        if self.aspp is not None:
            self.aspp.set_output_stride(output_stride)

    def backbone_parameters(self) -> Iterator[nn.Parameter]:
        """Yield the parameters of the backbone."""
        yield from self.backbone.parameters()

    def head_parameters(self) -> Iterator[nn.Parameter]:
        """Yield all other parameters, the classifier's included."""
        for name, module in self.named_children():
            if name != "backbone":
                yield from module.parameters()

    @abstractmethod
    def head(self, features: dict[str, Tensor]) -> Tensor:
        """Return the map that the classifier reads, from the backbone's features."""

    def low_resolution_logits(self, x_NCHW: Tensor) -> Tensor:
        """Return the classifier's output [N, num_classes, h, w] for images [N, 3, H, W]."""
        logits_NKhw: Tensor = self.classifier(self.head(self.backbone(x_NCHW)))
        return logits_NKhw

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """Return logits [N, num_classes, H, W] for preprocessed images [N, 3, H, W]."""
        logits_NKhw = self.low_resolution_logits(x_NCHW)
        return resize_bilinear(logits_NKhw, x_NCHW.shape[-2:], align_corners=self.align_corners)


def build_backbone(
    backbone: BackboneName | BackboneFactory,
    *,
    output_stride: int,
    multi_grid: Sequence[int] | None,
    blocks: int = 4,
) -> Backbone:
    """Build a backbone from its name, or from a factory such as `functools.partial(resnet18, stem="7x7")`.

    Raises:
        ConfigError: The name is unknown.
    """
    named: dict[str, BackboneFactory] = {
        "resnet18": resnet18,
        "resnet34": resnet34,
        "resnet50": resnet50,
        "resnet101": resnet101,
    }
    if isinstance(backbone, str):
        if backbone not in named:
            raise ConfigError(f"backbone={backbone!r} is unknown; choose {', '.join(named)}, or give a factory")
        backbone = named[backbone]
    return backbone(output_stride=output_stride, multi_grid=multi_grid, blocks=blocks)
