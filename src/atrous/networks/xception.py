"""Aligned Xception-41/65/71 (DeepLabv3+, section 3.2 and Figure 4): all separable convolutions, no max pooling.

Three separable convolutions make a unit, and the third strides, so that atrous convolution reaches any output stride.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

from torch import Tensor, nn
from torch.nn import functional as F

from atrous.errors import ConfigError
from atrous.networks import unit_strides
from atrous.networks.arguments import listed, positive_number, whole_number, whole_numbers
from atrous.networks.backbone import FeatureInfo, TappedBackbone, tapped_at
from atrous.networks.layers import ConvBatchNorm, SeparableConv
from atrous.networks.output_stride import UnitPlan, plan_units
from atrous.networks.recomputation import recomputed
from atrous.networks.residual_sum import summed

EPSILON = 1e-3
Shortcut = Literal["conv", "sum", "none"]

ENTRY_65 = ((128, 2), (256, 2), (728, 2))
ENTRY_71 = ((128, 2), (256, 1), (256, 2), (728, 1), (728, 2))


class XceptionUnit(nn.Module):
    """shortcut(x) + three separable convolutions of x; ReLU before each of them and none after the sum.

    The last unit of the exit flow is another: no shortcut, and ReLU after every depthwise and pointwise convolution
    instead of before.

    Args:
        in_channels: Channels of the input.
        channels: Channels of the three convolutions.
        shortcut: "conv" (1x1 on the raw input), "sum" (the input itself) or "none".
        relu_inside: Whether ReLU stands inside of the separable convolutions rather than before them.
    """

    def __init__(
        self, *, in_channels: int, channels: tuple[int, int, int], shortcut: Shortcut, relu_inside: bool = False
    ) -> None:
        super().__init__()
        self.relu_inside, self.out_channels = relu_inside, channels[-1]
        activation: Literal["relu", "none"] = "relu" if relu_inside else "none"
        for number, (cin, cout) in enumerate(zip((in_channels, *channels), channels, strict=False), start=1):
            conv = SeparableConv(in_channels=cin, out_channels=cout, eps=EPSILON, activation=activation)
            self.add_module(f"conv{number}", conv)
        self.shortcut: ConvBatchNorm | nn.Identity | None = None if shortcut == "none" else nn.Identity()
        if shortcut == "conv":
            self.shortcut = ConvBatchNorm(
                in_channels=in_channels, out_channels=channels[-1], kernel_size=1, eps=EPSILON, activation="none"
            )
        self.conv1: SeparableConv
        self.conv2: SeparableConv
        self.conv3: SeparableConv

    def set_atrous(self, plan: UnitPlan, *, multi_grid: Sequence[int]) -> None:
        """Set the stride of the third convolution and the rates of all three; no parameter changes."""
        for conv, factor in zip((self.conv1, self.conv2, self.conv3), multi_grid, strict=True):
            conv.set_atrous(rate=plan.rate * factor)
        self.conv3.set_atrous(stride=plan.stride)
        if isinstance(self.shortcut, ConvBatchNorm):
            self.shortcut.set_atrous(stride=plan.stride)

    def inside(self, x_NCHW: Tensor) -> Tensor:
        """Return conv2(conv1(x)) after its batch norm, which is what the decoder reads of some units."""
        return self._second(x_NCHW, relu=False)

    def finish(self, x_NCHW: Tensor, inside_NCHW: Tensor) -> Tensor:
        """Return shortcut(x) + conv3(inside)."""
        return self._third(x_NCHW, inside_NCHW if self.relu_inside else recomputed(F.relu, inside_NCHW))

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """Return [N, channels[-1], ceil(H / stride), ceil(W / stride)]."""
        return self._third(x_NCHW, self._second(x_NCHW, relu=True))

    def _second(self, x_NCHW: Tensor, *, relu: bool) -> Tensor:
        before_NCHW = x_NCHW if self.relu_inside else recomputed(F.relu, x_NCHW)
        y_NCHW: Tensor = self.conv2(self.conv1(before_NCHW, relu=True), relu=relu)
        return y_NCHW

    def _third(self, x_NCHW: Tensor, before_NCHW: Tensor) -> Tensor:
        if self.shortcut is not None:
            return summed(self.conv3, before_NCHW, self.shortcut(x_NCHW))
        y_NCHW: Tensor = self.conv3(before_NCHW)
        return y_NCHW


class Xception(TappedBackbone):
    """Stem, entry flow, middle flow, exit flow; without the classifier.

    Features: `low_level_4` and `low_level_8`, the second pointwise convolution, after batch norm and before any ReLU,
    of the entry flow's units that leave stride 4 and stride 8 (block2 and block3 of Xception-65, block3 and block5 of
    Xception-71), and `high`.

    Args:
        entry: (channels, stride) of each unit of the entry flow.
        middle_units: Units of 728 channels in the middle flow: 16, or 8 in Xception-41.
        width: 1 for the papers' channels; a share of them for small experiments.
        output_stride: Ratio of input to output size: 4, 8, 16 or 32.
        multi_grid: Factors on the rates of the last unit's three convolutions; None = all 1, as in the paper.
        blocks: 4; Xception has no cascade.

    Raises:
        ConfigError: A value that cannot be, with the values that can.
    """

    separable = True
    stem: nn.Sequential

    def __init__(
        self,
        *,
        entry: Sequence[Sequence[int]] = ENTRY_65,
        middle_units: int = 16,
        width: float = 1.0,
        output_stride: int = 16,
        multi_grid: Sequence[int] | None = None,
        blocks: int = 4,
    ) -> None:
        super().__init__()
        multi_grid = None if multi_grid is None else whole_numbers(multi_grid, name="multi_grid")
        width = positive_number(width, name="width", why="; the papers' networks have width 1")
        _check(multi_grid=multi_grid, blocks=whole_number(blocks, name="blocks"))
        self.middle_units = whole_number(middle_units, name="middle_units", least=0)
        self.entry = tuple(_entry_unit(given) for given in listed(entry, name="entry", of="(channels, stride)"))
        self.multi_grid = multi_grid or (1, 1, 1)
        self.strides = unit_strides.xception(entry=self.entry, middle_units=self.middle_units)
        self._taps = tapped_at(self.strides, strides_last=True)

        def wide(channels: int) -> int:
            return max(8, round(channels * width))

        conv1 = ConvBatchNorm(in_channels=3, out_channels=wide(32), kernel_size=3, stride=2, eps=EPSILON)
        conv2 = ConvBatchNorm(in_channels=wide(32), out_channels=wide(64), kernel_size=3, eps=EPSILON)
        self.stem = nn.Sequential(conv1, conv2)
        units: list[XceptionUnit] = []
        channels = wide(64)
        for outs, shortcut, inside in _units(self.entry, self.middle_units):
            wides = (wide(outs[0]), wide(outs[1]), wide(outs[2]))
            unit = XceptionUnit(in_channels=channels, channels=wides, shortcut=shortcut, relu_inside=inside)
            units.append(unit)
            channels = unit.out_channels
        self.units = nn.ModuleList(units)
        self.out_channels = channels
        self.set_output_stride(output_stride)

    @property
    def feature_info(self) -> Mapping[str, FeatureInfo]:
        """Channels and stride of `low_level_4`, `low_level_8` and `high`."""
        return self._feature_info(
            {name: self.units[unit].conv2.pointwise.conv.out_channels for unit, name in self._taps.items()}
        )

    def set_output_stride(self, output_stride: int) -> None:
        """Run at another output stride from now on: strides and atrous rates change, no parameter does.

        Raises:
            ConfigError: The units cannot reach it.
        """
        output_stride = whole_number(output_stride)
        plans = plan_units(self.strides.units, output_stride, stem_stride=self.strides.stem)
        for index, (unit, plan) in enumerate(zip(self.units, plans, strict=True)):
            unit.set_atrous(plan, multi_grid=self.multi_grid if index == len(plans) - 1 else (1, 1, 1))
        self._output_stride = output_stride


def xception41(**options: Any) -> Xception:
    """Build Xception-41: 8 middle units; options as for Xception."""
    return Xception(**{"entry": ENTRY_65, "middle_units": 8, **options})


def xception65(**options: Any) -> Xception:
    """Build Xception-65: 16 middle units; options as for Xception."""
    return Xception(**{"entry": ENTRY_65, "middle_units": 16, **options})


def xception71(**options: Any) -> Xception:
    """Build Xception-71: five entry units, 16 middle units; options as for Xception."""
    return Xception(**{"entry": ENTRY_71, "middle_units": 16, **options})


def _units(
    entry: Sequence[tuple[int, int]], middle_units: int
) -> Iterator[tuple[tuple[int, int, int], Shortcut, bool]]:
    """Yield channels, shortcut and place of the ReLU of every unit."""
    yield from (((channels, channels, channels), "conv", False) for channels, _ in entry)
    yield from (((728, 728, 728), "sum", False) for _ in range(middle_units))
    yield (728, 1024, 1024), "conv", False
    yield (1536, 1536, 2048), "none", True


def _entry_unit(given: Sequence[int]) -> tuple[int, int]:
    unit = whole_numbers(given, name="entry, (channels, stride) of each")
    if len(unit) != 2 or min(unit) < 1:
        raise ConfigError(f"entry: {unit!r} must be (channels, stride), each at least 1, for example (128, 2)")
    return unit[0], unit[1]


def _check(*, multi_grid: Sequence[int] | None, blocks: int) -> None:
    if blocks != 4:
        raise ConfigError(f"blocks={blocks!r}: Xception has no blocks 5 to 7; use a ResNet, or blocks=4")
    if multi_grid is not None and (len(multi_grid) != 3 or min(multi_grid) < 1):
        raise ConfigError(
            f"multi_grid={tuple(multi_grid)!r} must have one rate of at least 1 for each of the 3 convolutions of "
            "Xception's last unit, or be null for all 1"
        )
