"""Atrous spatial pyramid pooling with image-level features (DeepLabv3, section 3.3 and Figure 5)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from atrous.errors import ConfigError
from atrous.networks.arguments import number, truth, whole_number, whole_numbers
from atrous.networks.layers import ConvBatchNorm, concatenated, plain_or_separable
from atrous.networks.output_stride import aspp_rates_at
from atrous.networks.own_kernels import is_ours_on_cpu
from atrous.networks.resize import resize_bilinear


class ImagePooling(nn.Module):
    """Image-level features: the mean of the whole map, 1x1 convolution, batch norm, ReLU, resized to the map.

    Args:
        in_channels: Channels of the map.
        channels: Channels of the result.
        align_corners: As for `resize_bilinear`; without effect on one value, stated for completeness.
    """

    def __init__(self, *, in_channels: int, channels: int, align_corners: bool = True) -> None:
        super().__init__()
        self.align_corners = align_corners
        self.project = ConvBatchNorm(in_channels=in_channels, out_channels=channels, kernel_size=1)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """Return [N, channels, H, W]."""
        pooled_NC11 = self.project(_mean(x_NCHW))
        return resize_bilinear(pooled_NC11, x_NCHW.shape[-2:], align_corners=self.align_corners)


def _mean(x_NCHW: Tensor) -> Tensor:
    """Return the mean over the pixels, [N, C, 1, 1], with a gradient that lies in memory as the map does.

    PyTorch's for a map that is channels last does not, and to add it to those of the other branches takes ten times as
    long on a CPU: 7.5 ms of a step with 2048 channels, 33x33 and two images.
    """
    if is_ours_on_cpu(x_NCHW) and x_NCHW.is_contiguous(memory_format=torch.channels_last):
        return x_NCHW.permute(0, 2, 3, 1).mean(dim=(1, 2), keepdim=True).permute(0, 3, 1, 2)
    return x_NCHW.mean(dim=(2, 3), keepdim=True)


class Context(nn.Module, ABC):
    """What stands between a backbone and its classifier or decoder, at the backbone's last map."""

    out_channels: int

    @abstractmethod
    def set_output_stride(self, output_stride: int) -> None:
        """Adapt the atrous rates to a map of another output stride; no parameter changes."""

    @abstractmethod
    def forward(self, x_NCHW: Tensor) -> Tensor:
        """Return [N, out_channels, H, W] for a map [N, in_channels, H, W]."""


class ContextFactory(Protocol):
    """Builds a context for a network that decides the output stride."""

    def __call__(self, *, in_channels: int, output_stride: int) -> Context:
        """Build the context, with fresh weights."""
        ...


class ASPP(Context):
    """Parallel branches at several atrous rates and image pooling, concatenated and projected.

    Every branch has `channels` channels, batch norm and ReLU. Concatenated in the official order: image pooling, 1x1,
    then the rates as given.

    Args:
        in_channels: Channels of the backbone's last map.
        channels: Channels of each branch and of the result; 256 in the papers.
        rates: Atrous rates of the 3x3 branches, written for output stride 16; any number of them.
        separable: Whether the 3x3 branches are atrous separable convolutions (DeepLabv3+, section 3.1).
        image_pooling: Whether the image-level branch is there.
        dropout: Share of the result that dropout zeroes in training.
        output_stride: Output stride of the map, to which the rates adapt.
        align_corners: Handed to image pooling.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        channels: int = 256,
        rates: Sequence[int] = (6, 12, 18),
        separable: bool = False,
        image_pooling: bool = True,
        dropout: float = 0.1,
        output_stride: int = 16,
        align_corners: bool = True,
    ) -> None:
        super().__init__()
        in_channels = whole_number(in_channels, name="in_channels", least=1)
        channels = whole_number(channels, name="aspp_channels", least=1, why="; the papers use 256")
        separable, image_pooling = truth(separable, name="aspp_separable"), truth(image_pooling, name="image_pooling")
        align_corners, dropout = truth(align_corners, name="align_corners"), number(dropout, name="dropout")
        if not 0 <= dropout < 1:
            raise ConfigError(f"dropout={dropout!r} must be at least 0 and below 1; the papers' code uses 0.1")
        self.rates_at_os16 = whole_numbers(rates, name="aspp_rates")
        self.out_channels = channels
        self.image_pooling = (
            ImagePooling(in_channels=in_channels, channels=channels, align_corners=align_corners)
            if image_pooling
            else None
        )
        self.conv_1x1 = ConvBatchNorm(in_channels=in_channels, out_channels=channels, kernel_size=1)
        self.atrous_convs: Any = nn.ModuleList(
            plain_or_separable(separable=separable, in_channels=in_channels, out_channels=channels, kernel_size=3)
            for _ in self.rates_at_os16
        )
        branches = 1 + len(self.rates_at_os16) + image_pooling
        self.project = ConvBatchNorm(in_channels=branches * channels, out_channels=channels, kernel_size=1)
        self.dropout = nn.Dropout(dropout)
        self.set_output_stride(output_stride)

    @property
    def rates(self) -> tuple[int, ...]:
        """The atrous rates at the present output stride."""
        return aspp_rates_at(self.rates_at_os16, self._output_stride)

    def set_output_stride(self, output_stride: int) -> None:
        """Adapt the atrous rates to a map of another output stride; no parameter changes."""
        self._output_stride = whole_number(output_stride)
        for conv, rate in zip(self.atrous_convs, self.rates, strict=True):
            conv.set_atrous(rate=rate)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """Return [N, channels, H, W] for a map [N, in_channels, H, W]."""
        branches = [] if self.image_pooling is None else [self.image_pooling(x_NCHW)]
        branches.append(self.conv_1x1(x_NCHW))
        branches.extend(conv(x_NCHW) for conv in self.atrous_convs)
        y_NCHW: Tensor = self.dropout(self.project(concatenated(branches)))
        return y_NCHW
