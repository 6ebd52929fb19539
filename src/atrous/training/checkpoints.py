"""Checkpoints that survive a kill: written beside the old one, flushed, renamed; read as data only.

The state before the last one stays as previous.ckpt: a disk that damages last.ckpt costs the steps between the two.
"""

import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.plugins.io import TorchCheckpointIO

from atrous import run_files
from atrous.errors import CheckpointError, UnreachableError
from atrous.files import set_aside, write_atomically
from atrous.run_store import RunFolder
from atrous.training.stopping import is_between_steps
from atrous.weights.torch_files import read_torch


class AtomicCheckpointIO(TorchCheckpointIO):
    """Lightning's file access, atomic and with `weights_only=True`."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write `checkpoint` to `path`, which holds either the old or the new one at any time.

        Args:
            checkpoint: tensors and plain values.
            path: the file.
            storage_options: a path that the file which is replaced keeps living under, or None.
        """

        def write(stream: BinaryIO) -> None:
            torch.save(checkpoint, stream)
            if storage_options is not None:  # only now: until the new one is written, the one before stays too
                _keep(Path(path), Path(storage_options))

        write_atomically(Path(path), write, size=_bytes(checkpoint))

    def load_checkpoint(self, path: Any, map_location: Any = "cpu", weights_only: bool | None = True) -> dict[str, Any]:
        """Read a checkpoint as tensors and plain values, never as code.

        Args:
            path: the file.
            map_location: where tensors are read to. Lightning gives none, and moves them to the device of its rank; the
                one that saved them may be another rank's, or not in this machine.
            weights_only: Lightning's, without effect: nothing else is read.
        """
        return read_checkpoint(Path(path), map_location=map_location)


def _keep(path: Path, name: Path) -> None:
    """Give a file a second name, under which it outlives its replacement: a link, not a second write."""
    link = name.with_name(f".{name.name}.{os.getpid()}")
    with suppress(OSError):  # there is none yet, or the file system has no links: then there is no second one
        link.hardlink_to(path)
        link.replace(name)
    link.unlink(missing_ok=True)


def _bytes(content: Any) -> int:
    """What the tensors of a checkpoint take on the disk, in bytes."""
    if isinstance(content, torch.Tensor):
        return content.numel() * content.element_size()
    if isinstance(content, dict):
        return sum(map(_bytes, content.values()))
    return sum(map(_bytes, content)) if isinstance(content, list | tuple) else 0


def read_checkpoint(path: Path, *, map_location: Any = "cpu") -> dict[str, Any]:
    """A checkpoint's content.

    Raises:
        UnreachableError: it cannot be read now.
        CheckpointError: not there, truncated, not made of tensors and plain values, or without the weights or step.
    """
    if not path.is_file():
        raise CheckpointError(f"{path}: {'a folder, no' if path.is_dir() else 'no such'} checkpoint")
    content = read_torch(path, map_location=map_location)
    if not isinstance(content.get("state_dict"), dict):
        raise CheckpointError(f"{path}: holds no state_dict; expected a checkpoint of atrous-train")
    step = content.get("global_step")
    if not isinstance(step, int) or step < 0:
        raise CheckpointError(f"{path}: global_step={step!r} is no step; expected a checkpoint of atrous-train")
    return content


def newest_checkpoint(folder: RunFolder, *, mends: bool) -> tuple[Path | None, int]:
    """Where a run goes on: last.ckpt, or the one before it where that cannot be read.

    Ranks may call this at the same time, and find the same state.

    Args:
        folder: of the run.
        mends: whether to clear away what a kill left, to set a damaged last.ckpt aside and to put previous.ckpt in its
            place; for one of the ranks.

    Returns:
        The file, None where nothing was saved yet, and its step.

    Raises:
        UnreachableError: last.ckpt cannot be read now; it may be whole, and stays.
        CheckpointError: last.ckpt cannot be read, nor can the one before it, or `checkpoints` is no folder.
    """
    last, previous = folder.last_checkpoint, folder.previous_checkpoint
    _require_place(last)
    for torn in last.parent.glob(".*.ckpt.*") if mends else ():
        torn.unlink(missing_ok=True)  # half a checkpoint, whose process was killed while it wrote
    if not last.exists() and not previous.is_file():
        return None, 0
    try:
        return last, int(read_checkpoint(last)["global_step"])
    except UnreachableError:
        raise
    except CheckpointError as error:
        problem = error
    try:
        step = int(read_checkpoint(previous)["global_step"])
    except CheckpointError:
        raise problem from None
    if mends:
        kept = f", kept as {set_aside(last).name}" if last.exists() else ""
        _keep(previous, last)
        print(f"{problem}{kept}: going on from {previous.name}, step {step}", file=sys.stderr, flush=True)  # noqa: T201
    return previous, step


def _require_place(last: Path) -> None:
    """Refuse links to what is not there now, as on a disk that is away: a training would begin anew in their place."""
    for path in (last.parent, last):
        if path.is_symlink() and not path.exists():
            raise UnreachableError(f"{path}: a link to {path.readlink()}, which is not there now")
    if last.parent.exists() and not last.parent.is_dir():
        raise CheckpointError(f"{last.parent}: not a folder; move it away and run the same command again")


def is_validated_next(trainer: Trainer) -> bool:
    """Whether the batch that was trained last is one after which the network is scored on val."""
    every = trainer.val_check_batch
    if not trainer.enable_validation or every is None:
        return False
    return bool((trainer.fit_loop.total_batch_idx + 1) % every == 0)


class Checkpoints(Callback):
    """Saves `last` every so many steps, before a validation and at the end, `best` whenever val improves.

    Args:
        folder: the run's folder.
        every: optimiser steps between two saves of `last`.

    Attributes:
        saved_at: the step of `last`, -1 where there is none.
    """

    def __init__(self, *, folder: RunFolder, every: int) -> None:
        self._folder, self._every = folder, max(1, every)
        self._best, self.saved_at = -1.0, -1
        self._scored_since = False  # `last` was saved

    def state_dict(self) -> dict[str, Any]:
        """The best score so far, kept in the checkpoint."""
        return {"best": self._best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        self._best = float(state_dict["best"])

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """A training that goes on was saved where it begins."""
        self.saved_at = trainer.global_step or -1

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save `last` when it is time."""
        if not is_between_steps(trainer, batch_idx):
            return
        step = trainer.global_step
        is_time = step % self._every == 0 or is_validated_next(trainer)
        if is_time and step != self.saved_at and step < trainer.max_steps:
            self._save(trainer, step)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save `best` when val has improved."""
        self._scored_since = True
        score = float(trainer.callback_metrics.get("val/miou", -1.0))
        if score > self._best and not trainer.sanity_checking:
            run_files.require(self._folder.path)
            self._best = score
            trainer.save_checkpoint(self._folder.best_checkpoint)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save the final state, scores included."""
        if trainer.global_step != self.saved_at or self._scored_since:
            self._save(trainer, trainer.global_step)

    def _save(self, trainer: Trainer, step: int) -> None:
        run_files.require(self._folder.path)
        trainer.save_checkpoint(self._folder.last_checkpoint, storage_options=self._folder.previous_checkpoint)
        self.saved_at, self._scored_since = step, False
