"""The parts of a ResNet: its stem and its residual units (version 1: ReLU after the sum)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import OrderedDict
from typing import Literal

from torch import Tensor, nn

from atrous.errors import ConfigError
from atrous.networks.layers import ConvBatchNorm
from atrous.networks.output_stride import UnitPlan
from atrous.networks.recomputation import recomputed
from atrous.networks.residual_sum import summed

StemKind = Literal["beta", "7x7"]


class Stem(nn.Sequential):
    """What comes before the max pool, at stride 2: three 3x3 convolutions ("beta") or one of 7x7.

    Args:
        kind: "beta" (width, width and 2 * width channels, the first strides) or "7x7" (width channels).
        width: 64 in the papers.
    """

    def __init__(self, *, kind: StemKind, width: int) -> None:
        if kind == "beta":
            shapes = [("conv1", 3, width, 3, 2), ("conv2", width, width, 3, 1), ("conv3", width, 2 * width, 3, 1)]
        elif kind == "7x7":
            shapes = [("conv1", 3, width, 7, 2)]
        else:
            raise ConfigError(f"stem={kind!r} is unknown; choose beta (as in the papers) or 7x7")
        super().__init__(
            OrderedDict(
                (name, ConvBatchNorm(in_channels=cin, out_channels=cout, kernel_size=kernel, stride=stride))
                for name, cin, cout, kernel, stride in shapes
            )
        )
        self.out_channels = shapes[-1][2]


class Subsample(nn.Module):
    """Keeps every stride-th row and column: the shortcut of a strided unit whose channels do not change."""

    def __init__(self, *, stride: int = 1) -> None:
        super().__init__()
        self.stride = stride

    def set_atrous(self, *, stride: int) -> None:
        """Set the stride; a shortcut has no rate."""
        self.stride = stride

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """Return [N, C, ceil(H / stride), ceil(W / stride)]."""
        stride = self.stride  # by the backward pass it may be another
        if stride == 1:
            return x_NCHW
        return recomputed(lambda x_NCHW: x_NCHW[..., ::stride, ::stride], x_NCHW)


class Unit(nn.Module, ABC):
    """A residual unit: relu(residual(x) + shortcut(x)).

    The shortcut is a 1x1 convolution where the channels change, otherwise the input itself, subsampled by the stride.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
    """

    def __init__(self, *, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.out_channels = out_channels
        self.shortcut: ConvBatchNorm | Subsample = Subsample()
        if in_channels != out_channels:
            self.shortcut = ConvBatchNorm(
                in_channels=in_channels, out_channels=out_channels, kernel_size=1, activation="none"
            )

    @abstractmethod
    def set_atrous(self, plan: UnitPlan) -> None:
        """Set the unit's stride and the atrous rates of its 3x3 convolutions; no parameter changes."""

    @property
    @abstractmethod
    def last_convolution(self) -> ConvBatchNorm:
        """The convolution that ends the residual branch."""

    @abstractmethod
    def before_last(self, x_NCHW: Tensor) -> Tensor:
        """Return what the last convolution reads."""

    def residual(self, x_NCHW: Tensor) -> Tensor:
        """Return the residual branch, after its last batch norm."""
        y_NCHW: Tensor = self.last_convolution(self.before_last(x_NCHW))
        return y_NCHW

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """Return [N, out_channels, ceil(H / stride), ceil(W / stride)]."""
        return summed(self.last_convolution, self.before_last(x_NCHW), self.shortcut(x_NCHW), relu=True)


class Bottleneck(Unit):
    """1x1, 3x3 (stride and atrous rate), 1x1 to four times the width.

    Args:
        in_channels: Channels of the input.
        width: Channels of the 3x3 convolution.
    """

    def __init__(self, *, in_channels: int, width: int) -> None:
        super().__init__(in_channels=in_channels, out_channels=4 * width)
        self.conv1 = ConvBatchNorm(in_channels=in_channels, out_channels=width, kernel_size=1)
        self.conv2 = ConvBatchNorm(in_channels=width, out_channels=width, kernel_size=3)
        self.conv3 = ConvBatchNorm(in_channels=width, out_channels=4 * width, kernel_size=1, activation="none")

    def set_atrous(self, plan: UnitPlan) -> None:
        """Set the stride of conv2 and the shortcut, and the rate of conv2."""
        self.conv2.set_atrous(stride=plan.stride, rate=plan.rate)
        self.shortcut.set_atrous(stride=plan.stride)

    @property
    def last_convolution(self) -> ConvBatchNorm:
        """Return conv3."""
        return self.conv3

    def before_last(self, x_NCHW: Tensor) -> Tensor:
        """Return conv2(conv1(x))."""
        y_NCHW: Tensor = self.conv2(self.conv1(x_NCHW))
        return y_NCHW


class BasicUnit(Unit):
    """3x3, 3x3, both atrous.

    Args:
        in_channels: Channels of the input.
        width: Channels of both convolutions.
        strided: The convolution that strides: "conv2" (official `lite_bottleneck_v1`) or "conv1" (torchvision).
    """

    def __init__(self, *, in_channels: int, width: int, strided: Literal["conv1", "conv2"]) -> None:
        super().__init__(in_channels=in_channels, out_channels=width)
        self.strided = strided
        self.conv1 = ConvBatchNorm(in_channels=in_channels, out_channels=width, kernel_size=3)
        self.conv2 = ConvBatchNorm(in_channels=width, out_channels=width, kernel_size=3, activation="none")

    def set_atrous(self, plan: UnitPlan) -> None:
        """Set the stride of one convolution and of the shortcut, and the rates of both convolutions."""
        if self.strided == "conv1":
            self.conv1.set_atrous(stride=plan.stride, rate=plan.rate)
            self.conv2.set_atrous(rate=plan.rate_after)
        else:
            self.conv1.set_atrous(rate=plan.rate)
            self.conv2.set_atrous(stride=plan.stride, rate=plan.rate)
        self.shortcut.set_atrous(stride=plan.stride)

    @property
    def last_convolution(self) -> ConvBatchNorm:
        """Return conv2."""
        return self.conv2

    def before_last(self, x_NCHW: Tensor) -> Tensor:
        """Return conv1(x)."""
        y_NCHW: Tensor = self.conv1(x_NCHW)
        return y_NCHW
