"""What results.json says of a training that was stopped, killed and resumed."""

import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from atrous.revision import revision
from atrous.run_store import RunFolder
from atrous.training import record
from atrous.training.finite import FiniteGuard
from atrous.training.record import Clock, record_finished, versions

CONFIG: dict[str, Any] = {
    "recipe": {"max_steps": 8, "batch_size": 4, "precision": "32-true"},
    "trainer": {"accelerator": "cpu", "accumulate": 2, "nodes": 1, "devices": 1},
}


def test_each_version_is_told_once_however_often_a_training_goes_on() -> None:
    told = None
    for now in ("A", "B", "B", "A", "B"):
        told = versions(told, now)
    assert told == "A; B"


def test_seconds_are_those_of_the_steps_in_the_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    state: dict[str, Any] = {}
    for saved, killed in ((5.0, 7.0), (3.0, 3.5), (2.0, 2.0)):  # after its start
        clock = Clock()
        now += 1000
        clock.setup(None, None, "fit")  # type: ignore[arg-type]
        if state:
            clock.load_state_dict(state)
        now += saved
        state = clock.state_dict()
        now += killed - saved
    assert state == {"seconds": 10.0, "validating": 0.0}


def test_a_speed_leaves_validations_out_also_one_that_a_stop_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    nothing: Any = None
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    clock = Clock()
    clock.load_state_dict({"seconds": 30.0, "validating": 10.0})
    clock.setup(nothing, nothing, "fit")
    now += 4
    clock.on_validation_start(nothing, nothing)
    now += 2
    assert clock.training_here == 4.0
    clock.on_validation_end(nothing, nothing)
    now += 1
    clock.on_validation_start(nothing, nothing)
    now += 8
    assert clock.training_here == 5.0
    assert clock.seconds == 45.0
    assert clock.state_dict() == {"seconds": 45.0, "validating": 20.0}
    clock.load_state_dict({"seconds": 30.0})  # of another version
    assert clock.state_dict()["validating"] == 10.0


def test_results_tell_the_speed_of_the_training_alone_and_the_seconds_of_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nothing: Any = None
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    folder, clock = RunFolder(tmp_path), Clock()
    guard = FiniteGuard(folder=folder, action="stop", every=1, sample_id=str)
    clock.load_state_dict({"seconds": 30.0, "validating": 16.0})
    clock.setup(nothing, nothing, "fit")
    now += 2
    clock.on_validation_start(nothing, nothing)
    now += 6
    clock.on_validation_end(nothing, nothing)
    strategy = SimpleNamespace(root_device=torch.device("cpu"))
    trainer: Any = SimpleNamespace(callbacks=[guard, clock], global_step=8, strategy=strategy)
    record.record(folder, CONFIG, trainer, {})
    found = folder.results()["training"]
    assert (found["seconds"], found["images_per_second"]) == (38.0, 2.0)  # 32 images in 14 + 2 seconds


def test_a_kill_behind_the_last_step_leaves_what_its_checkpoint_knows(tmp_path: Path) -> None:
    folder, path = RunFolder(tmp_path), tmp_path / "last.ckpt"
    callbacks = {"Clock": {"seconds": 16.0, "validating": 8.0}, "FiniteGuard": {"skipped": 3}}
    torch.save({"state_dict": {}, "global_step": 8, "callbacks": callbacks}, path)
    folder.add_results(training={"steps": 5, "seconds": 9.0, "atrous": "0.0.1 at abc"})
    record_finished(folder, CONFIG, path)
    found = folder.results()["training"]
    assert found == {
        "steps": 8,
        "seconds": 16.0,
        "images_per_second": 4.0,
        "skipped_steps": 3,
        "precision": "32-true",
        "batch_norm_batch": 2,
        "devices": 1,
        "torch": torch.__version__,
        "atrous": f"0.0.1 at abc; {revision()}",
    }
    path.unlink()
    record_finished(folder, CONFIG, path)  # what is known already is left as it is
    assert folder.results()["training"] == found
