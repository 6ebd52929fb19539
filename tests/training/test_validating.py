"""Small trainings that are killed or asked to end within a validation."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from atrous.run_store import RunFolder
from atrous.training import validating
from atrous.training.checkpoints import AtomicCheckpointIO, Checkpoints, newest_checkpoint
from atrous.training.stopping import StopAt
from atrous.training.validating import StoppedInValidationError, Validations

from .small_trainer import small_trainer

_BATCHES = 3


class _KilledError(Exception):
    """In place of SIGKILL."""


class _Module(LightningModule):
    """One weight, scored by its value."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.validated: list[int] = []
        self._batches: list[int] = []

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        return -self.weight * batch[0].mean()

    def validation_step(self, batch: list[Tensor], batch_idx: int) -> None:
        self._batches.append(batch_idx)

    def on_validation_epoch_start(self) -> None:
        self._batches.clear()

    def on_validation_epoch_end(self) -> None:
        assert self._batches == list(range(_BATCHES))
        self.validated.append(self.global_step)
        self.log("val/miou", self.weight.detach().clone())

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.01)


class _At(Callback):
    """Does something at a batch of the validation at a step, or at the end of the step itself."""

    def __init__(self, step: int, action: Any, *, batch: int | None) -> None:
        self._step, self._action, self._batch = step, action, batch

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        if self._batch is None and trainer.global_step == self._step:
            self._action()

    def on_validation_batch_start(self, trainer: Trainer, pl_module: LightningModule, *rest: Any) -> None:
        if rest[1] == self._batch and trainer.global_step == self._step:
            self._action()


def _kill() -> None:
    raise _KilledError


def _fit(
    path: Path, *, at: int = 0, action: Any = None, batch: int | None = 1, until: int | None = None
) -> tuple[_Module, int]:
    """Up to six steps, or `until`, with a validation after every second; `action` ("ask": for a stop) at step `at`."""
    folder = RunFolder(path)
    path.mkdir(exist_ok=True)
    saved, _ = newest_checkpoint(folder, mends=True)
    checkpoints, stop = Checkpoints(folder=folder, every=100), StopAt(step=until)
    chosen = (lambda: setattr(stop, "asked", True)) if action == "ask" else action
    module = _Module()
    callbacks = [
        _At(at, chosen, batch=batch),
        checkpoints,
        stop,
        Validations(stop=stop, checkpoints=checkpoints, printed=True),
    ]
    trainer = small_trainer(callbacks, val_every=2, enable_progress_bar=False, plugins=[AtomicCheckpointIO()])
    train = DataLoader(TensorDataset(torch.ones(100)))
    val = DataLoader(TensorDataset(torch.ones(_BATCHES)))
    with suppress(StoppedInValidationError, _KilledError):
        trainer.fit(module, train, val, ckpt_path=str(saved) if saved else None)
    return module, trainer.global_step


def _best(path: Path) -> Tensor:
    weight: Tensor = torch.load(RunFolder(path).best_checkpoint, weights_only=True)["state_dict"]["weight"]
    return weight


@pytest.mark.parametrize("action", [_kill, "ask"])
def test_a_validation_that_was_ended_is_made_when_the_training_goes_on(tmp_path: Path, action: Any) -> None:
    module, step = _fit(tmp_path, at=4, action=action)
    assert (module.validated, step) == ([2], 4)
    assert newest_checkpoint(RunFolder(tmp_path), mends=False)[1] == 4
    again, step = _fit(tmp_path)
    assert (again.validated, step) == ([4, 6], 6)
    straight, _ = _fit(tmp_path / "straight")
    assert straight.validated == [2, 4, 6]
    assert torch.equal(again.weight, straight.weight)
    assert torch.equal(_best(tmp_path), _best(tmp_path / "straight"))


def test_a_validation_that_was_complete_is_not_made_again(tmp_path: Path) -> None:
    module, step = _fit(tmp_path, until=4)
    assert (module.validated, step) == ([2, 4], 4)
    module, step = _fit(tmp_path, at=5, action="ask", batch=None)
    assert (module.validated, step) == ([], 5)
    module, _ = _fit(tmp_path)
    assert module.validated == [6]


def test_a_validation_with_which_a_training_goes_on_can_be_ended_too(tmp_path: Path) -> None:
    for _ in range(2):
        module, step = _fit(tmp_path, at=2, action="ask", batch=_BATCHES - 1)
        assert (module.validated, step) == ([], 2)
    module, _ = _fit(tmp_path)
    assert module.validated == [2, 4, 6]


def test_a_stop_does_not_wait_for_a_validation_that_is_not_due(tmp_path: Path) -> None:
    module, step = _fit(tmp_path, at=3, action="ask", batch=None)
    assert (module.validated, step) == ([2], 3)
    assert newest_checkpoint(RunFolder(tmp_path), mends=False)[1] == 3
    module, step = _fit(tmp_path)
    assert (module.validated, step) == ([4, 6], 6)


def test_a_long_validation_says_where_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(validating, "SECONDS_BETWEEN_LINES", -1.0)
    _fit(tmp_path)
    assert "step 4/6  validating, batch 2/3" in capsys.readouterr().out
