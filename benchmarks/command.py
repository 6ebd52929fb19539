"""What the command lines of the benchmarks have in common."""

import argparse
import shlex
import signal
import sys
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

from benchmarks.machine_facts import machine_in_brief, origin
from benchmarks.section import Section
from benchmarks.turns import BenchmarkError

from atrous.errors import AtrousError, ConfigError
from atrous.exit_codes import after_signal
from atrous.files import check_writable


def positive(text: str) -> int:
    """A number of an option that is at least 1.

    Raises:
        ArgumentTypeError: it is not.
    """
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 on")
    return int(text)


def writable_folder(text: str) -> Path:
    """The folder of an option, which is written to when all is measured.

    Raises:
        ArgumentTypeError: it cannot be.
    """
    try:
        check_writable(Path(text), given=repr(text))
    except ConfigError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return Path(text)


def add_common_options(parser: argparse.ArgumentParser, *, repeats: int = 3) -> None:
    """Add `--repeats`, `--out` and `--note`; keep when, at which commit and with which command this process began."""
    parser.add_argument("--repeats", type=positive, default=repeats, help="turns of every way (%(default)s)")
    text = "write every figure here too, as JSON"
    parser.add_argument("--out", type=writable_folder, metavar="FOLDER", help=text)
    parser.add_argument("--note", help="stands below every table")
    module = Path(sys.argv[0]).stem
    parser.set_defaults(origin=origin(shlex.join(["python", "-m", f"benchmarks.{module}", *sys.argv[1:]])))


def finish(section: Section, arguments: argparse.Namespace) -> None:
    """Print a section as soon as it is measured, and write it where a folder is given."""
    noted = replace(section, notes=[*section.notes, *([arguments.note] if arguments.note else [])])
    noted.show()
    if arguments.out is not None:
        replace(noted, origin=arguments.origin, machine=machine_in_brief()).write(arguments.out)


def finish_each(measures: Iterable[Callable[[], Section]], arguments: argparse.Namespace) -> None:
    """Measure sections and finish each at once; one of which nothing could be measured keeps no other from it.

    Raises:
        BenchmarkError: something died meanwhile, which is told behind the last section.
    """
    died: list[str] = []
    for measure in measures:
        try:
            section = measure()
        except BenchmarkError as error:
            died.append(str(error))
            continue
        finish(section, arguments)
        died += section.died
    if died:
        raise BenchmarkError("; ".join(died))


def run(main: Callable[[], None]) -> None:
    """Run the entry point of a benchmark; what is the user's to mend is told in a line.

    Raises:
        SystemExit: with the error's exit code, or that of an interruption.
    """
    try:
        main()
    except AtrousError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(after_signal(signal.SIGINT))
