"""Output stride -> the stride and atrous rate of every unit, of multi-grid and of ASPP (DeepLabv3, section 3.1).

Pure Python, the only owner of this decision: networks ask it and set what it answers. A network is a row of *units*
(residual units of ResNet, modules of Xception, inverted residuals of MobileNetV2), each with a stride of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

from atrous.errors import ConfigError
from atrous.networks.arguments import whole_number, whole_numbers

StridesIn = Literal["last_unit", "first_unit"]
"""Which unit of a block strides: its last (official TensorFlow ResNets) or its first (torchvision's)."""

MIN_OUTPUT_STRIDE = 4
MAX_OUTPUT_STRIDE = 256
ASPP_REFERENCE_STRIDE = 16  # the papers write ASPP's rates for output stride 16


class UnitPlan(NamedTuple):
    """What one unit does at a given output stride.

    Attributes:
        stride: The unit's stride.
        rate: Atrous rate of its 3x3 convolutions up to and including the one that strides, or would have.
        rate_after: Atrous rate of its 3x3 convolutions behind that one, if there are any.
    """

    stride: int
    rate: int
    rate_after: int


def plan_units(
    unit_strides: Sequence[int],
    output_stride: int,
    *,
    unit_rates: Sequence[int] | None = None,
    stem_stride: int = 4,
) -> tuple[UnitPlan, ...]:
    """Give every unit its stride and atrous rate, so that the last map has the wanted output stride.

    The walk of the official code: while the stride so far is below the target, a unit keeps its own stride. Once the
    target is reached, a unit strides 1 and takes the rate so far, which is multiplied by the unit's own stride *after*
    it; the unit that would have strided therefore keeps the old rate.

    Args:
        unit_strides: Each unit's own stride, in order.
        output_stride: The wanted ratio of input to output size.
        unit_rates: Multi-grid: what each unit multiplies its rate by; all 1 if left out.
        stem_stride: The stride in front of the first unit.

    Returns:
        One plan per unit.

    Raises:
        ConfigError: The output stride is not a power of two, or the units cannot reach it.
    """
    check_output_stride(output_stride, unit_strides=unit_strides, stem_stride=stem_stride)
    multipliers = [1] * len(unit_strides) if unit_rates is None else unit_rates
    plans = []
    current_stride, current_rate = stem_stride, 1
    for own_stride, multiplier in zip(unit_strides, multipliers, strict=True):
        if current_stride < output_stride:
            stride, rate_after = own_stride, current_rate
        else:
            stride, rate_after = 1, current_rate * own_stride
        plans.append(UnitPlan(stride, current_rate * multiplier, rate_after * multiplier))
        current_stride, current_rate = current_stride * stride, rate_after
    return tuple(plans)


def check_output_stride(output_stride: int, *, unit_strides: Sequence[int], stem_stride: int = 4) -> None:
    """Raise ConfigError unless a network with these units can run at this output stride."""
    allowed = allowed_output_strides(unit_strides, stem_stride=stem_stride)
    if output_stride not in allowed:
        known = f"it can run at {', '.join(str(stride) for stride in allowed)}"
        none = f"it can run at none, since its units do not reach {max(MIN_OUTPUT_STRIDE, stem_stride)}"
        raise ConfigError(
            f"output_stride={output_stride!r} is impossible for this backbone; {known if allowed else none}"
        )


def allowed_output_strides(unit_strides: Sequence[int], *, stem_stride: int = 4) -> tuple[int, ...]:
    """Return every output stride (a power of two, 4 to 256) that units of these strides can be run at."""
    reach = stem_stride
    for own_stride in unit_strides:
        reach *= own_stride
    stride, allowed = max(MIN_OUTPUT_STRIDE, stem_stride), []
    while stride <= min(reach, MAX_OUTPUT_STRIDE):
        allowed.append(stride)
        stride *= 2
    return tuple(allowed)


def resnet_unit_strides(units: Sequence[int], *, strides_in: StridesIn) -> tuple[tuple[int, ...], ...]:
    """Return the own stride of every unit of every ResNet block, after a stem of stride 4.

    last_unit (official code): every block strides in its last unit, except the last block (DeepLabv3, section 3.2: "the
    last convolution contains stride 2 except the one in last block"), so that the blocks of a cascade have rates 2, 4,
    8, 16 at output stride 16 (Figure 3b). first_unit (torchvision): every block but the first strides in its first
    unit. Both reach stride 32 with block4 and 256 with block7, where no convolution is atrous.

    Args:
        units: Units per block.
        strides_in: The layout.
    """
    stays = {"last_unit": len(units) - 1, "first_unit": 0}  # the block, counted from 0, that keeps its stride
    if strides_in not in tuple(stays):
        raise ConfigError(
            f"strides_in={strides_in!r} is unknown; choose last_unit (official) or first_unit (torchvision)"
        )
    strides = []
    for block, count in enumerate(units):
        own = [1] * count
        if block != stays[strides_in]:
            own[-1 if strides_in == "last_unit" else 0] = 2
        strides.append(tuple(own))
    return tuple(strides)


def aspp_rates_at(rates_at_os16: Sequence[int], output_stride: int) -> tuple[int, ...]:
    """Return ASPP's atrous rates at an output stride, from those that the papers write for stride 16.

    Rates grow as the stride shrinks, so that every rate spans the same part of the image: (6, 12, 18) at 16 becomes
    (12, 24, 36) at 8 and (3, 6, 9) at 32. In general rate * 16 / output_stride, halves rounded up, at least 1.

    Args:
        rates_at_os16: Rates at output stride 16, each at least 1; empty for no atrous branch.
        output_stride: The output stride of the map that ASPP reads.

    Raises:
        ConfigError: A rate, or the output stride, is not a positive whole number.
    """
    rates, output_stride = whole_numbers(rates_at_os16, name="aspp_rates"), whole_number(output_stride, least=1)
    if min(rates, default=1) < 1:
        raise ConfigError(f"aspp_rates={rates!r}: every rate must be a whole number of at least 1")
    doubled = 2 * output_stride
    return tuple(max(1, (2 * rate * ASPP_REFERENCE_STRIDE + output_stride) // doubled) for rate in rates)
