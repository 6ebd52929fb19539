"""What a W&B server has refused: the client marks a run as sent all the same, and says so in its log alone."""

import json
from collections.abc import Iterator
from pathlib import Path

_REFUSALS = ("filestream: fatal error: ", "file transfer: upload: ")  # of what was logged, and of images and tables
_LONGEST = 160


def refusals(log: Path) -> Iterator[tuple[str | None, str]]:
    """Read a log of W&B's service, a JSON object per line.

    Args:
        log: of a run, `logs/debug-internal.log` in its folder, or of `wandb sync`; one that is not there has none.

    Yields:
        The `.wandb` file, as `wandb sync` was given it (None in the log of a run), and what was refused.
    """
    if not log.is_file():
        return
    with log.open(errors="replace") as lines:
        for line in lines:
            if not any(start in line for start in _REFUSALS):
                continue
            try:
                entry = json.loads(line)
                file, level, message = entry.get("sync_path"), str(entry["level"]), str(entry["msg"])
            except (ValueError, KeyError, AttributeError):  # torn by a kill
                continue
            if level.startswith("ERROR") and message.startswith(_REFUSALS):
                yield file, " ".join(message.split())[:_LONGEST]
