"""metrics.csv: always written, appended to on resume, readable at any moment."""

import csv
import io
import re
import sys
from argparse import Namespace
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers.logger import Logger

from atrous.files import append_text, set_aside, write_text

COLUMNS = ("step", "train/loss", "train/lr", "train/images_per_second", "val/miou", "val/pixel_accuracy", "val/pixels")
_VALIDATION = "val/miou"
_STEP = re.compile("[0-9]{1,18}")
_NUMBER = re.compile(r"[-+]?([0-9]+\.?[0-9]*(e[-+]?[0-9]+)?|nan|inf)")  # as format writes it
_TORN = re.compile(rb"[-+.,0-9aefin]*")  # the beginning of a line of numbers


class CsvLog(Logger):
    """One line per logged step, with fixed columns; made on the first rank only.

    Args:
        path: the file.
        first_step: where a resumed run goes on; later lines of the interrupted one are dropped.
    """

    def __init__(self, path: Path, *, first_step: int = 0) -> None:
        super().__init__()
        self._path = path
        self._validated = self._begin(first_step)

    @property
    def name(self) -> str:
        """Name for Lightning."""
        return "csv"

    @property
    def version(self) -> str:
        """Version for Lightning; a run has one."""
        return ""

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Append one line, unless it is a validation again whose line is there: it was made before a kill.

        Raises:
            NoSpaceError: the disk is full.
        """
        if _VALIDATION in metrics and str(step) in self._validated:
            return
        row = {"step": step, **{name: f"{value:.6g}" for name, value in metrics.items() if name in COLUMNS}}
        if len(row) > 1:
            line = io.StringIO()
            csv.DictWriter(line, COLUMNS).writerow(row)
            append_text(self._path, line.getvalue())

    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """Nothing: config.yaml lies beside the file."""

    def _begin(self, first_step: int) -> set[str]:
        """Drop what a resumed run makes anew; return the steps whose validations are kept.

        What cannot be read costs its lines, not the run: a copy of the file is kept, and the sound lines go on.
        """
        lines, is_damaged = _sound_lines(self._path.read_bytes() if self._path.exists() else b"")
        kept = [line for line in lines if int(line["step"]) <= first_step]
        if is_damaged:
            name = set_aside(self._path).name
            what = f"{self._path} was damaged: kept as {name}, and made anew with the lines that are sound"
            print(what, file=sys.stderr, flush=True)  # noqa: T201
        text = io.StringIO()
        writer = csv.DictWriter(text, COLUMNS, extrasaction="ignore", lineterminator="\r\n")
        writer.writeheader()
        writer.writerows(kept)
        write_text(self._path, text.getvalue())
        return {line["step"] for line in kept if line[_VALIDATION]}


def _sound_lines(content: bytes) -> tuple[list[dict[str, str]], bool]:
    """The lines of a metrics.csv that can be read, by column, and whether there are others.

    A last line without its end is left out and no damage: a kill tore it.
    """
    lines = content.splitlines(keepends=True)
    head = _fields(lines[0]) if lines else []
    has_head = set(COLUMNS) <= set(head)  # other versions may have more; without a head the order is our own
    columns, sound, is_damaged = head if has_head else COLUMNS, [], bool(lines) and not has_head
    for line in lines[1:] if has_head else lines:
        if not line.endswith((b"\r", b"\n")) and _TORN.fullmatch(line):
            continue
        fields = _fields(line)
        row = dict(zip(columns, fields, strict=False))
        if len(fields) == len(columns) and _is_sound(row):
            sound.append(row)
        elif line.strip():
            is_damaged = True
    return sound, is_damaged


def _fields(line: bytes) -> list[str]:
    """Numbers and names need no quotes, so a quote is damage, which must not reach over the lines that follow."""
    return line.decode(errors="replace").rstrip("\r\n").split(",")


def _is_sound(row: dict[str, str]) -> bool:
    """Whether a line has a step and nothing but numbers in our columns."""
    is_step = _STEP.fullmatch(row["step"]) is not None
    return is_step and all(_NUMBER.fullmatch(row[name]) for name in COLUMNS if row[name])
