"""Scores against scikit-learn and numpy."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, balanced_accuracy_score, jaccard_score
from sklearn.metrics import confusion_matrix as sklearn_matrix
from torch.utils._python_dispatch import TorchDispatchMode

from atrous.evaluation.scores import confusion_matrix, count_matrices, intersection_over_union, mean_iou, scores


def _random_labels(seed: int, *, classes: int, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    truth, prediction = rng.integers(0, classes, shape), rng.integers(0, classes, shape)
    truth[rng.random(shape) < 0.2] = 255
    return truth, prediction


def test_the_matrix_equals_scikit_learns_over_labelled_pixels() -> None:
    truth, prediction = _random_labels(0, classes=5, shape=(3, 20, 30))
    metric = confusion_matrix(5)
    for image in range(3):
        metric.update(torch.from_numpy(prediction[image : image + 1]), torch.from_numpy(truth[image : image + 1]))
    labelled = truth != 255
    expected = sklearn_matrix(truth[labelled], prediction[labelled], labels=range(5))
    assert metric.compute().dtype == torch.int64
    np.testing.assert_array_equal(metric.compute().numpy(), expected)


class _LargestTensor(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Sees how many numbers the largest tensor has that is made."""

    numbers = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        self.numbers = max(self.numbers, made.numel() if isinstance(made, torch.Tensor) else 0)
        return made


def test_deterministic_kernels_count_the_same_without_a_tensor_of_pixels_times_cells() -> None:
    truth, prediction = (torch.from_numpy(labels) for labels in _random_labels(5, classes=21, shape=(2, 30, 40)))
    metric, expected = confusion_matrix(21), confusion_matrix(21)
    expected.update(prediction, truth)
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        with _LargestTensor() as seen:  # type: ignore[no-untyped-call]
            metric.update(prediction, truth.to(torch.uint8))
    finally:
        torch.use_deterministic_algorithms(False)
    assert torch.equal(metric.compute(), expected.compute())
    assert seen.numbers <= truth.numel()


def test_the_mean_iou_equals_scikit_learns_jaccard_score() -> None:
    truth, prediction = _random_labels(1, classes=4, shape=(40, 40))
    labelled = truth != 255
    matrix = sklearn_matrix(truth[labelled], prediction[labelled], labels=range(4))
    expected = jaccard_score(truth[labelled], prediction[labelled], average="macro")
    assert mean_iou(matrix) == pytest.approx(expected, abs=1e-12)


def test_the_sum_over_shards_is_the_matrix_of_the_whole() -> None:
    truth, prediction = _random_labels(2, classes=6, shape=(8, 9, 9))
    whole, shards = confusion_matrix(6), [confusion_matrix(6) for _ in range(3)]
    whole.update(torch.from_numpy(prediction), torch.from_numpy(truth))
    for rank, shard in enumerate(shards):
        shard.update(torch.from_numpy(prediction[rank::3]), torch.from_numpy(truth[rank::3]))
    assert torch.equal(
        whole.compute(), sum((shard.compute() for shard in shards), torch.zeros(6, 6, dtype=torch.int64))
    )


def test_a_class_that_is_nowhere_does_not_count_and_one_only_predicted_counts_as_zero() -> None:
    matrix = np.array([[6, 2, 0], [0, 0, 0], [0, 0, 0]])
    iou = intersection_over_union(matrix)
    assert iou[0] == 0.75
    assert iou[1] == 0
    assert np.isnan(iou[2])
    assert mean_iou(matrix) == 0.375


def test_scores_name_the_classes_and_count_the_pixels() -> None:
    result = scores(np.array([[3, 1], [0, 0]]), ["road", "car"])
    assert result["pixels"] == 4
    assert result["pixel_accuracy"] == 0.75
    assert result["iou"] == {"road": 0.75, "car": 0.0}


def test_mean_accuracy_and_frequency_weighted_iou_equal_scikit_learns() -> None:
    truth, prediction = _random_labels(3, classes=5, shape=(50, 50))
    prediction[truth == 2] = 2  # classes of unequal quality
    labelled = truth != 255
    result = scores(sklearn_matrix(truth[labelled], prediction[labelled], labels=range(5)), list("abcde"))
    assert result["mean_accuracy"] == pytest.approx(balanced_accuracy_score(truth[labelled], prediction[labelled]))
    weighted = jaccard_score(truth[labelled], prediction[labelled], average="weighted")
    assert result["frequency_weighted_iou"] == pytest.approx(weighted)
    assert result["pixel_accuracy"] == pytest.approx(accuracy_score(truth[labelled], prediction[labelled]))


def test_matrices_of_groups_are_scikit_learns_of_their_pixels() -> None:
    truth, prediction = _random_labels(4, classes=5, shape=(3, 20, 30))
    truth[:, 0] = 5  # ignored as 255 is, and the first that is
    groups = np.random.default_rng(0).integers(0, 4, truth.shape)
    found = count_matrices(
        torch.from_numpy(truth.astype(np.uint8)),
        torch.from_numpy(prediction),
        torch.from_numpy(groups),
        num_classes=5,
        num_groups=4,
    )
    assert found.dtype == np.int64
    for group in range(4):
        chosen = (truth < 5) & (groups == group)
        expected = sklearn_matrix(truth[chosen], prediction[chosen], labels=range(5))
        np.testing.assert_array_equal(found[group], expected)


def test_without_any_pixel_no_score_is_defined() -> None:
    result = scores(np.zeros((2, 2), np.int64), ["road", "car"])
    for name in ("miou", "pixel_accuracy", "mean_accuracy", "frequency_weighted_iou"):
        assert np.isnan(result[name]), name


@given(
    classes=st.integers(1, 6),
    sizes=st.lists(st.integers(0, 12), min_size=1, max_size=5),
    kept=st.sets(st.integers(0, 5)),
    seed=st.integers(0, 9999),
)
def test_scores_of_any_shards_are_those_of_counting_pixel_by_pixel(
    classes: int, sizes: list[int], kept: set[int], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    values = [*(kept & set(range(classes))), 255]  # some classes are absent, and every set has ignored pixels
    shards = [(rng.choice(values, size), rng.integers(0, classes, size)) for size in sizes]
    counted = [[0] * classes for _ in range(classes)]
    for truth, prediction in shards:
        for true, predicted in zip(truth.tolist(), prediction.tolist(), strict=True):
            if true != 255:
                counted[true][predicted] += 1
    metric, whole = confusion_matrix(classes), np.zeros((classes, classes), np.int64)
    for truth, prediction in shards:
        metric.update(torch.from_numpy(prediction), torch.from_numpy(truth))
        arguments = (torch.from_numpy(truth), torch.from_numpy(prediction), torch.zeros(1, dtype=torch.int64))
        whole += count_matrices(*arguments, num_classes=classes, num_groups=1)[0]
    assert whole.tolist() == counted
    assert metric.compute().reshape(classes, classes).tolist() == counted
    truth, prediction = (np.concatenate(parts) for parts in zip(*shards, strict=True))
    labelled = truth != 255
    result = scores(whole, [str(label) for label in range(classes)])
    assert result["pixels"] == labelled.sum()
    for label in range(classes):
        in_truth, in_prediction = labelled & (truth == label), labelled & (prediction == label)
        union = int((in_truth | in_prediction).sum())
        assert result["iou"][str(label)] == (int((in_truth & in_prediction).sum()) / union if union else None)
    if labelled.any():
        seen = sorted({*truth[labelled].tolist(), *prediction[labelled].tolist()})
        expected = jaccard_score(truth[labelled], prediction[labelled], labels=seen, average="macro", zero_division=0)
        assert result["miou"] == pytest.approx(expected, abs=1e-12)
        assert result["pixel_accuracy"] == pytest.approx(accuracy_score(truth[labelled], prediction[labelled]))
