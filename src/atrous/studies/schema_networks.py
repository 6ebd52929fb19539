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
class CascadeConfig:
    """Arguments of atrous.DeepLabV3Cascade (DeepLabv3, Section 3.2)."""

    _target_: str = "atrous.DeepLabV3Cascade"
    blocks: int = 7
    multi_grid: list[int] | None = None
    align_corners: bool = True


@dataclass
class DeepLabV3Config:
    """Arguments of atrous.DeepLabV3 (DeepLabv3, Section 3.3)."""

    _target_: str = "atrous.DeepLabV3"
    multi_grid: list[int] | None = None
    aspp_rates: list[int] = field(default_factory=lambda: [6, 12, 18])
    aspp_channels: int = 256
    image_pooling: bool = True
    dropout: float = 0.1
    align_corners: bool = True


@dataclass
class DeepLabV3PlusConfig(DeepLabV3Config):
    """Arguments of atrous.DeepLabV3Plus (DeepLabv3+, Section 3.1)."""

    _target_: str = "atrous.DeepLabV3Plus"
    low_level_channels: int = 48
    decoder_convolutions: list[Any] = field(default_factory=lambda: [[3, 256], [3, 256]])
