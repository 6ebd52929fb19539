"""What the command lines of the benchmarks have in common."""

import argparse
import shlex
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks.machine_facts import machine_in_brief, origin
from benchmarks.section import Section


def add_common_options(parser: argparse.ArgumentParser, *, repeats: int = 3) -> None:
    """Add `--repeats` and `--out`."""
    text = "turns, one process of each way per turn (%(default)s)"
    parser.add_argument("--repeats", type=int, default=repeats, help=text)
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="write every figure here too, as JSON")


def finish(sections: Sequence[Section], out: Path | None) -> None:
    """Print sections, and write them where a folder is given, with the command that this process was started by."""
    module = Path(sys.argv[0]).stem
    stamp = origin(shlex.join(["python", "-m", f"benchmarks.{module}", *sys.argv[1:]]))
    for section in sections:
        section.show()
        if out is not None:
            replace(section, origin=stamp, machine=machine_in_brief()).write(out)
