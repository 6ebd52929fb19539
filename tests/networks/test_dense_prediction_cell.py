"""The dense prediction cell: its branches in plain torch, asymmetric rates, rates at every output stride."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from atrous.errors import ConfigError
from atrous.networks.dense_prediction_cell import TOP1_CITYSCAPES, Branch, DensePredictionCell
from atrous.networks.layers import SeparableConv

from .conftest import shake

# Figure 5 of the paper, best cell on Cityscapes: what each branch reads, its rates of rows and columns.
PUBLISHED = [(-1, 1, 6), (0, 18, 15), (1, 6, 3), (0, 1, 1), (0, 6, 21)]


def normalised(x: Tensor, norm: Any) -> Tensor:
    """Batch norm by its definition, then ReLU."""
    x = (x - norm.running_mean[:, None, None]) / (norm.running_var[:, None, None] + 1e-5).sqrt()
    y: Tensor = (x * norm.weight[:, None, None] + norm.bias[:, None, None]).clamp(min=0)
    return y


def separable(x: Tensor, conv: SeparableConv, rate: tuple[int, int]) -> Tensor:
    """An atrous separable convolution by its definition, ReLU after both batch norms."""
    depthwise = conv.depthwise.conv.weight
    x = F.conv2d(x, depthwise, padding=rate, dilation=rate, groups=x.shape[1])
    x = normalised(x, conv.depthwise.norm)
    return normalised(F.conv2d(x, conv.pointwise.conv.weight), conv.pointwise.norm)


@pytest.mark.parametrize("size", [(9, 13), (50, 47)])
def test_the_cell_is_figure_5(size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    cell = DensePredictionCell(in_channels=5, channels=3)
    shake(cell).double().eval()
    x_NCHW = torch.randn(2, 5, *size, dtype=torch.float64)
    results: list[Tensor] = []
    for conv, (reads, rows, columns) in zip(cell.branches, PUBLISHED, strict=True):
        results.append(separable(x_NCHW if reads < 0 else results[reads], conv, (rows, columns)))
    wanted = normalised(F.conv2d(torch.cat(results, dim=1), cell.project.conv.weight), cell.project.norm)
    torch.testing.assert_close(cell(x_NCHW), wanted)


def test_the_rate_of_rows_comes_first() -> None:
    cell = DensePredictionCell(in_channels=1, channels=1, branches=[Branch((2, 5), -1)]).eval()
    conv = cell.branches[0].depthwise.conv
    seen = torch.zeros(1, 1, 21, 21)
    seen[..., 10, 10] = 1
    with torch.no_grad():
        conv.weight.fill_(1)
        rows, columns = conv(seen)[0, 0].nonzero().T
    assert set(rows.tolist()) == {8, 10, 12}
    assert set(columns.tolist()) == {5, 10, 15}


def test_branches_are_concatenated_in_order() -> None:
    cell = DensePredictionCell(in_channels=4, channels=2).eval()
    concatenated: list[Tensor] = []
    outputs: list[Tensor] = []
    cell.project.register_forward_hook(lambda _m, inputs, _o: concatenated.append(inputs[0]))
    for branch in cell.branches:
        branch.register_forward_hook(lambda _m, _i, output: outputs.append(output))
    with torch.inference_mode():
        cell(torch.randn(1, 4, 7, 7))
    assert torch.equal(concatenated[0], torch.cat(outputs, dim=1))
    assert concatenated[0].shape[1] == 10


@pytest.mark.parametrize(
    ("output_stride", "rates"),
    [
        (8, [(2, 12), (36, 30), (12, 6), (2, 2), (12, 42)]),  # the official conv_rate_multiplier of 2
        (16, [(1, 6), (18, 15), (6, 3), (1, 1), (6, 21)]),
        (32, [(1, 3), (9, 8), (3, 2), (1, 1), (3, 11)]),  # halves rounded up, as ASPP's
    ],
)
def test_rates_follow_the_output_stride(output_stride: int, rates: list[tuple[int, int]]) -> None:
    built = DensePredictionCell(in_channels=2, channels=2, output_stride=output_stride)
    switched = DensePredictionCell(in_channels=2, channels=2)
    switched.set_output_stride(output_stride)
    for cell in (built, switched):
        assert [branch.depthwise.conv.dilation for branch in cell.branches] == rates
        assert [branch.depthwise.conv.padding for branch in cell.branches] == rates


def test_every_branch_keeps_the_size_of_the_map() -> None:
    cell = DensePredictionCell(in_channels=2, channels=2).eval()
    for height, width in product((1, 4, 33), repeat=2):
        assert cell(torch.randn(1, 2, height, width)).shape == (1, 2, height, width)


def test_dropout_works_on_the_concatenated_branches_in_training_alone() -> None:
    torch.manual_seed(0)
    cell = DensePredictionCell(in_channels=4, channels=64, dropout=0.5)
    seen: list[Tensor] = []
    cell.project.register_forward_hook(lambda _m, inputs, _o: seen.append(inputs[0]))
    x_NCHW = torch.randn(2, 4, 9, 9)
    cell.train()(x_NCHW)
    cell.eval()(x_NCHW)
    training, evaluation = ((concatenated == 0).float().mean().item() for concatenated in seen)
    assert training == pytest.approx(0.5 + 0.5 * 0.5, abs=0.03)  # ReLU zeroes one half, dropout half of the rest
    assert evaluation < 0.6


def test_epsilon_is_that_of_aspp() -> None:
    cell = DensePredictionCell(in_channels=2, channels=2)
    assert {module.eps for module in cell.modules() if isinstance(module, nn.BatchNorm2d)} == {1e-5}


@pytest.mark.parametrize("reads", [0, 1, -2])
def test_a_branch_can_only_read_an_earlier_one(reads: int) -> None:
    with pytest.raises(ConfigError, match=rf"branches\[0\] reads branch {reads}; it can read -1 to -1"):
        DensePredictionCell(in_channels=2, branches=[Branch((1, 1), reads)])


def test_a_cell_without_branches_or_channels_is_refused() -> None:
    with pytest.raises(ConfigError, match="branches"):
        DensePredictionCell(in_channels=2, branches=[])
    with pytest.raises(ConfigError, match="channels=0 must be at least 1"):
        DensePredictionCell(in_channels=2, channels=0)
    with pytest.raises(ConfigError, match=r"dropout=1\.0 must be at least 0 and below 1"):
        DensePredictionCell(in_channels=2, dropout=1.0)


@pytest.mark.parametrize(
    "branch",
    [Branch((0, 1), -1), [[1.5, 1], -1], [[1, "6"], -1], [[1, 6, 3], -1], [[1, 6]], [1, 6], 6, None, [[1, 6], 0.5]],
)
def test_a_branch_that_is_none_is_told_by_its_place(branch: Any) -> None:
    with pytest.raises(ConfigError, match=r"branches\[1\]=.* for example \[\[1, 6\], -1\]"):
        DensePredictionCell(in_channels=2, branches=[[[1, 6], -1], branch])


def test_lists_are_branches_too() -> None:
    lists = [[list(rate), reads] for rate, reads in TOP1_CITYSCAPES]
    assert DensePredictionCell(in_channels=2, channels=2, branches=lists).cell == TOP1_CITYSCAPES
