"""Processes that measure and take turns, so that a busy machine slows all alike and none warms another's caches."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.figures import Figures

from atrous.errors import AtrousError
from atrous.exit_codes import FAILED, killed_by
from atrous.processes import bound_command

ROOT = Path(__file__).resolve().parents[1]
_LONGEST_WORDS = 400  # characters


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
        BenchmarkError: the process died or measured nothing, with its last words; all that it said stands on stderr.
    """
    start = [sys.executable]
    if ranks > 1:
        start += ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"]
    command = bound_command(*start, "-m", module, "--measure", json.dumps(request))
    settings: dict[str, Any] = {"cwd": ROOT, "env": environment, "text": True, "errors": "replace"}
    done = subprocess.run(command, capture_output=True, check=False, **settings)
    sys.stderr.write(done.stderr)
    if done.returncode < 0:
        raise BenchmarkError(f"{module} was killed by {killed_by(-done.returncode)}{_last_words(done.stderr)}")
    if done.returncode > 0:
        raise BenchmarkError(f"{module} failed, exit code {done.returncode}{_last_words(done.stderr)}")
    try:
        figures: Figures = json.loads(done.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        raise BenchmarkError(f"{module} ended without figures{_last_words(done.stdout + done.stderr)}") from None
    return figures


def _last_words(said: str) -> str:
    """The last line that says anything, which ends a traceback, behind a colon; empty where there is none."""
    lines = [line.strip() for line in said.splitlines() if any(letter.isalnum() for letter in line)]
    return f": {lines[-1][-_LONGEST_WORDS:]}" if lines else ""


@dataclass(frozen=True)
class Turns:
    """What ways that took turns measured.

    Attributes:
        measured: the figures by way, one entry per turn that it ended; ways without any are left out.
        loads: the smallest and the largest load average seen meanwhile.
        died: what became of ways that did not take every turn, one sentence each.
    """

    measured: dict[str, list[Figures]]
    loads: tuple[float, float]
    died: list[str]

    @property
    def load(self) -> str:
        """The load averages, as `0.5 to 2.1`."""
        return f"{self.loads[0]:.1f} to {self.loads[1]:.1f}"


def take_turns(names: Sequence[str], measure: Callable[[str], Figures], *, repeats: int) -> Turns:
    """Measure every way once per turn, back and forth; one that dies takes no further turn.

    Args:
        names: of the ways.
        measure: measures one of them.
        repeats: turns.

    Raises:
        BenchmarkError: nothing was measured at all.
    """
    measured: dict[str, list[Figures]] = {name: [] for name in names}
    died: dict[str, str] = {}
    loads = [os.getloadavg()[0]]
    for turn in range(repeats):
        for name in names if turn % 2 == 0 else names[::-1]:
            if name in died:
                continue
            print(f"turn {turn + 1} of {repeats}: {name}", file=sys.stderr, flush=True)
            try:
                measured[name].append(measure(name))
            except BenchmarkError as error:
                died[name] = f"{name} died in turn {turn + 1} of {repeats}: {error}"
                print(died[name], file=sys.stderr, flush=True)
            loads.append(os.getloadavg()[0])
    found = {name: turns for name, turns in measured.items() if turns}
    if not found:
        raise BenchmarkError("; ".join(died.values()))
    return Turns(found, (min(loads), max(loads)), list(died.values()))
