"""The type of every key of the data and of the recipe: what a network learns from, and how."""

from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING


@dataclass
class OptimizerConfig:
    """SGD with momentum; parameter groups as in the released code."""

    lr: float = MISSING
    momentum: float = 0.9
    weight_decay: float = MISSING
    bias_lr_multiplier: float = 2.0
    poly_power: float = 0.9


@dataclass
class BatchNormConfig:
    """Decay of the running statistics (PyTorch's momentum is 1 - decay), or no training of batch norm at all."""

    backbone_decay: float = MISSING
    head_decay: float = MISSING
    frozen: bool = False


@dataclass
class AugmentationConfig:
    """Random scale (continuous when `scale_step` is 0), horizontal flip and crop; then albumentations' `transforms`.

    What a transform pads is ignored, unless the transform's config gives another `fill_mask`.
    """

    scale_min: float = 0.5
    scale_max: float = 2.0
    scale_step: float = 0.0
    flip_probability: float = 0.5
    transforms: list[Any] = field(default_factory=list)


@dataclass
class RecipeConfig:
    """How a network is trained."""

    max_steps: int = MISSING
    batch_size: int = MISSING
    crop_size: int = MISSING
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    batch_norm: BatchNormConfig = field(default_factory=BatchNormConfig)
    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)
    upsample_logits: bool = True
    preprocessing: str = "inception"
    pretrained: str | None = None
    precision: str = "auto"


@dataclass
class BootstrapConfig:
    """Images that hold one of the `classes` appear `factor` times (DeepLabv3, section 4.3); none by default."""

    classes: list[str] = field(default_factory=list)
    factor: int = 2


@dataclass
class DataConfig:
    """Where the images are and how they are loaded; `train` and `val` are constructor calls."""

    root: str | None = MISSING
    classes: Any = None
    train: dict[str, Any] = field(default_factory=dict)
    val: dict[str, Any] = field(default_factory=dict)
    evaluation_size: list[int] | None = None
    bootstrap: BootstrapConfig = field(default_factory=BootstrapConfig)
    cache: str | None = None
    allow_shared_samples: bool = False
    num_workers: int = 2
    val_batch_size: int = 4
