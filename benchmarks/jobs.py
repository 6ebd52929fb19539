"""The command atrous-train, as a benchmark runs it."""

import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.turns import BenchmarkError

_ATROUS_TRAIN = ("-c", "from atrous.commands.train import main; main()")


def atrous_train(arguments: Sequence[str], *, folder: Path) -> float:
    """Run the command in a folder; return its seconds.

    Raises:
        BenchmarkError: it failed.
    """
    start = time.perf_counter()
    command = [sys.executable, *_ATROUS_TRAIN, *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=folder, check=False)
    if done.returncode != 0:
        raise BenchmarkError(f"atrous-train {' '.join(arguments)} failed:\n{done.stdout[-2000:]}")
    return time.perf_counter() - start
