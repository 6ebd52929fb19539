"""Crops against loops over single pixels: what is seen, what is padding, and that image and label stay together."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from atrous.data.augmentation import CropConfig, draw, generator_of
from atrous.data.files import Pixels
from atrous.data.slots import Slots
from atrous.data.window import CropWindow, apply

IGNORE = 255
SMALL = st.integers(1, 14)


@st.composite
def windows(draw_: st.DrawFn, sides: st.SearchStrategy[int] = SMALL) -> tuple[int, int, CropWindow]:
    """The size of a small source, and a window on it scaled by anything from a quarter to four."""
    height, width = draw_(sides), draw_(sides)
    crop = draw_(st.integers(1, 18)), draw_(st.integers(1, 18))
    config = CropConfig(crop_size=crop, scale_min=0.25, scale_max=4, flip_probability=0.5)
    return height, width, draw(generator_of(draw_(st.integers(0, 9999)), 0, 0), height, width, config)


def source_position(place: int, source: int, scaled: int) -> float:
    """Where the centre of a scaled pixel lies in the source, in pixels."""
    return (place + 0.5) * source / scaled - 0.5


def positions(window: CropWindow, row: int, column: int, height: int, width: int) -> tuple[float, float] | None:
    """Where a pixel of the crop lies in the source; None where it is padding."""
    y, x = window.top + row, window.left + column
    if y >= window.scaled[0] or x >= window.scaled[1]:
        return None
    if window.flip:
        x = window.scaled[1] - 1 - x
    return source_position(y, height, window.scaled[0]), source_position(x, width, window.scaled[1])


def nearest(position: float, size: int) -> set[int]:
    """The source pixels that are nearest: two at a tie."""
    distances = [abs(position - place) for place in range(size)]
    return {place for place in range(size) if distances[place] <= min(distances) + 1e-9}


def between(image: Pixels, y: float, x: float) -> tuple[float, float]:
    """The smallest and the largest value that a bilinear mean near (y, x) can have, a 64th of a pixel aside."""
    rows: list[int] = []
    columns: list[int] = []
    for values, position, size in ((rows, y, image.shape[0]), (columns, x, image.shape[1])):
        for moved in (position - 1 / 64, position + 1 / 64):
            low = min(max(int(np.floor(moved)), 0), size - 1)
            values += [low, min(max(int(np.floor(moved)) + 1, 0), size - 1)]
    seen = image[np.ix_(sorted(set(rows)), sorted(set(columns)))]
    return float(seen.min()), float(seen.max())


@given(windows(), st.integers(0, 99))
def test_every_pixel_of_a_crop_is_that_of_the_source_or_padding(case: tuple[int, int, CropWindow], seed: int) -> None:
    height, width, window = case
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    label = rng.integers(0, 21, (height, width), dtype=np.uint8)
    crop = apply(image, label, window, ignore_label=IGNORE)
    assert crop.image.shape == (*window.size, 3)
    assert crop.label.shape == window.size
    for row in range(window.size[0]):
        for column in range(window.size[1]):
            place = positions(window, row, column, height, width)
            if place is None:
                assert crop.label[row, column] == IGNORE
                assert not crop.image[row, column].any()
                continue
            assert row < crop.extent[0]
            assert column < crop.extent[1]
            labels = {int(label[y, x]) for y in nearest(place[0], height) for x in nearest(place[1], width)}
            assert int(crop.label[row, column]) in labels, "a label is one of the source's, never a mean"
            for channel in range(3):
                low, high = between(image[:, :, channel], *place)
                assert low - 1 <= crop.image[row, column, channel] <= high + 1


@given(windows(st.integers(8, 40)), st.integers(0, 99))
def test_an_image_that_is_painted_like_its_label_stays_so(case: tuple[int, int, CropWindow], seed: int) -> None:
    height, width, window = case
    rng = np.random.default_rng(seed)
    label = np.kron(rng.integers(0, 3, (5, 5), dtype=np.uint8), np.ones((8, 8), np.uint8))[:height, :width]
    image = np.repeat(label[:, :, None] * 90, 3, 2)
    crop = apply(image, label, window, ignore_label=IGNORE)
    padded = np.pad(label, 2, mode="edge")
    for row in range(crop.extent[0]):
        for column in range(crop.extent[1]):
            place = positions(window, row, column, height, width)
            assert place is not None
            y, x = round(place[0]) + 2, round(place[1]) + 2
            around = padded[max(0, y - 2) : y + 3, max(0, x - 2) : x + 3]
            if (around == around[0, 0]).all():  # nothing but one class near: the colour must be that of its label
                assert crop.label[row, column] == around[0, 0]
                assert (crop.image[row, column] == 90 * int(around[0, 0])).all()


@given(
    number=st.integers(1, 3),
    count=st.integers(1, 4),
    size=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    seed=st.integers(0, 99),
)
def test_batches_in_shared_memory_never_run_into_each_other(
    number: int, count: int, size: tuple[int, int], seed: int
) -> None:
    slots, rng = Slots(number=number, count=count, size=size), np.random.default_rng(seed)
    written = []
    for slot in range(number):
        batch = slots.fill(slot)
        for key in ("image", "label", "extent", "index"):
            values = rng.integers(0, 256, batch[key].shape)
            batch[key].copy_(torch.from_numpy(values))
            written.append((slot, key, values))
    for slot, key, values in written:
        np.testing.assert_array_equal(slots.fill(slot)[key].numpy(), values)  # type: ignore[literal-required]
