"""The dense prediction cell of the Xception-71 release for Cityscapes (Chen et al., arXiv:1809.04184, Figure 5).

Found by architecture search in place of ASPP: separable 3x3 convolutions, some one behind the other, whose atrous rates
differ between rows and columns; all are concatenated and projected.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from torch import Tensor, nn

from atrous.errors import ConfigError
from atrous.networks.aspp import Context
from atrous.networks.layers import ConvBatchNorm, SeparableConv, concatenated
from atrous.networks.output_stride import aspp_rates_at


class Branch(NamedTuple):
    """One convolution of the cell.

    Attributes:
        rate: Atrous rates of rows and columns, written for output stride 16.
        reads: The branch whose result it reads, or -1 for the backbone's map.
    """

    rate: tuple[int, int]
    reads: int


# The best cell of the search on Cityscapes, as released (dense_prediction_cell_branch5_top1_cityscapes.json).
TOP1_CITYSCAPES = (
    Branch((1, 6), -1),
    Branch((18, 15), 0),
    Branch((6, 3), 1),
    Branch((1, 1), 0),
    Branch((6, 21), 0),
)


class DensePredictionCell(Context):
    """Separable convolutions that read the backbone's map or each other, concatenated and projected.

    Args:
        in_channels: Channels of the backbone's last map.
        channels: Channels of each branch and of the result.
        branches: The cell; the released one by default. A branch reads an earlier one.
        dropout: Share of the concatenated branches that dropout zeroes in training.
        output_stride: Output stride of the map, to which the rates adapt.

    Raises:
        ConfigError: A value that cannot be, with the values that can; a branch that reads one that comes later.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        channels: int = 256,
        branches: Sequence[Branch] = TOP1_CITYSCAPES,
        dropout: float = 0.1,
        output_stride: int = 16,
    ) -> None:
        super().__init__()
        _check(branches=branches, channels=channels, dropout=dropout)
        self.cell = tuple(branches)
        self.out_channels = channels
        self.branches: Any = nn.ModuleList(
            SeparableConv(in_channels=in_channels if branch.reads < 0 else channels, out_channels=channels)
            for branch in branches
        )
        self.dropout = nn.Dropout(dropout)
        self.project = ConvBatchNorm(in_channels=len(self.cell) * channels, out_channels=channels, kernel_size=1)
        self.set_output_stride(output_stride)

    def set_output_stride(self, output_stride: int) -> None:
        """Adapt the atrous rates to a map of another output stride, as ASPP's; no parameter changes."""
        for conv, branch in zip(self.branches, self.cell, strict=True):
            rows, columns = aspp_rates_at(branch.rate, output_stride)
            conv.set_atrous(rate=(rows, columns))

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """Return [N, channels, H, W] for a map [N, in_channels, H, W]."""
        results: list[Tensor] = []
        for conv, branch in zip(self.branches, self.cell, strict=True):
            results.append(conv(x_NCHW if branch.reads < 0 else results[branch.reads]))
        y_NCHW: Tensor = self.project(self.dropout(concatenated(results)))
        return y_NCHW


def _check(*, branches: Sequence[Branch], channels: int, dropout: float) -> None:
    if not branches:
        raise ConfigError("branches=(): a dense prediction cell needs at least one; leave it out for the released one")
    for index, branch in enumerate(branches):
        if not -1 <= branch.reads < index:
            raise ConfigError(f"branches[{index}] reads branch {branch.reads}; it can read -1 to {index - 1}")
    if channels < 1:
        raise ConfigError(f"channels={channels!r} must be at least 1; the paper uses 256")
    if not 0 <= dropout < 1:
        raise ConfigError(f"dropout={dropout!r} must be at least 0 and below 1; the official code uses 0.1")
