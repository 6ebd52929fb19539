"""Convolution + batch norm (+ ReLU), the brick of every network of both papers, its separable form, the classifier."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from atrous.errors import ConfigError
from atrous.networks import atrous_convolution, depthwise_convolution, strided_depthwise
from atrous.networks.arguments import listed, whole_numbers
from atrous.networks.normalisation import convolved_and_normalised
from atrous.networks.recomputation import recomputed

BATCH_NORM_EPSILON = 1e-5  # ResNet, ASPP, image pooling and decoder; Xception and MobileNetV2 use 1e-3

Activation = Literal["relu", "relu6", "none"]
Padding = Literal["symmetric", "same"]
Rate = int | tuple[int, int]  # of rows and columns where they differ, as in the dense prediction cell


class HeConv2d(nn.Conv2d):
    """A convolution that starts from He's normal distribution: variance 2 / fan-in."""

    def reset_parameters(self) -> None:
        """Draw new weights; a bias becomes 0."""
        if self.weight.is_meta:  # nothing to fill, and PyTorch is slow at it: half the time of building the network
            return
        nn.init.kaiming_normal_(self.weight, mode="fan_in", nonlinearity="relu")
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """Convolve as nn.Conv2d does, on a CPU by other kernels where they are faster."""
        if depthwise_convolution.pays(self, x_NCHW):
            return depthwise_convolution.depthwise_conv2d(x_NCHW, self.weight, rates=self.dilation)
        if strided_depthwise.pays(self, x_NCHW):
            return strided_depthwise.convolve(self, x_NCHW)
        if atrous_convolution.pays(self, x_NCHW):
            padding, rate, stride = int(self.padding[0]), self.dilation[0], self.stride[0]
            return atrous_convolution.atrous_conv2d(x_NCHW, self.weight, padding=padding, rate=rate, stride=stride)
        return super().forward(x_NCHW)


class ConvBatchNorm(nn.Module):
    """Convolution without a bias, batch norm and, if wanted, ReLU or ReLU6.

    Pads so that a map of n rows becomes one of ceil(n / stride): symmetrically by rate * (kernel_size - 1) / 2, or
    where it strides as TensorFlow does. The decay of the batch norm is left at PyTorch's default: the training recipe
    owns it.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        kernel_size: An odd kernel size.
        stride: Stride of the convolution.
        rate: Atrous rate of the convolution.
        groups: Groups of the convolution; `in_channels` makes it depthwise.
        eps: Epsilon of the batch norm.
        activation: What follows the batch norm.
        padding: "same" pads an even size after the map only where the convolution strides (TensorFlow's SAME, in
            MobileNetV2 alone); "symmetric" pads both sides.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int = 1,
        rate: Rate = 1,
        groups: int = 1,
        eps: float = BATCH_NORM_EPSILON,
        activation: Activation = "relu",
        padding: Padding = "symmetric",
    ) -> None:
        super().__init__()
        self.conv = HeConv2d(in_channels, out_channels, kernel_size, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(out_channels, eps=eps)
        self.activation, self.padding = activation, padding
        self.set_atrous(stride=stride, rate=rate)

    def set_atrous(self, *, stride: int | None = None, rate: Rate | None = None) -> None:
        """Set the stride, the atrous rate, or both; no parameter changes."""
        if stride is not None:
            self.conv.stride = (stride, stride)
        if rate is not None:
            self.conv.dilation = (rate, rate) if isinstance(rate, int) else rate
        reach = (self.conv.kernel_size[0] - 1) // 2
        rows, columns = self.conv.dilation
        self.conv.padding = (0, 0) if self._pads_as_tensorflow else (rows * reach, columns * reach)

    def forward(self, x_NCHW: Tensor, *, relu: bool = False, plus_NCHW: Tensor | None = None) -> Tensor:
        """Return [N, out_channels, ceil(H / stride), ceil(W / stride)].

        Args:
            x_NCHW: A map [N, in_channels, H, W].
            relu: Whether ReLU follows, whatever the activation.
            plus_NCHW: What is added behind the batch norm; see `atrous.networks.residual_sum`.
        """
        if self._pads_as_tensorflow:  # a 3x3 window at 0, 2, ... of an even size, at -1, 1, ... of an odd one
            x_NCHW = F.pad(x_NCHW, (x_NCHW.shape[-1] % 2, 1, x_NCHW.shape[-2] % 2, 1))
        relu = relu or self.activation == "relu"
        y_NCHW = convolved_and_normalised(self.conv, self.norm, x_NCHW, relu=relu, plus_NCHW=plus_NCHW)
        # Not in place: ReLU6 would keep a copy of its input, which is made again otherwise.
        return recomputed(F.relu6, y_NCHW) if self.activation == "relu6" else y_NCHW

    @property
    def _pads_as_tensorflow(self) -> bool:
        return self.padding == "same" and self.conv.stride[0] == 2


class SeparableConv(nn.Module):
    """Depthwise and pointwise convolution, each with batch norm (DeepLabv3+, section 3.1, Figure 3).

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        kernel_size: Of the depthwise convolution.
        eps: Epsilon of both batch norms.
        activation: What follows each of the two batch norms: "relu" in ASPP, decoder and Xception's last block.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 3,
        eps: float = BATCH_NORM_EPSILON,
        activation: Activation = "relu",
    ) -> None:
        super().__init__()
        self.depthwise = ConvBatchNorm(
            in_channels=in_channels,
            out_channels=in_channels,
            kernel_size=kernel_size,
            groups=in_channels,
            eps=eps,
            activation=activation,
        )
        self.pointwise = ConvBatchNorm(
            in_channels=in_channels, out_channels=out_channels, kernel_size=1, eps=eps, activation=activation
        )

    def set_atrous(self, *, stride: int | None = None, rate: Rate | None = None) -> None:
        """Set the stride, the atrous rate, or both, of the depthwise convolution; no parameter changes."""
        self.depthwise.set_atrous(stride=stride, rate=rate)

    def forward(self, x_NCHW: Tensor, *, relu: bool = False, plus_NCHW: Tensor | None = None) -> Tensor:
        """Return [N, out_channels, ceil(H / stride), ceil(W / stride)]; the others as for `ConvBatchNorm`."""
        y_NCHW: Tensor = self.pointwise(self.depthwise(x_NCHW), relu=relu, plus_NCHW=plus_NCHW)
        return y_NCHW


def plain_or_separable(
    *, separable: bool, in_channels: int, out_channels: int, kernel_size: int
) -> ConvBatchNorm | SeparableConv:
    """Return a convolution of ASPP or the decoder; 1x1 has no separable form."""
    if separable and kernel_size > 1:
        return SeparableConv(in_channels=in_channels, out_channels=out_channels, kernel_size=kernel_size)
    return ConvBatchNorm(in_channels=in_channels, out_channels=out_channels, kernel_size=kernel_size)


def convolutions_of(
    convolutions: Sequence[Sequence[int]], *, in_channels: int, name: str, separable: bool = False
) -> tuple[nn.Sequential, int]:
    """Return convolutions one behind the other, and the channels of the last one's result.

    Args:
        convolutions: (kernel size, channels) of each; none gives back the input.
        in_channels: Channels of the input.
        name: The argument that they come from, for messages.
        separable: Whether those above 1x1 are separable.

    Raises:
        ConfigError: One is not (odd kernel size, channels).
    """
    layers = nn.Sequential()
    for given in listed(convolutions, name=name, of="(kernel size, channels), for example [(3, 256)]"):
        convolution = whole_numbers(given, name=f"{name}, (kernel size, channels) of each")
        if len(convolution) != 2 or convolution[0] % 2 == 0 or min(convolution) < 1:
            raise ConfigError(f"{name}: {convolution!r} must be (odd kernel size, channels), for example (3, 256)")
        kernel_size, channels = convolution
        layers.append(
            plain_or_separable(
                separable=separable, in_channels=in_channels, out_channels=channels, kernel_size=kernel_size
            )
        )
        in_channels = channels
    return layers, in_channels


def concatenated(maps_NCHW: Sequence[Tensor]) -> Tensor:
    """Return maps of one size behind each other as channels: [N, sum of C, H, W]."""
    return recomputed(lambda *maps_NCHW: torch.cat(maps_NCHW, dim=1), *maps_NCHW)


class Classifier(nn.Conv2d):
    """The 1x1 convolution to class logits, the only one with a bias; weights start truncated normal, std 0.01."""

    def __init__(self, *, in_channels: int, num_classes: int) -> None:
        super().__init__(in_channels, num_classes, kernel_size=1)

    def reset_parameters(self) -> None:
        """Draw new weights, cut at two standard deviations as TensorFlow does; the bias becomes 0."""
        nn.init.trunc_normal_(self.weight, std=0.01, a=-0.02, b=0.02)
        if self.bias is not None:
            nn.init.zeros_(self.bias)
