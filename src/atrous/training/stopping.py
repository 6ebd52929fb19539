"""A training that ends before its last step: at a given one, or when asked to, and on all ranks at the same one."""

import signal
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from lightning.pytorch import Callback, LightningModule, Trainer
from torch.distributed.constants import default_pg_timeout


def is_between_steps(trainer: Trainer, batch_idx: int) -> bool:
    """Whether the optimiser has moved on the micro-step `batch_idx`, the last one of its step.

    Only there a state can be saved that goes on to the bit: within a step, gradients have been accumulated that no
    checkpoint holds, and batch norm has seen a part of the step's images.
    """
    return (batch_idx + 1) % trainer.accumulate_grad_batches == 0


def leave_sigterm(trainer: Trainer) -> Trainer:
    """Have Lightning leave SIGTERM to `StopAt`, and to the system before it; returns the Trainer.

    Lightning's own handler speaks with other ranks within the signal and ends the process without a checkpoint. It also
    asks all ranks before each micro-step whether one has heard the signal, which waits for the device.
    """
    trainer._signal_connector.register_signal_handlers = lambda: None  # type: ignore[method-assign]
    trainer.fit_loop.epoch_loop._broadcast_sigterm_tensor = lambda: None  # type: ignore[method-assign]
    return trainer


class StopAt(Callback):
    """Ends the training early, with its checkpoint: at a step, or when asked to (SIGTERM).

    Ranks may hear the signal within different steps. After every step each says whether it has heard one; the answer is
    read after the next, when it is there, so that all ranks stop behind the same step and none waits for the others.

    Args:
        step: where to stop, or None.
        patience: how long a rank waits for the others' answers.

    Attributes:
        asked: whether this rank was asked to end.
    """

    def __init__(self, *, step: int | None, patience: timedelta = default_pg_timeout) -> None:
        self._step, self._patience = step, patience
        self._ranks: Any = None
        self._heard = torch.zeros(1, dtype=torch.uint8)
        self._hearing: dist.Work | None = None
        self.asked = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take SIGTERM over; before, there is nothing to save."""
        signal.signal(signal.SIGTERM, self._ask)
        if trainer.world_size > 1:
            # On CPUs, apart from the gradients: to ask must not make a step wait for its device.
            self._ranks = dist.new_group(backend="gloo", timeout=self._patience)
        if self._step is not None and trainer.global_step >= self._step:
            _end(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Give SIGTERM back: what follows saves nothing halfway, and need not be waited for."""
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        if self._hearing is not None:
            self._hearing.wait()
            self._hearing = None

    def _ask(self, *_: object) -> None:
        self.asked = True

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Stop behind the current step: as the last one, since Trainer.should_stop would validate first."""
        if not is_between_steps(trainer, batch_idx):
            return
        is_asked = self.asked if trainer.world_size == 1 else self._has_any_rank_heard()
        if is_asked or (self._step is not None and trainer.global_step >= self._step):
            _end(trainer)

    def _has_any_rank_heard(self) -> bool:
        """Whether any rank was asked before the end of the step before: the same on all of them."""
        has_heard = False
        if self._hearing is not None:
            self._hearing.wait()
            has_heard = bool(self._heard.item())
        self._heard = torch.tensor([self.asked], dtype=torch.uint8)
        self._hearing = dist.all_reduce(self._heard, dist.ReduceOp.MAX, group=self._ranks, async_op=True)
        return has_heard


def was_asked_to_end(trainer: Trainer) -> bool:
    """Whether a training was, also in its last step, behind which its evaluation is left for the next time."""
    return any(each.asked for each in trainer.callbacks if isinstance(each, StopAt))  # type: ignore[attr-defined]


def _end(trainer: Trainer) -> None:
    trainer.fit_loop.epoch_loop.max_steps = trainer.global_step
