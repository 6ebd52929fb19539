"""A training starts from weights of atrous itself: a run's checkpoint or an exported file."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from atrous.data.spec import DatasetSpec
from atrous.errors import CheckpointError
from atrous.networks.deeplab import DeepLabV3
from atrous.networks.resnet import resnet18
from atrous.networks.segmenter import Segmenter
from atrous.prediction.description import Description
from atrous.prediction.safetensors_file import write_safetensors
from atrous.weights.own import from_atrous
from atrous.weights.released import load_pretrained


def _model(classes: int, *, seed: int, width: int = 4) -> Segmenter:
    torch.manual_seed(seed)
    return DeepLabV3(backbone=partial(resnet18, width=width), num_classes=classes, aspp_channels=8)


def _written(path: Path, model: Segmenter) -> Path:
    if path.suffix == ".safetensors":
        spec = DatasetSpec(name="two", classes=("a", "b"), palette=((0, 0, 0), (9, 9, 9)), ignore_label=255)
        nodes: Any = {"model": {}, "backbone": {}}
        write_safetensors(path, model, Description(**nodes, output_stride=16, spec=spec, preprocessing="inception"))
    else:
        state = {f"model.{name}": value for name, value in model.state_dict().items()}
        torch.save({"state_dict": {**state, "other": torch.ones(1)}, "global_step": 3}, path)
    return path


@pytest.mark.parametrize("name", ["last.ckpt", "model.safetensors"])
def test_weights_of_the_same_network_fill_all_of_it(tmp_path: Path, name: str) -> None:
    if name.endswith("safetensors"):
        pytest.importorskip("safetensors")
    trained, model = _model(2, seed=1), _model(2, seed=2)
    report = load_pretrained(model, str(_written(tmp_path / name, trained)))
    assert report.left == ()
    assert all(torch.equal(value, trained.state_dict()[key]) for key, value in model.state_dict().items())


def test_a_classifier_of_other_classes_is_left_and_reported(tmp_path: Path) -> None:
    trained, model, fresh = _model(2, seed=1), _model(5, seed=2), _model(5, seed=2)
    path = _written(tmp_path / "last.ckpt", trained)
    report = load_pretrained(model, str(path))
    assert report.left == ("classifier.weight", "classifier.bias")
    for name, value in model.state_dict().items():
        source = fresh if name in report.left else trained
        assert torch.equal(value, source.state_dict()[name]), name
    with pytest.raises(CheckpointError, match=r"2 of another shape: classifier\.weight"):
        from_atrous(model, path)


def test_another_architecture_is_refused_and_nothing_written(tmp_path: Path) -> None:
    path, model = _written(tmp_path / "last.ckpt", _model(2, seed=1)), _model(2, seed=2, width=8)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(CheckpointError, match="does not fit this network"):
        load_pretrained(model, str(path))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("name", ["last.ckpt", "model.safetensors"])
def test_a_file_that_is_none_is_refused_by_its_name(tmp_path: Path, name: str) -> None:
    if name.endswith("safetensors"):
        pytest.importorskip("safetensors")
    (tmp_path / name).write_bytes(b"no weights at all")
    with pytest.raises(CheckpointError, match=rf"{name}.*(cannot be read|not a file of tensors)"):
        load_pretrained(_model(2, seed=1), str(tmp_path / name))
    torch.save({"weights": 1}, tmp_path / "other.ckpt")
    with pytest.raises(CheckpointError, match="holds no state_dict"):
        from_atrous(_model(2, seed=1), tmp_path / "other.ckpt")
