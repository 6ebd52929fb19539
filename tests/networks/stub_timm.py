"""A package timm of one small network, which writes down what it is asked to build."""

from __future__ import annotations

from itertools import pairwise
from types import SimpleNamespace

import torch
from torch import Tensor, nn


class StubTimm:
    """What atrous takes of timm.

    Attributes:
        asked: (name, pretrained) of every network that was built.
    """

    def __init__(self) -> None:
        self.asked: list[tuple[str, bool]] = []

    def create_model(self, name: str, *, pretrained: bool, features_only: bool, output_stride: int) -> nn.Module:
        """Build the network, whatever its name."""
        assert features_only
        self.asked.append((name, pretrained))
        return _Network(output_stride)


class _Network(nn.Module):
    def __init__(self, output_stride: int) -> None:
        super().__init__()
        reductions = [min(2 << level, output_stride) for level in range(5)]
        strides = [2, *(now // before for before, now in pairwise(reductions))]
        channels = [4, 8, 8, 8, 16]
        pairs = zip([3, *channels], channels, strict=False)
        self.levels = nn.ModuleList(
            nn.Conv2d(*pair, 3, stride, padding=1) for pair, stride in zip(pairs, strides, strict=True)
        )
        self.feature_info = SimpleNamespace(channels=lambda: channels, reduction=lambda: reductions)

    def forward(self, x_NCHW: Tensor) -> list[Tensor]:
        features = []
        for level in self.levels:
            x_NCHW = torch.relu(level(x_NCHW))
            features.append(x_NCHW)
        return features
