"""A hang is ended in time, with the place where it hung; a busy training is left alone."""

import ctypes
import importlib.util
import inspect
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Event
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn
from torch.amp import grad_scaler
from torch.nn.modules import _functions

from atrous.exit_codes import TEMPORARY, is_of_the_machine, killed_by
from atrous.run_store import RunFolder
from atrous.training import reporting
from atrous.training import watchdog as watchdog_module
from atrous.training.watchdog import Watchdog

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # its thread ends

TRAINER: Any = SimpleNamespace(global_step=7)
MODULE: Any = None


class Clock:
    """The watchdog's: it stands still unless a test has it go on, however long the machine takes."""

    def __init__(self) -> None:
        self._now, self._looks = 1000.0, 0

    def monotonic(self) -> float:
        self._looks += threading.current_thread().name == "watchdog"
        return self._now

    def go_on(self, seconds: float) -> None:
        """Later by less than what is taken for a stop of the process."""
        self._now += seconds

    def wait_for_a_look(self, codes: list[int]) -> None:
        """Until the thread that watches has looked and has done with it: it looks once more, or has ended."""
        seen = self._looks
        while self._looks < seen + 2 and not codes:
            time.sleep(0.005)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(watchdog_module, "time", clock)
    return clock


def wait_in_vain(codes: list[int], clock: Clock) -> None:
    """The function that hangs."""
    clock.go_on(1.0)
    end = time.monotonic() + 60
    while not codes and time.monotonic() < end:
        time.sleep(0.02)


def test_a_hang_leaves_its_stack_and_its_reason(tmp_path: Path, ended: list[int], clock: Clock) -> None:
    folder = RunFolder(tmp_path)
    folder.set_status("running")
    watchdog = Watchdog(folder=folder, seconds=0.3, rank=1)
    watchdog.on_train_start(TRAINER, MODULE)
    watchdog.on_train_batch_end(TRAINER, MODULE)
    wait_in_vain(ended, clock)
    watchdog.on_train_end(TRAINER, MODULE)
    assert ended == [TEMPORARY]
    status = folder.status()
    assert status["state"] == "failed"
    assert "rank 1 showed no sign of life for 0.3 s (trainer.timeout_seconds) after step 7" in status["reason"]
    assert "in wait_in_vain" in (tmp_path / "stack-rank1.txt").read_text()


def test_the_reason_of_the_rank_that_failed_first_stays(tmp_path: Path, ended: list[int], clock: Clock) -> None:
    folder = RunFolder(tmp_path)
    folder.set_status("failed", reason="rank 0 hangs")
    watchdog = Watchdog(folder=folder, seconds=0.2, rank=1)
    watchdog.on_train_start(TRAINER, MODULE)
    wait_in_vain(ended, clock)
    assert ended == [TEMPORARY]
    assert folder.status()["reason"] == "rank 0 hangs"
    assert (tmp_path / "stack-rank1.txt").is_file()


@pytest.mark.parametrize(
    ("told", "by"),
    [
        ("batch 3 of the validation at step 7", lambda each: each.on_validation_batch_end(TRAINER, MODULE, 0, 0, 3)),
        ("the validation at step 7", lambda each: each.on_validation_end(TRAINER, MODULE)),
    ],
)
def test_a_validation_is_a_sign_of_life_too(
    tmp_path: Path, ended: list[int], clock: Clock, told: str, by: Callable[[Watchdog], None]
) -> None:
    watchdog = Watchdog(folder=RunFolder(tmp_path), seconds=0.5, rank=0)
    watchdog.on_train_start(TRAINER, MODULE)
    clock.go_on(0.4)
    by(watchdog)
    clock.go_on(0.4)
    clock.wait_for_a_look(ended)
    assert ended == []
    wait_in_vain(ended, clock)
    assert ended == [TEMPORARY]
    assert f"(trainer.timeout_seconds) after {told}: it was in wait_in_vain" in RunFolder(tmp_path).status()["reason"]


def test_what_may_take_longer_is_waited_for_that_much_longer(
    tmp_path: Path, ended: list[int], clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    watchdog = Watchdog(folder=RunFolder(tmp_path), seconds=0.5, rank=0)
    monkeypatch.setattr(watchdog, "_may_take", lambda: 1.5)
    watchdog.on_train_start(TRAINER, MODULE)
    clock.go_on(1.4)
    clock.wait_for_a_look(ended)
    assert ended == []
    wait_in_vain(ended, clock)
    assert ended == [TEMPORARY]


def test_nothing_ends_the_process_once_the_training_is_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watchdog_module, "_DUMP_SECONDS", 60.0)
    watchdog = Watchdog(folder=RunFolder(tmp_path), seconds=2, rank=0)
    for end in (watchdog.on_train_end, lambda *_: watchdog.on_exception(TRAINER, MODULE, ValueError())):
        watchdog.on_train_start(TRAINER, MODULE)
        threads = [thread for thread in threading.enumerate() if thread.name == "watchdog"]
        while signal.getitimer(signal.ITIMER_REAL)[0] == 0:
            watchdog.note()
            time.sleep(0.01)
        end(TRAINER, MODULE)
        for thread in threads:
            thread.join(60)
        assert not any(thread.is_alive() for thread in threads)
        assert signal.getitimer(signal.ITIMER_REAL)[0] == 0


def _keeps_the_interpreter(folder: Path) -> None:
    Watchdog(folder=RunFolder(folder), seconds=0.5, rank=0).on_train_start(TRAINER, MODULE)
    while signal.getitimer(signal.ITIMER_REAL)[0] == 0:
        time.sleep(0.01)
    ctypes.PyDLL(None).sleep(60)  # with the lock that every thread of Python needs


def test_a_process_in_which_no_thread_of_python_runs_is_ended_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watchdog_module, "_DUMP_SECONDS", 1.0)
    monkeypatch.setattr(Watchdog, "_end", lambda _: None)  # were it late to keep the interpreter
    process = multiprocessing.get_context("fork").Process(target=_keeps_the_interpreter, args=(tmp_path,))
    process.start()
    process.join(40)
    assert process.exitcode == -signal.SIGALRM
    assert is_of_the_machine(process.exitcode), "it is started again"
    assert "timeout_seconds" in killed_by(-process.exitcode)


def _works_without_a_sign(folder: Path, began: Event, over: Connection) -> None:
    watchdog = Watchdog(folder=RunFolder(folder), seconds=2, rank=0)
    watchdog.on_train_start(TRAINER, MODULE)
    began.set()
    over.poll(40)
    watchdog.on_train_end(TRAINER, MODULE)


def test_the_time_for_which_a_process_is_stopped_does_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watchdog_module, "_STOPPED_SECONDS", 1.0)
    context = multiprocessing.get_context("fork")
    began, (over, end) = context.Event(), context.Pipe(duplex=False)
    process = context.Process(target=_works_without_a_sign, args=(tmp_path, began, over))
    process.start()
    assert began.wait(40)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGSTOP)
    time.sleep(2.5)  # more than its time-out, less than twice as much
    os.kill(process.pid, signal.SIGCONT)
    time.sleep(0.5)  # it looks every tenth of a second
    end.send(None)
    process.join(40)
    assert process.exitcode == 0
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("seconds", [0.5, 0.0])
def test_signs_of_life_and_no_timeout_keep_it_quiet(
    tmp_path: Path, ended: list[int], clock: Clock, seconds: float
) -> None:
    watchdog = Watchdog(folder=RunFolder(tmp_path), seconds=seconds, rank=0)
    watchdog.on_train_start(TRAINER, MODULE)
    for _ in range(5):
        clock.go_on(0.4)
        if seconds:
            clock.wait_for_a_look(ended)
        watchdog.on_train_batch_end(TRAINER, MODULE)
    watchdog.on_train_end(TRAINER, MODULE)
    clock.go_on(1.0)
    time.sleep(0.1)
    assert ended == []
    assert list(tmp_path.iterdir()) == []


def test_a_part_is_watched_until_it_ends_and_small_signs_keep_what_was_done(
    tmp_path: Path, ended: list[int], clock: Clock
) -> None:
    folder = RunFolder(tmp_path)
    folder.set_status("running")
    watchdog = Watchdog(folder=folder, seconds=0.5, rank=0)
    with watchdog.watching("the evaluation began"):
        watchdog.note("image 3 of 9")
        for _ in range(5):
            clock.go_on(0.4)
            clock.wait_for_a_look(ended)
            watchdog.note()
    clock.go_on(1.0)
    time.sleep(0.1)
    assert ended == []
    with watchdog.watching("the evaluation began"):
        watchdog.note("image 3 of 9")
        watchdog.note()
        wait_in_vain(ended, clock)
    assert ended == [TEMPORARY]
    assert "0.5 s (trainer.timeout_seconds) after image 3 of 9: it was in wait_in_vain" in folder.status()["reason"]


def test_every_convolution_of_a_first_batch_is_a_sign_of_life_where_kernels_are_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network: Any = nn.Sequential(
        nn.Conv2d(1, 2, 1), nn.Conv2d(2, 2, 1, groups=2), nn.BatchNorm2d(2), nn.Conv2d(2, 1, 1)
    )
    image, signs = torch.ones(1, 1, 2, 2), []
    for tries_kernels in (True, False):
        watchdog = Watchdog(folder=RunFolder(tmp_path), seconds=0, rank=0, tries_kernels=tries_kernels)
        monkeypatch.setattr(watchdog, "note", lambda doing=None: signs.append(doing))
        watchdog.on_train_start(TRAINER, network)
        assert [bool(module._forward_hooks) for module in network] == [tries_kernels, False, False, tries_kernels]
        loss = network(image).sum()
        assert len(signs) == (3 if tries_kernels else 1), "that the training began, and both"
        loss.backward()
        assert len(signs) == (5 if tries_kernels else 1)
        watchdog.on_train_batch_end(TRAINER, network)
        signs.clear()
        network(image).sum().backward()
        assert signs == []
        assert not any(module._forward_hooks for module in network)


@pytest.mark.parametrize("is_first", [True, False])
def test_the_key_of_a_trial_is_named_where_the_first_batch_does_not_end(
    tmp_path: Path, ended: list[int], clock: Clock, is_first: bool
) -> None:
    folder = RunFolder(tmp_path)
    folder.set_status("running")
    watchdog = Watchdog(folder=folder, seconds=0.2, rank=0, tries_kernels=True)
    watchdog.on_train_start(TRAINER, nn.Conv2d(1, 1, 1))  # type: ignore[arg-type]
    if not is_first:
        watchdog.on_train_batch_end(TRAINER)
    wait_in_vain(ended, clock)
    assert ended == [TEMPORARY]
    assert ("trainer.cudnn_benchmark=false" in folder.status()["reason"]) is is_first


@pytest.mark.parametrize(
    ("place", "times"),
    [
        ("torch/distributed/distributed_c10d.py:all_reduce", 1.1),
        ("torch/autograd/graph.py:_engine_run_backward", 1.1),
        ("torch/nn/modules/_functions.py:forward", 1.1),
        ("torch/cuda/streams.py:synchronize", 1.1),
        ("torch/amp/grad_scaler.py:_maybe_opt_step", 1.1),
        ("atrous/training/stopping.py:on_train_batch_end", 1.1),
        ("atrous/training/reporting.py:_mean_over_ranks", 1.1),
        ("atrous/training/reporting.py:on_train_batch_end", 1),  # it writes
        ("torch/nn/functional.py:relu", 1),
        ("torch/_dynamo/convert_frame.py:_compile", 10),
        ("torch/_inductor/compile_fx.py:compile_fx", 10),
        ("torch/_dynamo/eval_frame.py:compile_wrapper", 1),  # around what was compiled too
    ],
)
def test_a_rank_that_waits_for_others_or_compiles_may_take_longer(tmp_path: Path, place: str, times: float) -> None:
    watchdog = Watchdog(folder=RunFolder(tmp_path), seconds=2, rank=0)
    file, name = place.split(":")

    def ask() -> float:
        return watchdog._may_take()

    ask.__code__ = ask.__code__.replace(co_filename=f"/site-packages/{file}", co_name=name)
    assert ask() == times * 2
    with (
        ThreadPoolExecutor() as pool
    ):  # autograd compiles in a thread of its own; only the watched one waits for others
        assert pool.submit(ask).result() == (20 if times == 10 else 2)


def test_the_places_where_a_rank_waits_are_there() -> None:
    assert inspect.getsourcefile(torch.cuda.Event.synchronize) == torch.cuda.streams.__file__
    for module, name in (
        (grad_scaler, "_maybe_opt_step"),
        (_functions, "SyncBatchNorm"),
        (reporting, "_mean_over_ranks"),
    ):
        assert name in Path(str(module.__file__)).read_text()
    for compiler, name in (
        ("torch._dynamo.convert_frame", "def _compile("),
        ("torch._inductor.compile_fx", "def compile_fx("),
    ):
        found = importlib.util.find_spec(compiler)
        assert found is not None
        assert name in Path(str(found.origin)).read_text()
