"""Checkpoints: atomic, data only, refused when they do not fit."""

import pickle
from functools import partial
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from atrous import DeepLabV3
from atrous.errors import CheckpointError
from atrous.networks import ResNet
from atrous.training.checkpoints import AtomicCheckpointIO, load_weights, read_checkpoint

from ..conftest import ReadDamaged


def _model(width: int = 4) -> DeepLabV3:
    backbone = partial(ResNet, units=(1, 1, 1, 1), unit="basic", width=width)
    return DeepLabV3(backbone=backbone, aspp_channels=8, multi_grid=None, num_classes=3)


def _save(model: DeepLabV3, path: Path) -> None:
    state = {f"model.{name}": value for name, value in model.state_dict().items()}
    AtomicCheckpointIO().save_checkpoint({"state_dict": state, "global_step": 7}, path)


def test_weights_come_back_with_their_step(tmp_path: Path) -> None:
    model, other = _model(), _model()
    _save(model, tmp_path / "last.ckpt")
    assert load_weights(other, tmp_path / "last.ckpt") == 7
    assert all(torch.equal(value, other.state_dict()[name]) for name, value in model.state_dict().items())
    assert [path.name for path in tmp_path.iterdir()] == ["last.ckpt"]


def test_another_architecture_is_refused_by_name(tmp_path: Path) -> None:
    _save(_model(width=8), tmp_path / "last.ckpt")
    with pytest.raises(CheckpointError, match=r"last.ckpt: made by another architecture; .*backbone\.stem.* more"):
        load_weights(_model(), tmp_path / "last.ckpt")


def test_a_truncated_file_and_a_pickle_are_refused_unread(tmp_path: Path) -> None:
    _save(_model(), tmp_path / "last.ckpt")
    (tmp_path / "cut.ckpt").write_bytes((tmp_path / "last.ckpt").read_bytes()[:1000])
    with pytest.raises(CheckpointError, match=r"cut\.ckpt: not a checkpoint"):
        read_checkpoint(tmp_path / "cut.ckpt")

    class Harmful:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return Path.touch, (tmp_path / "harmed",)  # type: ignore[return-value]

    (tmp_path / "evil.ckpt").write_bytes(pickle.dumps({"state_dict": Harmful()}))
    with pytest.raises(CheckpointError, match=r"evil\.ckpt: not a checkpoint"):
        read_checkpoint(tmp_path / "evil.ckpt")
    assert not (tmp_path / "harmed").exists()
    with pytest.raises(CheckpointError, match="no such checkpoint"):
        read_checkpoint(tmp_path / "none.ckpt")


@given(st.data())
def test_a_damaged_checkpoint_is_loaded_or_refused(
    tmp_path_factory: pytest.TempPathFactory, read_damaged: ReadDamaged, data: st.DataObject
) -> None:
    folder = tmp_path_factory.getbasetemp()
    torch.manual_seed(0)
    model = _model()
    if not (folder / "sound.ckpt").exists():
        _save(model, folder / "sound.ckpt")

    def read(damaged: bytes) -> int:
        (folder / "damaged.ckpt").write_bytes(damaged)
        return load_weights(model, folder / "damaged.ckpt")

    assert read_damaged(data, (folder / "sound.ckpt").read_bytes(), read) in (None, 7)
