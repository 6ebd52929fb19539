"""Predicting the frames of a video: an overlay video, labels as PNGs, class shares by frame."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from atrous.data.files import Pixels
from atrous.errors import DataError
from atrous.evaluation.protocol import Protocol
from atrous.files import write_json
from atrous.prediction.inputs import Job
from atrous.prediction.predictor import Predictor
from atrous.prediction.result import Prediction
from atrous.prediction.writing import write_labels


def predict_video(
    predictor: Predictor,
    job: Job,
    *,
    protocol: Protocol,
    batch_size: int,
    on_done: Callable[[int, int], None] = lambda frame, frames: None,
) -> None:
    """Predict every frame; size and frame rate are kept.

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
    video = _OverlayVideo(job.outputs["overlay"], capture) if "overlay" in job.outputs else None
    shares: list[dict[str, float]] = []
    try:
        for frames in _batches(capture, batch_size):
            for prediction in predictor.predict_batch(frames, protocol=protocol):
                shares.append(prediction.shares())
                _write_frame(prediction, job, video, number=len(shares))
            on_done(len(shares), int(capture.get(cv2.CAP_PROP_FRAME_COUNT)))
        if not shares:
            raise DataError(f"video {str(job.source)!r} cannot be read: OpenCV finds no frame in it")
        if video is not None:
            video.finish()
        if "json" in job.outputs:
            write_json(job.outputs["json"], _facts(job.source, capture, shares))
    finally:
        capture.release()
        if video is not None:
            video.discard()


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


def _write_frame(prediction: Prediction, job: Job, video: _OverlayVideo | None, *, number: int) -> None:
    if video is not None:
        video.add(prediction.overlay())
    if "labels" in job.outputs:
        write_labels(job.outputs["labels"] / f"{number:06d}.png", prediction.labels, prediction.spec)


def _facts(source: Path, capture: cv2.VideoCapture, shares: list[dict[str, float]]) -> dict[str, Any]:
    names = sorted({name for share in shares for name in share})
    return {
        "video": str(source),
        "frames": len(shares),
        "frames_per_second": capture.get(cv2.CAP_PROP_FPS),
        "shares": {name: sum(share.get(name, 0.0) for share in shares) / len(shares) for name in names},
        "shares_by_frame": shares,
    }


class _OverlayVideo:
    """An mp4 that takes its name only when it is whole."""

    def __init__(self, path: Path, capture: cv2.VideoCapture) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path, self._part = path, path.with_name(f".{path.stem}.{os.getpid()}.part{path.suffix}")
        size = int(capture.get(cv2.CAP_PROP_FRAME_WIDTH)), int(capture.get(cv2.CAP_PROP_FRAME_HEIGHT))
        rate = capture.get(cv2.CAP_PROP_FPS) or 25.0
        self._writer = cv2.VideoWriter(str(self._part), cv2.VideoWriter.fourcc(*"mp4v"), rate, size)

    def add(self, frame: Pixels) -> None:
        """Append an RGB frame [H, W, 3]."""
        if not self._writer.isOpened():
            raise DataError(f"{self._path} cannot be written: this build of OpenCV writes no mp4 there")
        self._writer.write(frame[..., ::-1])

    def finish(self) -> None:
        """Close the file and give it its name."""
        self._writer.release()
        self._part.replace(self._path)

    def discard(self) -> None:
        """Remove what has not been finished."""
        self._writer.release()
        self._part.unlink(missing_ok=True)
