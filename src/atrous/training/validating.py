"""Validations within a training: a kill loses none, a stop need not wait for one, a long one says where it is."""

import time
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from atrous.progress import SECONDS_BETWEEN_LINES
from atrous.training.checkpoints import Checkpoints, is_validated_next
from atrous.training.stopping import StopAt


class StoppedInValidationError(Exception):
    """The training was asked to end while it validated; its state was saved before."""


class Validations(Callback):
    """Makes a validation that a kill prevented, and ends one when the training is asked to end.

    Ranks hear a signal at different moments, so that several of them validate to the end and stop at a step instead.

    Args:
        stop: knows whether somebody asked.
        checkpoints: knows what is saved.
        printed: whether to print how far it is (where no progress bar is shown).
    """

    def __init__(self, *, stop: StopAt, checkpoints: Checkpoints, printed: bool) -> None:
        self._stop, self._checkpoints, self._printed = stop, checkpoints, printed
        self._validated = 0  # the step of the last one
        self._said_at, self._steps = 0.0, 0

    def state_dict(self) -> dict[str, Any]:
        """The step of the last complete validation, kept in the checkpoint."""
        return {"validated": self._validated}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        self._validated = int(state_dict["validated"])

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Validate first where the checkpoint was saved for a validation that never ended."""
        self._steps = trainer.max_steps  # a stop makes it less
        if 0 < trainer.global_step != self._validated and is_validated_next(trainer):
            loop = trainer.fit_loop.epoch_loop.val_loop
            loop.restarting = False  # from its first batch
            trainer.validating = True
            loop.run()
            trainer.training = True

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin to count the time."""
        self._said_at = time.monotonic()

    def on_validation_batch_end(self, trainer: Trainer, pl_module: LightningModule, outputs: Any, *rest: Any) -> None:
        """Say where it is every ten seconds.

        Raises:
            StoppedInValidationError: the training was asked to end.
        """
        if self._stop.asked and trainer.world_size == 1 and self._checkpoints.saved_at == trainer.global_step:
            raise StoppedInValidationError
        now, done = time.monotonic(), int(rest[1]) + 1
        if self._printed and trainer.is_global_zero and now - self._said_at > SECONDS_BETWEEN_LINES:
            self._said_at = now
            of = int(sum(trainer.num_val_batches))
            print(f"step {trainer.global_step}/{self._steps}  validating, batch {done}/{of}", flush=True)  # noqa: T201

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """It was complete."""
        self._validated = trainer.global_step
