"""Every benchmark, one after the other, and the page docs/benchmarks/index.md of what they measured.

    python -m benchmarks --data FOLDER_WITH_VOCdevkit       # make bench
    python -m benchmarks --quick --out /tmp/page            # the same in minutes: small images, few turns

Each benchmark is a process of its own that writes JSON; the page is made of the files that are there, so that one which
fails leaves the others' figures as they are.
"""

import argparse
import os
import shlex
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.machine_facts import machine_facts
from benchmarks.page import page
from benchmarks.section import Section
from benchmarks.turns import ROOT

from atrous.files import write_json, write_text

PAGE = ROOT / "docs" / "benchmarks"


@dataclass(frozen=True)
class Benchmark:
    """A module, its arguments, those of a quick run, and the beginning of its sections' keys."""

    name: str
    module: str
    keys: tuple[str, ...]
    arguments: tuple[str, ...] = ()
    quick: tuple[str, ...] = ()
    wants_data: bool = False


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
    command = [sys.executable, "-m", f"benchmarks.{benchmark.module}", *words]
    print(f"== {benchmark.name}: {shlex.join(command[1:])}", flush=True)
    return subprocess.run(command, cwd=ROOT, check=False).returncode


def sections_in(out: Path) -> list[Section]:
    """What was measured, in the order of the benchmarks."""
    files = sorted(path for path in out.glob("*.json") if path.name != "machine.json")
    starts = [start for benchmark in BENCHMARKS for start in benchmark.keys]
    order = {
        path: min((i for i, start in enumerate(starts) if path.stem.startswith(start)), default=-1) for path in files
    }
    return [Section.read(path) for path in sorted(files, key=lambda path: order[path]) if order[path] >= 0]


def main(words: Sequence[str] | None = None) -> int:
    """Run the benchmarks and write the page; 1 where one of them failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [benchmark.name for benchmark in BENCHMARKS]
    parser.add_argument("--only", nargs="+", default=names, choices=names, help="only these (all of them)")
    parser.add_argument("--quick", action="store_true", help="small images, few turns: no figures to quote")
    parser.add_argument("--repeats", type=int, help="turns of each benchmark (its own number, 3 of a training step)")
    parser.add_argument("--data", default="", help="folder that holds VOCdevkit; without it the loader is left out")
    parser.add_argument("--out", type=Path, default=PAGE, metavar="FOLDER", help="of the page (docs/benchmarks)")
    parser.add_argument("--page-only", action="store_true", help="measure nothing, make the page of what is there")
    arguments = parser.parse_args(words)
    out, failed, notes = arguments.out.absolute(), [], []
    chosen = [] if arguments.page_only else [entry for entry in BENCHMARKS if entry.name in arguments.only]
    for benchmark in chosen:
        if benchmark.wants_data and not (Path(arguments.data) / "VOCdevkit").is_dir():
            notes.append(f"`{benchmark.name}` is left out: --data={arguments.data!r} holds no VOCdevkit.")
        elif run(benchmark, quick=arguments.quick, data=arguments.data, out=out, repeats=arguments.repeats) != 0:
            failed.append(benchmark.name)
            notes.append(f"`{benchmark.name}` failed; figures below that name it are older.")
    if arguments.quick:
        notes.append("A quick run on small images: no figures to quote.")
    facts = machine_facts()
    write_json(out / "machine.json", facts)
    write_text(out / "index.md", page(sections_in(out), facts, notes=notes))
    print(out / "index.md")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
