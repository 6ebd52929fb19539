"""What was counted in each image: sparse confusion matrices that sum to that of the data set, in one small file."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import InitVar, dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from atrous.errors import StoreError
from atrous.evaluation.scores import Floats, Matrix, iou_of, mean_of_defined, ratio
from atrous.files import write_atomically

Ints = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class ImageRecord:
    """One image; of its confusion matrix what is not 0, because thousands are kept until the last is counted.

    Attributes:
        index: its position in the data set.
        sample_id: its name.
        boundary: F-score of each class's outline, NaN where there is none; None where it was not asked for.
        cells: truth * classes + prediction of every entry that is not 0.
        counts: pixels of these entries.

    Args:
        matrix: pixel counts [truth, prediction].
    """

    index: int
    sample_id: str
    matrix: InitVar[Matrix]
    boundary: Floats | None = None
    cells: Ints = field(init=False)
    counts: Ints = field(init=False)

    def __post_init__(self, matrix: Matrix) -> None:
        """Keep what is not 0."""
        cells = np.flatnonzero(matrix)
        object.__setattr__(self, "cells", cells)
        object.__setattr__(self, "counts", matrix.ravel()[cells])


@dataclass(frozen=True, kw_only=True)
class ImageRecords:
    """All images of an evaluation, in the order of the data set.

    Attributes:
        num_classes: classes.
        ids: names [N].
        indices: positions in the data set [N].
        starts: where each image's entries begin in `cells` and `counts` [N + 1].
        cells: truth * num_classes + prediction of every entry that is not 0.
        counts: pixels of these entries.
        boundary: F-scores [N, num_classes], or None.
    """

    num_classes: int
    ids: tuple[str, ...]
    indices: Ints
    starts: Ints
    cells: Ints
    counts: Ints
    boundary: Floats | None = None

    @classmethod
    def collect(cls, images: Sequence[ImageRecord], *, num_classes: int) -> ImageRecords:
        """Put images together, in the order in which they are given."""
        cells, counts = [image.cells for image in images], [image.counts for image in images]
        boundary = [image.boundary for image in images if image.boundary is not None]
        return cls(
            num_classes=num_classes,
            ids=tuple(image.sample_id for image in images),
            indices=np.array([image.index for image in images], np.int64),
            starts=np.cumsum([0, *map(len, cells)], dtype=np.int64),
            cells=np.concatenate([np.zeros(0, np.int64), *cells]),
            counts=np.concatenate([np.zeros(0, np.int64), *counts]),
            boundary=np.stack(boundary) if boundary else None,
        )

    def __len__(self) -> int:
        """Number of images."""
        return len(self.ids)

    @property
    def matrix(self) -> Matrix:
        """Confusion matrix of the data set."""
        matrix = np.zeros(self.num_classes**2, np.int64)
        np.add.at(matrix, self.cells, self.counts)
        return matrix.reshape(self.num_classes, self.num_classes)

    def totals(self) -> tuple[Ints, Ints, Ints]:
        """Pixels [N, classes] that are matched, of the truth, and predicted."""
        rows, columns = np.divmod(self.cells, self.num_classes)
        owner = np.repeat(np.arange(len(self)), np.diff(self.starts))
        matched, truth, predicted = (np.zeros((len(self), self.num_classes), np.int64) for _ in range(3))
        np.add.at(truth, (owner, rows), self.counts)
        np.add.at(predicted, (owner, columns), self.counts)
        is_match = rows == columns
        np.add.at(matched, (owner[is_match], rows[is_match]), self.counts[is_match])
        return matched, truth, predicted

    @property
    def error_share(self) -> Floats:
        """Share of each image's labelled pixels that are wrong [N]; NaN for an image without any."""
        matched, truth, _ = self.totals()
        pixels = truth.sum(1)
        return ratio(pixels - matched.sum(1), pixels)

    @property
    def iou(self) -> Floats:
        """IoU of the classes that each image's truth holds [N, classes]; NaN for the others."""
        matched, truth, predicted = self.totals()
        return np.where(truth > 0, iou_of(matched, truth, predicted), np.nan)

    @property
    def mean_iou(self) -> Floats:
        """Mean over the classes of each image's truth [N]; NaN for an image without labelled pixels."""
        return mean_of_defined(self.iou)

    def save(self, path: Path) -> None:
        """Write the records as a compressed .npz file, atomically."""
        arrays: dict[str, Any] = {"starts": self.starts, "cells": self.cells.astype(np.uint32), "counts": self.counts}
        arrays |= {"indices": self.indices, "ids": np.array(self.ids), "num_classes": np.array(self.num_classes)}
        if self.boundary is not None:
            arrays["boundary"] = self.boundary

        def write(stream: BinaryIO) -> None:
            np.savez_compressed(stream, allow_pickle=False, **arrays)

        write_atomically(path, write)

    @classmethod
    def load(cls, path: Path) -> ImageRecords:
        """Read what `save` wrote.

        Raises:
            StoreError: the file is not there or is damaged.
        """
        try:
            with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as file:
                return cls(
                    num_classes=int(file["num_classes"]),
                    ids=tuple(str(name) for name in file["ids"]),
                    indices=file["indices"],
                    starts=file["starts"],
                    cells=file["cells"].astype(np.int64),
                    counts=file["counts"],
                    boundary=file.get("boundary"),
                )
        except Exception as error:  # a damaged file may raise anything
            raise StoreError(
                f"{path}: not the records of an evaluation ({error}); evaluate anew with overwrite=true"
            ) from None
