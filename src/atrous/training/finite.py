"""Numbers that are not finite: found before anything is saved, and kept for whoever looks for the cause.

On a CPU, and wherever such steps are left out, they are found before they reach the weights.
"""

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from atrous.data.loading import Sample
from atrous.errors import AtrousError
from atrous.run_store import RunFolder
from atrous.training.kept_batches import keep_batch

MOST_IN_A_ROW = 10
MOST_SCALES = 20  # that overflow in a row: from 2^16, where a scaler begins, to below 1
_LAG = 2  # steps that CUDA may be behind before its flags are waited for
_SHOWN = 4


class DivergedError(AtrousError):
    """The loss or a gradient is not a finite number."""


@dataclass(frozen=True)
class _Step:
    """What was seen of one optimiser step; `flags` are 1 where the loss, or a parameter's gradient, is at fault."""

    number: int
    batches: list[Sample]
    loss: Tensor
    names: list[str]
    flags: Tensor
    ready: torch.cuda.Event | None


class FiniteGuard(Callback):
    """Ends the training, or leaves a step out, when the loss or a gradient is not finite.

    Under DDP the flags are reduced over the ranks on the device, so all of them decide alike. The batch at fault is
    written to `<run>/nonfinite/step<k>.pt` (with several ranks `step<k>-rank<r>.pt`), which `torch.load` reads with
    `weights_only=True`: image, label, extent, index, ids, step, rank, loss, and the parameters whose gradient is not
    finite.

    `stop` never waits for the device: on CUDA the flags of a step are read when two more are on their way, and before
    anything is logged or saved. `skip` has to know before the optimiser moves: it costs one synchronisation per step.
    A step that is left out changes neither weights nor momentum nor the statistics of batch norm; the schedule goes on.
    With a gradient scaler (16-mixed), which leaves steps out by itself, only the loss counts; it is told that the step
    is to be left out, and lowers its scale. Gradients alone end the training when they overflow at every scale that it
    tries.

    Args:
        folder: the run's folder.
        action: stop or skip.
        every: optimiser steps between two entries of the log.
        sample_id: name of a training image by its position.
    """

    def __init__(self, *, folder: RunFolder, action: str, every: int, sample_id: Callable[[int], str]) -> None:
        self._folder, self._skips, self._every = folder, action == "skip", max(1, every)
        self._sample_id = sample_id
        self.skipped, self._in_a_row, self._scales = 0, 0, 0
        self._batches: list[Sample] = []
        self._losses: list[Tensor] = []
        self._pending: deque[_Step] = deque()
        self._buffers: list[Tensor] = []
        self._saved: list[Tensor] = []

    def state_dict(self) -> dict[str, Any]:
        """How many steps were left out, kept in the checkpoint."""
        return {"skipped": self.skipped, "in_a_row": self._in_a_row}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        self.skipped, self._in_a_row = int(state_dict["skipped"]), int(state_dict["in_a_row"])

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Make room for what a step would have to take back."""
        self._buffers = list(pl_module.buffers()) if self._skips else []
        self._saved = [buffer.clone() for buffer in self._buffers]

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Sample, batch_idx: int) -> None:
        """Hold on to the batch until its step is known to be finite."""
        if not self._batches:
            _copy(self._buffers, self._saved)
        self._batches.append(batch)

    def on_before_backward(self, trainer: Trainer, pl_module: LightningModule, loss: Tensor) -> None:
        """Hold on to the loss of a micro-step."""
        self._losses.append(loss.detach())

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Any) -> None:
        """Look at the loss and the reduced gradients.

        Raises:
            DivergedError: with the step, the images and what would help.
        """
        self._pending.append(self._seen(trainer, pl_module))
        self._batches, self._losses = [], []
        is_late = trainer.strategy.root_device.type == "cuda" and not self._skips
        self._settle(trainer, pl_module, leave=_LAG if is_late else 0)

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """Know before the log does."""
        if trainer.global_step % self._every == 0:
            self._settle(trainer, pl_module)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Nothing that is not finite is saved."""
        self._settle(trainer, pl_module)

    def _seen(self, trainer: Trainer, module: LightningModule) -> _Step:
        gradients = {name: p.grad for name, p in module.named_parameters() if p.grad is not None}
        loss = torch.stack(self._losses).sum().float()
        if (scaler := _scaler(trainer)) is not None:
            loss = loss / scaler.scale(torch.ones_like(loss))  # its own scale waits for the device
        # The 2-norm: on CPUs the largest magnitude takes six times as long. It overflows above 1e19, as bad as inf.
        norms = torch._foreach_norm(list(gradients.values())) if gradients else ()
        flags = torch.stack([loss, *(value.float() for value in norms)]).isfinite().logical_not().to(torch.uint8)
        if trainer.world_size > 1:
            dist.all_reduce(flags, dist.ReduceOp.MAX)
        ready = None
        if flags.is_cuda:
            # Page-locked: a copy to any other memory would wait for the device.
            flags = torch.empty_like(flags, device="cpu", pin_memory=True).copy_(flags, non_blocking=True)
            ready = torch.cuda.Event()  # type: ignore[no-untyped-call]
            ready.record()
        return _Step(trainer.global_step + 1, self._batches, loss, list(gradients), flags, ready)

    def _settle(self, trainer: Trainer, module: LightningModule, *, leave: int = 0) -> None:
        """Decide about all pending steps but the newest `leave`; every rank does so at the same steps."""
        while len(self._pending) > leave:
            step = self._pending.popleft()
            if step.ready is not None:
                step.ready.synchronize()
            if not bool(step.flags.any()):
                self._in_a_row, self._scales = 0, 0
                continue
            if _scaler(trainer) is not None and not bool(step.flags[0]):
                self._scales += 1
                if self._scales >= MOST_SCALES:
                    hint = "lower recipe.optimizer.lr, or use recipe.precision=32-true"
                    tried = f"so were those of the {MOST_SCALES - 1} steps before, at half the scale each time"
                    raise DivergedError(f"{self._problem(trainer, step)}; {tried}: {hint}")
                continue
            self._in_a_row += 1
            problem = self._problem(trainer, step)
            if not self._skips:
                hint = "lower recipe.optimizer.lr, use recipe.precision=32-true, or leave such steps out by "
                raise DivergedError(f"{problem}: {hint}trainer.on_nonfinite=skip")
            if self._in_a_row >= MOST_IN_A_ROW:
                hint = "lower recipe.optimizer.lr, or use recipe.precision=32-true"
                raise DivergedError(f"{problem}; so were the {MOST_IN_A_ROW - 1} steps before: {hint}")
            self._take_back(trainer, module)
            if trainer.is_global_zero:
                print(f"left out: {problem}", flush=True)  # noqa: T201

    def _take_back(self, trainer: Trainer, module: LightningModule) -> None:
        self.skipped += 1
        has_scaler = _scaler(trainer) is not None
        for parameter in module.parameters():
            if not has_scaler:
                parameter.grad = None  # the optimiser passes over it, its momentum and its weight decay
            elif parameter.grad is not None:
                parameter.grad.fill_(math.inf)  # the scaler looks at it, and leaves the step out
        _copy(self._saved, self._buffers)

    def _problem(self, trainer: Trainer, step: _Step) -> str:
        """What is wrong with a step, in words; every rank keeps its batch."""
        names = [name for name, flag in zip(step.names, step.flags[1:].tolist(), strict=True) if flag]
        ids = [self._sample_id(int(index)) for batch in step.batches for index in batch["index"]]
        loss, rank = float(step.loss), trainer.global_rank
        facts = {"ids": ids, "step": step.number, "rank": rank, "loss": loss, "parameters": names}
        own = (loss, ids, keep_batch(self._folder, step.batches, facts, ranks=trainer.world_size))
        of_ranks: list[Any] = [own]
        if trainer.world_size > 1:
            of_ranks = [None] * trainer.world_size
            dist.all_gather_object(of_ranks, own)
        # A gradient is that of all ranks; whose batch it was is told by the losses, where they can.
        blamed = [one for one in of_ranks if not math.isfinite(one[0])] or of_ranks
        blamed_ids = [name for _, of_rank, _ in blamed for name in of_rank]
        more = f" and {len(blamed_ids) - _SHOWN} more" if len(blamed_ids) > _SHOWN else ""
        where = blamed[0][2] + (f", and {len(blamed) - 1} of other ranks beside it" if len(blamed) > 1 else "")
        shown = f"images {', '.join(blamed_ids[:_SHOWN])}{more}; {where}"
        if not math.isfinite(blamed[0][0]):
            return f"the loss is {blamed[0][0]} at step {step.number} ({shown})"
        what = f"the gradients of {len(names)} parameters, first {names[0]}, are not finite"
        return f"{what} at step {step.number} ({shown})"


def _scaler(trainer: Trainer) -> Any:
    """The scaler of float16's gradients, None in other precisions."""
    return getattr(trainer.precision_plugin, "scaler", None)


def _copy(source: list[Tensor], target: list[Tensor]) -> None:
    if source:
        torch._foreach_copy_(target, source)
