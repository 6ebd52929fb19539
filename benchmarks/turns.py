"""Processes that measure and take turns, so that a busy machine slows all alike and none warms another's caches."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.figures import Figures

from atrous.errors import AtrousError
from atrous.exit_codes import FAILED
from atrous.processes import bound_command

ROOT = Path(__file__).resolve().parents[1]


class BenchmarkError(AtrousError):
    """A measurement that cannot be made, or that failed."""

    exit_code = FAILED


def in_process(
    module: str, request: Mapping[str, Any], *, environment: Mapping[str, str] | None = None, ranks: int = 1
) -> Figures:
    """Let a fresh process measure something.

    Args:
        module: is run as `python -m MODULE --measure REQUEST` and prints its figures as the last line, as JSON.
        request: what to measure.
        environment: of the process; this one's by default.
        ranks: processes that measure together through torchrun; the first one prints.

    Raises:
        BenchmarkError: the process failed; what it said stands on the terminal.
    """
    start = [sys.executable]
    if ranks > 1:
        start += ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"]
    command = bound_command(*start, "-m", module, "--measure", json.dumps(request))
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=environment, check=False)
    if done.returncode != 0 or not done.stdout.strip():
        raise BenchmarkError(f"{module} could not measure {json.dumps(request)}: exit code {done.returncode}")
    figures: Figures = json.loads(done.stdout.splitlines()[-1])
    return figures


def take_turns(
    names: Sequence[str], measure: Callable[[str], Figures], *, repeats: int
) -> tuple[dict[str, list[Figures]], list[float]]:
    """Measure every way once per turn, back and forth.

    Args:
        names: of the ways.
        measure: measures one of them.
        repeats: turns.

    Returns:
        The figures by way, one entry per turn; the smallest and the largest load average seen meanwhile.
    """
    measured: dict[str, list[Figures]] = {name: [] for name in names}
    loads = [os.getloadavg()[0]]
    for turn in range(repeats):
        for name in names if turn % 2 == 0 else names[::-1]:
            print(f"turn {turn + 1} of {repeats}: {name}", file=sys.stderr, flush=True)
            measured[name].append(measure(name))
            loads.append(os.getloadavg()[0])
    return measured, [min(loads), max(loads)]
