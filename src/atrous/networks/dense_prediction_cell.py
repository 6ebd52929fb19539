"""The dense prediction cell of the Xception-71 release for Cityscapes (Chen et al., arXiv:1809.04184, Figure 5).

Found by architecture search in place of ASPP: separable 3x3 convolutions, some one behind the other, whose atrous rates
differ between rows and columns; all are concatenated and projected.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from torch import Tensor, nn

from atrous.errors import ConfigError
from atrous.networks.arguments import listed, number, whole_number
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
        branches: The cell; the released one by default. A branch reads an earlier one. Lists do, as in YAML:
            [[[1, 6], -1], [[18, 15], 0]].
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
        branches: Sequence[Branch | Sequence[Any]] = TOP1_CITYSCAPES,
        dropout: float = 0.1,
        output_stride: int = 16,
    ) -> None:
        super().__init__()
        in_channels = whole_number(in_channels, name="in_channels", least=1)
        channels = whole_number(channels, name="channels", least=1, why="; the paper uses 256")
        branches, dropout = listed(branches, name="branches", of="branches"), number(dropout, name="dropout")
        self.cell = tuple(_branch(branch, index) for index, branch in enumerate(branches))
        _check(cell=self.cell, dropout=dropout)
        self.out_channels = channels
        self.branches: Any = nn.ModuleList(
            SeparableConv(in_channels=in_channels if branch.reads < 0 else channels, out_channels=channels)
            for branch in self.cell
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


def _branch(branch: Any, index: int) -> Branch:
    try:
        (rows, columns), reads = branch
    except (TypeError, ValueError):
        rows = columns = reads = None
    if any(type(value) is not int for value in (rows, columns, reads)) or min(rows, columns) < 1:
        raise ConfigError(
            f"branches[{index}]={branch!r}: give [rate of rows, rate of columns] and the branch that it reads, or -1 "
            "for the backbone's map, all whole numbers and the rates at least 1, for example [[1, 6], -1]"
        )
    if not -1 <= reads < index:
        raise ConfigError(f"branches[{index}] reads branch {reads}; it can read -1 to {index - 1}")
    return Branch((rows, columns), reads)


def _check(*, cell: Sequence[Branch], dropout: float) -> None:
    if not cell:
        raise ConfigError("branches=(): a dense prediction cell needs at least one; leave it out for the released one")
    if not 0 <= dropout < 1:
        raise ConfigError(f"dropout={dropout!r} must be at least 0 and below 1; the official code uses 0.1")
