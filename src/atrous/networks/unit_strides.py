"""The own stride of every unit of every backbone, as plain numbers: what `plan_units` walks through.

Imports no torch, so that a config can be checked before anything heavy is loaded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from atrous.networks.output_stride import StridesIn, resnet_unit_strides


class UnitStrides(NamedTuple):
    """What a backbone does to the size of its map.

    Attributes:
        stem: The stride in front of the first unit.
        units: Each unit's own stride, in order.
    """

    stem: int
    units: tuple[int, ...]


def resnet(*, units: Sequence[int], strides_in: StridesIn = "last_unit", blocks: int = 4) -> UnitStrides:
    """Return the strides of a ResNet with block4 repeated up to `blocks`."""
    blocks_ = resnet_unit_strides([*units, *[units[3]] * (blocks - 4)], strides_in=strides_in)
    return UnitStrides(4, tuple(stride for block in blocks_ for stride in block))


def xception(*, entry: Sequence[Sequence[int]], middle_units: int) -> UnitStrides:
    """Return the strides of an aligned Xception: entry flow as given, a middle flow of stride 1, exit flow 2 and 1."""
    return UnitStrides(2, (*(stride for _, stride in entry), *[1] * middle_units, 2, 1))


def mobilenet_v2(*, settings: Sequence[Sequence[int]]) -> UnitStrides:
    """Return the strides of a MobileNetV2: the first unit of every (expansion, channels, repeats, stride) strides."""
    return UnitStrides(2, tuple(stride if i == 0 else 1 for _, _, n, stride in settings for i in range(n)))


def of_config(backbone: Mapping[str, Any], *, blocks: int = 4) -> UnitStrides | None:
    """Return the strides of a backbone's config node, None for a backbone whose units are not known beforehand."""
    name = str(backbone.get("_target_", "")).rsplit(".", 1)[-1]
    if name == "ResNet":
        return resnet(units=backbone["units"], strides_in=backbone["strides_in"], blocks=blocks)
    if name == "Xception":
        return xception(entry=backbone["entry"], middle_units=backbone["middle_units"])
    if name == "MobileNetV2":
        return mobilenet_v2(settings=backbone["settings"])
    return None
