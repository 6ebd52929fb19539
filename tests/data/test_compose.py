"""Our transform inside albumentations, against its own transforms, and theirs after our crop."""

from collections.abc import Callable

import albumentations
import cv2
import numpy as np
import pytest
from scipy import stats

from atrous.data.augmentation import CropConfig, ScaleFlipCrop, draw, generator_of
from atrous.data.compose import AfterCrop
from atrous.data.files import Pixels
from atrous.data.window import apply
from atrous.errors import ConfigError

Scene = Callable[[int, int, int], tuple[Pixels, Pixels]]


def test_it_composes_with_ordinary_transforms_and_repeats_for_a_seed(scene: Scene) -> None:
    image, mask = scene(0, 60, 80)
    compose = albumentations.Compose(
        [ScaleFlipCrop(crop_size=(65, 65), fill=(1, 2, 3)), albumentations.RandomBrightnessContrast(p=1)]
    )
    results = []
    for _ in range(2):
        compose.set_random_seed(5)
        results.append(compose(image=image, mask=mask))
    assert results[0]["image"].shape == (65, 65, 3)
    assert results[0]["mask"].shape == (65, 65)
    np.testing.assert_array_equal(results[0]["image"], results[1]["image"])
    np.testing.assert_array_equal(results[0]["mask"], results[1]["mask"])


def test_its_pixels_are_those_of_the_plain_function(scene: Scene) -> None:
    image, mask = scene(0, 60, 80)
    transform = ScaleFlipCrop(crop_size=(65, 65))
    transform.set_random_seed(3)
    result = transform(image=image, mask=mask)
    window = draw(np.random.default_rng(3), 60, 80, CropConfig(crop_size=(65, 65)))
    expected = apply(image, mask, window)
    np.testing.assert_array_equal(result["image"], expected.image)
    np.testing.assert_array_equal(result["mask"], expected.label)


def test_what_is_not_bytes_is_refused_rather_than_cut_off(scene: Scene) -> None:
    image, mask = scene(0, 60, 80)
    crop = ScaleFlipCrop(crop_size=(65, 65))
    with pytest.raises(ConfigError, match=r"the image is float32; it takes uint8 only: put it before ToFloat and Norm"):
        albumentations.Compose([albumentations.ToFloat(), crop])(image=image, mask=mask)
    for kind in (np.int32, np.float32, np.bool_):
        with pytest.raises(ConfigError, match=rf"the mask is {np.dtype(kind)}; it takes uint8 only"):
            albumentations.Compose([crop])(image=image, mask=mask.astype(kind))
    after = albumentations.Compose([crop, albumentations.ToFloat()])(image=image, mask=mask)
    assert after["image"].dtype == np.float32
    assert after["image"].max() > 0.1


def test_impossible_settings_are_refused_as_in_the_plain_config() -> None:
    with pytest.raises((ConfigError, ValueError), match="scale_min"):
        ScaleFlipCrop(crop_size=(65, 65), scale_min=-1)


def test_crops_are_distributed_as_those_of_scale_pad_and_crop_by_albumentations() -> None:
    # An image whose red and green channels tell the source row and column: a crop's pixels then say where it lies and
    # how it was scaled. Padding is black in blue.
    height, width, crop = 90, 120, 65
    rows, columns = np.mgrid[:height, :width]
    image = np.dstack([rows * 2, columns * 2, np.full_like(rows, 255)]).astype(np.uint8)
    mask = np.zeros((height, width), np.uint8)
    theirs = albumentations.Compose(
        [
            albumentations.RandomScale(scale_limit=(-0.5, 1.0), p=1),
            albumentations.PadIfNeeded(
                crop, crop, border_mode=cv2.BORDER_CONSTANT, fill=0, fill_mask=255, position="top_left"
            ),
            albumentations.RandomCrop(crop, crop),
        ]
    )
    theirs.set_random_seed(0)
    config = CropConfig(crop_size=(crop, crop), flip_probability=0)
    facts: dict[str, list[tuple[float, ...]]] = {"ours": [], "theirs": []}
    for index in range(1500):
        ours = apply(image, mask, draw(generator_of(0, 0, index), height, width, config))
        result = theirs(image=image, mask=mask)
        for name, pixels, label in (("ours", ours.image, ours.label), ("theirs", result["image"], result["mask"])):
            seen = (label == 0).nonzero()
            top, bottom, left, right = seen[0].min(), seen[0].max(), seen[1].min(), seen[1].max()
            zoom = (float(pixels[top, right, 1]) - float(pixels[top, left, 1])) / (right - left)
            facts[name].append((zoom, float(pixels[top, left, 0]), float(pixels[top, left, 1]), float(bottom - top)))
    for mine, plain in zip(zip(*facts["ours"], strict=True), zip(*facts["theirs"], strict=True), strict=True):
        assert stats.ks_2samp(mine, plain).pvalue > 1e-3


def test_transforms_after_the_crop_change_the_content_and_never_the_padding(scene: Scene) -> None:
    image, mask = scene(0, 40, 40)
    after = AfterCrop([albumentations.InvertImg(p=1)])
    window = draw(generator_of(0, 0, 0), 40, 40, CropConfig(crop_size=(65, 65), scale_min=1, scale_max=1))
    plain = apply(image, mask, window)
    changed = after(apply(image, mask, window), generator_of(0, 0, 0))
    np.testing.assert_array_equal(changed.image[:40, :40], 255 - plain.image[:40, :40])
    assert (changed.image[40:] == 0).all()
    np.testing.assert_array_equal(changed.label, plain.label)


def test_a_transform_that_changes_the_size_is_an_error_that_says_so(scene: Scene) -> None:
    image, mask = scene(0, 40, 40)
    window = draw(generator_of(0, 0, 0), 40, 40, CropConfig(crop_size=(33, 33)))
    with pytest.raises(ConfigError, match=r"^recipe\.augmentation\.transforms: .*must keep size and type"):
        AfterCrop([albumentations.RandomCrop(8, 8)])(apply(image, mask, window), generator_of(0, 0, 0))


def test_what_is_no_transform_is_an_error() -> None:
    with pytest.raises(ConfigError, match=r"recipe\.augmentation\.transforms: 'flip' is not an albu"):
        AfterCrop(["flip"])
