"""The evaluation behind every number in a table: every image once, scored at its own size."""

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from atrous.data.dataset import SegmentationDataset
from atrous.data.spec import DatasetSpec
from atrous.errors import ConfigError
from atrous.evaluation.boundaries import TRIMAP_WIDTHS, boundary_f_scores, trimap_curve, trimap_matrices
from atrous.evaluation.confidence import confidence_intervals
from atrous.evaluation.predicting import Feeding, Predicted, Progress, check_protocols, predictions, silent
from atrous.evaluation.protocol import Protocol
from atrous.evaluation.records import ImageRecord, ImageRecords
from atrous.evaluation.scores import Matrix, count_matrices, scores
from atrous.networks.segmenter import Segmenter


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What was counted under one protocol.

    Attributes:
        records: the confusion matrix of every image.
        bands: confusion matrices of the trimap's bands over all images, or None where they were not asked for.
        seconds: that the network took.
    """

    records: ImageRecords
    bands: Matrix | None = None
    seconds: float = 0.0

    def result(self, classes: Sequence[str]) -> dict[str, Any]:
        """Scores, images, confidence intervals and, if asked for, the quality of the outlines, for results.json."""
        result = {**scores(self.records.matrix, classes), "images": len(self.records)}
        result["confidence"] = confidence_intervals(self.records)
        if self.bands is not None:
            result["boundary"] = {"trimap_widths": list(TRIMAP_WIDTHS), "trimap_miou": trimap_curve(self.bands)}
            result["boundary"] |= _boundary_scores(self.records, classes)
        return result


def evaluate_protocols(
    model: Segmenter,
    dataset: SegmentationDataset,
    protocols: Mapping[str, Protocol],
    feeding: Feeding,
    *,
    boundary: bool = False,
    on_progress: Progress = silent,
) -> dict[str, Evaluation]:
    """Score `model` on every image of `dataset` under several protocols in one pass over the files.

    Args:
        model: the network; its output stride and the mode of every module are put back afterwards. It runs where its
            parameters are, unless `feeding` says otherwise.
        dataset: the images.
        protocols: by name.
        feeding: how the network is fed.
        boundary: whether outlines are scored too, which takes longer.
        on_progress: told (images done, images in all) after every batch.

    Raises:
        ConfigError: a protocol does not fit the network, or the network has other classes than the data set.
    """
    spec = dataset.spec
    if model.num_classes != spec.num_classes:
        raise ConfigError(
            f"the network tells {model.num_classes} classes apart, but the data set {spec.name!r} has "
            f"{spec.num_classes}: evaluate it on the data set that it was trained on"
        )
    check_protocols(model, protocols)
    images: dict[str, list[ImageRecord]] = {name: [] for name in protocols}
    bands = {name: np.zeros((len(TRIMAP_WIDTHS), spec.num_classes, spec.num_classes), np.int64) for name in protocols}
    seconds = dict.fromkeys(protocols, 0.0)
    every = range(len(dataset))
    with closing(predictions(model, dataset, protocols, feeding, indices=every, on_progress=on_progress)) as passes:
        for predicted in passes:
            images[predicted.name] += _count(predicted, dataset, boundary=boundary)
            seconds[predicted.name] += predicted.seconds
            if boundary:
                bands[predicted.name] += _trimap(predicted, spec)
    return {
        name: Evaluation(
            records=ImageRecords.collect(images[name], num_classes=spec.num_classes),
            bands=bands[name] if boundary else None,
            seconds=seconds[name],
        )
        for name in protocols
    }


def evaluate(
    model: Segmenter,
    dataset: SegmentationDataset,
    protocol: Protocol,
    *,
    padded_size: tuple[int, int] | None,
    preprocessing_name: str,
    **feeding: Any,
) -> dict[str, Any]:
    """Score `model` on every image of `dataset` under one protocol.

    Args:
        model: the network; its output stride and the mode of every module are put back afterwards. It runs where its
            parameters are, unless `device` says otherwise.
        dataset: the images.
        protocol: output stride, scales and flip.
        padded_size: what images are padded to, or None for the next k * output_stride + 1.
        preprocessing_name: how pixels are normalised.
        **feeding: further attributes of `Feeding`: batch_size, num_workers, device, autocast, tf32.

    Returns:
        The scores of `atrous.evaluation.scores.scores`, `images` and `confidence`.
    """
    fed = Feeding(padded_size=padded_size, preprocessing_name=preprocessing_name, **feeding)
    return evaluate_protocols(model, dataset, {"": protocol}, fed)[""].result(dataset.spec.classes)


def _count(predicted: Predicted, dataset: SegmentationDataset, *, boundary: bool) -> list[ImageRecord]:
    labels, batch = predicted.labels, predicted.batch
    number, (rows, columns) = len(labels), labels.shape[-2:]
    truth = batch["label"][:, :rows, :columns].to(labels.device)
    classes = dataset.spec.num_classes
    place = torch.arange(number, device=labels.device)[:, None, None]
    matrices = count_matrices(truth, labels, place, num_classes=classes, num_groups=number)
    f_scores = [boundary_f_scores(*pair, num_classes=classes) for pair in _pairs(predicted)] if boundary else None
    return [
        ImageRecord(
            index=index,
            sample_id=dataset.sample_id(index),
            matrix=matrices[i],
            boundary=None if f_scores is None else f_scores[i],
        )
        for i, index in enumerate(batch["index"].tolist())
    ]


def _trimap(predicted: Predicted, spec: DatasetSpec) -> Matrix:
    matrices = [
        trimap_matrices(*pair, num_classes=spec.num_classes, void_marks_outlines=spec.void_marks_outlines)
        for pair in _pairs(predicted)
    ]
    total: Matrix = np.sum(matrices, 0)
    return total


def _pairs(predicted: Predicted) -> list[tuple[Any, Any]]:
    """Truth and prediction [H, W] of every image at its own size."""
    labels = predicted.labels.cpu().numpy()
    return [
        (truth[:height, :width], labels[i, :height, :width])
        for i, (truth, (height, width)) in enumerate(
            zip(predicted.batch["label"].numpy(), predicted.batch["extent"].tolist(), strict=True)
        )
    ]


def _boundary_scores(records: ImageRecords, classes: Sequence[str]) -> dict[str, Any]:
    """Means over the images that hold a class, and over images of the means over their classes."""
    assert records.boundary is not None
    by_class = [column[np.isfinite(column)] for column in records.boundary.T]
    by_image = [row[np.isfinite(row)].mean() for row in records.boundary if np.isfinite(row).any()]
    return {
        "f_score": float(np.mean(by_image)) if by_image else None,
        "f_score_of": {
            name: float(found.mean()) if len(found) else None for name, found in zip(classes, by_class, strict=True)
        },
    }
