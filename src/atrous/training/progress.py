"""The bar of a training on a terminal."""

from collections.abc import Callable, Mapping
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import RichProgressBar


class StepProgressBar(RichProgressBar):
    """Counts optimiser steps up to the last one of the run, also in a training that goes on.

    Lightning's own counts the batches of an epoch: for a training that is as long as its steps it is called
    "Epoch 0/-2", and ends at what was left of the steps when it began.

    Args:
        shown: gives what stands behind the bar, by name, beside the last validation's mIoU in percent.
    """

    def __init__(self, shown: Callable[[], Mapping[str, str]]) -> None:
        super().__init__()
        self._shown = shown

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw the bar, as far as the checkpoint is."""
        super().on_train_start(trainer, pl_module)
        if self.progress is not None:
            self.train_progress_bar_id = self.progress.add_task(
                "Training  ", total=trainer.max_steps, completed=trainer.global_step
            )

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Go on with the same bar."""

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, outputs: Any, *rest: Any) -> None:
        """Show the steps that are made; Lightning adds one to the index of a batch."""
        super().on_train_batch_end(trainer, pl_module, outputs, rest[0], trainer.global_step - 1)

    def get_metrics(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, Any]:
        """What stands behind the bar."""
        texts = dict(self._shown())
        if "val/miou" in trainer.callback_metrics:
            texts["mIoU"] = f"{100 * float(trainer.callback_metrics['val/miou']):.2f}"
        return texts
