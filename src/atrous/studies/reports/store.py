"""What lies in a run store, read once for a report.

A folder that is damaged is set apart with its reason, and one that was moved or copied aside within the store with its
place: what the run's own folder holds is the run.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from atrous.errors import StoreError
from atrous.run_files import JSON_FILES
from atrous.run_store import RunFolder

_MARKS = (*JSON_FILES, "config.yaml")
_FACTS = {"name": str, "family": str, "seed": int, "max_steps": int, "command": str}


@dataclass(frozen=True)
class StoredRun:
    """One training as its files tell it.

    Attributes:
        folder: Where it lies.
        facts: run.json.
        status: status.json.
        results: results.json, empty where nothing was measured yet.
        config: config.yaml, resolved.
    """

    folder: RunFolder
    facts: Mapping[str, Any]
    status: Mapping[str, Any]
    results: Mapping[str, Any]
    config: Mapping[str, Any]

    @property
    def name(self) -> str:
        """What the training is, apart from its seed."""
        return str(self.facts["name"])

    @property
    def seed(self) -> int:
        """The seed."""
        return int(self.facts["seed"])

    @property
    def max_steps(self) -> int:
        """The budget it was started with."""
        return int(self.facts["max_steps"])

    @property
    def state(self) -> str:
        """Queued, running, stopped, failed, done or missing."""
        return str(self.status["state"])

    @property
    def is_in_its_place(self) -> bool:
        """Whether it lies where a training of its name and seed is looked for, in NAME/seedK."""
        return self.folder.path.parts[-2:] == (self.name, f"seed{self.seed}")

    @property
    def evaluations(self) -> Mapping[str, Any]:
        """What was measured, by protocol; empty until the training has reached its last step."""
        found: Mapping[str, Any] = self.results.get("evaluations", {}) if self.state == "done" else {}
        return found

    @property
    def reason(self) -> str:
        """Why it failed or stopped, in one line."""
        lines = str(self.status.get("reason") or "").splitlines()
        return lines[0] if lines else ""

    @classmethod
    def read(cls, path: Path) -> StoredRun:
        """Read a run folder.

        Raises:
            StoreError: Names the file that is missing or damaged, or that lies elsewhere.
        """
        for name in _MARKS:
            if not is_own(path / name, path):
                raise StoreError(f"{path / name}: a link out of the run's folder, which no report follows")
        folder = RunFolder(path)
        facts = folder.facts()
        if not facts:
            raise StoreError(f"{path / 'run.json'}: missing, so nothing says what the run is")
        for key, kind in _FACTS.items():
            if not isinstance(facts.get(key), kind):
                raise StoreError(f"{path / 'run.json'}: {key}={facts.get(key)!r} is not {kind.__name__}")
        status, results = folder.status(), folder.results()
        return cls(folder, _as_text(facts), _as_text(status), _as_text(results), folder.config())


@dataclass(frozen=True)
class DamagedRun:
    """A run folder that cannot be read, and why."""

    path: Path
    reason: str


@dataclass(frozen=True)
class Store:
    """Every run of a store; `aside` are the folders of runs that lie elsewhere in it than in their place."""

    path: Path
    runs: tuple[StoredRun, ...]
    damaged: tuple[DamagedRun, ...] = ()
    aside: tuple[Path, ...] = ()


def read_store(path: Path) -> Store:
    """Read every run of a store; a folder in which nothing was started yet is none."""
    folders = sorted(path.glob("runs/*/seed*"))
    read = read_runs(path, [folder for folder in folders if any(may_be_there(folder / name) for name in _MARKS)])
    own = tuple(run for run in read.runs if run.is_in_its_place)
    return replace(read, runs=own, aside=tuple(run.folder.path for run in read.runs if not run.is_in_its_place))


def read_runs(path: Path, folders: Iterable[Path]) -> Store:
    """Read run folders, wherever they lie."""
    runs, damaged = [], []
    for folder in folders:
        try:
            runs.append(StoredRun.read(folder))
        except StoreError as error:
            damaged.append(DamagedRun(folder, str(error)))
        except Exception as error:  # one odd folder is not to cost the report of all others
            damaged.append(DamagedRun(folder, f"{folder}: cannot be read ({type(error).__name__}: {error})"))
    return Store(path, tuple(runs), tuple(damaged))


def may_be_there(path: Path) -> bool:
    """Whether a file is there, or may be in a folder that others keep for themselves."""
    try:
        return path.exists()
    except PermissionError:
        return True


def is_own(path: Path, folder: Path) -> bool:
    """Whether a path lies in a run's folder, links followed: a run of others may link to what is yours."""
    return Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder))


def _as_text(value: Mapping[str, Any]) -> dict[str, Any]:
    """Plain values with a mark for what no text file can hold, such as a path's bytes that are no letters."""
    found: dict[str, Any] = json.loads(json.dumps(value, ensure_ascii=False).encode(errors="replace"))
    return found
