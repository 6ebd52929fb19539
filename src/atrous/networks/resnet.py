"""ResNet-18 to ResNet-152 at any output stride, with blocks 5 to 7 and multi-grid (DeepLabv3, section 3).

Built as the official TensorFlow code does by default ("beta" stem, stride in a block's last unit); `stem="7x7"` with
`strides_in="first_unit"` is torchvision's layout, for its ImageNet weights.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import chain
from typing import Any, Literal

from torch import Tensor, nn

from atrous.errors import ConfigError
from atrous.networks import unit_strides
from atrous.networks.arguments import truth, whole_number, whole_numbers
from atrous.networks.backbone import LOW_LEVELS, Backbone, FeatureInfo
from atrous.networks.max_pool import MaxPool
from atrous.networks.normalisation import added
from atrous.networks.output_stride import StridesIn, plan_units
from atrous.networks.recomputation import recomputed
from atrous.networks.resnet_layers import BasicUnit, Bottleneck, Stem, StemKind, Unit

UnitKind = Literal["bottleneck", "basic"]


class ResNet(Backbone):
    """A ResNet without its classifier.

    Features: `low_level_4` and `low_level_8` (what DeepLabv3+'s decoder reads: Conv2 and Conv3 of its Table 2) and
    `high` (the last block's output). A low level is the second to last unit of block1 or block2, its last convolution
    after batch norm, before the shortcut is added and before any ReLU: in ResNet-50/101 unit 2, conv3 of block1 and
    unit 3, conv3 of block2, as in the official code. Where the block has one unit only: that unit if it does not stride
    at its end, else what it reads.

    Args:
        units: Units of block1 to block4.
        unit: "bottleneck" (1x1, 3x3, 1x1) or "basic" (3x3, 3x3).
        width: Channels of block1's 3x3 convolutions, which scale all others; 64 in the papers.
        stem: "beta" (three 3x3 convolutions, as in the papers' Multiply-Adds) or "7x7".
        strides_in: "last_unit" (official) or "first_unit" (torchvision); the max pool pads even sizes as they do.
        output_stride: Ratio of input to output size, a power of two from 4 to what `blocks` can reach.
        multi_grid: What each unit of block4, and of every added block, multiplies its atrous rate by; None = all 1.
        blocks: 4, or up to 7 with copies of block4 behind it.
        zero_init_residual: Start every residual branch at zero (Goyal et al., arXiv:1706.02677, section 5.1), which
            helps deep cascades that are trained from scratch; the official code does not. Those that a decoder reads
            as low levels start as drawn.

    Raises:
        ConfigError: A value that is out of range, or a multi-grid that does not fit block4.
    """

    def __init__(
        self,
        *,
        units: Sequence[int] = (3, 4, 6, 3),
        unit: UnitKind = "bottleneck",
        width: int = 64,
        stem: StemKind = "beta",
        strides_in: StridesIn = "last_unit",
        output_stride: int = 16,
        multi_grid: Sequence[int] | None = None,
        blocks: int = 4,
        zero_init_residual: bool = False,
    ) -> None:
        super().__init__()
        multi_grid = None if multi_grid is None else whole_numbers(multi_grid, name="multi_grid")
        units, blocks = whole_numbers(units, name="units"), whole_number(blocks, name="blocks")
        width = whole_number(width, name="width", least=1, why="; the papers use 64")
        _check(units=units, unit=unit, multi_grid=multi_grid, blocks=blocks)
        self.units = (*units, *[units[3]] * (blocks - 4))
        self.unit, self.width, self.stem_kind, self.strides_in = unit, width, stem, strides_in
        self.multi_grid = multi_grid or (1,) * units[3]
        self.strides = unit_strides.resnet(units=units, strides_in=strides_in, blocks=blocks)

        self.stem = Stem(kind=stem, width=width)
        self.pool = MaxPool(padding="same" if strides_in == "last_unit" else "symmetric")
        self.blocks = nn.ModuleList()
        channels = self.stem.out_channels
        for block, count in enumerate(self.units):
            block_width = width * 2 ** min(block, 3)
            built = [_unit(unit, channels, block_width, strides_in)]
            built += [_unit(unit, built[0].out_channels, block_width, strides_in) for _ in range(count - 1)]
            self.blocks.append(nn.Sequential(*built))
            channels = built[0].out_channels
        self.out_channels = channels
        self._taps, self._inputs = _taps(self.units, self.strides.units, strides_in)
        if truth(zero_init_residual, name="zero_init_residual"):
            self._zero_residuals()
        self.set_output_stride(output_stride)

    @property
    def feature_info(self) -> Mapping[str, FeatureInfo]:
        """Channels and stride of `low_level_4`, `low_level_8` and `high`."""
        units = list(self.iter_units())
        before = [self.stem.out_channels, *(unit.out_channels for unit in units)]
        tapped = {name: units[index].out_channels for index, name in self._taps.items()}
        return self._feature_info({**tapped, **{name: before[index] for index, name in self._inputs.items()}})

    def iter_units(self) -> Iterator[Unit]:
        """Yield every residual unit in order."""
        for block in self.blocks:
            yield from block.children()  # type: ignore[misc]  # a Sequential does not know its members' type

    def set_output_stride(self, output_stride: int) -> None:
        """Run at another output stride from now on: strides and atrous rates change, no parameter does.

        Raises:
            ConfigError: The blocks cannot reach it.
        """
        output_stride = whole_number(output_stride)
        grids = [self.multi_grid if block >= 3 else (1,) * count for block, count in enumerate(self.units)]
        plans = plan_units(self.strides.units, output_stride, unit_rates=tuple(chain.from_iterable(grids)))
        for unit, plan in zip(self.iter_units(), plans, strict=True):
            unit.set_atrous(plan)
        self._output_stride = output_stride

    def _zero_residuals(self) -> None:
        for index, unit in enumerate(self.iter_units()):
            if self._taps.get(index) != "low_level_4":  # most decoders read that one's residual branch
                nn.init.zeros_(unit.last_convolution.norm.weight)

    def read_low_levels(self, names: Sequence[str]) -> None:
        """Return these low levels alone from now on; their residual branches start as drawn in any case."""
        super().read_low_levels(names)
        for index, unit in enumerate(self.iter_units()):
            weight = unit.last_convolution.norm.weight
            if self._taps.get(index) in names and not weight.is_meta and not weight.any():
                nn.init.ones_(weight)

    def forward(self, x_NCHW: Tensor) -> dict[str, Tensor]:
        """Return `high` and the low levels that are read, each [N, C, ceil(H / stride), ceil(W / stride)]."""
        x, features = self.pool(self.part(self.stem, x_NCHW)), {}
        for index, unit in enumerate(self.iter_units()):
            if self._inputs.get(index) in self.low_levels_read:
                features[self._inputs[index]] = x
            if self._taps.get(index) in self.low_levels_read:
                residual = features[self._taps[index]] = self.part(unit.residual, x)
                x = recomputed(partial(added, relu=True), residual, unit.shortcut(x))
            else:
                x = self.part(unit, x)
        return {**features, "high": x}


def resnet18(**options: Any) -> ResNet:
    """Build ResNet-18: (2, 2, 2, 2) basic units; options as for ResNet."""
    return ResNet(units=(2, 2, 2, 2), unit="basic", **options)


def resnet34(**options: Any) -> ResNet:
    """Build ResNet-34: (3, 4, 6, 3) basic units; options as for ResNet."""
    return ResNet(units=(3, 4, 6, 3), unit="basic", **options)


def resnet50(**options: Any) -> ResNet:
    """Build ResNet-50: (3, 4, 6, 3) bottlenecks; options as for ResNet."""
    return ResNet(units=(3, 4, 6, 3), unit="bottleneck", **options)


def resnet101(**options: Any) -> ResNet:
    """Build ResNet-101: (3, 4, 23, 3) bottlenecks; options as for ResNet."""
    return ResNet(units=(3, 4, 23, 3), unit="bottleneck", **options)


def resnet152(**options: Any) -> ResNet:
    """Build ResNet-152: (3, 8, 36, 3) bottlenecks; options as for ResNet."""
    return ResNet(units=(3, 8, 36, 3), unit="bottleneck", **options)


def _unit(kind: UnitKind, in_channels: int, width: int, strides_in: StridesIn) -> Unit:
    if kind == "bottleneck":
        return Bottleneck(in_channels=in_channels, width=width)
    return BasicUnit(in_channels=in_channels, width=width, strided="conv2" if strides_in == "last_unit" else "conv1")


def _taps(units: Sequence[int], strides: Sequence[int], strides_in: StridesIn) -> tuple[dict[int, str], dict[int, str]]:
    """Return the units whose residual branch is a low level, and those whose input is one."""
    residuals, inputs, first = {}, {}, 0
    for name, count in zip(LOW_LEVELS, units, strict=False):
        if count == 1 and strides_in == "last_unit" and strides[first] == 2:
            inputs[first] = name
        else:
            residuals[first + max(0, count - 2)] = name
        first += count
    return residuals, inputs


def _check(*, units: Sequence[int], unit: str, multi_grid: Sequence[int] | None, blocks: int) -> None:
    if len(units) != 4 or min(units) < 1:
        raise ConfigError(f"units={tuple(units)!r}: give the units of block1 to block4, each at least 1")
    if unit not in ("bottleneck", "basic"):
        raise ConfigError(f"unit={unit!r} is unknown; choose bottleneck or basic")
    if not 4 <= blocks <= 7:
        raise ConfigError(f"blocks={blocks!r} must be 4, 5, 6 or 7")
    if multi_grid is not None and (len(multi_grid) != units[3] or min(multi_grid) < 1):
        raise ConfigError(
            f"multi_grid={tuple(multi_grid)!r} must have one rate of at least 1 for each of the {units[3]} units "
            f"of this backbone's block4, for example {(1, 2, 4, 8)[: units[3]]!r}, or be null for all 1"
        )
