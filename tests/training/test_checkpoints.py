"""Checkpoints: atomic, data only, refused when they do not fit."""

import errno
import os
import pickle
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from lightning.pytorch.strategies import SingleDeviceStrategy

from atrous import DeepLabV3
from atrous.errors import CheckpointError, UnreachableError
from atrous.networks import ResNet
from atrous.run_store import RunFolder
from atrous.training.checkpoints import AtomicCheckpointIO, newest_checkpoint, read_checkpoint
from atrous.weights.own import from_atrous

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
    assert read_checkpoint(tmp_path / "last.ckpt")["global_step"] == 7
    from_atrous(other, tmp_path / "last.ckpt")
    assert all(torch.equal(value, other.state_dict()[name]) for name, value in model.state_dict().items())
    assert [path.name for path in tmp_path.iterdir()] == ["last.ckpt"]


def test_a_training_reads_what_a_gpu_saved_onto_the_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(torch.serialization, "location_tag", lambda _storage: "cuda:0")
        _save(_model(), tmp_path / "last.ckpt")
    strategy = SingleDeviceStrategy(device="cpu", checkpoint_io=AtomicCheckpointIO())
    weights = strategy.load_checkpoint(tmp_path / "last.ckpt")["state_dict"].values()
    assert {weight.device.type for weight in weights} == {"cpu"}


def test_a_truncated_file_and_a_pickle_are_refused_unread(tmp_path: Path) -> None:
    _save(_model(), tmp_path / "last.ckpt")
    (tmp_path / "cut.ckpt").write_bytes((tmp_path / "last.ckpt").read_bytes()[:1000])
    with pytest.raises(CheckpointError, match=r"cut\.ckpt: not a file of tensors"):
        read_checkpoint(tmp_path / "cut.ckpt")

    class Harmful:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return Path.touch, (tmp_path / "harmed",)  # type: ignore[return-value]

    (tmp_path / "evil.ckpt").write_bytes(pickle.dumps({"state_dict": Harmful()}))
    with pytest.raises(CheckpointError, match=r"evil\.ckpt: not a file of tensors"):
        read_checkpoint(tmp_path / "evil.ckpt")
    assert not (tmp_path / "harmed").exists()
    with pytest.raises(CheckpointError, match="no such checkpoint"):
        read_checkpoint(tmp_path / "none.ckpt")


def _weight(step: int) -> torch.Tensor:
    return torch.full((2000,), float(step))


def _run_with(folder: Path, *, steps: tuple[int, ...]) -> RunFolder:
    """A run that was saved at these steps, as a training saves."""
    run = RunFolder(folder)
    for step in steps:
        content = {"state_dict": {"model.weight": _weight(step)}, "global_step": step}
        AtomicCheckpointIO().save_checkpoint(content, run.last_checkpoint, storage_options=run.previous_checkpoint)
    return run


def test_the_state_before_the_last_one_stays(tmp_path: Path) -> None:
    run = _run_with(tmp_path, steps=(2, 4, 6))
    assert read_checkpoint(run.last_checkpoint)["global_step"] == 6
    assert read_checkpoint(run.previous_checkpoint)["global_step"] == 4
    assert sorted(path.name for path in run.last_checkpoint.parent.iterdir()) == ["last.ckpt", "previous.ckpt"]
    assert newest_checkpoint(run, mends=True) == (run.last_checkpoint, 6)


def test_a_run_that_was_never_saved_begins_at_its_beginning(tmp_path: Path) -> None:
    assert newest_checkpoint(RunFolder(tmp_path), mends=True) == (None, 0)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ({"state_dict": {}}, "global_step=None is no step"),
        ({"state_dict": {}, "global_step": "4"}, "global_step='4' is no step"),
        ({"state_dict": {}, "global_step": -1}, "global_step=-1 is no step"),
        ({"global_step": 4}, "holds no state_dict"),
        ({"state_dict": [], "global_step": 4}, "holds no state_dict"),
    ],
)
def test_a_checkpoint_without_its_step_or_weights_is_damaged(
    tmp_path: Path, content: dict[str, object], told: str
) -> None:
    run = _run_with(tmp_path, steps=(2, 4))
    AtomicCheckpointIO().save_checkpoint(content, run.last_checkpoint)
    with pytest.raises(CheckpointError, match=rf"last\.ckpt: {told}"):
        read_checkpoint(run.last_checkpoint)
    assert newest_checkpoint(run, mends=True) == (run.previous_checkpoint, 2)
    assert run.last_checkpoint.with_name("last.ckpt.damaged-1").is_file()


@pytest.mark.parametrize("damage", ["truncated", "emptied", "overwritten", "a bit of a weight", "gone"])
def test_a_damaged_last_checkpoint_is_set_aside_and_the_one_before_takes_its_place(
    tmp_path: Path, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run = _run_with(tmp_path, steps=(2, 4))
    whole = run.last_checkpoint.read_bytes()
    other_bit = bytearray(whole)
    other_bit[whole.index(_weight(4).numpy().tobytes())] ^= 1  # torch.load would give it as it is
    left = {
        "truncated": whole[:-100],
        "emptied": b"",
        "overwritten": bytes(len(whole)),
        "a bit of a weight": bytes(other_bit),
        "gone": None,
    }[damage]
    run.last_checkpoint.unlink()
    if left is not None:
        run.last_checkpoint.write_bytes(left)
    assert newest_checkpoint(run, mends=False) == (run.previous_checkpoint, 2), "another rank, which changes nothing"
    assert newest_checkpoint(run, mends=True) == (run.previous_checkpoint, 2)
    assert "going on from previous.ckpt, step 2" in capsys.readouterr().err
    assert read_checkpoint(run.last_checkpoint)["global_step"] == 2, "for everything else that reads last.ckpt"
    kept = run.last_checkpoint.with_name("last.ckpt.damaged-1")
    assert (kept.read_bytes() if kept.exists() else None) == left


def _damage(path: Path) -> None:
    with path.open("r+b") as stream:
        stream.seek(path.stat().st_size // 2)
        stream.write(b"1")


@pytest.mark.parametrize("error", [RuntimeError("DefaultCPUAllocator: can't allocate memory"), MemoryError()])
def test_a_checkpoint_for_which_there_is_no_memory_is_not_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    run = _run_with(tmp_path, steps=(2, 4))
    load = torch.load

    def run_out(path: Path, **options: Any) -> Any:
        if path == run.last_checkpoint:
            raise error
        return load(path, **options)

    with monkeypatch.context() as patched:
        patched.setattr(torch, "load", run_out)
        with pytest.raises(UnreachableError, match=r"last\.ckpt: there is not enough memory to read it"):
            newest_checkpoint(run, mends=True)
    assert newest_checkpoint(run, mends=True) == (run.last_checkpoint, 4)
    _damage(run.last_checkpoint)
    monkeypatch.setattr(torch, "load", run_out)
    assert newest_checkpoint(run, mends=True) == (run.previous_checkpoint, 2), "a damaged one asks for any amount"


_BOUNDED = """
import resource, sys
from pathlib import Path
from atrous.run_store import RunFolder
from atrous.training.checkpoints import newest_checkpoint
now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (now + 100_000_000, now + 100_000_000))
print(newest_checkpoint(RunFolder(Path(sys.argv[1])), mends=True)[1])
"""


@pytest.mark.exhaustive
@pytest.mark.skipif(not Path("/proc/self/statm").is_file(), reason="bounds a process by what /proc says it has")
@pytest.mark.parametrize("is_damaged", [False, True])
def test_a_process_with_little_memory_tells_a_large_checkpoint_from_a_damaged_one(
    tmp_path: Path, is_damaged: bool
) -> None:
    run = _run_with(tmp_path, steps=(2,))
    content = {"state_dict": {"model.weight": torch.zeros(100_000_000)}, "global_step": 4}
    AtomicCheckpointIO().save_checkpoint(content, run.last_checkpoint, storage_options=run.previous_checkpoint)
    if is_damaged:
        _damage(run.last_checkpoint)
    ended = subprocess.run(
        [sys.executable, "-c", _BOUNDED, str(tmp_path)], capture_output=True, text=True, timeout=120, check=False
    )
    kept = sorted(path.name for path in run.last_checkpoint.parent.glob("last.ckpt*"))
    for path in run.last_checkpoint.parent.iterdir():
        path.unlink()  # hundreds of megabytes
    if is_damaged:
        assert ended.stdout == "2\n", ended.stderr
        assert kept == ["last.ckpt", "last.ckpt.damaged-1"]
    else:
        assert "UnreachableError" in ended.stderr
        assert "there is not enough memory to read it" in ended.stderr
        assert kept == ["last.ckpt"]


@pytest.mark.parametrize("number", [errno.EACCES, errno.EMFILE, errno.ESTALE])
def test_a_checkpoint_that_cannot_be_read_now_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    run = _run_with(tmp_path, steps=(2, 4))
    opened = Path.open

    def refuse(path: Path, *arguments: Any, **options: Any) -> Any:
        if path == run.last_checkpoint:
            raise OSError(number, os.strerror(number))
        return opened(path, *arguments, **options)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "open", refuse)
        with pytest.raises(UnreachableError, match=rf"last\.ckpt: cannot be read now \({os.strerror(number)}\)"):
            newest_checkpoint(run, mends=True)
    assert newest_checkpoint(run, mends=True) == (run.last_checkpoint, 4)


def test_a_checkpoint_that_another_rank_sets_aside_meanwhile_is_no_longer_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = _run_with(tmp_path, steps=(2, 4))
    is_file = Path.is_file

    def is_there_for_the_last_time(path: Path) -> bool:
        is_there = is_file(path)
        if path == run.last_checkpoint:
            path.unlink(missing_ok=True)
        return is_there

    monkeypatch.setattr(Path, "is_file", is_there_for_the_last_time)
    assert newest_checkpoint(run, mends=False) == (run.previous_checkpoint, 2)


def test_without_a_state_before_it_a_damaged_checkpoint_is_an_error_and_stays(tmp_path: Path) -> None:
    run = _run_with(tmp_path, steps=(2,))
    run.last_checkpoint.write_bytes(b"torn")
    with pytest.raises(CheckpointError, match=r"last\.ckpt: not a file of tensors"):
        newest_checkpoint(run, mends=True)
    assert run.last_checkpoint.read_bytes() == b"torn"


def test_a_folder_in_the_place_of_the_last_checkpoint_is_set_aside(tmp_path: Path) -> None:
    run = _run_with(tmp_path, steps=(2, 4))
    run.last_checkpoint.unlink()
    run.last_checkpoint.mkdir()
    assert newest_checkpoint(run, mends=True) == (run.previous_checkpoint, 2)
    assert run.last_checkpoint.with_name("last.ckpt.damaged-1").is_dir()
    assert newest_checkpoint(run, mends=True) == (run.last_checkpoint, 2)


def test_a_folder_in_the_place_of_the_only_checkpoint_is_told_before_the_first_step(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    run.last_checkpoint.mkdir(parents=True)
    with pytest.raises(CheckpointError, match=r"last\.ckpt: a folder, no checkpoint"):
        newest_checkpoint(run, mends=True)


@pytest.mark.parametrize("name", ["checkpoints", "checkpoints/last.ckpt"])
def test_a_link_to_a_disk_that_is_away_is_no_run_that_was_never_saved(tmp_path: Path, name: str) -> None:
    run, place = RunFolder(tmp_path), tmp_path / name
    place.parent.mkdir(exist_ok=True)
    place.symlink_to(tmp_path / "away")
    with pytest.raises(UnreachableError, match=rf"{name}: a link to .*away, which is not there now"):
        newest_checkpoint(run, mends=True)
    assert place.is_symlink()


def test_a_file_in_the_place_of_the_checkpoints_is_told_before_the_first_step(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").write_text("")
    with pytest.raises(CheckpointError, match="checkpoints: not a folder; move it away"):
        newest_checkpoint(RunFolder(tmp_path), mends=True)


def test_half_a_checkpoint_of_a_killed_process_is_cleared_away_by_the_next(tmp_path: Path) -> None:
    run = _run_with(tmp_path, steps=(2, 4))
    torn = run.last_checkpoint.with_name(".last.ckpt.x1y2")
    torn.write_bytes(b"half")
    newest_checkpoint(run, mends=False)
    assert torn.exists()
    newest_checkpoint(run, mends=True)
    assert not torn.exists()


def test_a_file_system_without_links_keeps_one_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    run = _run_with(tmp_path, steps=(2, 4))
    assert [path.name for path in run.last_checkpoint.parent.iterdir()] == ["last.ckpt"]
    assert newest_checkpoint(run, mends=True) == (run.last_checkpoint, 4)


@given(st.data())
def test_a_damaged_checkpoint_gives_the_sound_ones_weights_or_is_refused(
    tmp_path_factory: pytest.TempPathFactory, read_damaged: ReadDamaged, data: st.DataObject
) -> None:
    folder = tmp_path_factory.getbasetemp()
    torch.manual_seed(0)
    model = _model()
    if not (folder / "sound.ckpt").exists():
        _save(model, folder / "sound.ckpt")

    sound = {name: tensor.clone() for name, tensor in model.state_dict().items()}

    def read(damaged: bytes) -> bool:
        (folder / "damaged.ckpt").write_bytes(damaged)
        from_atrous(model, folder / "damaged.ckpt")
        return all(torch.equal(tensor, sound[name]) for name, tensor in model.state_dict().items())

    assert read_damaged(data, (folder / "sound.ckpt").read_bytes(), read) in (None, True)
