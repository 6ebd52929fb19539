"""How many pixels of each class every image of a data set holds: counted once, then read from the user's cache."""

import hashlib
import logging
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from atrous.cache import cache_folder
from atrous.data.dataset import PairList, SegmentationDataset
from atrous.data.decoded import Decoded
from atrous.files import write_atomically
from atrous.hardware import usable_cores

Counts = NDArray[np.int64]

_VERSION = 2  # of how masks are read; another number counts anew

_log = logging.getLogger(__name__)


def class_pixels(dataset: SegmentationDataset, *, cache: Path | None = None) -> Counts:
    """Count the pixels of each class in each image.

    A data set of files is counted once: the counts are kept under the names, sizes and times of its masks, also where
    its pixels are decoded.

    Args:
        dataset: the images; their masks are read where the counts are not known yet.
        cache: folder of the counts; None for $ATROUS_CACHE or ~/.cache/atrous.

    Returns:
        int64 [images, classes]; ignored pixels are left out.

    Raises:
        DataError: a mask cannot be used; the message names it.
    """
    source = dataset.source if isinstance(dataset, Decoded) else dataset
    if not isinstance(source, PairList):
        return _count(dataset)
    path = cache_folder(cache) / "class_pixels" / f"{_key(source)}.npz"
    counts = _load(path, shape=(len(dataset), dataset.spec.num_classes))
    if counts is None:
        counts = _count(dataset)
        _save(path, counts)
    return counts


def _count(dataset: SegmentationDataset) -> Counts:
    classes = dataset.spec.num_classes

    def count(index: int) -> Counts:
        label = dataset.read_label(index) if isinstance(dataset, PairList) else dataset.read(index)[1]
        return np.bincount(label.ravel(), minlength=256)[:classes].astype(np.int64)

    with ThreadPoolExecutor(max_workers=min(8, usable_cores())) as pool:  # decoding holds no interpreter lock
        return np.stack(list(pool.map(count, range(len(dataset)))))


def _key(dataset: PairList) -> str:
    digest = hashlib.sha256(f"{_VERSION} {dataset.spec!r}{dataset.reading}".encode())
    for fact in _facts(dataset):
        digest.update(f"{fact}\n".encode())
    return digest.hexdigest()[:32]


def _facts(dataset: PairList) -> Iterator[str]:
    for sample_id, _, mask in dataset.pairs:
        if mask is None or not os.path.exists(mask):  # noqa: PTH110  # one Path per mask costs more than the look
            yield f"{sample_id}: no mask"
        else:
            state = os.stat(mask)  # noqa: PTH116
            yield f"{sample_id} {mask.rpartition('/')[2]} {state.st_size} {state.st_mtime_ns}"


def _load(path: Path, *, shape: tuple[int, int]) -> Counts | None:
    if not path.is_file():
        return None
    try:
        with np.load(path, allow_pickle=False) as archive:  # a zip file: a changed byte does not pass its sum
            counts: Counts = archive["counts"]
    except Exception as error:  # a damaged file may raise anything
        _log.warning("%s is damaged (%s); the classes are counted again", path, error)
        return None
    return counts if counts.shape == shape and counts.dtype == np.int64 else None


def _save(path: Path, counts: Counts) -> None:
    def write(stream: BinaryIO) -> None:
        np.savez(stream, counts=counts)

    try:
        write_atomically(path, write)
    except OSError as error:  # the counts are there, only the next run has to count again
        _log.warning("%s cannot be written (%s); the next run counts the classes again", path, error.strerror)
