"""What the command lines of the benchmarks have in common."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from benchmarks.section import Section


def add_common_options(parser: argparse.ArgumentParser, *, repeats: int = 3) -> None:
    """Add `--repeats` and `--out`."""
    text = "turns, one process of each way per turn (%(default)s)"
    parser.add_argument("--repeats", type=int, default=repeats, help=text)
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="write every figure here too, as JSON")


def finish(sections: Sequence[Section], out: Path | None) -> None:
    """Print sections, and write them where a folder is given."""
    for section in sections:
        section.show()
        if out is not None:
            section.write(out)
