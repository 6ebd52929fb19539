"""A network is scored on the classes that it was trained on, by their names, not only by their number."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from atrous.commands.evaluate_subject import RELEASED, Subject
from atrous.errors import CheckpointError, ConfigError
from atrous.run_store import RunFolder
from atrous.training.run import build_model

from ..networks.stub_timm import StubTimm

_SHAPES = {"_target_": "atrous.data.Shapes", "split": "val", "size": 33, "length": 1}
_TRAINED = ["sand", "grass", "sea", "sky", "disc", "square", "triangle", "ring", "pole", "day_buoy", "night_buoy"]
_GONE = {"_target_": "atrous.data.Folder", "root": "gone", "split": "val", "classes": "gone.yaml"}


def _run(folder: Path, **fields: Any) -> Subject:
    """A run with a checkpoint of eleven classes and no more, whose own class list is gone."""
    run = RunFolder(folder)
    run.last_checkpoint.parent.mkdir()
    weights = {"model.classifier.weight": torch.zeros(11, 1)}
    torch.save({"state_dict": weights, "global_step": 1}, run.last_checkpoint)
    config = {"data": {"val": _SHAPES}, "recipe": {}}
    return Subject(name="run", folder=run, config=config, checkpoint="last", **fields)


@pytest.mark.parametrize("trained_on", ["its data set", "its own entry"])
def test_classes_of_other_names_are_refused_with_the_first_and_the_key_that_allows_them(
    tmp_path: Path, trained_on: str
) -> None:
    if trained_on == "its data set":
        node = {"_target_": "atrous.data.CamVid", "root": "gone", "split": "val"}
    else:
        node = _GONE
        names = [*_TRAINED[:3], "heaven", *_TRAINED[4:]]
        RunFolder(tmp_path).add_results(evaluations={"single": {"miou": 0.5, "iou": dict.fromkeys(names, 0.5)}})
    first = "class 0 'sky', .* calls it 'sand'" if node is not _GONE else "class 3 'heaven', .* calls it 'sky'"
    with pytest.raises(ConfigError, match=f"calls {first}.*other_classes=true"):
        _ = _run(tmp_path, trained_on=node).model


@pytest.mark.parametrize(
    "fields",
    [{"trained_on": _SHAPES}, {"trained_on": _GONE}, {"trained_on": {"_target_": "atrous.data.CamVid"}}],
)
def test_the_same_classes_and_those_that_are_allowed_go_on_to_the_network(
    tmp_path: Path, fields: dict[str, Any]
) -> None:
    allowed = "CamVid" in str(fields)
    if fields["trained_on"] is _GONE:
        RunFolder(tmp_path).add_results(evaluations={"single": {"miou": 0.5, "iou": dict.fromkeys(_TRAINED, 0.5)}})
    with pytest.raises(KeyError, match="seed"):  # the network is built next, which takes more of a config
        _ = _run(tmp_path, **fields, other_classes=allowed).model


def test_released_weights_have_the_classes_that_are_published(tmp_path: Path) -> None:
    classes = ["background", "aeroplane", "cycle", *(f"class {label}" for label in range(18))]
    for name in ("images", "masks"):
        (tmp_path / name / "val").mkdir(parents=True)
    (tmp_path / "images/val/a.png").touch()
    (tmp_path / "masks/val/a.png").touch()
    node = {"_target_": "atrous.data.Folder", "root": str(tmp_path), "split": "val", "classes": classes}
    name, folder = "mobilenetv2_coco_voc_trainaug", RunFolder(tmp_path / "run")
    subject = Subject(name=name, folder=folder, config={"data": {"val": node}}, checkpoint=RELEASED)
    with pytest.raises(ConfigError, match=rf"weights={name} calls class 2 'bicycle', .* calls it 'cycle'"):
        _ = subject.model


def test_a_run_that_began_with_fetched_weights_is_evaluated_without_fetching_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stub = StubTimm()
    monkeypatch.setitem(sys.modules, "timm", stub)
    config: dict[str, Any] = {
        "seed": 0,
        "model": {"_target_": "atrous.DeepLabV3", "aspp_channels": 8},
        "backbone": {"_target_": "atrous.networks.TimmBackbone", "_partial_": True, "name": "net", "pretrained": True},
        "output_stride": 16,
        "data": {"val": _SHAPES},
        "recipe": {"pretrained": None, "batch_norm": {"backbone_decay": 0.9, "head_decay": 0.9}},
    }
    trained = build_model(config, num_classes=11)
    run = RunFolder(tmp_path)
    run.last_checkpoint.parent.mkdir()
    weights = {f"model.{name}": value for name, value in trained.state_dict().items()}
    torch.save({"state_dict": weights, "global_step": 1}, run.last_checkpoint)
    config["recipe"]["pretrained"] = str(tmp_path / "gone.ckpt")
    found = Subject(name="run", folder=run, config=config, checkpoint="last", trained_on=_SHAPES).model
    assert all(torch.equal(value, trained.state_dict()[name]) for name, value in found.state_dict().items())
    assert stub.asked == [("net", True), ("net", False)]
    for wrong in (3, torch.tensor(1.0), torch.ones(11, dtype=torch.int8)):
        torch.save({"state_dict": {**weights, "model.classifier.bias": wrong}, "global_step": 1}, run.last_checkpoint)
        subject = Subject(name="run", folder=run, config=config, checkpoint="last", trained_on=_SHAPES)
        with pytest.raises(CheckpointError, match=r"last\.ckpt.*classifier\.bias is "):
            _ = subject.model
