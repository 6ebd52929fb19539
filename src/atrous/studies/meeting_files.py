"""The files by which the ranks of one launch meet, in the run's folder.

<run>/ranks/<token>/<rank>.json       a rank's sign of life, written every other second
<run>/ranks/<token>/<rank>.gone       it knows how all of it ended, and has left
<run>/ranks/<token>/ticket-<n>.json   what the first rank decided: start this run, or how all of it ended
"""

import json
import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class MeetingFiles:
    """Where they are.

    Attributes:
        folder: of the launch.
    """

    folder: Path

    def sign(self, rank: int) -> Path:
        """The file of a rank's sign of life."""
        return self.folder / f"{rank}.json"

    def gone(self, rank: int) -> Path:
        """The mark of a rank that has left."""
        return self.folder / f"{rank}.gone"

    def ticket(self, number: int) -> Path:
        """The file of a decision; they are counted from 0."""
        return self.folder / f"ticket-{number}.json"

    def read_sign(self, rank: int) -> Mapping[str, Any] | None:
        """A rank's sign of life, None where there is none to be read."""
        with suppress(OSError, ValueError):
            content: Mapping[str, Any] = json.loads(self.sign(rank).read_text())
            return content
        return None

    def read_ticket(self, number: int) -> dict[str, Any] | None:
        """A decision, None where it was not made yet."""
        if not self.ticket(number).is_file():
            return None
        content: dict[str, Any] = json.loads(self.ticket(number).read_text())
        return content

    def clear(self) -> None:
        """Remove what an earlier launch of the same token left, but its signs of life: those are known to be old."""
        for left in (*self.folder.glob("ticket-*.json"), *self.folder.glob("*.gone")):
            left.unlink()

    def remove(self) -> None:
        """Remove all of them."""
        shutil.rmtree(self.folder, ignore_errors=True)
