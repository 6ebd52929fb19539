"""MobileNetV2 (Sandler et al., arXiv:1801.04381) as the backbone of the released mobile models.

Inverted residuals with linear bottlenecks, up to the last one's 320 channels. Even sizes are padded where a convolution
strides as TensorFlow does; `padding="symmetric"` with `epsilon=1e-5` is torchvision's network, for its weights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from torch import Tensor, nn

from atrous.errors import ConfigError
from atrous.networks import unit_strides
from atrous.networks.arguments import listed, positive_number, whole_number, whole_numbers
from atrous.networks.backbone import FeatureInfo, TappedBackbone, tapped_at
from atrous.networks.layers import ConvBatchNorm, Padding
from atrous.networks.output_stride import UnitPlan, plan_units
from atrous.networks.residual_sum import summed

# Expansion, channels, repeats, stride of the first (MobileNetV2, Table 2).
SETTINGS = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))


class InvertedResidual(nn.Module):
    """1x1 expansion, 3x3 depthwise, 1x1 projection without activation; the input is added where shapes allow.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        expansion: Factor on the channels in between; 1 has no expanding convolution.
        adds_input: Whether the input is added to the result.
        brick: Makes the convolutions: a `ConvBatchNorm` with epsilon and padding bound.
    """

    def __init__(
        self, *, in_channels: int, out_channels: int, expansion: int, adds_input: bool, brick: partial[ConvBatchNorm]
    ) -> None:
        super().__init__()
        wide = _divisible(in_channels * expansion)
        self.adds_input = adds_input
        self.expand = (
            brick(in_channels=in_channels, out_channels=wide, kernel_size=1, activation="relu6")
            if expansion > 1
            else nn.Identity()
        )
        self.depthwise = brick(in_channels=wide, out_channels=wide, kernel_size=3, groups=wide, activation="relu6")
        self.project = brick(in_channels=wide, out_channels=out_channels, kernel_size=1, activation="none")

    def set_atrous(self, plan: UnitPlan) -> None:
        """Set the stride and rate of the depthwise convolution; no parameter changes."""
        self.depthwise.set_atrous(stride=plan.stride, rate=plan.rate)

    def inside(self, x_NCHW: Tensor) -> Tensor:
        """Return depthwise(expand(x)), which is what a decoder reads of some units."""
        y_NCHW: Tensor = self.depthwise(self.expand(x_NCHW))
        return y_NCHW

    def finish(self, x_NCHW: Tensor, inside_NCHW: Tensor) -> Tensor:
        """Return project(inside), plus x where it is added."""
        if self.adds_input:
            return summed(self.project, inside_NCHW, x_NCHW)
        y_NCHW: Tensor = self.project(inside_NCHW)
        return y_NCHW

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """Return [N, out_channels, ceil(H / stride), ceil(W / stride)]."""
        return self.finish(x_NCHW, self.inside(x_NCHW))


class MobileNetV2(TappedBackbone):
    """A stem of stride 2 and 17 inverted residuals; without the last 1x1 convolution and the classifier.

    Features: `low_level_4` and `low_level_8`, the depthwise convolution of the last unit at stride 4 and at stride 8,
    and `high`, the last projection.

    Args:
        settings: (expansion, channels, repeats, stride of the first) of each group of units.
        width: Multiplier on all channels.
        divisible_by: What channels stay divisible by as `width` changes them: 8 in the paper, in torchvision and in the
            ImageNet checkpoints; 1 in the released DeepLab code, for its models of width 0.5.
        padding: "same" (TensorFlow) or "symmetric" (torchvision), where a convolution strides over an even size.
        epsilon: Of every batch norm: 1e-3 in the official code, 1e-5 in torchvision.
        output_stride: Ratio of input to output size: 4, 8, 16 or 32.
        multi_grid: None or all 1: MobileNetV2 has none.
        blocks: 4; MobileNetV2 has no cascade.

    Raises:
        ConfigError: A value that cannot be, with the values that can.
    """

    stem: ConvBatchNorm

    def __init__(
        self,
        *,
        settings: Sequence[Sequence[int]] = SETTINGS,
        width: float = 1.0,
        divisible_by: int = 8,
        padding: Padding = "same",
        epsilon: float = 1e-3,
        output_stride: int = 16,
        multi_grid: Sequence[int] | None = None,
        blocks: int = 4,
    ) -> None:
        super().__init__()
        multi_grid = None if multi_grid is None else whole_numbers(multi_grid, name="multi_grid")
        divisible_by = whole_number(
            divisible_by, name="divisible_by", least=1, why="; the paper's is 8, the release's is 1"
        )
        self.width = positive_number(width, name="width", why="; the paper's network has width 1")
        self.epsilon = positive_number(epsilon, name="epsilon", why="; it is 1e-3 or, in torchvision, 1e-5")
        self.padding = padding
        _check(multi_grid=multi_grid, blocks=whole_number(blocks, name="blocks"), padding=padding)
        self.settings = tuple(map(_group, listed(settings, name="settings", of="groups of units")))
        self.strides = unit_strides.mobilenet_v2(settings=self.settings)
        self._taps = tapped_at(self.strides, strides_last=False)
        brick = partial(ConvBatchNorm, eps=self.epsilon, padding=padding)
        channels = _divisible(32 * self.width, divisible_by)
        self.stem = brick(in_channels=3, out_channels=channels, kernel_size=3, stride=2, activation="relu6")
        units = []
        for expansion, out_channels, repeats, stride in self.settings:
            for index in range(repeats):
                wide = _divisible(out_channels * self.width, divisible_by)
                adds = channels == wide and (index > 0 or stride == 1)
                units.append(
                    InvertedResidual(
                        in_channels=channels, out_channels=wide, expansion=expansion, adds_input=adds, brick=brick
                    )
                )
                channels = wide
        self.units = nn.ModuleList(units)
        self.out_channels = channels
        self.set_output_stride(output_stride)

    @property
    def feature_info(self) -> Mapping[str, FeatureInfo]:
        """Channels and stride of `low_level_4`, `low_level_8` and `high`."""
        return self._feature_info(
            {name: self.units[unit].depthwise.conv.out_channels for unit, name in self._taps.items()}
        )

    def set_output_stride(self, output_stride: int) -> None:
        """Run at another output stride from now on: strides and atrous rates change, no parameter does.

        Raises:
            ConfigError: The units cannot reach it.
        """
        output_stride = whole_number(output_stride)
        plans = plan_units(self.strides.units, output_stride, stem_stride=self.strides.stem)
        for unit, plan in zip(self.units, plans, strict=True):
            unit.set_atrous(plan)
        self._output_stride = output_stride


def mobilenetv2(**options: Any) -> MobileNetV2:
    """Build MobileNetV2; options as for the class."""
    return MobileNetV2(**options)


def _divisible(channels: float, divisor: int = 8) -> int:
    """Round to a multiple as the official code does: never down by more than a tenth."""
    rounded = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * channels else rounded


def _group(given: Sequence[int]) -> tuple[int, ...]:
    group = whole_numbers(given, name="settings, (expansion, channels, repeats, stride) of each")
    if len(group) != 4 or min(group) < 1:
        raise ConfigError(
            f"settings: {group!r} must be (expansion, channels, repeats, stride), each at least 1, for example "
            f"{SETTINGS[1]}"
        )
    return group


def _check(*, multi_grid: Sequence[int] | None, blocks: int, padding: str) -> None:
    if blocks != 4:
        raise ConfigError(f"blocks={blocks!r}: MobileNetV2 has no blocks 5 to 7; use a ResNet, or blocks=4")
    if multi_grid is not None and set(multi_grid) != {1}:
        raise ConfigError(f"multi_grid={tuple(multi_grid)!r}: MobileNetV2 has no multi-grid; leave it out (null)")
    if padding not in ("same", "symmetric"):
        raise ConfigError(f"padding={padding!r} is unknown; choose same (TensorFlow) or symmetric (torchvision)")
