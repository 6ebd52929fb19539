"""Random scale, flip and crop (DeepLabv3, section 4.1; DeepLabv3+, section 4), as one step from file to crop.

Equal to: scale the whole image, flip it, pad it at the bottom and the right, crop. But the window is drawn first, and
only the part of the source that it shows is scaled, straight to uint8. Normalisation is left to the device.

`draw` and `apply` are the whole of it and need only numpy and OpenCV; `ScaleFlipCrop` offers them as an albumentations
transform, which is imported on first use because albumentations is slow to import.
"""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from atrous.data.window import Crop, CropWindow, apply
from atrous.errors import ConfigError

if TYPE_CHECKING:
    from atrous.data.compose import ScaleFlipCrop

__all__ = ["Crop", "CropConfig", "CropWindow", "ScaleFlipCrop", "apply", "draw", "generator_of"]

_SAMPLES = 1  # the branch of the seed tree that draws use; data.sampling uses another


def __getattr__(name: str) -> object:
    """Import the albumentations transform on first use."""
    if name == "ScaleFlipCrop":
        from atrous.data.compose import ScaleFlipCrop

        return ScaleFlipCrop
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


@dataclass(frozen=True, kw_only=True)
class CropConfig:
    """What is random about a training crop.

    Attributes:
        crop_size: (height, width) of the crop in pixels.
        scale_min: smallest scale factor.
        scale_max: largest scale factor.
        scale_step: 0 draws the factor from the whole range (the papers' "randomly scaling from 0.5 to 2.0"); 0.25 is
            the released code's grid.
        flip_probability: chance of a left-right flip.

    Raises:
        ConfigError: sizes or ranges are impossible.
    """

    crop_size: tuple[int, int]
    scale_min: float = 0.5
    scale_max: float = 2.0
    scale_step: float = 0.0
    flip_probability: float = 0.5

    def __post_init__(self) -> None:
        """Check the ranges."""
        if len(self.crop_size) != 2 or min(self.crop_size) < 1:
            raise ConfigError(f"crop_size={self.crop_size}: expected two positive numbers, height and width")
        if not 0 < self.scale_min <= self.scale_max:
            raise ConfigError(f"scale_min={self.scale_min}, scale_max={self.scale_max}: expected 0 < min <= max")
        if self.scale_step < 0:
            raise ConfigError(f"scale_step={self.scale_step}: expected 0 (continuous) or a positive step such as 0.25")
        if not 0 <= self.flip_probability <= 1:
            raise ConfigError(f"flip_probability={self.flip_probability}: expected a number between 0 and 1")


def generator_of(seed: int, epoch: int, index: int) -> np.random.Generator:
    """Return the generator of one sample: a pure function of its key, whichever worker or rank asks."""
    key = np.random.SeedSequence(seed, spawn_key=(_SAMPLES, epoch, index))
    return np.random.Generator(np.random.PCG64(key))


def draw(rng: np.random.Generator, height: int, width: int, config: CropConfig) -> CropWindow:
    """Draw a crop window.

    Args:
        rng: source of the draw; exactly four numbers are taken from it.
        height: of the image, pixels.
        width: of the image, pixels.
        config: what is random.

    Returns:
        The window. The scaled size is the product rounded down, as in the released code, and at least 1.
    """
    scale_u, top_u, left_u, flip_u = rng.random(4).tolist()
    scale = _scale(scale_u, config)
    scaled = max(1, int(height * scale)), max(1, int(width * scale))
    free_rows, free_columns = (max(0, n - c) for n, c in zip(scaled, config.crop_size, strict=True))
    return CropWindow(
        scaled=scaled,
        top=int(top_u * (free_rows + 1)),
        left=int(left_u * (free_columns + 1)),
        size=config.crop_size,
        flip=flip_u < config.flip_probability,
    )


def _scale(uniform: float, config: CropConfig) -> float:
    if config.scale_step == 0:
        return config.scale_min + uniform * (config.scale_max - config.scale_min)
    steps = math.floor((config.scale_max - config.scale_min) / config.scale_step + 1e-6) + 1
    return config.scale_min + int(uniform * steps) * config.scale_step
