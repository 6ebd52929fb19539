"""Every benchmark, one after the other, and the page docs/benchmarks/index.md of what they measured.

    python -m benchmarks --data FOLDER_WITH_VOCdevkit       # make bench
    python -m benchmarks --quick --data ...                 # the same in minutes, into outputs/benchmarks

Each benchmark is a process of its own that writes JSON; the page is made of the files that are there, so that one which
fails leaves the others' figures as they are.
"""

import argparse
import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.command import positive, writable_folder
from benchmarks.machine_facts import machine_facts
from benchmarks.page import page
from benchmarks.section import Section
from benchmarks.turns import ROOT, BenchmarkError

from atrous.exit_codes import DONE, FAILED, after_signal
from atrous.files import write_json, write_text
from atrous.processes import bound_command

PAGE = ROOT / "docs" / "benchmarks"
QUICK_PAGE = ROOT / "outputs" / "benchmarks"  # no figures to quote: what is in PAGE stays


@dataclass(frozen=True)
class Benchmark:
    """A module, its arguments, those of a quick run, and the beginning of its sections' keys."""

    name: str
    module: str
    keys: tuple[str, ...]
    arguments: tuple[str, ...] = ()
    quick: tuple[str, ...] = ()
    wants_data: bool = False


_QUICK = "A quick run on small images: no figures to quote."
_SMALL = ("--size", "129", "--batch", "2", "--repeats", "2", "--steps", "2")
BENCHMARKS = (
    Benchmark("step", "training_step", ("training_step_resnet50",), ("--backbone", "resnet50"), _SMALL),
    Benchmark("step-xception", "training_step", ("training_step_xception65",), ("--backbone", "xception65"), _SMALL),
    Benchmark("inference", "inference", ("inference",), (), (*_SMALL, "--task", "single", "multi-scale + flip")),
    Benchmark("evaluation", "evaluation", ("evaluation",), (), ("--size", "129", "--repeats", "2")),
    Benchmark("loader", "loader", ("loader",), (), ("--images", "80", "--repeats", "2", "--data", "voc"), True),
    Benchmark("overhead", "overhead", ("trainer_overhead", "sweep_overhead"), (), ("--repeats", "2", "--steps", "20")),
    Benchmark(
        "scaling",
        "scaling",
        ("scaling",),
        (),
        ("--size", "129", "--repeats", "1", "--steps", "2", "--sizes", "65", "129", "193", "--images", "80"),
    ),
)


def run(benchmark: Benchmark, *, quick: bool, data: str, out: Path, repeats: int | None = None) -> int:
    """Run one benchmark; what it measured lies in `out` then.

    Args:
        benchmark: which.
        quick: with its arguments of a quick run.
        data: folder that holds VOCdevkit.
        out: folder of the JSON files.
        repeats: turns, its own number if None.

    Returns:
        Its exit code.
    """
    words = [*benchmark.arguments, *(benchmark.quick if quick else ()), "--out", os.path.relpath(out, ROOT)]
    words += ["--root", os.path.relpath(data, ROOT)] if benchmark.wants_data else []
    words += [] if repeats is None else ["--repeats", str(repeats)]
    words += ["--note", _QUICK] if quick else []
    command = ["-m", f"benchmarks.{benchmark.module}", *words]
    print(f"== {benchmark.name}: {shlex.join(command)}", flush=True)
    return subprocess.run(bound_command(sys.executable, *command), cwd=ROOT, check=False).returncode


def sections_in(out: Path) -> tuple[list[Section], list[str]]:
    """What was measured, in the order of the benchmarks; a note for each file of it that cannot be read."""
    files = sorted(path for path in out.glob("*.json") if path.name != "machine.json")
    starts = [start for benchmark in BENCHMARKS for start in benchmark.keys]
    order = {
        path: min((i for i, start in enumerate(starts) if path.stem.startswith(start)), default=-1) for path in files
    }
    sections, notes = [], []
    for path in sorted(files, key=lambda path: order[path]):
        if order[path] >= 0:
            try:
                sections.append(Section.read(path))
            except BenchmarkError as error:
                notes.append(f"{error}: its table is left out; measure it again.")
    return sections, notes


def run_all(chosen: Sequence[Benchmark], out: Path, **options: Any) -> tuple[int, list[str]]:
    """Run benchmarks one after the other, up to Ctrl-C.

    Returns:
        The exit code, 1 where one of them failed; a note for each that may have left older figures.
    """
    notes: list[str] = []
    code = DONE
    for place, benchmark in enumerate(chosen):
        try:
            done = run(benchmark, out=out, **options)
        except KeyboardInterrupt:
            late = [
                f"`{entry.name}` was interrupted; figures below that name it may be older." for entry in chosen[place:]
            ]
            return after_signal(signal.SIGINT), [*notes, *late]
        if done != 0:
            code = FAILED
            notes.append(f"`{benchmark.name}` failed; figures below that name it may be older.")
    return code, notes


def machine_of(out: Path, *, again: bool) -> dict[str, str]:
    """The machine of the last run: this one if that is now, else the one that the folder names."""
    file = out / "machine.json"
    try:
        known = {} if again else json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError):
        known = {}
    facts: dict[str, str] = known if isinstance(known, dict) else {}
    is_sound = facts and all(isinstance(fact, str) and f"{name}{fact}".isprintable() for name, fact in facts.items())
    return facts if is_sound else machine_facts()


def main(words: Sequence[str] | None = None) -> int:
    """Run the benchmarks and write the page; 1 where one of them failed or its figures cannot be read."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [benchmark.name for benchmark in BENCHMARKS]
    parser.add_argument("--only", nargs="+", default=names, choices=names, help="only these (all of them)")
    parser.add_argument("--quick", action="store_true", help="small images, few turns: no figures to quote")
    text = "turns of each benchmark (its own number, 3 of a training step)"
    parser.add_argument("--repeats", type=positive, help=text)
    parser.add_argument("--data", default="", help="folder that holds VOCdevkit; without it the loader is left out")
    text = "of the page (docs/benchmarks; with --quick outputs/benchmarks)"
    parser.add_argument("--out", type=writable_folder, metavar="FOLDER", help=text)
    parser.add_argument("--page-only", action="store_true", help="measure nothing, make the page of what is there")
    arguments = parser.parse_args(words)
    out = (arguments.out or (QUICK_PAGE if arguments.quick else PAGE)).absolute()
    wanted = [] if arguments.page_only else [entry for entry in BENCHMARKS if entry.name in arguments.only]
    has_data = (Path(arguments.data) / "VOCdevkit").is_dir()
    chosen = [entry for entry in wanted if has_data or not entry.wants_data]
    code, notes = run_all(chosen, out, quick=arguments.quick, data=arguments.data, repeats=arguments.repeats)
    without = f"is left out: --data={arguments.data!r} holds no VOCdevkit."
    notes += [f"`{entry.name}` {without}" for entry in wanted if entry not in chosen]
    facts = machine_of(out, again=bool(chosen))
    write_json(out / "machine.json", facts)
    sections, damaged = sections_in(out)
    notes += damaged
    write_text(out / "index.md", page(sections, facts, notes=notes))
    print(*notes, out / "index.md", sep="\n")
    return FAILED if damaged and code == DONE else code


if __name__ == "__main__":
    sys.exit(main())
