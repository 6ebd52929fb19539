"""Small trainings of accumulated steps that are asked to end, and ranks that agree on where."""

from __future__ import annotations

import multiprocessing
import os
import signal
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
import torch.distributed as dist
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.strategies import DDPStrategy
from torch import Tensor
from torch.multiprocessing.spawn import start_processes
from torch.utils.data import DataLoader, TensorDataset

from atrous.run_store import RunFolder
from atrous.training.checkpoints import AtomicCheckpointIO, Checkpoints, read_checkpoint
from atrous.training.stopping import StopAt, leave_sigterm, was_asked_to_end

from .small_trainer import small_trainer

BEFORE = -2


class _Module(LightningModule):
    """One weight, whose gradient is the batch: a lost micro-step shows in it."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        return -self.weight * batch[0].mean()

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.01)


class _SigtermBefore(Callback):
    """Sends this process SIGTERM when the training is about to start."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        os.kill(os.getpid(), signal.SIGTERM)


class _SigtermIn(Callback):
    """Sends this process SIGTERM while a micro-step, counted from 0, is at work."""

    def __init__(self, micro_step: int) -> None:
        self._micro_step = micro_step

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        if batch_idx == self._micro_step:
            os.kill(os.getpid(), signal.SIGTERM)


def _fit(path: Path, *, asked_in: int = -1, until: int | None = None, accumulate: int = 2, **options: Any) -> Trainer:
    """Up to six steps of `accumulate` micro-steps, from the checkpoint in `path` if there is one."""
    folder = RunFolder(path)
    path.mkdir(exist_ok=True)
    first = _SigtermBefore() if asked_in == BEFORE else _SigtermIn(asked_in)
    callbacks = [first, Checkpoints(folder=folder, every=1), StopAt(step=until)]
    trainer = small_trainer(
        callbacks,
        val_every=100,
        accumulate_grad_batches=accumulate,
        enable_progress_bar=False,
        plugins=[AtomicCheckpointIO()],
        **options,
    )
    leave_sigterm(trainer)
    saved = folder.last_checkpoint
    done = read_checkpoint(saved)["global_step"] * accumulate if saved.is_file() else 0
    values = torch.arange(100.0)[done:]
    trainer.fit(_Module(), DataLoader(TensorDataset(values)), ckpt_path=str(saved) if done else None)
    return trainer


def _weight(path: Path) -> Tensor:
    weight: Tensor = read_checkpoint(RunFolder(path).last_checkpoint)["state_dict"]["weight"]
    return weight


@pytest.mark.parametrize("micro_step", [0, 3, 4, 5])
def test_a_stop_waits_for_the_end_of_its_accumulated_step(tmp_path: Path, micro_step: int) -> None:
    stopped = _fit(tmp_path, asked_in=micro_step)
    assert stopped.global_step == micro_step // 2 + 1
    assert stopped.fit_loop.epoch_loop.batch_progress.current.completed == 2 * stopped.global_step
    assert _fit(tmp_path).global_step == 6
    _fit(tmp_path / "straight")
    assert torch.equal(_weight(tmp_path), _weight(tmp_path / "straight"))


@pytest.mark.parametrize("micro_step", [9, 10, 11])
def test_a_stop_in_the_last_step_is_known_behind_it(tmp_path: Path, micro_step: int) -> None:
    asked = _fit(tmp_path, asked_in=micro_step)
    assert asked.global_step == (micro_step // 2) + 1
    assert was_asked_to_end(asked)
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL, "what follows need not be waited for"


def test_a_stop_before_the_first_step_ends_the_process_at_once(tmp_path: Path) -> None:
    process = multiprocessing.get_context("fork").Process(target=_fit, args=(tmp_path,), kwargs={"asked_in": BEFORE})
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGTERM


def test_nothing_is_saved_within_an_accumulated_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[int] = []
    save = Trainer.save_checkpoint

    def seen(trainer: Trainer, *arguments: Any, **options: Any) -> None:
        done.append(trainer.fit_loop.epoch_loop.batch_progress.current.ready)
        save(trainer, *arguments, **options)

    monkeypatch.setattr(Trainer, "save_checkpoint", seen)
    _fit(tmp_path, accumulate=3)
    assert done == [3, 6, 9, 12, 15, 18]


def test_a_training_that_is_at_the_step_to_stop_at_makes_no_further_one(tmp_path: Path) -> None:
    _fit(tmp_path, until=3)
    before = _weight(tmp_path)
    assert _fit(tmp_path, until=3).global_step == 3
    assert torch.equal(_weight(tmp_path), before)


def _rank(rank: int, path: Path, port: int) -> None:
    names = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    names |= {"TORCHELASTIC_USE_AGENT_STORE": True, "TORCHELASTIC_RESTART_COUNT": 0}  # the store of the test
    os.environ.update({name: str(value) for name, value in names.items()})
    torch.set_num_threads(1)
    strategy = DDPStrategy(process_group_backend="gloo")
    told = mock.Mock(wraps=dist.broadcast)
    with mock.patch.object(dist, "broadcast", told):
        trainer = _fit(path, asked_in=2 if rank else -1, accumulate=1, strategy=strategy, devices=2)
    (path / f"rank{rank}").write_text(f"{trainer.global_step} {told.call_count}")


def test_ranks_stop_behind_one_step_when_one_of_them_is_asked(tmp_path: Path) -> None:
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)  # type: ignore[attr-defined]
    start_processes(_rank, args=(tmp_path, store.port), nprocs=2, start_method="fork")  # type: ignore[no-untyped-call]
    # Asked in the third step, which it tells behind it; all of them know behind the fourth.
    told = "and no step waits for another rank's or a device's answer to a broadcast"
    assert [(tmp_path / f"rank{rank}").read_text() for rank in (0, 1)] == ["4 0", "4 0"], told
    assert read_checkpoint(RunFolder(tmp_path).last_checkpoint)["global_step"] == 4
