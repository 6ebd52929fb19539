"""What atrous convolution sees: valid weights of a filter (DeepLabv3, Figure 4), receptive fields (Figure 3)."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn

from atrous.errors import ConfigError
from atrous.networks.backbone import Backbone
from atrous.networks.dense_prediction_cell import DensePredictionCell
from atrous.networks.dry_run import dry_run
from atrous.networks.max_pool import MaxPool
from atrous.networks.segmenter import Segmenter


def valid_weights(*, size: int, rate: int) -> dict[int, float]:
    """Count how many of a 3x3 filter's weights fall on a map rather than on its padding (DeepLabv3, section 3.3).

    Along one axis, position i has its left tap inside if i >= rate and its right tap inside if i < size - rate.

    Args:
        size: Rows and columns of the map; 65 in Figure 4.
        rate: The atrous rate.

    Returns:
        Share of the positions (they sum to 1) by the number of valid weights: 1, 2, 3, 4, 6 or 9.
    """
    taps = [1 + (position >= rate) + (position < size - rate) for position in range(size)]
    along_one_axis = {count: taps.count(count) / size for count in (1, 2, 3)}
    shares: dict[int, float] = {}
    for rows, share_of_rows in along_one_axis.items():
        for columns, share_of_columns in along_one_axis.items():
            shares[rows * columns] = shares.get(rows * columns, 0.0) + share_of_rows * share_of_columns
    return shares


class Stage(NamedTuple):
    """One step of a network, from its input to its last map.

    Attributes:
        name: The unit or branch.
        stride: Ratio of the image's size to that of the map behind it.
        rates: Atrous rates of its convolutions above 1x1, in order; of rows and columns where they differ.
        receptive_field: Side, in pixels of the image, of what one position of the map can see; the longer one.
        channels: Channels of the map.
    """

    name: str
    stride: int
    rates: tuple[int, ...]
    receptive_field: int
    channels: int


class _Window(NamedTuple):
    name: str
    kernel: int
    stride: int
    rate: tuple[int, int]
    channels: int


def stages(model: Segmenter) -> list[Stage]:
    """Walk a network from its stem to its context, one stage per unit of the backbone and branch of the context.

    Receptive fields follow the residual branches, which are the longest paths; shortcuts see less. Image pooling, which
    sees everything, is left out.

    Raises:
        ConfigError: The backbone is one of timm's, whose units are not known here.
    """
    units = _unit_names(model.backbone)
    if not units:
        raise ConfigError(
            f"backbone={type(model.backbone).__name__}: only the units of ResNet, Xception and MobileNetV2 can be drawn"
        )
    windows = _windows(model)
    jump, field, result = 1, 1, []
    for name in units:
        inside = [window for window in windows if window.name.startswith(f"backbone.{name}.")]
        for window in inside:
            field += (window.kernel - 1) * window.rate[0] * jump
            jump *= window.stride
        rates = tuple(window.rate[0] for window in inside if window.kernel > 1)
        result.append(Stage(name, jump, rates, field, inside[-1].channels))
    branches = [window for window in windows if window.name.startswith("context.") and window.kernel > 1]
    return result + _branch_stages(model, branches, jump=jump, field=field)


def _branch_stages(model: Segmenter, branches: list[_Window], *, jump: int, field: int) -> list[Stage]:
    """The atrous branches of the context, each behind the backbone or, in a cell, behind another branch."""
    cell = model.context.cell if isinstance(model.context, DensePredictionCell) else ()
    fields: list[tuple[int, int]] = []
    result = []
    for index, window in enumerate(branches):
        before = fields[cell[index].reads] if cell and cell[index].reads >= 0 else (field, field)
        rows, columns = (
            side + (window.kernel - 1) * rate * jump for side, rate in zip(before, window.rate, strict=True)
        )
        fields.append((rows, columns))
        rates = tuple(dict.fromkeys(window.rate))
        result.append(Stage(window.name, jump, rates, max(rows, columns), window.channels))
    return result


def _unit_names(backbone: Backbone) -> list[str]:
    """The stem, a max pool if there is one, and every unit."""
    units = [name for name, module in backbone.named_modules() if hasattr(module, "set_atrous") and _is_unit(name)]
    return [*(name for name in ("stem", "pool") if hasattr(backbone, name)), *units]


def _is_unit(name: str) -> bool:
    return name.startswith(("blocks.", "units.")) and name.rsplit(".", 1)[-1].isdigit()


def _windows(model: Segmenter) -> list[_Window]:
    """Every convolution and max pool in the order of the forward pass, without shortcuts."""
    seen: list[_Window] = []

    def record(name: str, module: nn.Module, output: Tensor) -> None:
        if isinstance(module, MaxPool):
            seen.append(_Window(f"{name}.pool", 3, 2, (1, 1), output.shape[1]))
        elif isinstance(module, nn.Conv2d) and "shortcut" not in name:
            rows, columns = module.dilation
            seen.append(_Window(name, module.kernel_size[0], module.stride[0], (rows, columns), output.shape[1]))

    side = 2 * max(model.output_stride, 32) + 1
    dry_run(model, size=(side, side), kinds=(nn.Conv2d, MaxPool), on_output=record)
    return seen
