"""The run store: one folder per training, and what its files mean.

    <store>/runs/<what>-<hash>/seed<k>/
        run.json       identity, seed, command: written once, before anything starts
        config.yaml    the resolved config
        status.json    queued / running / stopped / failed / done, and how far
        metrics.csv    losses and validation scores by step
        checkpoints/   last.ckpt, best.ckpt
        results.json   parameters, Multiply-Adds, times, one entry per evaluation protocol
        log.txt        what the job printed

Training and studies meet only here. Every file is written atomically.
"""

import fcntl
import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from atrous.errors import StoreError
from atrous.files import write_json, write_text

FORMAT = 1
STATES = ("queued", "running", "stopped", "failed", "done")


@dataclass(frozen=True)
class RunFolder:
    """One training's folder."""

    path: Path

    @property
    def config_file(self) -> Path:
        """The resolved config."""
        return self.path / "config.yaml"

    @property
    def log_file(self) -> Path:
        """What the job printed."""
        return self.path / "log.txt"

    @property
    def last_checkpoint(self) -> Path:
        """The newest state of the training."""
        return self.path / "checkpoints" / "last.ckpt"

    @property
    def best_checkpoint(self) -> Path:
        """The weights with the highest mIoU on val during the training."""
        return self.path / "checkpoints" / "best.ckpt"

    def create(self, *, config_yaml: str, facts: Mapping[str, Any]) -> None:
        """Write what identifies the run; a folder that has it already keeps its identity."""
        write_text(self.config_file, config_yaml)
        write_json(self.path / "run.json", {"format": FORMAT, **facts})

    def facts(self) -> dict[str, Any]:
        """Identity, family, seed, command."""
        return self._read("run.json")

    def status(self) -> dict[str, Any]:
        """The state of the run; `{"state": "missing"}` where there is none."""
        return self._read("status.json") or {"state": "missing"}

    def set_status(self, state: str, **details: Any) -> None:
        """Change the state, keeping the other entries unless they are given anew.

        A failure's reason does not outlive the next start.
        """
        assert state in STATES, state
        old = self._read("status.json")
        if state in ("queued", "running", "done"):
            old = {key: value for key, value in old.items() if key not in ("reason", "exit_code", "traceback")}
        write_json(self.path / "status.json", {**old, "state": state, **details, "updated": round(time.time(), 3)})

    def results(self) -> dict[str, Any]:
        """Parameters, Multiply-Adds, times and evaluations; empty where nothing was measured yet."""
        return self._read("results.json")

    def add_results(self, **sections: Any) -> None:
        """Merge sections into results.json; entries of `evaluations` are added one by one."""
        results = {"format": FORMAT, "evaluations": {}, **self.results()}
        results["evaluations"] = {**results["evaluations"], **sections.pop("evaluations", {})}
        write_json(self.path / "results.json", {**results, **sections})

    @property
    def is_done(self) -> bool:
        """Whether the training has reached its last step and was measured."""
        return bool(self.status()["state"] == "done")

    def missing_protocols(self, wanted: list[str]) -> list[str]:
        """Those of the `wanted` protocols that results.json has no entry for."""
        have = self.results().get("evaluations", {})
        return [name for name in wanted if name not in have]

    @contextmanager
    def lock(self) -> Iterator[int]:
        """Hold the run; a second holder waits. The kernel lets go when the last process that holds it has ended.

        Yields:
            The file descriptor, to be handed to child processes.

        Raises:
            StoreError: the folder cannot be made.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(f"{self.path}: cannot be made ({error.strerror}); give another folder as store=") from None
        with (self.path / "lock").open("a") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX)
            yield stream.fileno()

    def _read(self, name: str) -> dict[str, Any]:
        path = self.path / name
        try:
            value = json.loads(path.read_text())
        except (FileNotFoundError, NotADirectoryError):
            return {}
        except (OSError, ValueError) as error:
            raise StoreError(f"{path}: not readable as JSON ({error}); move the folder away to train it anew") from None
        if not isinstance(value, dict) or value.get("format", FORMAT) > FORMAT:
            raise StoreError(f"{path}: written by a newer version of atrous, or damaged; move the folder away")
        return value


def all_runs(store: Path) -> list[RunFolder]:
    """Every run of a store, sorted by path."""
    return [RunFolder(path.parent) for path in sorted(store.glob("runs/*/seed*/run.json"))]
