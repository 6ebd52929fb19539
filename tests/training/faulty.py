"""atrous-train with faults: `python faulty.py train OVERRIDE...`; its jobs run in this file too, by `faulty.py job`.

`faulty.py fork FOLDER PROTOCOL...` runs a job for each line of its input, and answers with its process and exit code.

FAULTS is JSON, a list of {"kind": hang | kill | nan | memory | slow | worker, "step": k} with, where they are not any,
"rank": r and "times": n (processes that it strikes, counted by files in FAULTS_LOG). Steps are counted from 1.
"""

import json
import os
import signal
import sys
import time
from multiprocessing import active_children
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from atrous import run_process
from atrous.training import job, run
from atrous.training import trainer as trainer_module


class Faults(Callback):
    """What goes wrong in this process."""

    def __init__(self) -> None:
        rank = int(os.environ.get("RANK", "0"))
        faults = json.loads(os.environ.get("FAULTS", "[]"))
        self._faults = [fault for fault in faults if fault.get("rank", rank) == rank]

    def on_before_backward(self, trainer: Trainer, pl_module: LightningModule, loss: Tensor) -> None:
        for fault in self._faults:
            if fault["step"] == trainer.global_step + 1 and _is_still_to_strike(fault):
                strike(fault["kind"], loss)


def strike(kind: str, loss: Tensor) -> None:
    if kind == "nan":  # as an overflow in the backward pass of this rank
        loss.register_hook(lambda gradient: gradient * float("nan"))  # type: ignore[no-untyped-call]
    if kind == "hang":
        sleep_forever()
    if kind == "slow":
        time.sleep(17)  # two of them are longer than the half minute that torchrun gives
    if kind == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if kind == "worker":
        os.kill(next(child.pid for child in active_children() if child.pid), signal.SIGKILL)
    if kind == "memory":
        raise RuntimeError("[enforce fail at alloc_cpu.cpp:117] err == 0. DefaultCPUAllocator: can't allocate memory")


def sleep_forever() -> None:
    while True:
        time.sleep(3600)


def _is_still_to_strike(fault: dict[str, Any]) -> bool:
    if "times" not in fault:
        return True
    log = Path(os.environ["FAULTS_LOG"])
    log.mkdir(exist_ok=True)
    before = len(list(log.iterdir()))
    if before < fault["times"]:
        (log / str(before)).touch()
    return before < int(fault["times"])


def _build_trainer(*arguments: Any, **options: Any) -> Trainer:
    trainer = _BUILD_TRAINER(*arguments, **options)
    trainer.callbacks.insert(0, Faults())  # type: ignore[attr-defined]
    return trainer


def serve(arguments: list[str]) -> None:
    """Start the job anew for every line that is read: a fork, which spares it the seconds of all imports."""
    for _ in sys.stdin:
        process = os.fork()
        if process == 0:
            os.dup2(2, 1)
            os._exit(job.main(arguments))
        print(process, flush=True)  # noqa: T201
        print(os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]), flush=True)  # noqa: T201


_BUILD_TRAINER = trainer_module.build_trainer

if __name__ == "__main__":
    program = (str(Path(__file__).resolve()), "job")
    setattr(run_process, "PROGRAM", program)  # noqa: B010
    setattr(run, "build_trainer", _build_trainer)  # noqa: B010
    mode, *rest = sys.argv[1:]
    if mode == "fork":
        serve(rest)
        sys.exit()
    if mode == "job":
        sys.exit(job.main(rest))
    from atrous.commands.train import main

    sys.argv = ["atrous-train", *rest]
    main()
