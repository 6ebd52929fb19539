"""metrics.csv: always written, appended to on resume, readable at any moment."""

import csv
import io
from argparse import Namespace
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers.logger import Logger

from atrous.files import write_text

COLUMNS = ("step", "train/loss", "train/lr", "train/images_per_second", "val/miou", "val/pixel_accuracy", "val/pixels")
_VALIDATION = "val/miou"


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
        """Append one line, unless it is a validation again whose line is there: it was made before a kill."""
        if _VALIDATION in metrics and str(step) in self._validated:
            return
        row = {"step": step, **{name: f"{value:.6g}" for name, value in metrics.items() if name in COLUMNS}}
        if len(row) > 1:
            with self._path.open("a", newline="") as stream:
                csv.DictWriter(stream, COLUMNS).writerow(row)

    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """Nothing: config.yaml lies beside the file."""

    def _begin(self, first_step: int) -> set[str]:
        """Drop what a resumed run makes anew; return the steps whose validations are kept."""
        kept: list[dict[str, str]] = []
        if self._path.exists():
            with self._path.open(newline="") as stream:
                kept = [row for row in csv.DictReader(stream) if _is_until(row, first_step)]
        text = io.StringIO()
        writer = csv.DictWriter(text, COLUMNS, extrasaction="ignore", lineterminator="\r\n")
        writer.writeheader()
        writer.writerows(kept)
        write_text(self._path, text.getvalue())
        return {row["step"] for row in kept if row[_VALIDATION]}


def _is_until(row: dict[str, str], step: int) -> bool:
    """Whether a line belongs to what a checkpoint at `step` holds; a torn last line does not."""
    is_whole = row.get(COLUMNS[-1]) is not None
    return is_whole and (row["step"] or "").isdigit() and int(row["step"]) <= step
