"""The trimap curve against scipy's dilation, the boundary F-score against a brute-force search and closed forms."""

import math

import numpy as np
import pytest
from scipy import ndimage
from sklearn.metrics import confusion_matrix as sklearn_matrix
from sklearn.metrics import jaccard_score

from atrous.evaluation.boundaries import TRIMAP_WIDTHS, boundary_f_scores, trimap_curve, trimap_matrices

pytestmark = pytest.mark.no_cover  # what it runs is counted in other tests, in half the time


def _scene(seed: int, *, shape: tuple[int, int] = (70, 90), classes: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """Random blobs with void lines between them, and another random scene as the prediction."""
    rng = np.random.default_rng(seed)
    blobs = [ndimage.gaussian_filter(rng.standard_normal((classes, *shape)), (0, 6, 6)).argmax(0) for _ in range(2)]
    truth = blobs[0].astype(np.uint8)
    truth[ndimage.grey_dilation(blobs[0], (3, 3)) != ndimage.grey_erosion(blobs[0], (3, 3))] = 255
    return truth, blobs[1]


def _disc(radius: int) -> np.ndarray:
    rows, columns = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    return np.asarray(rows**2 + columns**2 <= radius**2)


@pytest.mark.parametrize("seed", range(3))
def test_bands_are_the_void_dilated_by_a_disc(seed: int) -> None:
    truth, labels = _scene(seed)
    found = trimap_matrices(truth, labels, num_classes=4)
    for width, matrix in zip(TRIMAP_WIDTHS, found, strict=True):
        band = ndimage.binary_dilation(truth == 255, _disc(width)) & (truth != 255)
        np.testing.assert_array_equal(matrix, sklearn_matrix(truth[band], labels[band], labels=range(4)))


def test_the_curve_is_the_mean_iou_over_all_images_of_each_band() -> None:
    scenes = [_scene(seed) for seed in range(4)]
    curve = trimap_curve(np.sum([trimap_matrices(*scene, num_classes=4) for scene in scenes], 0))
    for width, value in zip(TRIMAP_WIDTHS, curve, strict=True):
        bands = [ndimage.binary_dilation(truth == 255, _disc(width)) & (truth != 255) for truth, _ in scenes]
        truth = np.concatenate([scene[0][band] for scene, band in zip(scenes, bands, strict=True)])
        labels = np.concatenate([scene[1][band] for scene, band in zip(scenes, bands, strict=True)])
        assert value == pytest.approx(jaccard_score(truth, labels, average="macro"), abs=1e-12)


def test_without_void_there_is_no_band_and_no_score() -> None:
    matrices = trimap_matrices(np.zeros((9, 9), np.uint8), np.zeros((9, 9), int), num_classes=2)
    assert not matrices.any()
    assert trimap_curve(matrices) == [None] * len(TRIMAP_WIDTHS)


def _outline_points(mask: np.ndarray) -> np.ndarray:
    inner = np.pad(mask, 1, mode="edge")
    whole = inner[:-2, 1:-1] & inner[2:, 1:-1] & inner[1:-1, :-2] & inner[1:-1, 2:]
    return np.argwhere(mask & ~whole)


@pytest.mark.parametrize("seed", range(3))
def test_the_f_score_equals_a_search_over_all_pairs_of_outline_pixels(seed: int) -> None:
    truth, labels = _scene(seed, shape=(160, 200))
    tolerance = 0.0075 * math.hypot(*truth.shape)
    found = boundary_f_scores(truth, labels, num_classes=4)
    for label in range(4):
        wanted, seen = _outline_points(truth == label), _outline_points(labels == label)
        distances = np.sqrt(((wanted[:, None] - seen) ** 2).sum(2))
        recall = (distances.min(1) <= tolerance).mean()
        right = distances.min(0) <= tolerance
        counted = right | (truth[tuple(seen.T)] != 255)
        precision = right.sum() / counted.sum()
        assert found[label] == pytest.approx(2 * precision * recall / (precision + recall), abs=1e-12)


def test_a_perfect_prediction_scores_one_and_a_missing_class_zero() -> None:
    truth = np.zeros((100, 100), np.uint8)
    truth[20:50, 20:50] = 1
    np.testing.assert_array_equal(boundary_f_scores(truth, truth.astype(int), num_classes=3), [1, 1, np.nan])
    np.testing.assert_array_equal(boundary_f_scores(truth, np.zeros((100, 100), int), num_classes=3), [0, 0, np.nan])


def test_outlines_within_the_tolerance_are_right_and_beyond_it_wrong() -> None:
    def square(left: int) -> np.ndarray:
        canvas = np.zeros((600, 800), np.uint8)  # a diagonal of 1000 pixels: 7.5 pixels of tolerance
        canvas[200:400, left : left + 200] = 1
        return canvas

    near, far = (boundary_f_scores(square(300), square(300 + shift).astype(int), num_classes=2) for shift in (7, 9))
    assert near[1] == 1
    assert far[1] < 0.65  # the left and the right side are lost


def test_without_a_void_label_the_bands_lie_around_changes_of_the_label() -> None:
    truth = np.zeros((9, 12), np.uint8)
    truth[:, 6:] = 1
    truth[0] = 7  # ignored, and no outline
    matrices = trimap_matrices(truth, truth.astype(int), num_classes=2, void_marks_outlines=False)
    columns = [2 * (1 + width) for width in TRIMAP_WIDTHS]  # on both sides of the change, cut off at the border
    assert [int(matrix.sum()) for matrix in matrices] == [8 * min(12, number) for number in columns]
    assert trimap_matrices(truth, truth.astype(int), num_classes=2).sum() != matrices.sum()
