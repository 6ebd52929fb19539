"""The draws: their distribution, their keys, and the impossible settings."""

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from scipy import stats

from atrous.data.augmentation import CropConfig, draw, generator_of
from atrous.data.window import apply
from atrous.errors import ConfigError

HEIGHT, WIDTH, CROP = 100, 140, (65, 65)


def windows(config: CropConfig, count: int = 3000) -> "list[tuple[float, int, int, bool, tuple[int, int]]]":
    drawn = [draw(generator_of(0, 0, index), HEIGHT, WIDTH, config) for index in range(count)]
    return [(w.scaled[1] / WIDTH, w.top, w.left, w.flip, w.scaled) for w in drawn]


def test_scales_are_uniform_over_the_papers_range() -> None:
    scales = [scale for scale, *_ in windows(CropConfig(crop_size=CROP))]
    assert stats.kstest(scales, stats.uniform(0.5 - 0.5 / WIDTH, 1.5).cdf).pvalue > 1e-3
    assert min(scales) >= 0.5 - 1 / WIDTH
    assert max(scales) < 2


def test_the_released_codes_steps_are_seven_equally_likely_scales() -> None:
    scales = [scale for scale, *_ in windows(CropConfig(crop_size=CROP, scale_step=0.25))]
    values, counts = np.unique(scales, return_counts=True)
    np.testing.assert_allclose(values, [0.5, 0.75, 1, 1.25, 1.5, 1.75, 2])
    assert stats.chisquare(counts).pvalue > 1e-3


def test_flips_are_fair_and_can_be_switched_off() -> None:
    flips = sum(flip for *_, flip, _ in windows(CropConfig(crop_size=CROP)))
    assert stats.binomtest(flips, 3000).pvalue > 1e-3
    assert not any(flip for *_, flip, _ in windows(CropConfig(crop_size=CROP, flip_probability=0), 100))


def test_offsets_reach_both_ends_and_are_uniform_between() -> None:
    config = CropConfig(crop_size=CROP, scale_min=1, scale_max=1)
    tops, lefts = zip(*[(top, left) for _, top, left, *_ in windows(config)], strict=True)
    for offsets, free in ((tops, HEIGHT - CROP[0]), (lefts, WIDTH - CROP[1])):
        counts = np.bincount(offsets, minlength=free + 1)
        assert len(counts) == free + 1
        assert stats.chisquare(counts).pvalue > 1e-3


def test_a_crop_never_leaves_the_padded_image() -> None:
    for _, top, left, _, (rows, columns) in windows(CropConfig(crop_size=CROP, scale_min=0.3)):
        assert 0 <= top <= max(0, rows - CROP[0])
        assert 0 <= left <= max(0, columns - CROP[1])


def test_a_draw_is_the_one_that_every_version_has_made() -> None:
    assert generator_of(0, 1, 2).integers(0, 1000, 4).tolist() == [946, 307, 96, 674]


def test_draws_differ_between_epochs_indices_and_seeds_and_repeat_for_a_key() -> None:
    keys = [(seed, epoch, index) for seed in range(4) for epoch in range(4) for index in range(4)]
    first = [tuple(generator_of(*key).random(4)) for key in keys]
    assert len(set(first)) == len(keys)
    assert first == [tuple(generator_of(*key).random(4)) for key in keys]


def coordinates() -> NDArray[np.uint8]:
    """An image whose red and green tell the source row and column, so that a crop tells where it comes from."""
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    return np.dstack([rows * 2, columns, np.full_like(rows, 255)]).astype(np.uint8)


def plain_crop(rng: np.random.Generator, *, step: float) -> NDArray[np.uint8]:
    """The papers' words one after the other, with Pillow: scale the whole image, flip it, pad it, crop it."""
    scale = rng.choice(np.arange(0.5, 2.01, step)) if step else rng.uniform(0.5, 2.0)
    scaled = Image.fromarray(coordinates()).resize((int(WIDTH * scale), int(HEIGHT * scale)), Image.Resampling.BILINEAR)
    if rng.random() < 0.5:
        scaled = scaled.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    padded = Image.new("RGB", (max(CROP[1], scaled.width), max(CROP[0], scaled.height)))
    padded.paste(scaled)
    top, left = (int(rng.integers(n - c + 1)) for n, c in zip(padded.size[::-1], CROP, strict=True))
    return np.asarray(padded.crop((left, top, left + CROP[1], top + CROP[0])))


def facts(crop: NDArray[np.uint8]) -> tuple[float, float, float, bool, int]:
    """(zoom, source row at the top, leftmost source column, whether flipped, rows of content), read off the pixels."""
    inside = crop[:, :, 2] > 0
    height, width = int(inside[:, 0].sum()), int(inside[0].sum())
    first, last = float(crop[0, 0, 1]), float(crop[0, width - 1, 1])
    return abs(last - first) / (width - 1), crop[0, 0, 0] / 2, min(first, last), bool(last < first), height


@pytest.mark.parametrize("step", [0.0, 0.25])
def test_crops_are_distributed_as_those_of_scaling_flipping_padding_and_cropping_the_whole_image(step: float) -> None:
    image, label = coordinates(), np.zeros((HEIGHT, WIDTH), np.uint8)
    config, rng = CropConfig(crop_size=CROP, scale_step=step), np.random.default_rng(7)
    windows_ = (draw(generator_of(1, 0, index), HEIGHT, WIDTH, config) for index in range(2000))
    ours = [facts(apply(image, label, window).image) for window in windows_]
    theirs = [facts(plain_crop(rng, step=step)) for _ in range(2000)]
    for place in (0, 1, 2, 4):
        mine, plain = ([fact[place] for fact in crops] for crops in (ours, theirs))
        assert stats.ks_2samp(mine, plain).pvalue > 1e-3
    flips = [sum(fact[3] for fact in crops) for crops in (ours, theirs)]
    assert stats.chi2_contingency([flips, [2000 - count for count in flips]]).pvalue > 1e-3
    if step:
        grids = [
            np.histogram([1 / fact[0] for fact in crops], np.arange(0.375, 2.2, 0.25))[0] for crops in (ours, theirs)
        ]
        assert np.min(grids) > 0
        assert stats.chi2_contingency(grids).pvalue > 1e-3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"crop_size": (0, 5)}, r"crop_size=\(0, 5\)"),
        ({"scale_min": 2, "scale_max": 1}, "scale_min=2, scale_max=1: expected 0 < min <= max"),
        ({"scale_step": -1}, "scale_step=-1: expected 0"),
        ({"flip_probability": 2}, "flip_probability=2: expected a number between 0 and 1"),
    ],
)
def test_impossible_settings_are_refused(arguments: "dict[str, object]", message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        CropConfig(**{"crop_size": CROP, **arguments})  # type: ignore[arg-type]
