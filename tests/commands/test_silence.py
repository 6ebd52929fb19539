"""What takes long says how far it is on stderr where there is no terminal, as under nohup or SLURM."""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from atrous import DeepLabV3, progress
from atrous.commands import evaluate_pages, export, predict
from atrous.commands.evaluate_subject import Subject
from atrous.data.shapes import Shapes
from atrous.evaluation.protocol import Protocol
from atrous.evaluation.records import ImageRecord, ImageRecords
from atrous.networks import ResNet
from atrous.prediction import exporting, images, loading
from atrous.prediction.inputs import Job
from atrous.run_store import RunFolder


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0.0)


@pytest.mark.parametrize(("shown", "lines"), [(True, "images: 1 of 2\n"), (False, "")])
def test_predict_tells_the_images(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], shown: bool, lines: str
) -> None:
    def predicted(predictor: Any, jobs: Any, *, on_done: Any, **_: Any) -> dict[Path, str]:
        on_done(1, 2)
        return {}

    monkeypatch.setattr(images, "predict_images", predicted)
    monkeypatch.setattr(loading, "load", lambda *_, **__: None)
    keys = ("model_path", "checkpoint", "preset", "precision", "device", "threads", "batch_size")
    jobs = [Job(Path("a.png"), {}), Job(Path("b.png"), {})]
    predict._run({**dict.fromkeys(keys), "progress": shown}, jobs, Protocol())
    assert capsys.readouterr() == ("", lines)


def test_export_tells_the_formats(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "network.pt2").touch()
    monkeypatch.setattr(export, "_network", lambda settings: (None, None, []))
    monkeypatch.setattr(exporting, "export_network", lambda *_, **__: 0.0)
    export._export({}, {"pt2": tmp_path / "network.pt2"})
    told = capsys.readouterr()
    assert told.err == "writing network.pt2 and checking it\n"
    assert told.out.startswith(f"{tmp_path / 'network.pt2'}: 0.0 MiB")


def test_a_page_tells_its_images(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = {
        "recipe": {"preprocessing": "imagenet", "precision": "32-true"},
        "data": {"evaluation_size": None, "val_batch_size": 1, "num_workers": 0},
        "trainer": {"accelerator": "cpu"},
    }
    subject = Subject(name="run/seed0", folder=RunFolder(tmp_path), config=config, checkpoint="last")
    torch.manual_seed(0)
    backbone = partial(ResNet, units=(1, 1, 1, 1), unit="basic", width=4)
    subject.model = DeepLabV3(backbone=backbone, aspp_channels=8, multi_grid=None, num_classes=11)
    subject.dataset = Shapes(split="val", length=3, size=33)
    matrix = np.eye(11, dtype=np.int64)
    found = [ImageRecord(index=i, sample_id=str(i), matrix=matrix) for i in range(3)]
    records = ImageRecords.collect(found, num_classes=11)
    pictures = evaluate_pages._pictures(subject, "single", records, [2, 0])
    assert sorted(pictures) == [0, 2]
    lines = capsys.readouterr().err.splitlines()
    assert lines == [f"run/seed0, images of the page: {done} of 2" for done in (1, 2)]
