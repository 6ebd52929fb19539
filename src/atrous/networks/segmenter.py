"""What the networks of both papers share: a backbone, a head, a classifier, and logits at the size of the input."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any, Literal, TypeVar, cast, get_args

import torch
from torch import Tensor, nn

from atrous.errors import ConfigError
from atrous.networks.arguments import truth, whole_number, whole_numbers
from atrous.networks.aspp import ASPP, Context, ContextFactory
from atrous.networks.backbone import Backbone, BackboneFactory
from atrous.networks.layers import Classifier
from atrous.networks.own_kernels import is_recorded
from atrous.networks.recomputation import maps_recomputed
from atrous.networks.resize import resize_bilinear

BackboneName = Literal[
    "resnet18",
    "resnet34",
    "resnet50",
    "resnet101",
    "resnet152",
    "xception41",
    "xception65",
    "xception71",
    "mobilenetv2",
]
_Kind = TypeVar("_Kind")
_PAPER_MULTI_GRID = dict.fromkeys(("resnet50", "resnet101", "resnet152"), (1, 2, 4))  # the papers' best for ASPP
_OWN_STRIDE = 32  # of a backbone without atrous convolution: one cell of its last map


class Segmenter(nn.Module):
    """A network that gives every pixel of an image one logit per class.

    Subclasses say how the backbone's features become the map that the classifier reads.

    Args:
        backbone: The built backbone.
        context: The built ASPP, or another context, behind it; its rates follow the output stride. None for a network
            without.
        head_channels: Channels of the map that the classifier reads.
        num_classes: Classes, background included; at least 2.
        align_corners: As for `resize_bilinear`, for every resize of the network.

    Attributes:
        recomputes_maps: Whether training keeps the outputs of convolutions alone and computes other maps again
            (`atrous.networks.recomputation`); the same bits.
        recomputes_depthwise: Whether it computes the outputs of depthwise convolutions again, too.
    """

    recomputes_maps: bool = False
    recomputes_depthwise: bool = False

    def __init__(
        self, *, backbone: Backbone, context: Context | None, head_channels: int, num_classes: int, align_corners: bool
    ) -> None:
        super().__init__()
        num_classes = whole_number(num_classes, name="num_classes", least=2, why=": background counts as a class")
        self.backbone = backbone
        self.context = context
        self.classifier = Classifier(in_channels=head_channels, num_classes=num_classes)
        self.num_classes = num_classes
        self.align_corners = truth(align_corners, name="align_corners")

    @property
    def output_stride(self) -> int:
        """The ratio of the image's size to that of the backbone's last map."""
        return self.backbone.output_stride

    def set_output_stride(self, output_stride: int) -> None:
        """Run at another output stride from now on: ASPP's rates follow, every parameter stays as it is.

        Raises:
            ConfigError: The backbone cannot run at it; nothing has changed then.
        """
        output_stride = whole_number(output_stride)
        self.backbone.set_output_stride(output_stride)
        if self.context is not None:
            self.context.set_output_stride(output_stride)

    @abstractmethod
    def head(self, features: dict[str, Tensor]) -> Tensor:
        """Return the map that the classifier reads, from the backbone's features."""

    def low_resolution_logits(self, x_NCHW: Tensor) -> Tensor:
        """Return the classifier's output [N, num_classes, h, w] for images [N, 3, H, W]."""
        if is_recorded() or not (self.recomputes_maps and self.training and torch.is_grad_enabled()):
            return self._logits(x_NCHW)
        with maps_recomputed(depthwise=self.recomputes_depthwise):
            return self._logits(x_NCHW)

    def _logits(self, x_NCHW: Tensor) -> Tensor:
        logits_NKhw: Tensor = self.classifier(self.head(self.backbone(x_NCHW)))
        return logits_NKhw

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """Return logits [N, num_classes, H, W] for preprocessed images [N, 3, H, W].

        Raises:
            ConfigError: The images are smaller than one cell of the last map (of the backbone's own, where the output
                stride is above 32).
        """
        height, width = x_NCHW.shape[-2:]
        cell = min(self.output_stride, _OWN_STRIDE)
        if min(height, width) < cell:
            raise ConfigError(
                f"images of {height}x{width} pixels are smaller than one output cell; output_stride="
                f"{self.output_stride} needs at least {cell}x{cell}"
            )
        logits_NKhw = self.low_resolution_logits(x_NCHW)
        return resize_bilinear(logits_NKhw, x_NCHW.shape[-2:], align_corners=self.align_corners)


def build_backbone(
    backbone: BackboneName | BackboneFactory,
    *,
    output_stride: int,
    multi_grid: Sequence[int] | None,
    blocks: int = 4,
    aspp: bool = True,
) -> Backbone:
    """Build a backbone from its name, or from a factory such as `functools.partial(resnet18, stem="7x7")`.

    Args:
        backbone: A name or a factory.
        output_stride: Handed to the backbone.
        multi_grid: Handed to the backbone; None takes the papers' (1, 2, 4) for "resnet50", "resnet101" and
            "resnet152" under ASPP, and what the backbone itself does otherwise (all 1).
        blocks: Handed to the backbone.
        aspp: Whether ASPP follows, rather than a cascade.

    Raises:
        ConfigError: The name is unknown, it is neither name nor factory, or a number is not whole.
    """
    output_stride, blocks = whole_number(output_stride), whole_number(blocks, name="blocks")
    multi_grid = None if multi_grid is None else whole_numbers(multi_grid, name="multi_grid")
    if isinstance(backbone, str):
        factory = backbone_factory(backbone)
        if multi_grid is None and aspp:
            multi_grid = _PAPER_MULTI_GRID.get(backbone)
        return factory(output_stride=output_stride, multi_grid=multi_grid, blocks=blocks)
    if isinstance(backbone, nn.Module) or not callable(backbone):
        raise ConfigError(
            f"backbone is of the type {type(backbone).__name__}; give a name or what builds one, such as "
            "atrous.networks.resnet50, since the network decides the output stride"
        )
    given = {"output_stride": output_stride, "multi_grid": multi_grid, "blocks": blocks}
    return _built(backbone, given, Backbone, name="backbone")  # type: ignore[type-abstract]


def backbone_factory(name: str) -> BackboneFactory:
    """Return what builds the backbone of a name.

    Raises:
        ConfigError: The name is unknown.
    """
    known = get_args(BackboneName)
    if name not in known:
        raise ConfigError(f"backbone={name!r} is unknown; choose {', '.join(known)}, or give a factory")
    home = next(file for file in ("resnet", "xception", "mobilenet") if name.startswith(file))
    factory: BackboneFactory = getattr(import_module(f"atrous.networks.{home}"), name)
    return factory


def build_context(factory: ContextFactory | None, *, backbone: Backbone, **aspp: Any) -> Context:
    """Build what reads a backbone's last map.

    Args:
        factory: Builds it; None for ASPP.
        backbone: The backbone.
        **aspp: Arguments of ASPP.

    Raises:
        ConfigError: It is no factory of a context, or ASPP cannot be built.
    """
    given: dict[str, Any] = {"in_channels": backbone.out_channels, "output_stride": backbone.output_stride}
    if factory is None:
        return ASPP(**given, **aspp)
    if isinstance(factory, nn.Module) or not callable(factory):
        raise ConfigError(
            f"context is of the type {type(factory).__name__}; give what builds one, such as "
            "atrous.networks.DensePredictionCell, since the network decides its channels and its output stride"
        )
    return _built(factory, given, Context, name="context")  # type: ignore[type-abstract]


def _built(factory: Callable[..., Any], given: Mapping[str, Any], kind: type[_Kind], *, name: str) -> _Kind:
    """What a factory builds, which is of this kind or a wrapper of one, such as torch.compile's, which has all it has.

    A TypeError of the call is told with what it was called with.
    """
    called = getattr(factory, "__qualname__", repr(factory))
    needed = f"give what builds an atrous.networks.{kind.__name__} when it is called with {', '.join(given)}"
    try:
        built = factory(**given)
    except TypeError as error:
        raise ConfigError(f"{name}={called}: {needed} ({error})") from error
    needs = vars(kind)["__abstractmethods__"]
    if not (isinstance(built, nn.Module) and all(hasattr(built, part) for part in needs)):
        raise ConfigError(f"{name}={called} builds a {type(built).__name__}; {needed}")
    return cast(_Kind, built)
