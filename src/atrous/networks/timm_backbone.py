"""Any timm network with `features_only` and `output_stride` as a backbone (optional: the extra `timm`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from atrous.errors import ConfigError
from atrous.networks.arguments import truth, whole_number, whole_numbers
from atrous.networks.backbone import LOW_LEVELS, Backbone, FeatureInfo


class TimmBackbone(Backbone):
    """Features of a timm network; `functools.partial(TimmBackbone, name="xception65")` is a backbone factory.

    timm fixes the output stride when it builds a network, and its networks differ from the papers' in which unit
    strides; weights that timm ships fit.

    Args:
        name: timm's name, such as "xception65" or "resnet50d"; none of a hub or a folder.
        pretrained: Whether timm fetches its ImageNet weights.
        output_stride: Ratio of input to output size: 8, 16 or 32 in timm.
        multi_grid: None or all 1: timm has none.
        blocks: 4; timm has no cascade.

    Raises:
        ConfigError: timm is not installed, does not know the name, or cannot do what is asked.
    """

    def __init__(
        self,
        *,
        name: str,
        pretrained: bool = False,
        output_stride: int = 16,
        multi_grid: Sequence[int] | None = None,
        blocks: int = 4,
    ) -> None:
        super().__init__()
        multi_grid = None if multi_grid is None else whole_numbers(multi_grid, name="multi_grid")
        pretrained, blocks = truth(pretrained, name="pretrained"), whole_number(blocks, name="blocks")
        output_stride = whole_number(output_stride)
        if blocks != 4 or set(multi_grid or (1,)) != {1}:
            raise ConfigError(f"blocks={blocks!r}, multi_grid={multi_grid!r}: timm's networks have neither; leave both")
        self.network = _create(name, pretrained=pretrained, output_stride=output_stride)
        self.name, self._output_stride = name, output_stride
        infos = self.network.feature_info
        self._infos = [FeatureInfo(*pair) for pair in zip(infos.channels(), infos.reduction(), strict=True)]
        self.out_channels = self._infos[-1].channels
        self._places = {name: _first_at(self._infos, stride) for name, stride in LOW_LEVELS.items()}
        self._places["high"] = len(self._infos) - 1

    @property
    def feature_info(self) -> Mapping[str, FeatureInfo]:
        """Channels and stride of every feature, as timm says."""
        return {name: self._infos[place] for name, place in self._places.items()}

    def set_output_stride(self, output_stride: int) -> None:
        """Accept the stride that the network was built at.

        Raises:
            ConfigError: Another one is asked for.
        """
        if output_stride != self._output_stride:
            raise ConfigError(
                f"output_stride={output_stride!r}: timm's {self.name} was built at {self._output_stride} and cannot "
                "change; build it anew and load the weights"
            )

    def forward(self, x_NCHW: Tensor) -> dict[str, Tensor]:
        """Return `low_level_4`, `low_level_8` and `high`; some of timm's networks round odd sizes down, not up."""
        features: list[Tensor] = self.network(x_NCHW)
        return {name: features[place] for name, place in self._places.items()}


def _create(name: str, *, pretrained: bool, output_stride: int) -> Any:
    if not isinstance(name, str) or ":" in name or "/" in name:  # timm would take them from anybody's hub or folder
        raise ConfigError(f"name={name!r}: the name of a network that timm itself has, such as resnet50d, and no place")
    try:
        import timm
    except ImportError:
        raise ConfigError("backbone=timm needs the package timm: pip install 'atrous[timm]'") from None
    try:
        return timm.create_model(name, pretrained=pretrained, features_only=True, output_stride=output_stride)
    except (RuntimeError, TypeError, AssertionError, NotImplementedError) as error:
        raise ConfigError(f"name={name!r}, output_stride={output_stride!r}: timm cannot build it ({error})") from error


def _first_at(infos: Sequence[FeatureInfo], stride: int) -> int:
    """Return the first feature that is as coarse as `stride`: at a low output stride, later ones are no low levels."""
    return min((place for place, info in enumerate(infos) if info.stride >= stride), default=len(infos) - 1)
