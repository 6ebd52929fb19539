"""Scores out of one confusion matrix over the whole data set: what a "mean IoU" is, is decided here and only here."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torchmetrics.classification import MulticlassConfusionMatrix

Matrix = NDArray[np.int64]


def confusion_matrix(
    num_classes: int, *, ignore_label: int = 255, across_ranks: bool = True
) -> MulticlassConfusionMatrix:
    """An int64 confusion matrix [truth, prediction] that sums over batches; ignored pixels do not count.

    Args:
        num_classes: classes.
        ignore_label: the label that does not count.
        across_ranks: whether computing it sums over the ranks of a process group.
    """
    return MulticlassConfusionMatrix(
        num_classes, ignore_index=ignore_label, validate_args=False, sync_on_compute=across_ranks
    )


def intersection_over_union(matrix: Matrix) -> NDArray[np.float64]:
    """IoU of each class; NaN for a class that neither the truth nor the prediction holds.

    Args:
        matrix: pixel counts [truth, prediction].
    """
    matched = np.diag(matrix).astype(np.float64)
    union = matrix.sum(0) + matrix.sum(1) - np.diag(matrix)
    result: NDArray[np.float64] = np.divide(matched, union, out=np.full(len(matched), np.nan), where=union > 0)
    return result


def mean_iou(matrix: Matrix) -> float:
    """Mean over the classes that occur; NaN where no pixel was scored."""
    iou = intersection_over_union(matrix)
    return float(np.nanmean(iou)) if np.isfinite(iou).any() else float("nan")


def scores(matrix: Matrix, classes: Sequence[str]) -> dict[str, Any]:
    """Every score of a confusion matrix, ready for results.json.

    Args:
        matrix: pixel counts [truth, prediction].
        classes: names, in the order of the labels.

    Returns:
        miou, pixel_accuracy (0 to 1), iou by class (None where it is undefined), pixels, confusion.
    """
    iou = intersection_over_union(matrix)
    pixels = int(matrix.sum())
    return {
        "miou": mean_iou(matrix),
        "pixel_accuracy": float(np.diag(matrix).sum() / pixels) if pixels else float("nan"),
        "iou": {name: None if np.isnan(value) else float(value) for name, value in zip(classes, iou, strict=True)},
        "pixels": pixels,
        "confusion": matrix.tolist(),
    }
