"""The draws: their distribution, their keys, and the impossible settings."""

import numpy as np
import pytest
from scipy import stats

from atrous.data.augmentation import CropConfig, draw, seed_of
from atrous.errors import ConfigError

HEIGHT, WIDTH, CROP = 100, 140, (65, 65)


def windows(config: CropConfig, count: int = 3000) -> "list[tuple[float, int, int, bool, tuple[int, int]]]":
    drawn = [draw(seed_of(0, 0, index), HEIGHT, WIDTH, config) for index in range(count)]
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


def test_draws_differ_between_epochs_indices_and_seeds_and_repeat_for_a_key() -> None:
    keys = [(seed, epoch, index) for seed in range(4) for epoch in range(4) for index in range(4)]
    first = [tuple(seed_of(*key).random(4)) for key in keys]
    assert len(set(first)) == len(keys)
    assert first == [tuple(seed_of(*key).random(4)) for key in keys]


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
