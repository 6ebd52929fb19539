"""The fast crop against the slow way: scale the whole image, flip, pad, crop."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from atrous.data.augmentation import CropConfig, draw, generator_of
from atrous.data.files import Pixels
from atrous.data.voc import VOC2012
from atrous.data.window import CropWindow, apply, rows_shown, window_image

Scene = Callable[[int, int, int], tuple[Pixels, Pixels]]


def slow_crop(image: Pixels, label: Pixels, window: CropWindow) -> tuple[Pixels, Pixels]:
    """Scale everything with OpenCV, flip, pad at the bottom and right, crop."""
    (rows, columns), (height, width) = window.scaled, window.size
    scaled = cv2.resize(image, (columns, rows), interpolation=cv2.INTER_LINEAR)
    scaled_label = cv2.resize(label, (columns, rows), interpolation=cv2.INTER_NEAREST_EXACT)
    if window.flip:
        scaled, scaled_label = scaled[:, ::-1], scaled_label[:, ::-1]
    canvas = max(rows, height), max(columns, width)
    padded, padded_label = np.zeros((*canvas, 3), np.uint8), np.full(canvas, 255, np.uint8)
    padded[:rows, :columns], padded_label[:rows, :columns] = scaled, scaled_label
    part = np.s_[window.top : window.top + height, window.left : window.left + width]
    return padded[part], padded_label[part]


def assert_equal_to_slow_crop(image: Pixels, label: Pixels, window: CropWindow) -> None:
    crop = apply(image, label, window)
    expected, expected_label = slow_crop(image, label, window)
    difference = np.abs(crop.image.astype(int) - expected)
    # A displacement of at most 1/64 pixel moves a value by at most 255/64 per axis, plus rounding.
    assert difference.max() <= 2 * 255 / 64 + 1
    assert difference.mean() < 1
    assert (crop.label == expected_label).mean() > 0.99
    height, width = crop.extent
    assert (crop.image[height:] == 0).all()
    assert (crop.image[:, width:] == 0).all()
    assert (crop.label[height:] == 255).all()
    assert (crop.label[:, width:] == 255).all()


def nearest_sources(source: int, scaled: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return, by trying all, the first and the last source pixel nearest to each scaled one; they differ at ties."""
    centres, source_centres = np.arange(1, 2 * scaled, 2) * source, np.arange(1, 2 * source, 2) * scaled
    distances = np.abs(centres[:, None] - source_centres)
    return distances.argmin(1), source - 1 - distances[:, ::-1].argmin(1)


def nearest_labels(label: Pixels, window: CropWindow) -> list[Pixels]:
    """Every crop of the label that scaling it to the nearest pixel may give."""
    crops = []
    (rows, columns), (height, width) = window.scaled, window.extent
    for row_of in nearest_sources(label.shape[0], rows):
        for column_of in nearest_sources(label.shape[1], columns):
            scaled = label[row_of][:, column_of[:: -1 if window.flip else 1]]
            crop = np.full(window.size, 255, np.uint8)
            crop[:height, :width] = scaled[window.top : window.top + height, window.left : window.left + width]
            crops.append(crop)
    return crops


@settings(max_examples=max(150, settings().max_examples))
@given(
    height=st.integers(1, 90),
    width=st.integers(1, 90),
    crop=st.tuples(st.integers(1, 100), st.integers(1, 100)),
    key=st.integers(0, 10**6),
)
@example(height=4, width=1, crop=(1, 1), key=0)  # a tie: two source rows are equally near
@example(height=38, width=1, crop=(1, 1), key=161)  # the part that is seen has as many pixels before and after scaling
def test_a_crop_equals_that_of_the_whole_scaled_image(
    scene: Scene, height: int, width: int, crop: tuple[int, int], key: int
) -> None:
    image = np.random.default_rng(key).integers(0, 256, (height, width, 3), dtype=np.uint8)
    label = scene(key, height, width)[1]
    window = draw(generator_of(key, 0, 0), height, width, CropConfig(crop_size=crop, scale_min=0.2, scale_max=4))
    crop_ = apply(image, label, window)
    # Noise is the hardest image: neighbours differ by up to 255.
    assert np.abs(crop_.image.astype(int) - slow_crop(image, label, window)[0]).max() <= 2 * 255 / 64 + 1
    possible = np.stack(nearest_labels(label, window))
    assert (crop_.label == possible).any(0).all()


@settings(max_examples=max(100, settings().max_examples))
@given(height=st.integers(1, 90), width=st.integers(1, 90), key=st.integers(0, 10**6))
def test_the_rows_that_a_window_needs_are_enough_for_the_same_crop(height: int, width: int, key: int) -> None:
    image = np.random.default_rng(key).integers(0, 256, (height, width, 3), dtype=np.uint8)
    label = np.zeros((height, width), np.uint8)
    window = draw(generator_of(key, 0, 0), height, width, CropConfig(crop_size=(33, 33), scale_min=0.2, scale_max=4))
    rows = rows_shown(window, height, width)
    assert 1 <= rows <= height
    np.testing.assert_array_equal(apply(image[:rows], label, window).image, apply(image, label, window).image)


def test_real_photographs_crop_as_the_whole_scaled_image_does(real_data: Path) -> None:
    dataset = VOC2012(root=real_data, split="val")
    for index in range(0, 60, 2):
        image, label = dataset.read(index)
        config = CropConfig(crop_size=(513, 513) if index % 4 else (129, 97))
        assert_equal_to_slow_crop(image, label, draw(generator_of(0, 0, index), label.shape[0], label.shape[1], config))


@pytest.mark.parametrize("flip", [False, True])
def test_at_scale_one_the_crop_is_the_image_itself(scene: Scene, flip: bool) -> None:
    image, label = scene(0, 50, 60)
    crop = apply(image, label, CropWindow(scaled=(50, 60), top=7, left=11, size=(30, 40), flip=flip))
    source, source_label = (image[:, ::-1], label[:, ::-1]) if flip else (image, label)
    np.testing.assert_array_equal(crop.image, source[7:37, 11:51])
    np.testing.assert_array_equal(crop.label, source_label[7:37, 11:51])
    assert crop.extent == (30, 40)


def test_content_stays_at_the_top_left_also_when_flipped() -> None:
    image, label = np.full((10, 12, 3), 9, np.uint8), np.zeros((10, 12), np.uint8)
    crop = apply(image, label, CropWindow(scaled=(20, 24), top=0, left=0, size=(33, 33), flip=True))
    assert crop.extent == (20, 24)
    assert (crop.image[:20, :24] == 9).all()
    assert (crop.label == 255).sum() == 33 * 33 - 20 * 24


def test_crops_can_be_written_to_given_memory(scene: Scene) -> None:
    image, label = scene(0, 50, 60)
    window = CropWindow(scaled=(70, 84), top=5, left=0, size=(64, 90), flip=True)
    batch, labels = np.full((2, 64, 90, 3), 77, np.uint8), np.full((2, 64, 90), 77, np.uint8)
    crop = apply(image, label, window, into=(batch[1], labels[1]))
    np.testing.assert_array_equal(batch[1], apply(image, label, window).image)
    np.testing.assert_array_equal(labels[1], apply(image, label, window).label)
    assert np.shares_memory(crop.image, batch)
    assert (batch[0] == 77).all()


def test_padding_takes_the_given_fill() -> None:
    window = CropWindow(scaled=(4, 4), top=0, left=0, size=(6, 6), flip=False)
    crop = window_image(np.zeros((4, 4, 3), np.uint8), window, fill=(1, 2, 3))
    assert crop[5, 0].tolist() == [1, 2, 3]
    assert crop[0, 5].tolist() == [1, 2, 3]


def test_only_the_seen_part_of_a_large_image_is_scaled(monkeypatch: pytest.MonkeyPatch) -> None:
    scaled_areas = []
    resize: Any = cv2.resize

    def spy(image: Pixels, *arguments: object, **options: object) -> Pixels:
        scaled_areas.append(image.shape[0] * image.shape[1])
        return np.asarray(resize(image, *arguments, **options), np.uint8)

    monkeypatch.setattr(cv2, "resize", spy)
    image, label = np.zeros((1024, 2048, 3), np.uint8), np.zeros((1024, 2048), np.uint8)
    for index in range(20):
        window = draw(generator_of(0, 0, index), 1024, 2048, CropConfig(crop_size=(257, 257), scale_min=1.5))
        apply(image, label, window)
    assert np.mean(scaled_areas) < 1024 * 2048 / 20
