"""Bootstrap intervals against scipy's, and closed forms."""

import numpy as np
import pytest
from scipy import stats

from atrous.evaluation.confidence import confidence_intervals, difference_interval
from atrous.evaluation.records import ImageRecord, ImageRecords
from atrous.evaluation.scores import mean_iou


def _records(matrices: list[np.ndarray]) -> ImageRecords:
    images = [ImageRecord(index=i, sample_id=f"image{i}", matrix=matrix) for i, matrix in enumerate(matrices)]
    return ImageRecords.collect(images, num_classes=len(matrices[0]))


def _random(seed: int, number: int = 60) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.integers(0, 50, (3, 3)) + np.diag(rng.integers(50, 900, 3)) for _ in range(number)]


def test_the_interval_is_that_of_scipys_percentile_bootstrap() -> None:
    matrices = np.stack(_random(0))
    found = confidence_intervals(_records(list(matrices)), replicates=4000)

    def score(places: np.ndarray, axis: int) -> np.ndarray:
        sums = np.take(matrices, places.astype(int), 0).sum(axis if axis >= 0 else places.ndim - 1)
        return np.array([mean_iou(matrix) for matrix in sums.reshape(-1, 3, 3)]).reshape(sums.shape[:-2])

    expected = stats.bootstrap(
        (np.arange(60),), score, n_resamples=4000, method="percentile", rng=np.random.default_rng(1)
    ).confidence_interval
    assert found is not None
    width = expected.high - expected.low
    assert found["miou"] == pytest.approx([expected.low, expected.high], abs=0.08 * width)


def test_the_same_seed_gives_the_same_interval_and_another_seed_another() -> None:
    records = _records(_random(0))
    assert confidence_intervals(records) == confidence_intervals(records)
    assert confidence_intervals(records) != confidence_intervals(records, seed=1)


def test_images_that_are_all_alike_leave_no_doubt() -> None:
    matrix = np.array([[30, 10], [5, 55]])
    found = confidence_intervals(_records([matrix] * 9))
    assert found is not None
    assert found["miou"] == pytest.approx([mean_iou(matrix)] * 2, abs=1e-12)
    assert found["pixel_accuracy"] == pytest.approx([0.85, 0.85], abs=1e-12)


def test_the_interval_of_accuracy_of_equally_large_images_is_that_of_a_binomial_mean() -> None:
    right, wrong = np.array([[100, 0], [0, 0]]), np.array([[0, 100], [0, 0]])
    found = confidence_intervals(_records([right] * 150 + [wrong] * 50), replicates=4000)
    assert found is not None
    low, high = stats.binom(200, 0.75).ppf([0.025, 0.975]) / 200
    assert found["pixel_accuracy"] == pytest.approx([low, high], abs=0.006)


def test_a_class_that_is_nowhere_has_no_interval() -> None:
    found = confidence_intervals(_records([np.diag([5, 5, 0])] * 4))
    assert found is not None
    assert found["iou"] == [[1, 1], [1, 1], None]


def test_one_image_has_no_interval() -> None:
    assert confidence_intervals(_records([np.eye(2, dtype=int)])) is None


def test_a_difference_is_drawn_alike_for_both_so_that_what_they_share_cancels() -> None:
    first = _records(_random(0))
    assert difference_interval(first, first) == [0, 0]
    better = _records([matrix + np.diag([40, 40, 40]) for matrix in _random(0)])
    interval, single = difference_interval(first, better), confidence_intervals(first)
    assert interval is not None
    assert single is not None
    assert interval[0] > 0
    assert interval[1] - interval[0] < single["miou"][1] - single["miou"][0]
