"""A rank that hangs is ended, and says where it hung."""

import faulthandler
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any, BinaryIO

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import nn

from atrous.exit_codes import TEMPORARY
from atrous.files import write_atomically
from atrous.run_store import RunFolder

# Where a rank is that waits for another one, FILE:FUNCTION. NCCL exchanges on the device: a rank goes on, and waits
# where it next needs a number from there.
_WAITING_IN = (
    "torch/distributed/",
    "torch/autograd/graph.py:",
    "torch/nn/modules/_functions.py:",  # SyncBatchNorm
    "torch/cuda/",  # Event.synchronize
    "torch/amp/grad_scaler.py:",
    "atrous/training/stopping.py:",
    "atrous/training/reporting.py:_mean_over_ranks",
)
# Where torch.compile makes a pass, which may take many times as long as a step; what it made runs elsewhere. A backward
# pass may be made in a thread of autograd.
_COMPILING_IN = ("torch/_dynamo/convert_frame.py:", "torch/_inductor/compile_fx.py:")
_COMPILING_MAY_TAKE = 10  # times as long
_STOPPED_SECONDS = 5.0  # that a thread is late only where its process did not run
_DUMP_SECONDS = 5.0  # from the stacks to the end


class Watchdog(Callback):
    """Ends this process when its training, or what it is told to watch, shows no sign of life for too long.

    The stacks of all threads go to `<run>/stack-rank<k>.txt` and to the log, the reason to status.json, and the process
    ends with `exit_codes.TEMPORARY`. A rank that is in the middle of an exchange with others gets a tenth more time, so
    that the one that is waited for ends first and bears the blame; one that compiles gets ten times as much. When not
    even a thread of Python runs any more (the interpreter's lock is held, or the disk hangs), `faulthandler` prints the
    stacks after twice the time, and SIGALRM ends the process. The time for which a process is stopped (SIGSTOP, a
    suspended job) does not count, up to there.

    Args:
        folder: the run's folder.
        seconds: without a sign of life, such as a step or a validation batch; 0 watches nothing.
        rank: of this process.
        tries_kernels: whether cuDNN chooses by trial, which in exact float32 may take longer for a first batch than a
            step may. Until that has ended, every convolution is a sign of life.
    """

    def __init__(self, *, folder: RunFolder, seconds: float, rank: int, tries_kernels: bool = False) -> None:
        self._folder, self._seconds, self._rank = folder, seconds, rank
        self._tries, self._trial = tries_kernels, ExitStack()
        self._sign, self._doing = time.monotonic(), "it began"
        self._over = threading.Event()
        self._watched = threading.main_thread().ident

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin to watch."""
        if self._tries:
            self._trial.enter_context(signs_of(pl_module, self))
        self._begin("the training began")

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        """A sign of life."""
        self._end_trial()
        self.note(f"step {trainer.global_step}")

    def on_validation_batch_end(self, trainer: Trainer, pl_module: LightningModule, outputs: Any, *rest: Any) -> None:
        """A sign of life."""
        self.note(f"batch {rest[1]} of the validation at step {trainer.global_step}")

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """A sign of life."""
        self.note(f"the validation at step {trainer.global_step}")

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Watch no longer: what follows has no steps."""
        self._end_trial()
        self._over.set()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Watch no longer: the process is about to end anyway."""
        self._end_trial()
        self._over.set()

    @contextmanager
    def watching(self, doing: str) -> Iterator[None]:
        """Watch a part of the calling thread that tells its signs of life by `note`.

        Args:
            doing: what begins.
        """
        self._begin(doing)
        try:
            yield
        finally:
            self._over.set()

    def note(self, doing: str | None = None) -> None:
        """A sign of life.

        Args:
            doing: what was done; None for a smaller part of what is done next.
        """
        self._sign, self._doing = time.monotonic(), doing or self._doing

    def _end_trial(self) -> None:
        self._tries = False
        self._trial.close()

    def _begin(self, doing: str) -> None:
        self.note(doing)
        if self._seconds > 0:
            self._watched = threading.get_ident()
            self._over.clear()
            threading.Thread(target=self._watch, name="watchdog", daemon=True).start()

    def _watch(self) -> None:
        interval, looked = min(1.0, self._seconds / 20), time.monotonic()
        try:
            while not self._over.wait(interval):
                # Armed again and again by this thread, they go off only when this thread cannot run.
                faulthandler.dump_traceback_later(2 * self._seconds, file=sys.__stderr__ or 2)
                signal.setitimer(signal.ITIMER_REAL, 2 * self._seconds + _DUMP_SECONDS)
                before, looked = looked, time.monotonic()
                if looked - before > interval + _STOPPED_SECONDS:  # nor could the thread that is watched
                    self._sign += looked - before
                silent = looked - self._sign
                if silent > self._seconds and silent > self._may_take() + interval:
                    self._end()
        finally:
            faulthandler.cancel_dump_traceback_later()
            signal.setitimer(signal.ITIMER_REAL, 0)

    def _stack(self) -> list[traceback.FrameSummary]:
        frame = sys._current_frames().get(self._watched or 0)
        return list(traceback.extract_stack(frame)) if frame is not None else []

    def _may_take(self) -> float:
        """Seconds without a sign of life that what this process is doing now may take."""
        stacks = [traceback.extract_stack(frame) for frame in sys._current_frames().values()]
        if any(_is_in(_COMPILING_IN, stack) for stack in stacks):
            return _COMPILING_MAY_TAKE * self._seconds
        return 1.1 * self._seconds if _is_in(_WAITING_IN, self._stack()) else self._seconds

    def _end(self) -> None:
        stack = self._stack()
        place = f"{stack[-1].name} ({stack[-1].filename}:{stack[-1].lineno})" if stack else "a place without a stack"
        path = self._folder.path / f"stack-rank{self._rank}.txt"
        reason = (
            f"rank {self._rank} showed no sign of life for {self._seconds:g} s (trainer.timeout_seconds) after "
            f"{self._doing}: it was in {place}; the stacks of its threads are in {path}"
        )
        if self._tries:
            reason += "; cuDNN may have tried kernels for the first batch, as trainer.cudnn_benchmark=false does not"
        with suppress(Exception):
            write_atomically(path, lambda stream: _write_stacks(stream, reason))
        with suppress(Exception):
            if self._folder.status()["state"] != "failed":  # the first reason is the cause of the others
                self._folder.set_status("failed", reason=reason, exit_code=TEMPORARY)
        print(f"error: {reason}", file=sys.stderr, flush=True)  # noqa: T201
        faulthandler.dump_traceback(file=sys.__stderr__ or 2, all_threads=True)
        os._exit(TEMPORARY)


@contextmanager
def signs_of(model: nn.Module, watchdog: Watchdog) -> Iterator[None]:
    """A sign of life with every convolution, forward and backward.

    One image at six scales may take a CPU longer than a step may, and so may cuDNN's trial of its kernels. A batch norm
    or a depthwise convolution with a hook is no plain one, and would take the memory of one more map.
    """

    def note(*_: Any) -> None:
        watchdog.note()

    def note_both(_module: nn.Module, _inputs: Any, output: torch.Tensor) -> None:
        note()
        if output.requires_grad:
            output.register_hook(note)  # type: ignore[no-untyped-call]

    convolutions = [module for module in model.modules() if isinstance(module, nn.Conv2d) and module.groups == 1]
    hooks = [module.register_forward_hook(note_both) for module in convolutions]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _is_in(parts: tuple[str, ...], stack: Iterable[traceback.FrameSummary]) -> bool:
    places = [f"{frame.filename.replace(os.sep, '/')}:{frame.name}" for frame in stack]
    return any(part in place for place in places for part in parts)


def _write_stacks(stream: BinaryIO, reason: str) -> None:
    stream.write(f"{reason}\n\n".encode())
    stream.flush()
    faulthandler.dump_traceback(file=stream.fileno(), all_threads=True)
