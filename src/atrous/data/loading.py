"""Loaders: samples in worker processes with bounded threads, whose errors arrive readable."""

import multiprocessing
import signal
import threading
from collections.abc import Iterator, Mapping
from typing import Any

import cv2
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from atrous.data.samples import Batch, EvaluationSamples, Sample, TrainSamples
from atrous.data.sampling import KeyedBatchSampler
from atrous.data.slots import Slots, SlotSampler, SlotSamples
from atrous.errors import ConfigError, DataError
from atrous.processes import end_with

__all__ = [
    "EvaluationSamples",
    "Loader",
    "Sample",
    "TrainSamples",
    "bound_threads",
    "evaluation_loader",
    "train_loader",
]

_PREFETCHED = 2  # batches that each worker prepares ahead
_HELD = 4  # batches that the training process may hold at a time before new memory is taken


def as_is(item: Any) -> Any:
    """Collate nothing: the data sets of samples return whole batches, and others what stands alone."""
    return item.whole if isinstance(item, Batch) else item


def bound_threads(_worker: int = 0) -> None:
    """Keep a loader process to one thread: OpenCV and OpenMP would start one per core in every worker.

    It ends with its parent: PyTorch's own look at the parent comes later, and takes whoever has adopted the worker for
    it where the parent was killed before. Such a worker would stay for ever, with the locks of its run.
    """
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    parent, is_started_by_it = multiprocessing.parent_process(), multiprocessing.get_start_method() != "forkserver"
    if parent is not None and parent.pid is not None and is_started_by_it and _is_of_the_main_thread():
        end_with(parent.pid, by=signal.SIGKILL)


def _is_of_the_main_thread() -> bool:
    """Whether it was forked from there: the system ends it with the thread that forked it, which others may outlive."""
    return threading.main_thread().name == "MainThread"


def start_worker(_worker: int) -> None:
    """Keep a loader of a training to one thread, and SIGTERM from it.

    torchrun asks whole process groups to end. The training answers by saving; a loader that ended first would fail it.
    """
    bound_threads()
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


class Loader(DataLoader[Sample]):
    """A DataLoader whose batches come through slots, and whose workers' data errors arrive as one line.

    Args:
        dataset: what is loaded.
        slots: where its batches lie, when it writes to slots.
        pin_memory: whether batches are put into page-locked memory, where CUDA is available.
        **options: of PyTorch's DataLoader.
    """

    def __init__(
        self, dataset: Dataset[Sample], *, slots: Slots | None = None, pin_memory: bool = False, **options: Any
    ) -> None:
        self._slots, self._pins_slots = slots, slots is not None and pin_memory and torch.cuda.is_available()
        super().__init__(dataset, pin_memory=pin_memory and slots is None, **options)

    def __iter__(self) -> Iterator[Sample]:  # type: ignore[override]
        """Yield batches.

        Raises:
            DataError: a file cannot be used; without the worker's traceback.
            ConfigError: a transform cannot be used; without the worker's traceback.
        """
        batches, go_on = super().__iter__(), self.persistent_workers
        try:
            for batch in batches:
                yield self._opened(batch)
        except Exception as error:
            go_on = False
            if not isinstance(error, DataError | ConfigError):
                raise
            raise type(error)(str(error).rstrip().rpartition(f"{type(error).__name__}: ")[2]) from None
        finally:
            if not go_on:
                self._end(batches)

    def end_workers(self) -> None:
        """Stop the workers now, if there are any: who has left the loop before its end, or by an error, keeps them.

        The garbage collector would wait for each in vain for seconds, and for ever in a process that was forked since;
        so does Python's exit, which asks them by the signal that `start_worker` keeps from them.
        """
        self._end(self._iterator)

    def _end(self, batches: Any) -> None:
        self._iterator = None
        if hasattr(batches, "_shutdown_workers"):
            batches._shutdown_workers()

    def _opened(self, batch: Sample | int) -> Sample:
        if not isinstance(batch, int):
            return batch
        assert self._slots is not None
        sample = self._slots.open(batch)
        if not self._pins_slots:
            return sample
        return Sample(
            image=sample["image"].pin_memory(),
            label=sample["label"].pin_memory(),
            extent=sample["extent"].pin_memory(),
            index=sample["index"].pin_memory(),
        )


def train_loader(samples: TrainSamples, sampler: KeyedBatchSampler, *, num_workers: int, pin_memory: bool) -> Loader:
    """Build the training loader; `sampler` yields whole batches of (epoch, index)."""
    options = _options(num_workers=num_workers)
    if num_workers == 0 or multiprocessing.get_context().get_start_method() != "fork":
        return Loader(samples, batch_sampler=sampler, pin_memory=pin_memory, **options)
    slots = Slots(
        number=num_workers * _PREFETCHED + _HELD, count=sampler.batch_size, size=samples.augmentation.crop_size
    )
    return Loader(
        SlotSamples(samples, slots),
        batch_sampler=SlotSampler(sampler, slots),
        slots=slots,
        pin_memory=pin_memory,
        **options,
    )


def evaluation_loader(
    samples: EvaluationSamples, sampler: Sampler[int], *, batch_size: int, num_workers: int, pin_memory: bool
) -> Loader:
    """Build an evaluation loader; every image of `sampler` comes once, the last batch may be short."""
    options = _options(num_workers=num_workers)
    return Loader(samples, batch_size=batch_size, sampler=sampler, pin_memory=pin_memory, **options)


def _options(*, num_workers: int) -> Mapping[str, Any]:
    return {
        "num_workers": num_workers,
        "prefetch_factor": _PREFETCHED if num_workers else None,
        "persistent_workers": num_workers > 0,
        "worker_init_fn": start_worker,
        "collate_fn": as_is,
        "generator": torch.Generator(),  # otherwise each pass takes a number from the run's own generator
    }
