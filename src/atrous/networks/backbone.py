"""What a head may ask of any backbone: its features with their channels and strides, and its output stride."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from torch import Tensor, nn


class FeatureInfo(NamedTuple):
    """Channels of a feature, and the ratio of the input's size to its size."""

    channels: int
    stride: int


class Backbone(nn.Module, ABC):
    """A classification network without its classifier, at any output stride."""

    @property
    @abstractmethod
    def output_stride(self) -> int:
        """The ratio of the input's size to that of the feature `high`."""

    @property
    @abstractmethod
    def feature_info(self) -> Mapping[str, FeatureInfo]:
        """Every feature of `forward` by name: at least `low_level` (for a decoder) and `high` (the last)."""

    @abstractmethod
    def set_output_stride(self, output_stride: int) -> None:
        """Run at another output stride from now on; no parameter changes."""

    @abstractmethod
    def forward(self, x_NCHW: Tensor) -> dict[str, Tensor]:
        """Return every feature [N, channels, ceil(H / stride), ceil(W / stride)] by its name."""


class BackboneFactory(Protocol):
    """Builds a backbone for a network that decides output stride, multi-grid and number of blocks."""

    def __call__(self, *, output_stride: int, multi_grid: Sequence[int] | None, blocks: int) -> Backbone:
        """Build the backbone, with fresh weights."""
        ...
