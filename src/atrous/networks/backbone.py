"""What a head may ask of any backbone: its features with their channels and strides, and its output stride."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from torch import Tensor, nn

from atrous.errors import ConfigError
from atrous.networks.activation_checkpointing import Checkpointed
from atrous.networks.arguments import whole_numbers
from atrous.networks.unit_strides import UnitStrides

LOW_LEVELS = {"low_level_4": 4, "low_level_8": 8}  # Conv2 and Conv3 of DeepLabv3+, Table 2


class FeatureInfo(NamedTuple):
    """Channels of a feature, and the ratio of the input's size to its size."""

    channels: int
    stride: int


class Backbone(Checkpointed, ABC):
    """A classification network without its classifier, at any output stride.

    Attributes:
        out_channels: Channels of the feature `high`.
        low_levels_read: Names of the low levels that the head reads; `read_low_levels` sets it.
    """

    out_channels: int
    _output_stride: int
    low_levels_read: tuple[str, ...] = tuple(LOW_LEVELS)

    @property
    def output_stride(self) -> int:
        """The ratio of the input's size to that of the feature `high`."""
        return self._output_stride

    @property
    @abstractmethod
    def feature_info(self) -> Mapping[str, FeatureInfo]:
        """What `forward` can return, by name: `low_level_4` and `low_level_8` (for a decoder) and `high` (the last)."""

    @abstractmethod
    def set_output_stride(self, output_stride: int) -> None:
        """Run at another output stride from now on; no parameter changes."""

    @abstractmethod
    def forward(self, x_NCHW: Tensor) -> dict[str, Tensor]:
        """Return the features [N, channels, ceil(H / stride), ceil(W / stride)] by name, of low levels those read."""

    def read_low_levels(self, names: Sequence[str]) -> None:
        """Make ready for a head that reads these low levels and no others, which `forward` may leave out from now on.

        Args:
            names: Of low levels, as in `feature_info`.

        Raises:
            ConfigError: There is no such low level.
        """
        unknown = [name for name in names if name not in LOW_LEVELS]
        if unknown:
            raise ConfigError(f"low levels {unknown} are unknown; choose among {', '.join(LOW_LEVELS)}")
        self.low_levels_read = tuple(names)

    def _feature_info(self, low_level_channels: Mapping[str, int]) -> Mapping[str, FeatureInfo]:
        """Say the strides: a low level keeps its own unless the whole network stays finer than that."""
        low_levels = {
            name: FeatureInfo(channels=channels, stride=min(LOW_LEVELS[name], self.output_stride))
            for name, channels in low_level_channels.items()
        }
        return {**low_levels, "high": FeatureInfo(channels=self.out_channels, stride=self.output_stride)}


class TappedBackbone(Backbone):
    """A stem and units behind it, of which those in `_taps` are read inside: `forward(x) = finish(x, inside(x))`."""

    stem: nn.Module
    units: Any  # a ModuleList, which does not know its members' type
    _taps: dict[int, str]

    def forward(self, x_NCHW: Tensor) -> dict[str, Tensor]:
        """Return `high` and the low levels that are read: all, unless `read_low_levels` has said which."""
        x, features = self.part(self.stem, x_NCHW), {}
        for index, unit in enumerate(self.units):
            if self._taps.get(index) in self.low_levels_read:
                inside = features[self._taps[index]] = self.part(unit.inside, x)
                x = self.part(unit.finish, x, inside)
            else:
                x = self.part(unit, x)
        return {**features, "high": x}


def low_level_names(strides: Sequence[int]) -> list[str]:
    """Return the features of these strides.

    Raises:
        ConfigError: They are not those of low levels, from coarse to fine.
    """
    strides = whole_numbers(strides, name="low_levels")
    known = {stride: name for name, stride in LOW_LEVELS.items()}
    if any(stride not in known for stride in strides) or list(strides) != sorted(set(strides), reverse=True):
        raise ConfigError(f"low_levels={strides!r}: choose (4,), (8,) or (8, 4), from coarse to fine")
    return [known[stride] for stride in strides]


class BackboneFactory(Protocol):
    """Builds a backbone for a network that decides output stride, multi-grid and number of blocks."""

    def __call__(self, *, output_stride: int, multi_grid: Sequence[int] | None, blocks: int) -> Backbone:
        """Build the backbone, with fresh weights."""
        ...


def tapped_at(strides: UnitStrides, *, strides_last: bool) -> dict[int, str]:
    """Return the unit whose inside is each low level: the last whose inside has the low level's stride.

    Args:
        strides: Of the backbone's units.
        strides_last: Whether a unit strides behind its inside (Xception) or before (MobileNetV2).
    """
    taps, current = {}, strides.stem
    for index, stride in enumerate(strides.units):
        inside = current if strides_last else current * stride
        for name, wanted in LOW_LEVELS.items():
            if inside == wanted:
                taps[name] = index
        current *= stride
    return {index: name for name, index in taps.items()}
