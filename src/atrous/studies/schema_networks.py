"""The type of every key of a backbone and of a model: the arguments of their constructors."""

from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING


@dataclass
class ResNetConfig:
    """Arguments of atrous.networks.ResNet."""

    _target_: str = "atrous.networks.ResNet"
    _partial_: bool = True
    units: list[int] = MISSING
    unit: str = MISSING
    width: int = 64
    stem: str = "beta"
    strides_in: str = "last_unit"
    zero_init_residual: bool = False


@dataclass
class XceptionConfig:
    """Arguments of atrous.networks.Xception."""

    _target_: str = "atrous.networks.Xception"
    _partial_: bool = True
    entry: list[Any] = MISSING
    middle_units: int = MISSING
    width: float = 1.0


@dataclass
class MobileNetV2Config:
    """Arguments of atrous.networks.MobileNetV2."""

    _target_: str = "atrous.networks.MobileNetV2"
    _partial_: bool = True
    settings: list[Any] = MISSING
    width: float = 1.0
    padding: str = "same"
    epsilon: float = 1e-3
    divisible_by: int = 8


@dataclass
class TimmConfig:
    """Arguments of atrous.networks.TimmBackbone."""

    _target_: str = "atrous.networks.TimmBackbone"
    _partial_: bool = True
    name: str = MISSING
    pretrained: bool = False


@dataclass
class CascadeConfig:
    """Arguments of atrous.DeepLabV3Cascade (DeepLabv3, Section 3.2)."""

    _target_: str = "atrous.DeepLabV3Cascade"
    blocks: int = 7
    multi_grid: list[int] | None = None
    align_corners: bool = True


@dataclass
class AsppConfig:
    """What DeepLabV3 and DeepLabV3Plus have in common; `context` replaces ASPP by another constructor call."""

    multi_grid: list[int] | None = None
    aspp_rates: list[int] = field(default_factory=lambda: [6, 12, 18])
    aspp_channels: int = 256
    aspp_separable: bool = False
    image_pooling: bool = True
    dropout: float = 0.1
    context: Any = None
    align_corners: bool = True


@dataclass
class DeepLabV3Config(AsppConfig):
    """Arguments of atrous.DeepLabV3 (DeepLabv3, Section 3.3)."""

    _target_: str = "atrous.DeepLabV3"
    blocks: int = 4
    head_convolutions: list[Any] = field(default_factory=list)


@dataclass
class DeepLabV3PlusConfig(AsppConfig):
    """Arguments of atrous.DeepLabV3Plus (DeepLabv3+, Section 3.1)."""

    _target_: str = "atrous.DeepLabV3Plus"
    low_levels: list[int] = field(default_factory=lambda: [4])
    low_level_channels: int = 48
    decoder_convolutions: list[Any] = field(default_factory=lambda: [[3, 256], [3, 256]])
    decoder_separable: bool = False
