"""A unit of Xception, restated in plain torch from the rules of the official code."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from atrous.networks.layers import SeparableConv
from atrous.networks.output_stride import UnitPlan
from atrous.networks.xception import XceptionUnit

from .conftest import shake


def normalise(x: Tensor, norm: Any) -> Tensor:
    """Batch norm by its definition, with the epsilon of the official code."""
    scale = norm.weight / (norm.running_var + 1e-3).sqrt()
    y: Tensor = (x - norm.running_mean[:, None, None]) * scale[:, None, None] + norm.bias[:, None, None]
    return y


def separable(x: Tensor, conv: SeparableConv, *, stride: int, rate: int, inside: bool) -> Tensor:
    """A separable convolution by its definition: depthwise, batch norm, pointwise, batch norm; ReLU inside or not."""
    depthwise = conv.depthwise.conv.weight
    x = F.conv2d(x, depthwise, stride=stride, padding=rate, dilation=rate, groups=x.shape[1])
    x = normalise(x, conv.depthwise.norm)
    x = F.conv2d(x.clamp(min=0) if inside else x, conv.pointwise.conv.weight)
    x = normalise(x, conv.pointwise.norm)
    return x.clamp(min=0) if inside else x


@pytest.mark.parametrize(
    ("shortcut", "stride", "rate", "multi_grid"),
    [
        ("conv", 1, 1, (1, 1, 1)),
        ("conv", 2, 1, (1, 1, 1)),
        ("conv", 1, 2, (1, 1, 1)),
        ("sum", 1, 2, (1, 1, 1)),
        ("none", 1, 1, (1, 1, 1)),
        ("none", 1, 2, (1, 2, 4)),
    ],
)
@pytest.mark.parametrize("size", [(9, 12), (8, 7)])
def test_a_unit_is_three_separable_convolutions_as_in_figure_4(
    shortcut: Any, stride: int, rate: int, multi_grid: tuple[int, ...], size: tuple[int, int]
) -> None:
    torch.manual_seed(0)
    inside = shortcut == "none"  # the last unit of the exit flow
    unit = XceptionUnit(in_channels=4, channels=(3, 5, 4), shortcut=shortcut, relu_inside=inside)
    shake(unit).double().eval()
    unit.set_atrous(UnitPlan(stride, rate, rate), multi_grid=multi_grid)
    x_NCHW = torch.randn(2, 4, *size, dtype=torch.float64)
    y, strides = x_NCHW, (1, 1, stride)
    for conv, own_stride, factor in zip((unit.conv1, unit.conv2, unit.conv3), strides, multi_grid, strict=True):
        y = y if inside else y.clamp(min=0)
        y = separable(y, conv, stride=own_stride, rate=rate * factor, inside=inside)
    if shortcut == "sum":
        y = y + x_NCHW
    elif shortcut == "conv":
        layer: Any = unit.shortcut
        y = y + normalise(F.conv2d(x_NCHW, layer.conv.weight, stride=stride), layer.norm)
    before = x_NCHW.clone()
    torch.testing.assert_close(unit(x_NCHW), y, rtol=1e-10, atol=1e-10)
    assert torch.equal(x_NCHW, before)  # the shortcut and the decoder read it too
