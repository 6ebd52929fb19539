"""Loaders: samples in worker processes with bounded threads, whose errors arrive readable."""

from collections.abc import Iterator, Mapping
from typing import Any

import cv2
import torch
from torch.utils.data import DataLoader, Sampler

from atrous.data.samples import EvaluationSamples, Sample, TrainSamples
from atrous.data.sampling import Item
from atrous.errors import ConfigError, DataError

__all__ = [
    "EvaluationSamples",
    "Loader",
    "Sample",
    "TrainSamples",
    "bound_threads",
    "evaluation_loader",
    "train_loader",
]


def as_is(batch: Sample) -> Sample:
    """Collate nothing: the data sets above return whole batches."""
    return batch


def bound_threads(_worker: int = 0) -> None:
    """Keep a loader process to one thread: OpenCV and OpenMP would start one per core in every worker."""
    cv2.setNumThreads(0)
    torch.set_num_threads(1)


class Loader(DataLoader[Sample]):
    """A DataLoader whose workers' data errors arrive as the one line that they were raised with."""

    def __iter__(self) -> Iterator[Sample]:  # type: ignore[override]
        """Yield batches.

        Raises:
            DataError: a file cannot be used; without the worker's traceback.
            ConfigError: a transform cannot be used; without the worker's traceback.
        """
        try:
            yield from super().__iter__()
        except (DataError, ConfigError) as error:
            raise type(error)(str(error).rstrip().rpartition(f"{type(error).__name__}: ")[2]) from None


def train_loader(
    samples: TrainSamples, sampler: Sampler[list[Item]], *, num_workers: int, pin_memory: bool
) -> DataLoader[Sample]:
    """Build the training loader; `sampler` yields whole batches of (epoch, index)."""
    return Loader(samples, batch_sampler=sampler, **_options(num_workers=num_workers, pin_memory=pin_memory))


def evaluation_loader(
    samples: EvaluationSamples, sampler: Sampler[int], *, batch_size: int, num_workers: int, pin_memory: bool
) -> DataLoader[Sample]:
    """Build an evaluation loader; every image of `sampler` comes once, the last batch may be short."""
    options = _options(num_workers=num_workers, pin_memory=pin_memory)
    return Loader(samples, batch_size=batch_size, sampler=sampler, **options)


def _options(*, num_workers: int, pin_memory: bool) -> Mapping[str, Any]:
    return {
        "num_workers": num_workers,
        "pin_memory": pin_memory,
        "persistent_workers": num_workers > 0,
        "worker_init_fn": bound_threads,
        "collate_fn": as_is,
        "generator": torch.Generator(),  # otherwise each pass takes a number from the run's own generator
    }
