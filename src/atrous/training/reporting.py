"""What a run says while it trains: status.json for whoever watches, metrics for the loggers, samples for W&B."""

import math
import os
import sys
from collections.abc import Callable
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch.utils.data import default_collate

from atrous.data.loading import EvaluationSamples, Sample
from atrous.run_store import RunFolder
from atrous.training.record import Clock
from atrous.training.stopping import is_between_steps
from atrous.training.task import SegmentationTask
from atrous.training.trend import Trend


class Reporter(Callback):
    """Logs loss, learning rate and speed every so many steps, and keeps status.json up to date.

    The loss is the mean over the parts of a step, and the rate is that which the step was taken with.

    Args:
        folder: the run's folder.
        every: optimiser steps between two entries.
        batch_size: the global batch.
        printed: whether to print a line per entry (where no progress bar is shown).
        classes: of the label space, which says how large a loss is.
        clock: of the same training, by which speed is told.

    Attributes:
        shown: what a progress bar shows of the last entry, by name.
    """

    def __init__(
        self,
        *,
        folder: RunFolder,
        every: int,
        batch_size: int,
        printed: bool,
        classes: int,
        clock: Clock,
    ) -> None:
        self._folder, self._every, self._batch_size = folder, max(1, every), batch_size
        self._printed, self._clock = printed, clock
        self._since, self._at_step = clock.training_here, 0
        self._loss: torch.Tensor | None = None  # of the parts of a step that is not complete
        self._rate = 0.0
        self._trend = Trend(classes=classes, every=self._every)
        self.shown: dict[str, str] = {}

    def state_dict(self) -> dict[str, Any]:
        """The losses that the trend is told by, kept in the checkpoint."""
        return {"trend": self._trend.state()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        self._trend.restore(state_dict["trend"])

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Say that the run is running."""
        self._since, self._at_step = self._clock.training_here, trainer.global_step
        self._set_status(trainer, step=trainer.global_step)

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Any) -> None:
        """Hold on to the learning rate of this step: behind it the schedule has moved on."""
        self._rate = float(optimizer.param_groups[0]["lr"])

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Report when it is time, unless the step was left out: its loss is no number."""
        part = outputs["loss"].detach()  # Lightning has divided it by the number of parts
        self._loss = part if self._loss is None else self._loss + part
        if not is_between_steps(trainer, batch_idx):
            return
        of_step, self._loss = self._loss, None
        step = trainer.global_step
        if step % self._every and step != trainer.max_steps:
            return
        loss, now = _mean_over_ranks(of_step, trainer), self._clock.training_here
        if not math.isfinite(loss):
            return
        speed = (step - self._at_step) * self._batch_size / max(now - self._since, 1e-9)
        self._since, self._at_step = now, step
        self.shown = {"loss": f"{loss:.4f}", "images/s": f"{speed:.1f}"}
        if trainer.is_global_zero:
            for logger in trainer.loggers:
                logger.log_metrics({"train/loss": loss, "train/lr": self._rate, "train/images_per_second": speed}, step)
            self._set_status(trainer, step=step, loss=loss, images_per_second=round(speed, 3))
            if self._printed:
                print(f"step {step}/{trainer.max_steps}  loss {loss:.4f}  {speed:.1f} images/s", flush=True)  # noqa: T201
            if warning := self._trend.warning(step, loss, lr=self._rate):
                self._set_status(trainer, warning=warning)
                print(f"warning: step {step}: {warning}", file=sys.stderr, flush=True)  # noqa: T201

    def _set_status(self, trainer: Trainer, **details: Any) -> None:
        if trainer.is_global_zero:
            self._folder.set_status("running", pid=os.getpid(), max_steps=trainer.max_steps, **details)


def _mean_over_ranks(value: torch.Tensor, trainer: Trainer) -> float:
    """A number's mean; the watchdog knows by the name of this function that a rank waits for others."""
    return float(trainer.strategy.reduce(value, reduce_op="mean"))


class SamplePredictions(Callback):
    """Sends images with their truth and prediction, by class name, to W&B at every validation.

    Args:
        samples: padded validation images.
        count: how many; the same ones every time.
        send: told (images, step), each image as (pixels, truth, prediction, name).
    """

    def __init__(
        self, *, samples: EvaluationSamples, count: int, send: Callable[[list[tuple[Any, ...]], int], None]
    ) -> None:
        self._samples, self._count, self._send = samples, min(count, len(samples)), send

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Predict the samples one by one."""
        if not trainer.is_global_zero or not self._count:
            return
        assert isinstance(pl_module, SegmentationTask)
        positions = [round(i * (len(self._samples) - 1) / max(1, self._count - 1)) for i in range(self._count)]
        with torch.no_grad(), trainer.precision_plugin.val_step_context():
            predicted = [self._predicted(pl_module, position) for position in positions]
        self._send(predicted, trainer.global_step)

    def _predicted(self, task: SegmentationTask, position: int) -> tuple[Any, ...]:
        batch: Sample = default_collate([self._samples[position]])
        on_device = {
            key: value.to(task.device) if isinstance(value, torch.Tensor) else value for key, value in batch.items()
        }
        labels = task.predict_labels(on_device)[0]  # type: ignore[arg-type]
        height, width = (int(side) for side in batch["extent"][0])
        pixels = batch["image"][0].permute(1, 2, 0)[:height, :width].numpy()
        truth, prediction = batch["label"][0][:height, :width].numpy(), labels[:height, :width].cpu().numpy()
        return pixels, truth, prediction, self._samples.dataset.sample_id(position)
