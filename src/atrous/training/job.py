"""The process that trains one run: `python -m atrous.training.job FOLDER PROTOCOL...`, started by atrous-train.

It reads config.yaml, goes on from last.ckpt if there is one, and leaves results.json. With more than one device it
starts a process for each through torchrun, unless it is one of several that were started elsewhere (RANK is set).
"""

import os
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from atrous import full_memory, run_process
from atrous.errors import AtrousError, StoreError
from atrous.exit_codes import DONE, FAILED, TEMPORARY, killed_by
from atrous.hardware import usable_cores
from atrous.processes import ask_to_end, bound_command, members
from atrous.run_files import gone
from atrous.run_store import RunFolder
from atrous.terminal import lasting_output


def main(arguments: Sequence[str]) -> int:
    """Run one job.

    Args:
        arguments: the run's folder, then the protocols that are missing.

    Returns:
        The exit code; see `atrous.exit_codes`.
    """
    folder, protocols = RunFolder(Path(arguments[0])), list(arguments[1:])
    try:
        config = folder.config()
    except AtrousError as error:
        _fail(folder, str(error))
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        return FAILED
    # SLURM sends submitit's signal to every process of a task; the one that waits for this one takes it, and asks.
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    if "RANK" not in os.environ and config["trainer"]["nodes"] > 1:
        reason = f"trainer.nodes={config['trainer']['nodes']}, but this process was started on one machine alone"
        with folder.noting(f"failed: {reason}"):
            folder.set_status("failed", reason=reason, exit_code=FAILED)
        return FAILED
    if "RANK" not in os.environ and config["trainer"]["devices"] > 1:
        return _start_ranks(arguments, int(config["trainer"]["devices"]))
    kills = full_memory.kills()
    try:
        os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"
        from atrous.training.run import train_and_evaluate

        _quieten()
        train_and_evaluate(folder, config, protocols)
    except Exception as error:
        return _note_error(folder, error, config, has_killed=full_memory.kills() > kills)
    return DONE


def _note_error(folder: RunFolder, error: Exception, config: Mapping[str, Any], *, has_killed: bool) -> int:
    """Say what ended the run, in words where there are some; returns the exit code."""
    from atrous.training.memory import advice, is_of_killed_worker, is_out_of_memory

    is_full = is_out_of_memory(error)
    if told := str(error) if isinstance(error, AtrousError) else "" if is_full else _problem_of_folder(folder, error):
        _fail(folder, told)
        print(f"error: {told}", file=sys.stderr)  # noqa: T201
        return FAILED
    said, code = f"{type(error).__name__}: {error}".strip(), TEMPORARY if is_of_killed_worker(error) else FAILED
    if is_full:
        said = advice(error, config, has_killed=has_killed)
    _fail(folder, said, code=code, traceback="".join(traceback.format_exception(error)))
    traceback.print_exception(error)
    return code


def _problem_of_folder(folder: RunFolder, error: Exception) -> str:
    """What is wrong with the run's folder or a file in it, where the error comes of that; else nothing."""
    if not isinstance(error, OSError) or not isinstance(name := error.filename2 or error.filename, str):
        return ""
    if not Path(name).is_relative_to(folder.path):
        return ""
    is_in_its_place = isinstance(error, FileExistsError | IsADirectoryError)
    advice = "; move it away and run the same command again" if is_in_its_place else ""
    return gone(folder.path) or f"{name}: {error.strerror}{advice}"


def _fail(folder: RunFolder, reason: str, *, code: int = FAILED, **details: str) -> None:
    """Say why the run failed, unless another rank has: the first reason is the cause of the others."""
    if gone(folder.path):
        return
    with folder.noting(f"failed: {reason}"):
        if folder.status()["state"] != "failed":
            folder.set_status("failed", reason=reason, exit_code=code, **details)


def _start_ranks(arguments: Sequence[str], devices: int) -> int:
    """A fresh process per device; when one dies, torchrun ends the others within half a minute.

    SIGTERM is handed on to the ranks, which save behind their step however long that takes; torchrun itself would give
    them as long as when one dies. So do its releases without that option, and systems without /proc.
    """
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import get_args_parser
    from torch.distributed.run import main as torchrun

    folder, asked = RunFolder(Path(arguments[0])), threading.Event()
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, usable_cores() // devices)))  # torchrun would take one
    signal.signal(signal.SIGTERM, lambda *_: _hand_on(folder, asked))
    leaves_sigterm = Path("/proc/self").exists() and "--signals-to-handle" in get_args_parser().format_help()
    options = ["--signals-to-handle=SIGINT,SIGHUP,SIGQUIT"] if leaves_sigterm else []
    kills = full_memory.kills()
    try:
        program = bound_command(sys.executable, *run_process.PROGRAM, *arguments)
        torchrun(["--standalone", f"--nproc-per-node={devices}", *options, "--no-python", *program])
    except SystemExit as exit_:
        return int(exit_.code or DONE)
    except SignalException as error:
        return _note_end(folder, error.sigval)
    except ChildFailedError as error:
        codes = {rank: failure.exitcode for rank, failure in error.failures.items()}
        if asked.is_set() and all(code == -signal.SIGTERM for code in codes.values()):
            return _note_end(folder, signal.SIGTERM)
        return note_deaths(folder, codes, is_memory_full=full_memory.kills() > kills)
    except Exception as error:
        _fail(folder, f"a rank died: {str(error).splitlines()[0]}")
        return FAILED
    return DONE


def _hand_on(folder: RunFolder, asked: threading.Event) -> None:
    asked.set()
    for process, parent in members(folder.path).items():
        if parent == os.getpid():
            ask_to_end(process)


def _note_end(folder: RunFolder, number: signal.Signals) -> int:
    reason, lost = run_process.end_in_words(folder, f"by {number.name}")
    with folder.noting(f"stopped: {reason}"):
        if folder.status()["state"] in ("queued", "running"):
            folder.set_status("stopped", reason=reason)
            print(f"{reason}: {lost}", file=sys.stderr, flush=True)  # noqa: T201
    return FAILED


def note_deaths(folder: RunFolder, codes: Mapping[int, int], *, is_memory_full: bool = False) -> int:
    """Say which ranks were killed: what the others say is what follows from it.

    Args:
        folder: the run's folder.
        codes: exit codes by rank.
        is_memory_full: whether the kernel has ended a process for lack of memory meanwhile.

    Returns:
        The exit code of the whole.
    """
    killed = {rank: signal.Signals(-code) for rank, code in codes.items() if code < 0}
    # torchrun has asked the others to end when it saw the first one fail or die.
    first = {rank: number for rank, number in killed.items() if number != signal.SIGTERM}
    told = _told(folder)
    has_said_why = told or len(killed) < len(codes)
    if first or not has_said_why:
        reason = ", ".join(
            f"rank {rank} was killed by {killed_by(number)}" for rank, number in (first or killed).items()
        )
        if is_memory_full and signal.SIGKILL in first.values():
            reason = f"{reason}: {full_memory.advice_after_kill(folder)}"
        if first and TEMPORARY in codes.values() and told:  # a watchdog's word, which came first
            hung = told.get("reason")
            reason = f"{hung}; {reason}, as torchrun does with one that has not ended half a minute after it was asked"
        with folder.noting(f"failed: {reason}"):
            folder.set_status("failed", reason=reason, exit_code=TEMPORARY)
        return TEMPORARY
    _fail(folder, f"ranks ended without a reason: {', '.join(f'{rank} (exit code {codes[rank]})' for rank in codes)}")
    # Another rank, which lost its connection by that, may have ended before the one that told of it.
    return TEMPORARY if TEMPORARY in (*codes.values(), told.get("exit_code")) else FAILED


def _told(folder: RunFolder) -> dict[str, Any]:
    """What a rank has told of how it failed; empty where none has, or where that cannot be read."""
    try:
        status = folder.status()
    except StoreError:
        return {}
    return status if status["state"] == "failed" else {}


def _quieten() -> None:
    """Lightning's advice that does not apply here: loaders, workers and intervals are set on purpose."""
    import logging

    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for message in (
        ".*sync_dist=True.*",
        ".*does not have many workers.*",
        ".*not resumable.*",
        ".*val_check_interval.*",
        ".*logging interval.*",
        ".*LeafSpec.*",
        ".*`srun` command is available.*",
        "`broadcast_buffers` is deprecated.*",  # Lightning passes it on, and no other key
        "nll_loss2d_forward.*",  # trainer.deterministic: once for every image
    ):
        warnings.filterwarnings("ignore", message=message)


if __name__ == "__main__":
    with lasting_output():
        code = main(sys.argv[1:])
    sys.exit(code)
