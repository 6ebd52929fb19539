"""Predicting the frames of a video: an overlay video, labels as PNGs, class shares by frame."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from atrous.data.files import Pixels
from atrous.errors import DataError
from atrous.evaluation.protocol import Protocol
from atrous.files import write_json
from atrous.hardware import is_memory_full
from atrous.prediction.inputs import Job
from atrous.prediction.memory import too_large
from atrous.prediction.predictor import Predictor
from atrous.prediction.video_files import LabelFolder, OverlayVideo


def predict_video(
    predictor: Predictor,
    job: Job,
    *,
    protocol: Protocol,
    batch_size: int,
    on_done: Callable[[int, int], None] = lambda frame, frames: None,
) -> None:
    """Predict every frame; the overlay has the video's size, less one row or column where that is odd, and its rate.

    Args:
        predictor: from `atrous.load`.
        job: the video and where its files go.
        protocol: scales, flip, output stride.
        batch_size: frames at a time.
        on_done: told (frames done, frames in all as the file says) after every batch.

    Raises:
        DataError: the video cannot be read or holds no frame, or a file cannot be written.
    """
    capture = cv2.VideoCapture(str(job.source))
    writers: list[OverlayVideo | LabelFolder] = []
    shares: list[dict[str, float]] = []
    try:
        if "overlay" in job.outputs:
            writers.append(OverlayVideo(job.outputs["overlay"], capture))
        if "labels" in job.outputs:
            writers.append(LabelFolder(job.outputs["labels"]))
        for frames in _batches(capture, batch_size):
            for prediction in predictor.predict_batch(frames, protocol=protocol):
                shares.append(prediction.shares())
                for writer in writers:
                    writer.add(prediction)
            on_done(len(shares), int(capture.get(cv2.CAP_PROP_FRAME_COUNT)))
        if not shares:
            raise DataError(f"video {str(job.source)!r} cannot be read: OpenCV finds no frame in it")
        for writer in writers:
            writer.finish()
        if "json" in job.outputs:
            write_json(job.outputs["json"], _facts(job.source, capture, shares))
    except Exception as error:
        told = _in_words(error, job, protocol, batch_size)
        if told is None:
            raise
        raise told from None
    finally:
        capture.release()
        for writer in writers:
            writer.discard()


def _in_words(error: Exception, job: Job, protocol: Protocol, batch_size: int) -> DataError | None:
    """What a full memory, or a disk that cannot be written, means for the video; None for another error."""
    if is_memory_full(error):
        return DataError(too_large(f"video {str(job.source)!r}", error, protocol, batch_size=batch_size))
    if isinstance(error, OSError):
        where = error.filename or job.source
        return DataError(f"{where}: what is predicted cannot be written ({error.strerror or error})")
    return None


def _batches(capture: cv2.VideoCapture, size: int) -> Iterator[list[Pixels]]:
    frames: list[Pixels] = []
    while True:
        there, frame_bgr = capture.read()
        if there:
            frames.append(np.ascontiguousarray(frame_bgr[..., ::-1], np.uint8))
        if frames and (not there or len(frames) == size):
            yield frames
            frames = []
        if not there:
            return


def _facts(source: Path, capture: cv2.VideoCapture, shares: list[dict[str, float]]) -> dict[str, Any]:
    names = sorted({name for share in shares for name in share})
    return {
        "video": str(source),
        "frames": len(shares),
        "frames_per_second": capture.get(cv2.CAP_PROP_FPS),
        "shares": {name: sum(share.get(name, 0.0) for share in shares) / len(shares) for name in names},
        "shares_by_frame": shares,
    }
