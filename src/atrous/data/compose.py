"""The part of the augmentation that is albumentations: our transform in its API, and its transforms after our crop.

Imported only where it is used, because importing albumentations takes a second or two.
"""

import inspect
import os
from collections.abc import Mapping, Sequence
from typing import Any

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # its import contacts PyPI otherwise

import albumentations
import cv2
import numpy as np
from albumentations import BaseCompose, BasicTransform, Compose, DualTransform
from albumentations.core.transforms_interface import BaseTransformInitSchema
from albumentations.core.type_definitions import Targets

from atrous.data.augmentation import CropConfig, draw
from atrous.data.files import Pixels
from atrous.data.window import Crop, CropWindow, window_image, window_label
from atrous.errors import ConfigError

_NEAREST = (None, cv2.INTER_NEAREST, cv2.INTER_NEAREST_EXACT)


class ScaleFlipCrop(DualTransform):  # type: ignore[misc]  # albumentations has no types
    """Random scale, flip, pad (bottom and right) and crop in one step, for any albumentations `Compose`.

    Images and masks are uint8, so it comes before ToFloat and Normalize; others raise a `ConfigError`.

    Args:
        crop_size: (height, width) of the result.
        scale_min: smallest scale factor.
        scale_max: largest scale factor.
        scale_step: 0 for the whole range, or the grid of the factors.
        flip_probability: chance of a left-right flip.
        fill: value of padded pixels; one number or one per channel.
        fill_mask: label of padded pixels.
        p: probability that the transform is applied at all.

    Raises:
        ConfigError: sizes or ranges are impossible.
    """

    _targets = (Targets.IMAGE, Targets.MASK)

    class InitSchema(BaseTransformInitSchema):  # type: ignore[misc]
        """Types that albumentations checks before construction."""

        crop_size: tuple[int, int]
        scale_min: float
        scale_max: float
        scale_step: float
        flip_probability: float
        fill: float | tuple[float, ...]
        fill_mask: int

    def __init__(
        self,
        *,
        crop_size: tuple[int, int],
        scale_min: float = 0.5,
        scale_max: float = 2.0,
        scale_step: float = 0.0,
        flip_probability: float = 0.5,
        fill: float | tuple[float, ...] = 0,
        fill_mask: int = 255,
        p: float = 1.0,
    ) -> None:
        super().__init__(p=p)
        self.config = CropConfig(
            crop_size=crop_size,
            scale_min=scale_min,
            scale_max=scale_max,
            scale_step=scale_step,
            flip_probability=flip_probability,
        )
        self.crop_size, self.scale_min, self.scale_max, self.scale_step = crop_size, scale_min, scale_max, scale_step
        self.flip_probability, self.fill, self.fill_mask = flip_probability, fill, fill_mask

    def get_params_dependent_on_data(self, params: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
        """Draw the window from the transform's own generator."""
        height, width = params["shape"][:2]
        return {"window": draw(self.random_generator, height, width, self.config)}

    def apply(self, img: Pixels, window: CropWindow, **params: Any) -> Pixels:
        """Cut the window out of the image.

        Raises:
            ConfigError: it is not uint8.
        """
        _check_bytes(img, "image")
        return window_image(img, window, fill=self.fill)

    def apply_to_mask(self, mask: Pixels, window: CropWindow, **params: Any) -> Pixels:
        """Cut the window out of the mask.

        Raises:
            ConfigError: it is not uint8.
        """
        _check_bytes(mask, "mask")
        return window_label(mask, window, fill=self.fill_mask)


def _check_bytes(array: np.ndarray[Any, Any], what: str) -> None:
    if array.dtype != np.uint8:
        raise ConfigError(
            f"ScaleFlipCrop: the {what} is {array.dtype}; it takes uint8 only: put it before ToFloat and Normalize, "
            "and give it masks as uint8"
        )


def for_labels(node: Any, *, ignore_label: int, where: str) -> Any:
    """Complete a transform's config, at any depth, so that it leaves no label that nobody drew.

    Where a transform pads masks, albumentations' own default is 0, which is a class: what it pads is ignored unless the
    config names another `fill_mask`. Dropouts, which keep the labels by default, go on keeping them.

    Args:
        node: a constructor call of albumentations, or a part of one.
        ignore_label: of the data set.
        where: the node's key, for messages.

    Returns:
        A copy; it is the same where the transform does not pad.

    Raises:
        ConfigError: masks would be interpolated, which makes labels out of their neighbours.
    """
    if isinstance(node, Mapping):
        inner = {
            key: for_labels(value, ignore_label=ignore_label, where=f"{where}.{key}") for key, value in node.items()
        }
        if inner.get("mask_interpolation") not in _NEAREST:
            raise ConfigError(
                f"{where}.mask_interpolation={inner['mask_interpolation']!r}: labels cannot be blended; leave it out, "
                f"or {cv2.INTER_NEAREST} (nearest)"
            )
        return {"fill_mask": ignore_label, **inner} if _pads_masks(inner.get("_target_")) else inner
    if isinstance(node, Sequence) and not isinstance(node, str):
        return [
            for_labels(value, ignore_label=ignore_label, where=f"{where}[{position}]")
            for position, value in enumerate(node)
        ]
    return node


def _pads_masks(target: object) -> bool:
    transform = getattr(albumentations, str(target).rpartition(".")[2], None)
    if not inspect.isclass(transform):
        return False  # whoever builds it says that there is no such transform
    padding = inspect.signature(transform).parameters.get("fill_mask")
    return padding is not None and padding.default is not None


class AfterCrop:
    """Ordinary albumentations transforms, such as ColorJitter, on the content of a crop and never on its padding.

    Args:
        transforms: albumentations transforms that keep the size.

    Raises:
        ConfigError: a value is not an albumentations transform.
    """

    def __init__(self, transforms: Sequence[object]) -> None:
        for transform in transforms:
            if not isinstance(transform, (BasicTransform, BaseCompose)):
                raise ConfigError(f"recipe.augmentation.transforms: {transform!r} is not an albumentations transform")
        self._compose = Compose(list(transforms))

    def __call__(self, crop: Crop, rng: np.random.Generator) -> Crop:
        """Apply the transforms with draws that come from `rng` alone.

        Args:
            crop: the crop, changed in place.
            rng: the sample's generator.

        Returns:
            The crop.

        Raises:
            ConfigError: a transform changed the size or the type of the image.
        """
        rows, columns = crop.extent
        image, label = crop.image[:rows, :columns], crop.label[:rows, :columns]
        self._compose.set_random_seed(int(rng.integers(2**31)))
        result = self._compose(image=np.ascontiguousarray(image), mask=np.ascontiguousarray(label))
        if result["image"].shape != image.shape or result["image"].dtype != np.uint8:
            raise ConfigError(
                f"recipe.augmentation.transforms: turned {image.shape} uint8 into {result['image'].shape} "
                f"{result['image'].dtype}; they must keep size and type (normalisation comes later)"
            )
        image[...], label[...] = result["image"], result["mask"]
        return crop
