"""Predicting a list of images in batches; one that is broken or too large is set aside and the others go on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import torch

from atrous.data.files import Pixels, read_image
from atrous.errors import DataError
from atrous.evaluation.protocol import Protocol
from atrous.hardware import is_memory_full
from atrous.prediction.inputs import Job
from atrous.prediction.memory import too_large
from atrous.prediction.predictor import Predictor
from atrous.prediction.result import Prediction
from atrous.prediction.writing import InputError, write_prediction

_BATCHED_PIXELS = 1 << 20  # larger images go alone: a batch of them would gain nothing but memory
_WAITING_BATCHES = 8  # of images and of pixels (24 MiB): enough to fill batches, little to lose where it is killed

Read = tuple[Job, Pixels]


def predict_images(
    predictor: Predictor,
    jobs: Sequence[Job],
    *,
    protocol: Protocol,
    batch_size: int,
    on_done: Callable[[int, int], None] = lambda done, total: None,
) -> dict[Path, str]:
    """Predict and write every image that can be read.

    A photo is turned upright as its EXIF orientation says; all that is written of it has that size.

    Args:
        predictor: from `atrous.load`.
        jobs: images and where their files go.
        protocol: scales, flip, output stride.
        batch_size: images at a time; those of one padded size share a batch. Without effect on the result.
        on_done: told (images done or set aside, images in all) after every batch.

    Returns:
        What is wrong with each image that could not be used.
    """
    broken: dict[Path, str] = {}
    written = 0
    for batch in _batches(_read(jobs, broken, protocol), predictor, protocol, batch_size):
        written += _predict(batch, predictor, protocol, broken)
        on_done(written + len(broken), len(jobs))
    return broken


def _read(jobs: Sequence[Job], broken: dict[Path, str], protocol: Protocol) -> Iterator[Read]:
    for job in jobs:
        try:
            image = read_image(job.source, upright=True)
        except DataError as error:
            broken[job.source] = str(error)
        except MemoryError as error:
            broken[job.source] = too_large(f"image {str(job.source)!r}", error, protocol)
        else:
            yield job, image


def _predict(batch: list[Read], predictor: Predictor, protocol: Protocol, broken: dict[Path, str]) -> int:
    """Predict and write a batch, one image after the other where it does not fit; returns how many were written."""
    try:
        predictions = predictor.predict_batch([image for _, image in batch], protocol=protocol)
        return sum(_write(job, each, broken) for (job, _), each in zip(batch, predictions, strict=True))
    except Exception as error:
        if not is_memory_full(error):
            raise
        reason = too_large(f"image {str(batch[0][0].source)!r}", error, protocol)
    # Here the error, and with it what it held, is gone.
    if predictor.device == "cuda":
        torch.cuda.empty_cache()
    if len(batch) > 1:
        return sum(_predict([each], predictor, protocol, broken) for each in batch)
    broken[batch[0][0].source] = reason
    return 0


def _write(job: Job, prediction: Prediction, broken: dict[Path, str]) -> bool:
    try:
        write_prediction(prediction, job.outputs, source=job.source)
    except InputError as error:
        broken[job.source] = str(error)
        return False
    return True


def _batches(images: Iterator[Read], predictor: Predictor, protocol: Protocol, size: int) -> Iterator[list[Read]]:
    """Batches of one padded size; where too many images wait for others of theirs, the largest batch goes first."""
    waiting: dict[tuple[int, int], list[Read]] = {}
    for job, image in images:
        padded = predictor.padded_size(image, protocol)
        waiting.setdefault(padded, []).append((job, image))
        if len(waiting[padded]) >= size or _pixels(waiting, padded) >= _BATCHED_PIXELS:
            yield waiting.pop(padded)
        elif _is_much(waiting, size):
            yield waiting.pop(max(waiting, key=lambda each: len(waiting[each])))  # of equal ones the oldest
    while waiting:
        yield waiting.pop(next(iter(waiting)))


def _is_much(waiting: Mapping[tuple[int, int], Sequence[Read]], size: int) -> bool:
    images = sum(map(len, waiting.values()))
    pixels = sum(_pixels(waiting, padded) for padded in waiting)
    return images >= _WAITING_BATCHES * size or pixels >= _WAITING_BATCHES * _BATCHED_PIXELS


def _pixels(waiting: Mapping[tuple[int, int], Sequence[Read]], padded: tuple[int, int]) -> int:
    return len(waiting[padded]) * padded[0] * padded[1]
