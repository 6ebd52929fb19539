"""Reading every pair of a data set once, in loader processes: what its labels are, or what is wrong with its files."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset

from atrous.data.dataset import PairList, SegmentationDataset
from atrous.data.files import read_image
from atrous.data.inspection.splits import Split
from atrous.data.loading import as_is, bound_threads
from atrous.errors import DataError

Counts = NDArray[np.int64]


@dataclass(frozen=True)
class Reading:
    """One pair.

    Attributes:
        counts: pixels of each class, then ignored ones, int64 [C + 1]; None where the pair cannot be used.
        problems: what is wrong, each with its file's name.
    """

    counts: Counts | None
    problems: tuple[str, ...] = ()


class Readings(Dataset[Reading]):
    """The distinct pairs of several splits: what train and trainval share is read once.

    Attributes:
        places: for each split, the positions of its images among the distinct pairs.

    Args:
        splits: splits of one data set; those that could not be opened have no pairs.
    """

    def __init__(self, splits: Sequence[Split]) -> None:
        self._sources: list[tuple[SegmentationDataset, int]] = []
        known: dict[object, int] = {}
        self.places: list[list[int]] = []
        for split in splits:
            places = []
            for index in range(split.listed):
                assert split.dataset is not None  # it lists images
                key = split.dataset.pairs[index] if isinstance(split.dataset, PairList) else (split.name, index)
                if key not in known:
                    known[key] = len(self._sources)
                    self._sources.append((split.dataset, index))
                places.append(known[key])
            self.places.append(places)

    @property
    def images(self) -> int:
        """Number of distinct images; two splits may have masks of their own for the same image."""
        return len({dataset.sample_id(index) for dataset, index in self._sources})

    def __len__(self) -> int:
        """Number of distinct pairs."""
        return len(self._sources)

    def __getitem__(self, place: int) -> Reading:
        """Read a pair and count its labels."""
        dataset, index = self._sources[place]
        return read(dataset, index)

    def all(self, *, num_workers: int) -> Iterator[Reading]:
        """Yield the readings in order.

        Args:
            num_workers: processes that read; 0 reads in this one.
        """
        yield from DataLoader[Reading](
            self, batch_size=None, num_workers=num_workers, collate_fn=as_is, worker_init_fn=bound_threads
        )


def read(dataset: SegmentationDataset, index: int) -> Reading:
    """Read one pair; a bad image does not hide a bad mask."""
    classes = dataset.spec.num_classes
    try:
        _, label = dataset.read(index)
    except DataError as error:
        problems = {str(error): None}
        if isinstance(dataset, PairList):
            problems.update(dict.fromkeys(_file_problems(dataset, index)))
        return Reading(None, tuple(problems))
    histogram = np.bincount(label.ravel(), minlength=256)
    return Reading(np.append(histogram[:classes], histogram[classes:].sum()).astype(np.int64))


def _file_problems(dataset: PairList, index: int) -> Iterator[str]:
    pair = dataset.pairs[index]
    try:
        read_image(pair.image)
    except DataError as error:
        yield str(error)
    try:
        if pair.mask is not None:
            dataset.read_label(index)
    except DataError as error:
        yield str(error)
