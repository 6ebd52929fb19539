"""The process that trains one run: `python -m atrous.training.job FOLDER PROTOCOL...`, started by atrous-train.

It reads config.yaml, goes on from last.ckpt if there is one, and leaves results.json. With more than one device it
starts a process for each through torchrun, unless it is one of several that were started elsewhere (RANK is set).
"""

import os
import signal
import sys
import traceback
import warnings
from collections.abc import Sequence
from pathlib import Path

from atrous.errors import AtrousError
from atrous.processes import bound_command
from atrous.run_store import RunFolder


def main(arguments: Sequence[str]) -> int:
    """Run one job.

    Args:
        arguments: the run's folder, then the protocols that are missing.

    Returns:
        The exit code: 0 done or stopped on request, 1 failed.
    """
    folder, protocols = RunFolder(Path(arguments[0])), list(arguments[1:])
    config = folder.config()
    # SLURM sends submitit's signal to every process of a task; the one that waits for this one takes it, and asks.
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    if "RANK" not in os.environ and config["trainer"]["nodes"] > 1:
        reason = f"trainer.nodes={config['trainer']['nodes']}, but this process was started on one machine alone"
        folder.set_status("failed", reason=reason, exit_code=1)
        return 1
    if "RANK" not in os.environ and config["trainer"]["devices"] > 1:
        return _start_ranks(arguments, int(config["trainer"]["devices"]))
    try:
        os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"
        from atrous.training.run import train_and_evaluate

        _quieten()
        train_and_evaluate(folder, config, protocols)
    except AtrousError as error:
        folder.set_status("failed", reason=str(error), exit_code=1)
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        return 1
    except Exception as error:
        reason = f"{type(error).__name__}: {error}".strip()
        folder.set_status("failed", reason=reason, exit_code=1, traceback=traceback.format_exc())
        traceback.print_exc()
        return 1
    return 0


def _start_ranks(arguments: Sequence[str], devices: int) -> int:
    """A fresh process per device; when one dies, torchrun ends the others."""
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.run import main as torchrun

    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        program = bound_command(sys.executable, "-m", "atrous.training.job", *arguments)
        torchrun(["--standalone", f"--nproc-per-node={devices}", "--no-python", *program])
    except SystemExit as exit_:
        return int(exit_.code or 0)
    except SignalException as error:
        folder = RunFolder(Path(arguments[0]))
        if folder.status()["state"] in ("queued", "running"):
            folder.set_status("stopped", reason=f"ended by {error.sigval.name} before it could save")
        return 1
    except Exception as error:
        folder = RunFolder(Path(arguments[0]))
        if folder.status()["state"] != "failed":
            folder.set_status("failed", reason=f"a rank died: {str(error).splitlines()[0]}", exit_code=1)
        return 1
    return 0


def _quieten() -> None:
    """Lightning's advice that does not apply here: loaders, workers and intervals are set on purpose."""
    import logging

    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    advice = [".*sync_dist=True.*", ".*does not have many workers.*", ".*not resumable.*", ".*val_check_interval.*"]
    for message in (*advice, ".*logging interval.*", ".*LeafSpec.*", ".*`srun` command is available.*"):
        warnings.filterwarnings("ignore", message=message)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
