"""What is logged of a step: the loss of all its parts, and the rate that it was taken with."""

import csv
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningModule
from torch import Tensor
from torch.utils.data import DataLoader

from atrous.data.samples import Sample, empty_batch
from atrous.run_store import RunFolder
from atrous.training.csv_log import CsvLog
from atrous.training.finite import FiniteGuard
from atrous.training.optimization import sgd_with_poly
from atrous.training.record import Clock
from atrous.training.reporting import Reporter
from atrous.training.stopping import StopAt

from .small_trainer import small_trainer


class _Module(LightningModule):
    """One weight, whose loss at a batch is the number that stands in its labels."""

    def __init__(self, poisoned: int | None) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self._poisoned = poisoned

    def training_step(self, batch: Sample, batch_idx: int) -> Tensor:
        factor = math.nan if batch_idx == self._poisoned else 1.0
        return self.weight * 0 + batch["label"].float().mean() * factor

    def configure_optimizers(self) -> Any:
        groups = [{"params": [self.weight], "lr": 6.0}]
        optimizer, schedule = sgd_with_poly(groups, momentum=0.9, max_steps=6, power=1.0)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def _fit(path: Path, *, accumulate: int, poisoned: int | None = None, stops: tuple[int, ...] = (6,)) -> list[list[str]]:
    """Step, loss and rate of the lines of a training of six steps, whose batches have the losses 0, 1, 2..."""
    batches = []
    for number in range(6 * accumulate):
        batch = empty_batch(1, (4, 4))
        for value in batch.values():
            value.fill_(number)  # type: ignore[attr-defined]
        batches.append(batch)
    first, checkpoint = 0, path / "saved.ckpt"
    for stop in stops:
        folder = RunFolder(path)
        guard = FiniteGuard(folder=folder, action="skip", every=1, sample_id=str)
        clock = Clock()
        reporter = Reporter(folder=folder, every=1, batch_size=1, printed=False, classes=2, clock=clock)
        callbacks = [guard, clock, reporter, StopAt(step=stop)]
        trainer = small_trainer(callbacks, val_every=100, accumulate_grad_batches=accumulate, enable_progress_bar=False)
        trainer.loggers = [CsvLog(path / "metrics.csv", first_step=first)]
        rest: Any = DataLoader(batches, batch_size=None)  # type: ignore[arg-type]
        trainer.fit(_Module(poisoned), rest, ckpt_path=checkpoint if first else None)
        trainer.save_checkpoint(checkpoint)
        first = stop
    with (path / "metrics.csv").open(newline="") as stream:
        return [[line["step"], line["train/loss"], line["train/lr"]] for line in csv.DictReader(stream)]


@pytest.mark.filterwarnings("ignore")
def test_the_loss_is_the_mean_over_the_parts_and_the_rate_that_of_the_step(tmp_path: Path) -> None:
    lines = _fit(tmp_path, accumulate=2)
    assert lines == [[str(step), f"{2 * step - 1.5:g}", f"{7 - step}"] for step in range(1, 7)]


@pytest.mark.filterwarnings("ignore")
def test_one_part_is_logged_as_it_is(tmp_path: Path) -> None:
    assert _fit(tmp_path, accumulate=1) == [[str(step), f"{step - 1}", f"{7 - step}"] for step in range(1, 7)]


@pytest.mark.filterwarnings("ignore")
def test_a_training_that_goes_on_logs_what_the_whole_one_does(tmp_path: Path) -> None:
    whole = _fit(tmp_path / "whole", accumulate=2)
    assert [line[::2] for line in _fit(tmp_path / "resumed", accumulate=2, stops=(2, 6))] == [
        line[::2] for line in whole
    ]


@pytest.mark.filterwarnings("ignore")
def test_a_step_that_is_left_out_is_not_logged_not_even_by_the_part_that_follows(tmp_path: Path) -> None:
    lines = _fit(tmp_path, accumulate=2, poisoned=4)  # the first part of the third step
    assert [line[0] for line in lines] == ["1", "2", "4", "5", "6"]
    assert lines[2][1] == "6.5"
