"""What is written of a video while it is predicted; it takes its name only when it is whole."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import cv2

from atrous.errors import DataError
from atrous.files import check_space
from atrous.prediction.inputs import broken_off
from atrous.prediction.result import Prediction
from atrous.prediction.writing import write_labels

_FRAME = re.compile(r"\d{6,}\.png")


class OverlayVideo:
    """An mp4 of overlays.

    Args:
        path: the file.
        capture: the video, for size and rate.

    Raises:
        OSError: its folder cannot be made.
    """

    def __init__(self, path: Path, capture: cv2.VideoCapture) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path, self._part = path, path.with_name(f".{path.stem}.{os.getpid()}.part{path.suffix}")
        size = int(capture.get(cv2.CAP_PROP_FRAME_WIDTH)), int(capture.get(cv2.CAP_PROP_FRAME_HEIGHT))
        rate = capture.get(cv2.CAP_PROP_FPS) or 25.0
        self._writer = cv2.VideoWriter(str(self._part), cv2.VideoWriter.fourcc(*"mp4v"), rate, size)
        self._frames = 0

    def add(self, prediction: Prediction) -> None:
        """Append a frame.

        Raises:
            DataError: OpenCV writes no mp4.
            NoSpaceError: the disk is full, which OpenCV does not say.
        """
        if not self._writer.isOpened():
            raise DataError(f"{self._path} cannot be written: this build of OpenCV writes no mp4 there")
        check_space(self._part, 1)
        self._writer.write(prediction.overlay()[..., ::-1])
        self._frames += 1

    def finish(self, *, whole: bool) -> None:
        """Close the file and give it its name, or that of a video that is not whole.

        Raises:
            DataError: OpenCV has not written all of it, as where the disk became full.
        """
        self._writer.release()
        if (held := _frames_in(self._part)) != self._frames:
            free = shutil.disk_usage(self._part.parent).free / 2**20
            raise DataError(
                f"{self._path} cannot be written: OpenCV put {held} of {self._frames} frames into it "
                f"({free:.4g} MiB are free there)"
            )
        self._path = self._path if whole else broken_off(self._path)
        self._part.replace(self._path)

    def discard(self) -> None:
        """Remove what has not been finished."""
        self._writer.release()
        self._part.unlink(missing_ok=True)


def _frames_in(path: Path) -> int:
    """How many frames a video lists; 0 where it cannot be opened, as an mp4 that lacks a part cannot."""
    capture = cv2.VideoCapture(str(path))
    try:
        return int(capture.get(cv2.CAP_PROP_FRAME_COUNT)) if capture.isOpened() else 0
    finally:
        capture.release()


class LabelFolder:
    """A folder of labels, 000001.png and on.

    Args:
        path: the folder; frames that are there are replaced by `finish`, anything else in it is kept.

    Raises:
        OSError: it cannot be made.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._number = path, 0
        self._part, self._old = (path.with_name(f".{path.name}.{os.getpid()}.{end}") for end in ("part", "old"))
        shutil.rmtree(self._part, ignore_errors=True)  # of a process that had this number and was killed
        self._part.mkdir(parents=True)

    def add(self, prediction: Prediction) -> None:
        """Write the labels of the next frame."""
        self._number += 1
        write_labels(self._part / f"{self._number:06d}.png", prediction.labels, prediction.spec)

    def finish(self, *, whole: bool) -> None:
        """Give the folder its name, or that of a video that is not whole."""
        self._path = self._path if whole else broken_off(self._path)
        if self._path.is_dir():
            self._path.rename(self._old)
        self._part.rename(self._path)

    def discard(self) -> None:
        """Remove what has not been finished, or the frames that have been replaced."""
        if self._old.is_dir():
            if self._path.is_dir():
                for path in self._old.iterdir():
                    if not _FRAME.fullmatch(path.name):
                        path.rename(self._path / path.name)
            else:
                self._old.rename(self._path)
        for path in (self._part, self._old):
            shutil.rmtree(path, ignore_errors=True)
