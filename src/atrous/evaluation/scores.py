"""Scores out of one confusion matrix over the whole data set: what a "mean IoU" is, is decided here and only here."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from atrous.lean_torchmetrics import MulticlassConfusionMatrix

Matrix = NDArray[np.int64]
Floats = NDArray[np.float64]


def confusion_matrix(num_classes: int, *, ignore_label: int = 255) -> MulticlassConfusionMatrix:
    """An int64 confusion matrix [truth, prediction] that sums over batches and ranks; ignored pixels do not count.

    Args:
        num_classes: classes.
        ignore_label: the label that does not count.
    """
    return _Counted(num_classes, ignore_index=ignore_label, validate_args=False)


class _Counted(MulticlassConfusionMatrix):
    """The matrix of torchmetrics, counted by PyTorch also where deterministic kernels are asked for.

    Integers add up to the same in any order. There torchmetrics compares every pixel with every cell of the matrix: for
    one image of 1025 x 2049 and 19 classes, 6 GB of int64.
    """

    def update(self, preds: Tensor, target: Tensor) -> None:
        """Count pixels.

        Args:
            preds: predicted classes, integers of any shape.
            target: the truth, same shape.
        """
        is_counted = target != self.ignore_index
        cells = target[is_counted].to(torch.int64) * self.num_classes + preds[is_counted].to(torch.int64)
        counts = torch.bincount(cells, minlength=self.num_classes**2)
        self.confmat += counts.view(self.num_classes, self.num_classes)


def count_matrices(truth: Tensor, labels: Tensor, groups: Tensor, *, num_classes: int, num_groups: int) -> Matrix:
    """A confusion matrix for each group of pixels, by one count over all of them.

    Args:
        truth: integers of any shape; values of num_classes and more are ignored.
        labels: predicted classes, same shape, below num_classes.
        groups: int64, broadcasts to that shape: each pixel's group, such as its image.
        num_classes: classes.
        num_groups: groups.

    Returns:
        Pixel counts [groups, truth, prediction].
    """
    cells = num_classes * num_classes
    truth, labels = truth.to(torch.int64), labels.to(torch.int64)
    cell = torch.where(truth < num_classes, truth * num_classes + labels, cells)  # one more cell for the ignored
    counts = torch.bincount((cell + groups * (cells + 1)).flatten(), minlength=num_groups * (cells + 1))
    matrices: Matrix = counts.view(num_groups, cells + 1)[:, :cells].cpu().numpy()
    return matrices.reshape(num_groups, num_classes, num_classes)


def ratio(part: NDArray[Any], whole: NDArray[Any]) -> Floats:
    """Shares, of any shape; NaN where the whole is 0."""
    part, whole = np.asarray(part, np.float64), np.asarray(whole, np.float64)
    result: Floats = np.divide(part, whole, out=np.full(part.shape, np.nan), where=whole > 0)
    return result


def mean_of_defined(values: Floats) -> Floats:
    """Mean over the last dimension of what is not NaN; NaN where all of it is."""
    return ratio(np.nansum(values, -1), np.isfinite(values).sum(-1))


def iou_of(matched: NDArray[Any], truth: NDArray[Any], predicted: NDArray[Any]) -> Floats:
    """IoU from pixel counts of any shape; NaN where neither the truth nor the prediction holds a pixel.

    Args:
        matched: pixels that both hold.
        truth: pixels that the truth holds.
        predicted: labelled pixels that the prediction holds.
    """
    return ratio(matched, truth + predicted - matched)


def intersection_over_union(matrix: Matrix) -> Floats:
    """IoU of each class; NaN for a class that neither the truth nor the prediction holds.

    Args:
        matrix: pixel counts [truth, prediction].
    """
    return iou_of(np.diag(matrix), matrix.sum(1), matrix.sum(0))


def mean_iou(matrix: Matrix) -> float:
    """Mean over the classes that occur; NaN where no pixel was scored."""
    return float(mean_of_defined(intersection_over_union(matrix)))


def mean_accuracy(matrix: Matrix) -> float:
    """Mean over the truth's classes of the share of their pixels that was found; NaN where no pixel was scored."""
    return float(mean_of_defined(ratio(np.diag(matrix), matrix.sum(1))))


def frequency_weighted_iou(matrix: Matrix) -> float:
    """IoU of the truth's classes weighted by their share of the pixels (Long et al., 2015); NaN without pixels."""
    share, iou = ratio(matrix.sum(1), np.full(len(matrix), matrix.sum())), intersection_over_union(matrix)
    return float(np.nansum(share * iou)) if matrix.any() else float("nan")


def scores(matrix: Matrix, classes: Sequence[str]) -> dict[str, Any]:
    """Every score of a confusion matrix, ready for results.json.

    Args:
        matrix: pixel counts [truth, prediction].
        classes: names, in the order of the labels.

    Returns:
        miou, pixel_accuracy, mean_accuracy, frequency_weighted_iou (0 to 1), iou by class (None where it is undefined),
        pixels, confusion.
    """
    iou = intersection_over_union(matrix)
    pixels = int(matrix.sum())
    return {
        "miou": mean_iou(matrix),
        "pixel_accuracy": float(np.diag(matrix).sum() / pixels) if pixels else float("nan"),
        "mean_accuracy": mean_accuracy(matrix),
        "frequency_weighted_iou": frequency_weighted_iou(matrix),
        "iou": {name: None if np.isnan(value) else float(value) for name, value in zip(classes, iou, strict=True)},
        "pixels": pixels,
        "confusion": matrix.tolist(),
    }
