"""A video frame by frame: size, rate and number of frames are kept, labels are those of each frame."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import cv2
import numpy as np
import pytest

from atrous.data.files import Pixels, read_mask
from atrous.errors import ConfigError, DataError
from atrous.evaluation.protocol import Protocol
from atrous.networks.segmenter import Segmenter
from atrous.prediction import Description, Predictor
from atrous.prediction.inputs import plan
from atrous.prediction.video import Frames, predict_video
from atrous.prediction.video_files import OverlayVideo

from .conftest import scene


@pytest.fixture(scope="module")
def predictor(network: Segmenter, description: Description) -> Predictor:
    return Predictor(network=network, description=description, precision="float32", device="cpu")


@pytest.fixture
def video(tmp_path: Path) -> Path:
    """Five frames of 96x64 pixels, 10 a second."""
    path = tmp_path / "drive.mp4"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 10.0, (96, 64))
    if not writer.isOpened():
        pytest.skip("this build of OpenCV writes no mp4")
    whole = scene(64, 200)
    for number in range(5):
        writer.write(np.ascontiguousarray(whole[:, 9 * number : 9 * number + 96, ::-1]))
    writer.release()
    return path


def _frames(path: Path) -> tuple[list[Pixels], float]:
    capture, frames = cv2.VideoCapture(str(path)), []
    while (read := capture.read())[0]:
        frames.append(np.asarray(read[1][..., ::-1], np.uint8))
    return frames, capture.get(cv2.CAP_PROP_FPS)


def test_every_frame_is_predicted_and_size_and_rate_are_kept(predictor: Predictor, video: Path, tmp_path: Path) -> None:
    (job,) = plan(str(video), tmp_path / "out", save=["overlay", "labels", "json"], overwrite=False)
    told: list[tuple[int, int]] = []
    predict_video(
        predictor, job, protocol=Protocol(), batch_size=2, on_done=lambda done, total: told.append((done, total))
    )
    frames, rate = _frames(video)
    overlays, overlay_rate = _frames(job.outputs["overlay"])
    assert (len(overlays), overlays[0].shape, overlay_rate) == (5, (64, 96, 3), rate)
    assert told == [(2, 5), (4, 5), (5, 5)]
    predictions = [predictor.predict(frame) for frame in frames]
    for number, prediction in enumerate(predictions, start=1):
        np.testing.assert_array_equal(read_mask(job.outputs["labels"] / f"{number:06d}.png"), prediction.labels)
    facts = json.loads(job.outputs["json"].read_text())
    assert facts["frames"] == 5
    assert facts["shares_by_frame"] == [prediction.shares() for prediction in predictions]
    assert sum(facts["shares"].values()) == pytest.approx(1)
    assert np.abs(overlays[0].astype(int) - predictions[0].overlay()).mean() < 25


def test_what_is_no_video_leaves_nothing_behind(predictor: Predictor, tmp_path: Path) -> None:
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    (job,) = plan(str(tmp_path / "broken.mp4"), tmp_path / "out", save=["overlay"], overwrite=False)
    with pytest.raises(DataError, match=r"broken\.mp4' cannot be read"):
        predict_video(predictor, job, protocol=Protocol(), batch_size=2)
    assert list((tmp_path / "out").iterdir()) == []


@pytest.fixture
def long_video(tmp_path: Path) -> Path:
    """Forty frames of 64x48 pixels; cut off, an .avi can still be read as far as it goes."""
    path = tmp_path / "in" / "ride.avi"
    path.parent.mkdir()
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 24.0, (64, 48))
    if not writer.isOpened():
        pytest.skip("this build of OpenCV writes no avi")
    for number in range(40):
        writer.write(np.ascontiguousarray(scene(48, 140)[:, number : number + 64, ::-1]))
    writer.release()
    return path


def test_a_video_that_breaks_off_is_named_and_what_there_is_of_it_is_kept_but_not_taken_for_finished(
    predictor: Predictor, long_video: Path, tmp_path: Path
) -> None:
    whole = long_video.read_bytes()
    long_video.write_bytes(whole[: len(whole) * 6 // 10])
    saved, out = ["overlay", "labels", "json"], tmp_path / "out"
    (job,) = plan(str(long_video), out, save=saved, overwrite=False)
    with pytest.raises(
        DataError, match=r"ride\.avi' breaks off after \d\d of 40 frames; .* kept: ride_overlay_broken_off"
    ):
        predict_video(predictor, job, protocol=Protocol(), batch_size=7)
    names = ["ride_broken_off.json", "ride_labels_broken_off", "ride_overlay_broken_off.mp4"]
    assert sorted(path.name for path in out.iterdir()) == names
    frames = json.loads((out / names[0]).read_text())["frames"]
    assert 10 < frames < 35
    assert len(list((out / names[1]).iterdir())) == len(_frames(out / names[2])[0]) == frames
    with pytest.raises(ConfigError, match=r"has 3 of the files already, such as .*_broken_off"):
        plan(str(long_video), out, save=saved, overwrite=False)
    long_video.write_bytes(whole)
    (job,) = plan(str(long_video), out, save=saved, overwrite=False, resume=True)
    predict_video(predictor, job, protocol=Protocol(), batch_size=7)
    assert json.loads((out / "ride.json").read_text())["frames"] == 40
    assert plan(str(long_video), out, save=saved, overwrite=False, resume=True) == []


def test_what_follows_a_damaged_frame_is_predicted_and_the_video_named(
    predictor: Predictor, long_video: Path, tmp_path: Path
) -> None:
    whole = long_video.read_bytes()
    chunks = [found.start() for found in re.finditer(rb"00dc....\xff\xd8", whole, re.DOTALL)]
    assert len(chunks) == 40
    for number in (9, 10, 30):
        whole = whole[: chunks[number] + 8] + bytes(400) + whole[chunks[number] + 408 :]
    long_video.write_bytes(whole)
    saved, out = ["overlay", "labels", "json"], tmp_path / "out"
    (job,) = plan(str(long_video), out, save=saved, overwrite=False)
    with pytest.raises(DataError, match=r"ride\.avi' is damaged in 2 places: 37 of 40 frames can be read"):
        predict_video(predictor, job, protocol=Protocol(), batch_size=7)
    facts = json.loads((out / "ride_broken_off.json").read_text())
    assert (facts["frames"], facts["frames_listed"]) == (37, 40)
    shown = [number for number in range(40) if number not in (9, 10, 30)]  # labels are numbered on: this tells the gaps
    assert facts["seconds_by_frame"] == pytest.approx([number / 24 for number in shown], abs=1e-3)
    assert len(list((out / "ride_labels_broken_off").iterdir())) == 37
    assert len(_frames(out / "ride_overlay_broken_off.mp4")[0]) == 37


def test_a_video_with_fewer_frames_than_its_length_and_rate_make_is_told_of(
    predictor: Predictor, long_video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (job,) = plan(str(long_video), tmp_path / "out", save=["json"], overwrite=False)
    assert predict_video(predictor, job, protocol=Protocol(), batch_size=7) == ""
    monkeypatch.setattr(Frames, "listed", property(lambda _: 80, lambda *_: None), raising=False)
    monkeypatch.setattr(Frames, "rate", property(lambda _: 48.0, lambda *_: None), raising=False)
    doubt = predict_video(predictor, job, protocol=Protocol(), batch_size=7)
    assert "ride.avi' has 40 of 80 frames, as its length and rate make them: its rate varies, or it is damaged" in doubt


@pytest.mark.parametrize(
    ("listed", "rate", "shown_ms", "breaks_off"),
    [
        (40, 24.0, 1625.0, False),
        (42, 24.0, 1625.0, False),
        (43, 24.0, 1625.0, True),
        (80, 48.0, 1625.0, False),  # at a varying rate its duration is guessed to be so many
        (80, 48.0, 0.0, True),
        (80, 0.0, 1625.0, True),
        (0, 24.0, 1625.0, False),
        (-9223372036854775808, 24.0, 1625.0, False),  # a container without a duration
    ],
)
def test_a_video_breaks_off_where_frames_are_missing_and_time_is_left(
    listed: int, rate: float, shown_ms: float, breaks_off: bool
) -> None:
    class Capture:
        left = 40

        def get(self, what: int) -> float:
            facts = {cv2.CAP_PROP_FRAME_COUNT: listed, cv2.CAP_PROP_FPS: rate, cv2.CAP_PROP_POS_MSEC: shown_ms}
            return facts[what]

        def read(self) -> tuple[bool, Pixels]:
            self.left -= 1
            return self.left >= 0, np.zeros((4, 4, 3), np.uint8)

    frames = Frames(cast(cv2.VideoCapture, Capture()))
    assert sum(map(len, frames.batches(7))) == 40
    assert frames.break_off() == breaks_off


def test_frames_of_an_earlier_video_do_not_outlive_it_and_other_files_do(
    predictor: Predictor, video: Path, tmp_path: Path
) -> None:
    (job,) = plan(str(video), tmp_path / "out", save=["labels"], overwrite=False)
    folder = job.outputs["labels"]
    folder.mkdir(parents=True)
    for name in ("000001.png", "000006.png", "notes.txt"):
        (folder / name).write_text("old")
    predict_video(predictor, job, protocol=Protocol(), batch_size=2)
    assert sorted(path.name for path in folder.iterdir()) == [*(f"00000{n}.png" for n in range(1, 6)), "notes.txt"]
    assert read_mask(folder / "000001.png").shape == (64, 96)
    assert list(folder.parent.iterdir()) == [folder]


def test_an_interrupted_video_leaves_what_was_there_and_no_part_of_a_folder(
    predictor: Predictor, video: Path, tmp_path: Path
) -> None:
    (job,) = plan(str(video), tmp_path / "out", save=["labels", "overlay"], overwrite=False)
    job.outputs["labels"].mkdir(parents=True)
    (job.outputs["labels"] / "000006.png").write_text("old")

    def interrupt(frame: int, frames: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        predict_video(predictor, job, protocol=Protocol(), batch_size=2, on_done=interrupt)
    assert [path.name for path in (tmp_path / "out").rglob("*")] == ["drive_labels", "000006.png"]


def test_what_cannot_be_written_is_told_as_that(predictor: Predictor, video: Path, tmp_path: Path) -> None:
    (job,) = plan(str(video), tmp_path / "out", save=["labels", "overlay", "json"], overwrite=False)
    (tmp_path / "out").write_text("a file where a folder should be")
    with pytest.raises(DataError, match=r"out.*cannot be written \((File exists|Not a directory)\)"):
        predict_video(predictor, job, protocol=Protocol(), batch_size=2)


def test_an_overlay_that_opencv_does_not_write_whole_is_not_taken_for_finished(
    predictor: Predictor, video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (job,) = plan(str(video), tmp_path / "out", save=["overlay"], overwrite=False)
    release = OverlayVideo.finish

    def cut(self: OverlayVideo, *, whole: bool) -> None:
        self._writer.release()
        os.truncate(self._part, self._part.stat().st_size // 2)  # as a disk does that became full: OpenCV is silent
        release(self, whole=whole)

    monkeypatch.setattr(OverlayVideo, "finish", cut)
    with pytest.raises(DataError, match=r"drive_overlay\.mp4 cannot be written: OpenCV put 0 of 5 frames into it"):
        predict_video(predictor, job, protocol=Protocol(), batch_size=2)
    assert list((tmp_path / "out").iterdir()) == []
    monkeypatch.undo()
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=0))
    with pytest.raises(DataError, match="no space left"):
        predict_video(predictor, job, protocol=Protocol(), batch_size=2)
    assert list((tmp_path / "out").iterdir()) == []


def test_frames_larger_than_the_memory_are_told_with_what_to_lower(
    predictor: Predictor, video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise MemoryError

    (job,) = plan(str(video), tmp_path / "out", save=["labels"], overwrite=False)
    monkeypatch.setattr(predictor, "predict_batch", full)
    with pytest.raises(
        DataError, match=r"drive\.mp4' does not fit .*\(MemoryError\); try batch_size=2 \(now 4\) or prot"
    ):
        predict_video(predictor, job, protocol=Protocol(), batch_size=4)
    assert list((tmp_path / "out").iterdir()) == []


def test_probabilities_of_a_video_are_refused(video: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"save=probabilities: gigabytes for a video"):
        plan(str(video), tmp_path / "out", save=["probabilities"], overwrite=False)
