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
from atrous.prediction.inputs import Job, broken_off
from atrous.prediction.memory import too_large
from atrous.prediction.predictor import Predictor
from atrous.prediction.video_files import LabelFolder, OverlayVideo

_FAILED_READS = 256  # in a row, each of which may have passed over something damaged, after which there is no more
_TOLERATED_FRAMES, _TOLERATED_SHARE = 2, 0.03  # that may be missing of a whole video: its sound may end later


def predict_video(
    predictor: Predictor,
    job: Job,
    *,
    protocol: Protocol,
    batch_size: int,
    on_done: Callable[[int, int], None] = lambda frame, frames: None,
) -> str:
    """Predict every frame; the overlay has the video's size, less one row or column where that is odd, and its rate.

    Args:
        predictor: from `atrous.load`.
        job: the video and where its files go.
        protocol: scales, flip, output stride.
        batch_size: frames at a time.
        on_done: told (frames done, frames in all as the file says, 0 where it does not) after every batch.

    Returns:
        What is to be said of a video that may lack frames; "" of others.

    Raises:
        DataError: the video cannot be read or holds no frame, or a file cannot be written; or it is damaged or breaks
            off, and what there is has been written under other names, see `broken_off`.
    """
    capture = cv2.VideoCapture(str(job.source))
    writers: list[OverlayVideo | LabelFolder] = []
    shares: list[dict[str, float]] = []
    try:
        _open(writers, job, capture)
        frames = Frames(capture)
        for batch in frames.batches(batch_size):
            for prediction in predictor.predict_batch(batch, protocol=protocol):
                shares.append(prediction.shares())
                for writer in writers:
                    writer.add(prediction)
            on_done(len(shares), frames.listed)
        if not shares:
            raise DataError(f"video {str(job.source)!r} cannot be read: OpenCV finds no frame in it")
        whole = not (frames.damaged or frames.break_off())
        for writer in writers:
            writer.finish(whole=whole)
        if "json" in job.outputs:
            path = job.outputs["json"]
            write_json(path if whole else broken_off(path), _facts(job.source, frames, shares))
        if not whole:
            raise _incomplete(job, frames)
        return _doubt(job, frames)
    except Exception as error:
        told = _in_words(error, job, protocol, batch_size)
        if told is None:
            raise
        raise told from None
    finally:
        capture.release()
        for writer in writers:
            writer.discard()


def _open(writers: list[OverlayVideo | LabelFolder], job: Job, capture: cv2.VideoCapture) -> None:
    if "overlay" in job.outputs:
        writers.append(OverlayVideo(job.outputs["overlay"], capture))
    if "labels" in job.outputs:
        writers.append(LabelFolder(job.outputs["labels"]))


def _incomplete(job: Job, frames: Frames) -> DataError:
    kept = ", ".join(broken_off(path).name for path in job.outputs.values())
    if frames.damaged:
        places = "place" if frames.damaged == 1 else "places"
        what = f"is damaged in {frames.damaged} {places}: {_count(frames)} can be read; copy it again"
    else:
        what = f"breaks off after {_count(frames)}; copy it again, if there is more of it"
    return DataError(f"video {str(job.source)!r} {what}. What is predicted of them is kept: {kept}")


def _doubt(job: Job, frames: Frames) -> str:
    if not frames.may_miss(frames.read):
        return ""
    return (
        f"video {str(job.source)!r} has {_count(frames)}, as its length and rate make them: its rate varies, or it is "
        "damaged"
    )


def _count(frames: Frames) -> str:
    return f"{frames.read} of {frames.listed} frames" if frames.listed else f"{frames.read} frames"


def _in_words(error: Exception, job: Job, protocol: Protocol, batch_size: int) -> DataError | None:
    """What a full memory, or a disk that cannot be written, means for the video; None for another error."""
    if is_memory_full(error):
        return DataError(too_large(f"video {str(job.source)!r}", error, protocol, batch_size=batch_size))
    if isinstance(error, OSError):
        where = error.filename or job.source
        return DataError(f"{where}: what is predicted cannot be written ({error.strerror or error})")
    return None


class Frames:
    """The frames of a video in batches, and whether there should be more of them.

    Attributes:
        listed: how many frames there are, as the file says; 0 where it does not.
        rate: frames per second.
        read: how many there were so far.
        damaged: how many times some of the video could not be read and what follows could.
        seconds: when each frame that was read is shown, as the decoder says: frames that are lost leave a gap.

    Args:
        capture: the video, before its first frame.
    """

    def __init__(self, capture: cv2.VideoCapture) -> None:
        self._capture = capture
        self.read = self.damaged = 0
        self.seconds: list[float] = []
        self.listed = max(0, int(capture.get(cv2.CAP_PROP_FRAME_COUNT)))
        self.rate = capture.get(cv2.CAP_PROP_FPS)

    def batches(self, size: int) -> Iterator[list[Pixels]]:
        """Yield the frames, RGB, so many at a time; what cannot be read is passed over."""
        frames: list[Pixels] = []
        failed = 0
        while failed < _FAILED_READS:
            there, frame_bgr = self._capture.read()
            if not there:
                failed += 1
                continue
            frames.append(np.ascontiguousarray(frame_bgr[..., ::-1], np.uint8))
            self.seconds.append(self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1000)
            self.read, self.damaged, failed = self.read + 1, self.damaged + (failed > 0), 0
            if len(frames) == size:
                yield frames
                frames = []
        if frames:
            yield frames

    def break_off(self) -> bool:
        """Whether frames are missing at the end.

        Some containers hold a duration and no count, which is then guessed of the average rate: where fewer frames are
        read, the last one must be shown well before the end, too.
        """
        return self.may_miss(max(self.read, (self.seconds[-1] if self.seconds else 0.0) * self.rate + 1))

    def may_miss(self, frames: float) -> bool:
        """Whether the file says that there are clearly more than so many frames."""
        return self.listed - frames > max(_TOLERATED_FRAMES, _TOLERATED_SHARE * self.listed)


def _facts(source: Path, frames: Frames, shares: list[dict[str, float]]) -> dict[str, Any]:
    names = sorted({name for share in shares for name in share})
    return {
        "video": str(source),
        "frames": len(shares),
        "frames_listed": frames.listed,
        "frames_per_second": frames.rate,
        "shares": {name: sum(share.get(name, 0.0) for share in shares) / len(shares) for name in names},
        "shares_by_frame": shares,
        "seconds_by_frame": [round(seconds, 4) for seconds in frames.seconds],
    }
