"""Decoding a data set to one file, in parallel, so that nothing half-written is ever taken for whole."""

import errno
import logging
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from torch.utils.data import Dataset

from atrous.data.dataset import PairList, SegmentationDataset
from atrous.data.decoded_manifest import PIXELS, Manifest, checksum, sources_of
from atrous.data.files import image_size
from atrous.data.loading import Loader, as_is, bound_threads
from atrous.errors import DataError
from atrous.hardware import usable_cores
from atrous.progress import tracked

_GIGA = 1e9

_log = logging.getLogger(__name__)
T = TypeVar("T")


def build(dataset: SegmentationDataset, folder: Path, *, num_workers: int | None = None) -> Manifest:
    """Decode a data set to `folder`, which appears when it is whole; what was there before is replaced then.

    The caller makes sure that no other process does the same at the same time.

    Args:
        dataset: the source.
        folder: where the file of pixels and `manifest.json` go.
        num_workers: processes that decode; by default one per core that this one may use.

    Returns:
        What was written.

    Raises:
        DataError: a source file cannot be used, or the disk has no room; nothing is left behind.
    """
    workers = num_workers if num_workers is not None else usable_cores()
    sizes = list(_each(dataset, _size_of, workers=workers, title="reading sizes"))
    offsets = np.cumsum([0, *(4 * height * width for height, width in sizes)]).tolist()
    temporary = folder.parent / f".{folder.name}.building"
    for leftover in (temporary, _old(folder)):  # of a process that was killed; they may hold all the room there is
        shutil.rmtree(leftover, ignore_errors=True)
    _check_room(folder, offsets[-1], dataset)
    try:
        temporary.mkdir()
        _reserve(temporary / PIXELS, offsets[-1])
        write = _Write(path=temporary / PIXELS, sizes=sizes, offsets=offsets)
        written = list(_each(dataset, write, workers=workers, title="decoding"))
        checksums, sources = [fact[0] for fact in written], [fact[1] for fact in written]
        _flush(temporary / PIXELS)
        manifest = Manifest(sizes=sizes, offsets=offsets[:-1], checksums=checksums, sources=sources)
        (temporary / PIXELS).rename(temporary / manifest.pixels)
        manifest.write(temporary)
        _replace(folder, temporary)
    except OSError as error:
        raise _cannot_write(folder, error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return manifest


class _Write:
    """Decodes one image to its place in the file, in a worker process.

    Args:
        path: the file.
        sizes: (height, width) of each image.
        offsets: first byte of each image.
    """

    def __init__(self, *, path: Path, sizes: list[tuple[int, int]], offsets: list[int]) -> None:
        self._path, self._sizes, self._offsets = path, sizes, offsets

    def __call__(self, dataset: SegmentationDataset, index: int) -> tuple[int, list[tuple[int, int]]]:
        """Return the checksum of the pixels and the facts of the source files, taken before they are read."""
        sources = sources_of(dataset, index)
        image, label = dataset.read(index)
        if label.shape != self._sizes[index]:
            raise DataError(f"{dataset.sample_id(index)!r} is {label.shape}, its header says {self._sizes[index]}")
        image, label = np.ascontiguousarray(image), np.ascontiguousarray(label)
        try:
            with self._path.open("r+b", buffering=0) as file:
                _write_all(file.fileno(), [image, label], self._offsets[index])
        except OSError as error:  # as a DataError it arrives from the worker as one line
            raise _cannot_write(self._path.parent, error) from error
        return checksum(image, label), sources


class _Tasks(Dataset[Any]):
    """Work on each image, as PyTorch's loader distributes it."""

    def __init__(self, dataset: SegmentationDataset, work: Callable[[SegmentationDataset, int], object]) -> None:
        self._dataset, self._work = dataset, work

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, index: int) -> object:
        return self._work(self._dataset, index)


def _each(
    dataset: SegmentationDataset, work: Callable[[SegmentationDataset, int], T], *, workers: int, title: str
) -> Iterator[T]:
    """Yield what `work` returns for each image, in order, from worker processes and with a progress bar."""
    loader: Any = Loader(
        _Tasks(dataset, work),
        batch_size=None,
        num_workers=min(workers, len(dataset)),
        collate_fn=as_is,
        worker_init_fn=bound_threads,
    )
    yield from tracked(loader, f"{title} {dataset.spec.name}", total=len(dataset))


def _size_of(dataset: SegmentationDataset, index: int) -> tuple[int, int]:
    if dataset.uniform_size is not None:
        return dataset.uniform_size
    if isinstance(dataset, PairList):
        return image_size(dataset.pairs[index].image)
    height, width = dataset.read(index)[1].shape
    return height, width


def _check_room(folder: Path, size: int, dataset: SegmentationDataset) -> None:
    free = shutil.disk_usage(folder.parent).free
    _log.info(
        "decoding the %d images of %r to %s: %.2f GB, of %.2f GB free",
        len(dataset),
        dataset.spec.name,
        folder,
        size / _GIGA,
        free / _GIGA,
    )
    if size > free:
        raise DataError(
            f"the decoded images of {dataset.spec.name!r} need {size / _GIGA:.2f} GB, but {str(folder.parent)!r} has "
            f"only {free / _GIGA:.2f} GB free; make room, or set data.cache to another folder or to null"
        )


def _reserve(path: Path, size: int) -> None:
    """Take the file's whole room on the disk at once, so that a full disk shows before the work and not after it."""
    with path.open("wb") as file:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, size)
        else:
            file.truncate(size)


def _write_all(file: int, arrays: list["np.ndarray[Any, Any]"], offset: int) -> None:
    for array in arrays:
        rest = array.data.cast("B")
        while rest:
            count = os.pwrite(file, rest, offset)
            rest, offset = rest[count:], offset + count


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _replace(folder: Path, temporary: Path) -> None:
    """Put the new folder in place; processes that still map the old pixels keep them."""
    if folder.exists():
        old = _old(folder)
        folder.rename(old)
        temporary.rename(folder)
        shutil.rmtree(old, ignore_errors=True)
    else:
        temporary.rename(folder)
    _flush(folder.parent)


def _old(folder: Path) -> Path:
    return folder.parent / f".{folder.name}.old"


def _cannot_write(folder: Path, error: OSError) -> DataError:
    full = "; the disk is full: make room, or set data.cache to another folder or to null"
    return DataError(
        f"decoded images cannot be written to {str(folder)!r} ({error.strerror})"
        f"{full if error.errno == errno.ENOSPC else ''}"
    )
