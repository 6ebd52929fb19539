"""How good the outlines are: the trimap curve of DeepLabv3+ (Figure 5) and the boundary F-score.

A trimap scores only the pixels near the void label that VOC draws around every object (Krähenbühl and Koltun, 2011);
in a data set without such a label, those near a change of the label.
The F-score asks how many outline pixels have an outline of the same class close by (Csurka et al., "What is a good
evaluation measure for semantic segmentation?", 2013).
"""

import math
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from atrous.evaluation.scores import Floats, Matrix, count_matrices, mean_iou

TRIMAP_WIDTHS = (1, 2, 4, 6, 8, 10, 15, 20, 25, 30, 35, 40)
TOLERANCE = 0.0075  # of the image's diagonal

_CROSS = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]], np.uint8)

Labels = NDArray[np.uint8]
Mask = NDArray[np.bool_]


def distance_to(mask: Mask) -> NDArray[np.float32]:
    """Euclidean distance in pixels from every pixel [H, W] to the nearest one of `mask`; infinite where it is empty."""
    if not mask.any():
        return np.full(mask.shape, np.inf, np.float32)
    return np.asarray(
        cv2.distanceTransform(np.asarray(~mask, np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE), np.float32
    )


def trimap_matrices(
    truth: Labels, labels: NDArray[Any], *, num_classes: int, void_marks_outlines: bool = True
) -> Matrix:
    """Confusion matrices of the labelled pixels near the objects' outlines, one for each band.

    The band of width w is what marks the outlines dilated by a disc of radius w: pixels with a pixel of it at a
    Euclidean distance of at most w.

    Args:
        truth: [H, W] without padding; values of num_classes and more are void.
        labels: predicted classes [H, W].
        num_classes: classes.
        void_marks_outlines: whether the void label marks the outlines; if not, pixels do that have a neighbour (of
            four) of another class.

    Returns:
        Pixel counts [len(TRIMAP_WIDTHS), truth, prediction]; all 0 in an image without outlines.
    """
    distance = distance_to(truth >= num_classes if void_marks_outlines else _class_changes(truth, num_classes))
    ring = torch.from_numpy(np.searchsorted(TRIMAP_WIDTHS, distance))
    matrices = count_matrices(
        torch.from_numpy(truth),
        torch.from_numpy(labels),
        ring,
        num_classes=num_classes,
        num_groups=len(TRIMAP_WIDTHS) + 1,
    )
    bands: Matrix = matrices[:-1].cumsum(0)
    return bands


def _class_changes(truth: Labels, num_classes: int) -> Mask:
    """Where a labelled pixel lies beside one of another class."""
    changes = np.zeros(truth.shape, bool)
    for labels, marks in ((truth, changes), (truth.T, changes.T)):  # the transposed are views of the same pixels
        differ = (labels[1:] != labels[:-1]) & (labels[1:] < num_classes) & (labels[:-1] < num_classes)
        marks[1:] |= differ
        marks[:-1] |= differ
    return changes


def trimap_curve(bands: Matrix) -> list[float | None]:
    """Mean IoU in each band of `trimap_matrices`, summed over images; None where no pixel lies in it."""
    return [mean_iou(matrix) if matrix.any() else None for matrix in bands]


def boundary_f_scores(truth: Labels, labels: NDArray[Any], *, num_classes: int) -> Floats:
    """F-score of the outline of every class that has one in the truth.

    The outline of a class is its pixels with one of their four neighbours in another class or void. With a tolerance
    of 0.75% of the diagonal, recall is the share of the truth's outline that has the predicted outline within it;
    precision is the same with the roles exchanged, where predicted outlines on void pixels that have no true one
    within the tolerance are left out, because what is right there is not known.

    Args:
        truth: [H, W] without padding; values of num_classes and more are void.
        labels: predicted classes [H, W].
        num_classes: classes.

    Returns:
        One number from 0 to 1 per class; NaN for a class without an outline in the truth.
    """
    tolerance = TOLERANCE * math.hypot(*truth.shape)
    result = np.full(num_classes, np.nan)
    for label in np.unique(truth[truth < num_classes]):
        wanted = _outline(truth == label)
        if wanted.any():
            result[label] = _f_score(wanted, _outline(labels == label), truth < num_classes, tolerance)
    return result


def _f_score(wanted: Mask, found: Mask, labelled: Mask, tolerance: float) -> float:
    is_right = found & (distance_to(wanted) <= tolerance)
    counted = is_right | (found & labelled)
    recall = float((distance_to(found)[wanted] <= tolerance).mean())
    precision = float(is_right.sum() / counted.sum()) if counted.any() else 0.0
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def _outline(mask: Mask) -> Mask:
    """The border of the image is no outline: OpenCV erodes as if the mask went on beyond it."""
    outline: Mask = mask & (cv2.erode(mask.astype(np.uint8), _CROSS) == 0)
    return outline
