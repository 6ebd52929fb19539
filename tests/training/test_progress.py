"""What a training says on the way: the bar on a terminal, and the speed."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from atrous.run_store import RunFolder
from atrous.training import record, stopping
from atrous.training.progress import StepProgressBar
from atrous.training.reporting import Reporter

from .small_trainer import small_trainer

_TRAINING_SECONDS, _VALIDATION_SECONDS = 1.0, 100.0


class _Module(LightningModule):
    """A weight; a step and a validation take their time."""

    def __init__(self, clock: SimpleNamespace) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(()))
        self._clock = clock

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        self._clock.now += _TRAINING_SECONDS
        return self.weight * batch[0].mean()

    def validation_step(self, batch: list[Tensor], batch_idx: int) -> None:
        self._clock.now += _VALIDATION_SECONDS
        self.log("val/miou", torch.tensor(0.25))

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.01)


class _Seen(Callback):
    """Where the bar is after each step, and what stands behind it."""

    def __init__(self, bar: StepProgressBar) -> None:
        self._bar = bar
        self.bars: list[tuple[str, float, float | None]] = []
        self.behind: list[dict[str, Any]] = []

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        task = self._bar.train_progress_bar
        self.bars.append((task.description.strip(), task.completed, task.total))
        self.behind.append(self._bar.get_metrics(trainer, pl_module))


def _fit(
    path: Path, monkeypatch: pytest.MonkeyPatch, *, steps: int, accumulate: int = 1, checkpoint: Path | None = None
) -> tuple[_Seen, Reporter]:
    """Up to six steps of four images, with a validation after every third batch; ends after `steps`."""
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(record, "time", SimpleNamespace(monotonic=lambda: clock.now))
    counts = record.Clock()
    reporter = Reporter(folder=RunFolder(path), every=1, batch_size=4, printed=False, classes=2, clock=counts)
    bar = StepProgressBar(lambda: reporter.shown)
    seen, stop = _Seen(bar), stopping.StopAt(step=steps)
    trainer = small_trainer([counts, reporter, stop, bar, seen], val_every=3, accumulate_grad_batches=accumulate)
    train, val = DataLoader(TensorDataset(torch.ones(100))), DataLoader(TensorDataset(torch.ones(1)))
    trainer.fit(_Module(clock), train, val, ckpt_path=checkpoint)
    trainer.save_checkpoint(path / "saved.ckpt")
    return seen, reporter


def test_the_bar_counts_the_steps_of_the_whole_run_also_when_it_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen, _ = _fit(tmp_path, monkeypatch, steps=4)
    assert seen.bars == [("Training", step, 6) for step in (1, 2, 3, 4)]
    seen, _ = _fit(tmp_path, monkeypatch, steps=6, checkpoint=tmp_path / "saved.ckpt")
    assert seen.bars == [("Training", step, 6) for step in (5, 6)]


def test_the_bar_counts_optimiser_steps_and_not_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen, _ = _fit(tmp_path, monkeypatch, steps=6, accumulate=2)
    assert [completed for _, completed, _ in seen.bars] == [0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6]


def test_loss_speed_and_the_last_score_stand_behind_the_bar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen, _ = _fit(tmp_path, monkeypatch, steps=4)
    assert seen.behind[0] == {"loss": "1.0000", "images/s": "4.0"}
    assert seen.behind[-1] == {"loss": "0.9700", "images/s": "4.0", "mIoU": "25.00"}


def test_speed_is_that_of_the_training_without_its_validations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, reporter = _fit(tmp_path, monkeypatch, steps=4)  # the fourth step comes after a validation
    assert reporter.shown["images/s"] == f"{4 / _TRAINING_SECONDS:.1f}"
